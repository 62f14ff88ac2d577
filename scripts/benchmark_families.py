"""Times sampling with gradients for every family of section 2.4 that NumPyro also has.

  pip install numpyro
  python scripts/benchmark_families.py                # prints a table
  python scripts/benchmark_families.py --csv=out.csv
  python scripts/benchmark_families.py --against=CHECKOUT   # another commit, instead of NumPyro

Timed in turn in one run: the gradient, with respect to all parameters, of the sum of squares of
100 x 100 draws, each with parameters of its own, as in a posterior of 100 latents for a minibatch
of 100; in single precision. `ratio` is our time over NumPyro's, the median over the repeats.

With --against the package of another checkout is timed in turn with this one: that gradient, and
the log-densities of 100 x 100 numbers. The ratios are this commit's time over the other's.
"""

import csv
import importlib
import statistics
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
from absl import flags
from benchmarks.timing import Timed, ratio, time_in_turn
from support import start

from aevb_jax.families import composition, gaussians, inverse_cdf, location_scale
from aevb_jax.types import Family
from experiments.launch import command

FLAGS = flags.FLAGS
flags.DEFINE_integer("repeats", 15, "Timed calls of each, in turn.", lower_bound=1)
flags.DEFINE_integer("calls", 20, "Gradients in one timed call.", lower_bound=1)
flags.DEFINE_string("csv", None, "File to write the table to.")
flags.DEFINE_string("against", None, "Checkout of another commit to compare with.")
flags.DEFINE_string("only", "", "Measures families that have this in their name.")

M, J = 100, 100
# Our family, NumPyro's class, and its parameters from the fields of our η, in their order.
PAIRS = {
  "exponential": (inverse_cdf.exponential, "Exponential", lambda rate: dict(rate=rate)),
  "cauchy": (inverse_cdf.cauchy, "Cauchy", lambda m, s: dict(loc=m, scale=s)),
  "logistic": (inverse_cdf.logistic, "Logistic", lambda m, s: dict(loc=m, scale=s)),
  "pareto": (inverse_cdf.pareto, "Pareto", lambda s, a: dict(scale=s, alpha=a)),
  "weibull": (inverse_cdf.weibull, "Weibull", lambda s, k: dict(scale=s, concentration=k)),
  "reciprocal": (inverse_cdf.reciprocal, "LogUniform", lambda a, b: dict(low=a, high=b)),
  "gompertz": (inverse_cdf.gompertz, "Gompertz", lambda c, r: dict(concentration=c, rate=r)),
  "gumbel": (inverse_cdf.gumbel, "Gumbel", lambda m, s: dict(loc=m, scale=s)),
  "laplace": (location_scale.laplace, "Laplace", lambda m, s: dict(loc=m, scale=s)),
  "student_t": (location_scale.student_t, "StudentT", lambda m, s: dict(df=5.0, loc=m, scale=s)),
  "uniform": (location_scale.uniform, "Uniform", lambda a, b: dict(low=a, high=b)),
  "gaussian": (
    gaussians.gaussian,
    "Normal",
    lambda mean, log_var: dict(loc=mean, scale=jnp.exp(0.5 * log_var)),
  ),
  "full_gaussian": (
    gaussians.full_gaussian,
    "MultivariateNormal",
    lambda mean, tril: dict(loc=mean, scale_tril=tril),
  ),
  "log_normal": (composition.log_normal, "LogNormal", lambda m, s: dict(loc=m, scale=s)),
  "gamma": (composition.gamma, "Gamma", lambda a, r: dict(concentration=a, rate=r)),
  "chi_squared": (composition.chi_squared, "Chi2", lambda df: dict(df=df)),
  "beta": (composition.beta, "Beta", lambda a, b: dict(concentration1=a, concentration0=b)),
  "dirichlet": (composition.dirichlet, "Dirichlet", lambda a: dict(concentration=a)),
}


def main() -> None:
  if FLAGS.against:
    return compare(FLAGS.against)
  start.need("numpyro")
  import numpyro.distributions as dist

  print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; milliseconds a gradient")
  print(f"{'family':14} {'ours':>9} {'NumPyro':>9} {'ratio':>6}")
  rows = []
  for name, (make, theirs, parameters) in PAIRS.items():
    if FLAGS.only in name:
      rows.append(measure(name, make(J), getattr(dist, theirs), parameters))
      print("{family:14} {ours:9.3f} {numpyro:9.3f} {ratio:6.2f}".format(**rows[-1]), flush=True)
  if FLAGS.csv:
    with open(FLAGS.csv, "w", newline="") as file:
      writer = csv.DictWriter(file, ["family", "ours", "numpyro", "ratio"])
      writer.writeheader()
      writer.writerows(rows)


MODULES = ("composition", "gaussians", "inverse_cdf", "location_scale")


def families_of(checkout: str) -> dict:
  """Imports the families of another checkout beside those of this one."""
  ours = {name: sys.modules.pop(name) for name in list(sys.modules) if "aevb_jax" in name}
  sys.path.insert(0, checkout)
  try:
    return {name: importlib.import_module(f"aevb_jax.families.{name}") for name in MODULES}
  finally:
    sys.path.remove(checkout)
    for name in [name for name in sys.modules if "aevb_jax" in name]:
      del sys.modules[name]
    sys.modules.update(ours)


def compare(checkout: str) -> None:
  """Prints the times of this commit over those of another, in turn in one process."""
  others = families_of(checkout)
  print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; this over {checkout}")
  print(f"{'family':14} {'gradient':>9} {'log_prob':>9}")
  for name, (make, *_) in PAIRS.items():
    if FLAGS.only not in name:
      continue
    other = getattr(others[make.__module__.rpartition(".")[2]], make.__name__)
    both = {"this": make(J), "other": other(J)}
    gradients, densities = {}, {}
    for who, family in both.items():
      eta = member(family)
      gradients[who] = repeated(lambda key, eta, f=family: draw(key, f, eta), eta)
      densities[who] = repeated_log_probs(family, eta)
    ratios = [
      ratio(times["this"], times["other"])
      for times in (time_in_turn(timed, FLAGS.repeats) for timed in (gradients, densities))
    ]
    print(f"{name:14} {ratios[0]:9.2f} {ratios[1]:9.2f}", flush=True)


def repeated_log_probs(family: Family, eta) -> Timed:
  """Makes a program that computes the log-densities of the same draws under moved parameters."""
  z = draw(jax.random.key(2), family, eta)

  @jax.jit
  def run(eta, z):
    def one(total, scale):
      moved = jax.tree.map(lambda leaf: leaf * scale, eta)
      return total + jnp.sum(jax.vmap(family.log_prob)(moved, z)), None

    scales = jnp.linspace(0.9, 1.1, FLAGS.calls)
    return jax.lax.scan(one, jnp.zeros(()), scales)[0]

  jax.block_until_ready(run(eta, z))
  return Timed(lambda: jax.block_until_ready(run(eta, z)), FLAGS.calls)


def measure(name: str, family: Family, peer: type, parameters: Callable[..., dict]) -> dict:
  eta = member(family)
  timed = {
    "ours": repeated(lambda key, eta: draw(key, family, eta), eta),
    "numpyro": repeated(lambda key, eta: peer(**parameters(*eta)).sample(key), eta),
  }
  times = time_in_turn(timed, FLAGS.repeats)
  row = dict(family=name, ratio=ratio(times["ours"], times["numpyro"]))
  return row | {who: statistics.median(of) for who, of in times.items()}


def member(family: Family):
  """Makes M members with heads drawn from N(0, 1)."""
  keys = jax.random.split(jax.random.key(0), len(family.sizes))
  heads = [jax.random.normal(key, (M, size)) for key, size in zip(keys, family.sizes)]
  if len(heads) == 3:  # scaled, because up to 100 entries in a row of L add up
    heads[2] = heads[2] / 10
  return jax.vmap(family.from_heads)(*heads)


def draw(key, family: Family, eta):
  """Draws one sample of each member, shape (M, J)."""
  transform = lambda key, eta: family.transform(eta, family.noise(key))
  return jax.vmap(transform)(jax.random.split(key, M), eta)


def repeated(sample: Callable, eta) -> Timed:
  """Makes a program that computes gradients one after another, each with a key of its own."""
  loss = lambda eta, key: jnp.sum(sample(key, eta) ** 2)

  @jax.jit
  def run(eta, key):
    def one(total, key):
      return jax.tree.map(jnp.add, total, jax.grad(loss)(eta, key)), None

    return jax.lax.scan(one, jax.tree.map(jnp.zeros_like, eta), jax.random.split(key, FLAGS.calls))[
      0
    ]

  key = jax.random.key(1)
  jax.block_until_ready(run(eta, key))
  return Timed(lambda: jax.block_until_ready(run(eta, key)), FLAGS.calls)


if __name__ == "__main__":
  command.run(main)
