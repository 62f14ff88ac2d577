"""Times training with an MLP that a user wrote, in three libraries, beside the package's own.

  pip install equinox  # without it, its row is left out
  python scripts/benchmark_networks.py                # prints a table
  python scripts/benchmark_networks.py --only=nnx

Every row is the paper's MNIST step (784 pixels, 20 latents, 500 hidden units, 100 examples,
Adagrad) under the compiled `fit`: `mlp_vae`, and `network_vae` of a hidden layer in Flax linen, in
Flax NNX and in Equinox. They are timed in turn in one run, so that a noisy machine slows them
alike. `ratio` is a row's time over that of `mlp_vae`, the median over the repeats; `least` is the
same for the least times. `products` and `instructions` count those of the compiled program. All
compute the same function, which is checked: with the same weights the bounds are equal.
"""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from benchmarks.timing import Timed, ratio, time_in_turn

from aevb_jax import Model, Params, aevb, bernoulli, binarize, elbo_b, fit, init_params, mlp_vae
from aevb_jax.algorithms.optimizers import adagrad
from aevb_jax.models import from_equinox, from_nnx, network_vae
from experiments.launch import command

FLAGS = flags.FLAGS
flags.DEFINE_integer("repeats", 21, "Timed calls of each, in turn.", lower_bound=1)
flags.DEFINE_integer("steps", 50, "Training steps in one call.", lower_bound=1)
flags.DEFINE_integer("num_samples", 1, "L: draws of z for each example.", lower_bound=1)
flags.DEFINE_string("only", "", "Measures libraries that have this in their name.")

IMAGE, LATENTS, HIDDEN, M, N = (28, 28, 1), 20, 500, 100, 50_000
PIXELS = IMAGE[0] * IMAGE[1]


def linen_networks() -> tuple:
  import flax.linen as nn

  class Hidden(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.tanh(nn.Dense(HIDDEN, name="hidden")(x.ravel()))

  return Hidden(), Hidden()


def nnx_networks() -> tuple:
  from flax import nnx

  class Hidden(nnx.Module):
    def __init__(self, inputs, rngs):
      self.hidden = nnx.Linear(inputs, HIDDEN, rngs=rngs)

    def __call__(self, x):
      return nnx.tanh(self.hidden(x.ravel()))

  return tuple(from_nnx(functools.partial(Hidden, n)) for n in (PIXELS, LATENTS))


def equinox_networks() -> tuple:
  import equinox as eqx

  class Hidden(eqx.Module):
    hidden: eqx.nn.Linear

    def __init__(self, inputs, key):
      self.hidden = eqx.nn.Linear(inputs, HIDDEN, key=key)

    def __call__(self, x):
      return jnp.tanh(self.hidden(x.ravel()))

  return tuple(from_equinox(functools.partial(Hidden, n)) for n in (PIXELS, LATENTS))


LIBRARIES = {"linen": linen_networks, "nnx": nnx_networks, "equinox": equinox_networks}


def models() -> dict[str, Model]:
  found = {"mlp_vae": mlp_vae(bernoulli(PIXELS), data_dim=PIXELS, latent_dim=LATENTS,
                              hidden_dim=HIDDEN)}  # fmt: skip
  for name, make in LIBRARIES.items():
    if FLAGS.only in name:
      try:
        encoder, decoder = make()
      except ImportError as error:
        print(f"{name}: left out, {error}")
        continue
      found[name] = network_vae(
        bernoulli(PIXELS), encoder=encoder, decoder=decoder, image_shape=IMAGE, latent_dim=LATENTS
      )
  return found


def check_bound(model: Model, own: Model) -> None:
  """Checks that a model has the bound of the package's own, with the same weights."""

  def moved(theirs: dict, ours: dict) -> dict:
    layer = dict(theirs["network"]["hidden"], bias=ours["hidden_0"]["bias"])
    kernel = ours["hidden_0"]["kernel"]
    layer |= {"weight": kernel.T} if "weight" in layer else {"kernel": kernel}
    heads = {name: value for name, value in ours.items() if name != "hidden_0"}
    return {"network": {"hidden": layer}, **heads}

  params, key = init_params(jax.random.key(0), own), jax.random.key(1)
  theirs = init_params(jax.random.key(0), model)
  same = Params(moved(theirs.theta, params.theta), moved(theirs.phi, params.phi))
  x = jnp.linspace(0, 1, PIXELS)
  bounds = [float(elbo_b(key, m, p, x)) for m, p in ((own, params), (model, same))]
  np.testing.assert_allclose(*bounds, rtol=1e-5)


def compiled(model: Model, pixels: jax.Array) -> tuple[Timed, str]:
  """Returns a call of `fit` to time, and its compiled program as text."""
  estimator = functools.partial(elbo_b, num_samples=FLAGS.num_samples)
  algorithm = aevb(model, estimator, adagrad(0.01), num_data=N)
  state, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
  options = dict(batch_size=M, num_steps=FLAGS.steps, preprocess=binarize)
  program = fit.lower(algorithm, state, key, pixels, **options).compile()

  def run() -> None:
    nonlocal state
    state, metrics = program(state, key, pixels)
    jax.block_until_ready(metrics)

  return Timed(run, FLAGS.steps), program.as_text()


def kinds(program: str) -> collections.Counter:
  """Counts the instructions of a compiled program by kind."""
  return collections.Counter(re.findall(r"^ *(?:ROOT )?%?\S+ = .*?([a-z][\w-]*)\(", program, re.M))


def main() -> None:
  print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; milliseconds per step")
  pixels = jax.device_put(np.random.default_rng(0).integers(0, 256, (N, PIXELS), dtype=np.uint8))
  chosen = models()
  for name in chosen.keys() - {"mlp_vae"}:
    check_bound(chosen[name], chosen["mlp_vae"])
  programs = {name: compiled(model, pixels) for name, model in chosen.items()}
  times = time_in_turn({name: timed for name, (timed, _) in programs.items()}, FLAGS.repeats)
  own = times["mlp_vae"]
  print(f"{'network':10}{'ms':>8}{'ratio':>8}{'least':>8}{'products':>10}{'instructions':>14}")
  for name, (_, program) in programs.items():
    counted = kinds(program)
    row = f"{name:10}{np.median(times[name]):8.2f}{ratio(times[name], own):8.3f}"
    row += f"{min(times[name]) / min(own):8.3f}{counted['dot']:10}{counted.total():14}"
    print(row)


if __name__ == "__main__":
  command.run(main)
