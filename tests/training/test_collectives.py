"""What devices send each other in a training step: one sum, and nothing in rounds of a loop."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import pytest

from aevb_jax import bernoulli, elbo_a, elbo_b, fit, fit_streamed, mlp_vae
from aevb_jax.algorithms import aevb, full_variational_bayes, full_vb, gaussian_weight_prior, mcem
from aevb_jax.algorithms.optimizers import adam
from aevb_jax.data.minibatches import Minibatch
from aevb_jax.estimators import constant_baseline, kl_warmup, with_baseline
from aevb_jax.estimators.table import ESTIMATORS
from aevb_jax.families import table
from aevb_jax.training.nonfinite import skip_nonfinite
from aevb_jax.training.sharding import make_shardings
from aevb_jax.training.sweep import fit_sweep
from aevb_jax.types import Algorithm

KINDS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
COLLECTIVE = re.compile(rf" ({KINDS})(?:-start)?\(")
PIXELS = jax.ShapeDtypeStruct((53, 6), jnp.uint8)
STEPS = dict(batch_size=16, num_steps=3)
ONE_SUM = {"all-reduce": 1}


def model_of(posterior):
  entry = table.POSTERIORS[posterior]
  prior = lambda size: table.make_prior(entry.prior, size)
  networks = dict(data_dim=6, latent_dim=2, hidden_dim=5)
  return mlp_vae(bernoulli(6), posterior=entry.make, prior=prior, **networks)


def learn(posterior="gaussian", estimator=elbo_a, **how):
  return aevb(model_of(posterior), estimator, adam(1e-2), num_data=53, **how)


def with_posterior(name):
  return learn(name, elbo_a if name != "bernoulli" else ESTIMATORS["score_function"])


MCEM = mcem(
  model_of("gaussian"),
  adam(1e-2),
  num_data=53,
  num_leapfrogs=2,
  num_updates=2,
  log_prior=gaussian_weight_prior(1.0),
)
ARGUMENTS = {
  "renyi": dict(alpha=0.5),
  "miwae": dict(num_groups=2),
  "ciwae": dict(beta=0.3),
  "piwae": dict(num_groups=2),
}
LEARN_Q_OF_THETA = dict(init=full_variational_bayes.init_params)
OTHERS = {
  "weight prior": lambda: learn(log_prior=gaussian_weight_prior(1.0)),
  "parts": lambda: learn(examples_at_once=4),
  "skipped": lambda: skip_nonfinite(learn("gamma"), "bound"),
  "warmup": lambda: learn("gamma", kl_warmup(elbo_a, 5)),
  "baseline": lambda: learn(
    "bernoulli",
    functools.partial(ESTIMATORS["score_function"], baseline=constant_baseline),
    init=with_baseline(constant_baseline),
  ),
  "full_vb": lambda: learn(estimator=full_vb(elbo_b, num_data=53), **LEARN_Q_OF_THETA),
  "full_vb sampled": lambda: learn(
    estimator=full_vb(elbo_b, num_data=53, closed_form=False), **LEARN_Q_OF_THETA
  ),
  "full_vb local": lambda: learn(
    estimator=full_vb(elbo_b, num_data=53, local=True), **LEARN_Q_OF_THETA
  ),
}


def long(names, but=()):
  return [name if name in but else pytest.param(name, marks=pytest.mark.long) for name in names]


def placed(tree, sharding):
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def start(algorithm, shardings):
  return placed(jax.eval_shape(algorithm.init, jax.random.key(0)), shardings.replicated)


def collectives(lowered):
  return collections.Counter(COLLECTIVE.findall(lowered.compile().as_text()))


def collectives_of_fit(algorithm):
  shardings = make_shardings(jax.devices()[:4])
  state = start(algorithm, shardings)
  how = STEPS | dict(sharding=shardings.minibatch)
  return collectives(fit.lower(algorithm, state, jax.random.key(1), PIXELS, **how))


@pytest.mark.parametrize("name", long(table.POSTERIORS, but=("gaussian", "gamma")))
def test_every_posterior_takes_one_sum_a_step(name):
  assert collectives_of_fit(with_posterior(name)) == ONE_SUM


@pytest.mark.parametrize("name", long(ESTIMATORS, but=("iwae",)))
def test_every_estimator_takes_one_sum_a_step(name):
  estimator = functools.partial(ESTIMATORS[name], num_samples=4, **ARGUMENTS.get(name, {}))
  assert collectives_of_fit(learn(estimator=estimator)) == ONE_SUM


@pytest.mark.parametrize("name", long(OTHERS, but=("parts",)))
def test_every_other_way_to_learn_takes_one_sum_a_step(name):
  assert collectives_of_fit(OTHERS[name]()) == ONE_SUM


def test_monte_carlo_em_takes_one_sum_an_update():
  # The chains that an E-step moved travel with the gradient of the updates.
  assert collectives_of_fit(MCEM) == ONE_SUM


@pytest.mark.parametrize("name", ["mcem", pytest.param("gamma", marks=pytest.mark.long)])
def test_members_that_share_devices_take_one_sum_a_step(name):
  algorithm = MCEM if name == "mcem" else learn("gamma", kl_warmup(elbo_a, 5))
  keys = jax.random.split(jax.random.key(0), 4)
  for num_devices, expected in ((8, ONE_SUM), (4, {})):
    shardings = make_shardings(jax.devices()[:num_devices], 4)
    members, how = shardings.members, STEPS | dict(sharding=shardings.minibatch)
    states = placed(jax.eval_shape(jax.vmap(algorithm.init), keys), members)
    lowered = fit_sweep.lower(algorithm, states, placed(keys, members), PIXELS, **how)
    assert collectives(lowered) == expected


@pytest.mark.parametrize("name", ["mcem", pytest.param("gamma", marks=pytest.mark.long)])
def test_streamed_indices_are_gathered_once_and_not_in_every_step(name):
  algorithm = MCEM if name == "mcem" else learn("gamma")
  shardings = make_shardings(jax.devices()[:4])
  rows = Minibatch(
    jax.ShapeDtypeStruct((3, 16), jnp.int32), jax.ShapeDtypeStruct((3, 16, 6), jnp.uint8)
  )
  key, how = jax.random.key(1), dict(sharding=shardings.minibatch, static_key=jax.random.key(2))
  rows = placed(rows, shardings.chunk(sweep=False))
  lowered = fit_streamed.lower(algorithm, start(algorithm, shardings), key, rows, **how)
  text = lowered.compile().as_text()
  gathered = re.findall(r"= (\S+) all-gather\(", text)
  assert collections.Counter(COLLECTIVE.findall(text))["all-reduce"] == 1
  assert all(shape.startswith("s32[3,16]") for shape in gathered) and len(gathered) <= 1


def test_the_count_sees_what_an_algorithm_that_knows_nothing_of_devices_costs():
  """A user's update works as it is, but its devices take the rounds of a sampler together."""
  model = model_of("gamma")
  algorithm = aevb(model, elbo_a, adam(1e-2), num_data=53)

  def update(state, batch, index):
    del index
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), len(batch))
    bound = jnp.mean(jax.vmap(lambda key, x: elbo_a(key, model, state.params, x))(keys, batch))
    return state._replace(step=state.step + 1), {"bound": bound}

  assert collectives_of_fit(Algorithm(algorithm.init, update))["all-reduce"] > 1
