"""Checks the estimators of log p(x), and their claimed errors, where log p(x) is known.

  python scripts/calibrate.py                     # prints the table
  python scripts/calibrate.py --only=reciprocal --repetitions=1000

The world is a linear-Gaussian VAE (section 4) with arbitrary parameters, whose encoder is
not its posterior; every repetition draws a new data point from it. `error` is the mean of
estimate minus log p(x), with its standard error; `z` is the ratio of the two; `worst` is the
largest error; `claimed` and `actual` are the root mean square of the claimed standard errors and
of the errors; `cover` is the share of points whose log p(x) is within 1.96 claimed standard
errors. With 400 repetitions, `cover` of 95 % intervals is between 93 and 97 % in 93 of 100 runs.
"""

import csv
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from aevb_jax import importance_sampling, simulate
from aevb_jax.inference import (
  annealed_importance_sampling,
  bidirectional_monte_carlo,
  reciprocal_importance_sampling,
)
from aevb_jax.inference.annealing import Sandwich
from aevb_jax.inference.reciprocal import fit_diagonal_gaussian, fit_gaussian, fit_kernel_density
from aevb_jax.models import linear_gaussian as lg
from aevb_jax.types import Array, Key, Model, Params
from experiments.launch import command

FLAGS = flags.FLAGS
flags.DEFINE_integer("repetitions", 400, "Data points, each estimated once.", lower_bound=2)
flags.DEFINE_integer("seed", 0, "Of the data points and the estimates.")
flags.DEFINE_string("csv", None, "File to write the table to.")
flags.DEFINE_string("only", "", "The estimators that have this in their name.")

P = functools.partial


class Case(NamedTuple):
  name: str
  latent_dim: int
  estimate: Callable  # (key, model, params, x, z) -> LogLikelihood, or a Sandwich of them


def of_x(estimator: Callable, **kwargs) -> Callable:
  """Adapts an estimator that does not use the z that x was drawn from."""
  return lambda key, model, params, x, z: estimator(key, model, params, x, **kwargs)


RECIPROCAL = P(of_x, reciprocal_importance_sampling, num_chains=64)
CASES = [
  Case("importance K=5000", 3, of_x(importance_sampling, num_samples=5000)),
  Case("reciprocal diagonal", 3, RECIPROCAL(fit=fit_diagonal_gaussian, num_samples=200)),
  Case("reciprocal gaussian", 3, RECIPROCAL(fit=fit_gaussian, num_samples=200)),
  Case("reciprocal kernels", 3, RECIPROCAL(fit=fit_kernel_density)),
  Case("ais T=500", 3, of_x(annealed_importance_sampling)),
  Case("ais T=2000", 50, of_x(annealed_importance_sampling, num_temperatures=2000)),
  Case("bdmc T=500", 3, bidirectional_monte_carlo),
  Case("bdmc T=2000", 50, P(bidirectional_monte_carlo, num_temperatures=2000)),
]
COLUMNS = ("J", "error", "error_se", "z", "worst", "claimed", "actual", "cover", "seconds")


def main() -> None:
  jax.config.update("jax_enable_x64", True)
  print(f"{'estimator':26}{'J':>3}{'error':>20}{'z':>7}", end="")
  print(f"{'worst':>8}{'claimed':>9}{'actual':>9}{'cover':>8}{'seconds':>9}")
  rows = []
  for case in CASES:
    if FLAGS.only in case.name:
      rows += measure(case)
  if FLAGS.csv and rows:
    with open(FLAGS.csv, "w", newline="") as file:
      writer = csv.DictWriter(file, ["estimator", *COLUMNS])
      writer.writeheader()
      writer.writerows(rows)


def make_world(latent_dim: int) -> tuple[Model, Params]:
  """Makes a linear-Gaussian VAE of 2 J observed dimensions."""
  model = lg.linear_gaussian_vae(2 * latent_dim, latent_dim)
  w_key, b_key, var_key, phi_key = jax.random.split(jax.random.key(1), 4)
  kernel = jax.random.normal(w_key, (latent_dim, 2 * latent_dim)) / np.sqrt(latent_dim)
  theta = {
    "mean": {"kernel": kernel, "bias": jax.random.normal(b_key, (2 * latent_dim,))},
    "log_var": 0.3 * jax.random.normal(var_key, (2 * latent_dim,)),
  }
  phi = lg.optimal_phi(theta)
  # The mean differs from the best, and the variance equals the prior's.
  noise = 0.1 * jax.random.normal(phi_key, phi["mean"]["kernel"].shape)
  mean = phi["mean"] | {"kernel": phi["mean"]["kernel"] + noise}
  phi = {"mean": mean, "log_var": jnp.zeros(latent_dim)}
  return model, Params(theta, phi)


def measure(case: Case) -> list[dict]:
  model, params = make_world(case.latent_dim)

  def one(key: Key) -> tuple:
    simulate_key, key = jax.random.split(key)
    z, x = simulate(simulate_key, model, params)
    return lg.log_marginal(params.theta, x), case.estimate(key, model, params, x, z)

  keys = jax.random.split(jax.random.key(FLAGS.seed), FLAGS.repetitions)
  start = time.perf_counter()
  exact, estimate = jax.device_get(jax.jit(lambda k: jax.lax.map(one, k, batch_size=20))(keys))
  seconds = time.perf_counter() - start
  sides = estimate._asdict() if isinstance(estimate, Sandwich) else {"": estimate}
  return [report(f"{case.name} {side}", case, exact, e, seconds) for side, e in sides.items()]


def report(name: str, case: Case, exact: Array, estimate, seconds: float) -> dict:
  errors = estimate.value - exact
  error, error_se = errors.mean(), errors.std(ddof=1) / np.sqrt(len(errors))
  row = dict(
    estimator=name.strip(),
    J=case.latent_dim,
    error=error,
    error_se=error_se,
    z=error / error_se,
    worst=np.abs(errors).max(),
    claimed=np.sqrt(np.mean(estimate.standard_error**2)),
    actual=np.sqrt(np.mean(errors**2)),
    cover=np.mean(np.abs(errors) < 1.96 * estimate.standard_error),
    seconds=seconds,
  )
  print(
    f"{row['estimator']:26}{case.latent_dim:>3}{error:>11.4f} ± {error_se:.4f}{row['z']:>7.2f}"
    f"{row['worst']:>8.3f}{row['claimed']:>9.4f}{row['actual']:>9.4f}{row['cover']:>8.1%}"
    f"{seconds:>9.0f}",
    flush=True,
  )
  return row


if __name__ == "__main__":
  command.run(main)
