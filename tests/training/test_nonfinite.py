"""Numbers that are not finite: their step is skipped, their cause found, training continues."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import (
  bernoulli,
  elbo_a,
  elbo_b,
  fit,
  fit_streamed,
  gaussian,
  gaussian_weight_prior,
  iwae,
  mlp_vae,
  standard_normal,
  stream,
)
from aevb_jax.algorithms.auto_encoding import aevb, explain_aevb
from aevb_jax.algorithms.monte_carlo_em import explain_mcem, mcem
from aevb_jax.algorithms.optimizers import adagrad, adam
from aevb_jax.data import Minibatch
from aevb_jax.data.minibatches import minibatch_indices, order_key
from aevb_jax.estimators.score_functions import score_function
from aevb_jax.families.gaussians import DiagonalGaussian
from aevb_jax.models import fair_coins
from aevb_jax.training.nonfinite import all_finite, first_offence, skip_nonfinite
from aevb_jax.training.sharding import make_shardings
from aevb_jax.training.sweep import fit_sweep, fit_sweep_streamed, init_sweep, with_step_size

N, M, D, J = 40, 8, 6, 4
PIXELS = np.random.default_rng(0).uniform(size=(N, D)).astype(np.float32)
DATA_KEY = 1


@pytest.fixture(autouse=True)
def single_precision():
  """Runs these tests in single precision, where most such faults occur."""
  with jax.enable_x64(False):
    yield


def vae(likelihood=gaussian, **kwargs):
  return mlp_vae(likelihood(D), data_dim=D, latent_dim=J, hidden_dim=5, **kwargs)


def learn(model, estimator=elbo_b, optimizer=None, **kwargs):
  return aevb(model, estimator, optimizer or adam(1e-2), num_data=N, **kwargs)


MODEL = vae()
ALGORITHM = learn(MODEL)


def started(algorithm, **changes):
  """Makes an initial state; `block__layer__name=(index, value)` changes some of its arrays."""
  params = algorithm.init(jax.random.key(0)).params
  for path, (index, value) in changes.items():
    block, layer, name = path.split("__")
    getattr(params, block)[layer][name] = getattr(params, block)[layer][name].at[index].set(value)
  return algorithm.init(jax.random.key(0))._replace(params=params)


def copied(tree):
  """Copies a tree, because `fit` donates its argument."""
  return jax.tree.map(jnp.copy, tree)


def leaves(state):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(state._replace(key=()))]


def assert_same(a, b):
  for left, right in zip(leaves(a), leaves(b), strict=True):
    np.testing.assert_array_equal(left, right)


@functools.cache
def indices(num_steps, first=0):
  key = order_key(jax.random.key(DATA_KEY))
  return np.asarray(minibatch_indices(key, jnp.int32(first), num_steps, num_data=N, batch_size=M))


def run(algorithm, state, num_steps, pixels=PIXELS, **kwargs):
  how = dict(batch_size=M, num_steps=num_steps, **kwargs)
  return fit(algorithm, copied(state), jax.random.key(DATA_KEY), jnp.asarray(pixels), **how)


def steps_with(example, num_steps):
  return [t for t, index in enumerate(indices(num_steps)) if example in index]


def examined(explained, state, pixels=PIXELS, **kwargs):
  """Makes the next step and returns its terms."""
  _, terms = run(explained, state, 1, pixels, **kwargs)
  return jax.tree.map(lambda leaf: np.asarray(leaf)[0], terms)


def survive(algorithm, explained, state, pixels=PIXELS, objective="bound", num_steps=12):
  """Trains by single steps; returns the end state, the skipped steps and the cause of the first.

  If no step is skipped, the cause is the explanation of the last step.
  """
  guarded, skipped = cached(skip_nonfinite)(algorithm, objective), []
  for step in range(num_steps):
    if not skipped:
      before = state
    state, metrics = run(guarded, state, 1, pixels)
    if metrics["skipped"][0]:
      skipped.append(step)
  assert state.step == num_steps
  return state, skipped, first_offence(examined(explained, before, pixels))


cached = functools.cache(functools.cache)  # tests share compiled code
explained_by = cached(explain_aevb)


def every(index):
  """Returns the end of the clause about a fault in all examples; `index` is the minibatch."""
  return f"in {M} of {M} examples, first training example {index.min()}"


# Which values count as finite


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64, jnp.bfloat16])
def test_one_number_is_enough(bad, dtype):
  good = {"a": jnp.arange(6.0).reshape(2, 3).astype(dtype), "b": (jnp.float32(3e38), jnp.zeros(0))}
  assert all_finite(good)
  assert not all_finite(good | {"a": good["a"].at[1, 1].set(bad)})
  assert not all_finite(good | {"c": jnp.asarray(bad, dtype)})


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(), (7,), (4096,), (784, 50)])
def test_one_number_that_is_not_finite_is_noticed(shape, dtype):
  """Also in a large array, of which XLA on CPU finds a maximum that leaves NaN out."""
  largest = np.full(shape, jnp.finfo(dtype).max, dtype)
  places = np.unique(np.linspace(0, largest.size - 1, 5).astype(int))
  for judge in (all_finite, jax.jit(all_finite)):
    assert judge({"a": largest, "b": jnp.int32(3), "key": jax.random.key(0)})
    for value in (np.nan, np.inf, -np.inf):
      for place in places:
        spoiled = largest.copy()
        spoiled.flat[place] = value
        assert not judge({"a": jnp.asarray(spoiled), "b": jnp.int32(3)})


def test_integers_and_keys_are_finite():
  tree = (jnp.iinfo(jnp.int32).max, jax.random.key(0), jax.random.split(jax.random.key(0), 3), ())
  assert all_finite(jax.tree.map(jnp.asarray, tree)) and all_finite(())


def test_members_are_judged_apart():
  tree = {"w": jnp.ones((3, 2, 2)).at[1, 0, 1].set(jnp.nan), "t": jnp.arange(3)}
  np.testing.assert_array_equal(jax.jit(jax.vmap(all_finite))(tree), [True, False, True])


# Steps that are left out


# The first pixel of an example selects its fault.
FAULTS = {"log_var": 2.0, "kl": 3.0, "gradient": 4.0, "value": 5.0, "square": 6.0}


def marked(fault):
  """Returns the images, with a fault in number 17."""
  pixels = PIXELS.copy()
  pixels[17, 0] = FAULTS[fault]
  return pixels


def faulty_model():
  def given(phi, x):
    q = MODEL.encoder.given(phi, x)
    infinite = jnp.where(x[0] == FAULTS["log_var"], jnp.inf, 0.0)
    large = jnp.where(x[0] == FAULTS["kl"], 200.0, 0.0)  # exp(200) overflows
    log_var = q.eta.log_var.at[jnp.asarray([1, 3])].add(infinite).at[2].add(large)
    return q.at(q.eta._replace(log_var=log_var))

  return MODEL._replace(encoder=MODEL.encoder._replace(given=given))


def faulty_estimator(key, model, params, x):
  """`gradient` differentiates √w at w = 0, behind a where; Adam's square of `square` overflows."""
  w = params.theta["head_0"]["bias"]
  w = jnp.where(x[0] == FAULTS["gradient"], w - jax.lax.stop_gradient(w), 1.0)
  value = jnp.where(x[0] == FAULTS["value"], -jnp.inf, 0.0)
  slope = jnp.where(x[0] == FAULTS["square"], 1e25, 0.0)
  value += jnp.sum(jnp.where(w > 0, jnp.sqrt(w), 0.0))
  return elbo_b(key, model, params, x) + value + slope * params.phi["head_1"]["bias"][0]


FAULTY_MODEL = faulty_model()
FAULTY = learn(FAULTY_MODEL, faulty_estimator)
explain_faulty = functools.partial(cached(explain_aevb), FAULTY, FAULTY_MODEL)


BERNOULLI = vae(bernoulli)
ALGORITHMS = {
  "adam": learn(BERNOULLI, elbo_b, adam(1e-2)),
  "adagrad": learn(BERNOULLI, elbo_a, adagrad(1e-2, warmup_steps=2)),
  "iwae": learn(
    BERNOULLI,
    functools.partial(iwae, num_samples=3),
    log_prior=gaussian_weight_prior(1.0),
    examples_at_once=4,
  ),
  "mcem": mcem(BERNOULLI, adam(1e-2), num_data=N, num_leapfrogs=3, num_updates=2),
}
objective_of = lambda name: "log_joint" if name == "mcem" else "bound"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_finite_steps_are_those_of_the_algorithm_bit_for_bit(name):
  algorithm = ALGORITHMS[name]
  guarded = cached(skip_nonfinite)(algorithm, objective_of(name))
  state, clean = algorithm.init(jax.random.key(0)), PIXELS.clip(0, 1)
  after, metrics = run(algorithm, state, 12, clean)
  same, expected = run(guarded, state, 12, clean)
  assert_same(after, same)
  assert not expected.pop("skipped").any()
  for name in metrics:
    np.testing.assert_array_equal(metrics[name], expected[name])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_left_out_changes_the_step_alone(name):
  """The result equals the result of a loop that makes only the good updates."""
  algorithm, pixels = ALGORITHMS[name], PIXELS.copy()
  pixels[5, 2] = np.nan
  state = by_hand = algorithm.init(jax.random.key(0))
  bad = steps_with(5, 12)
  assert 0 < len(bad) < 6 and bad[-1] < 11
  for step in range(12):
    following, _ = run(algorithm, by_hand, 1, pixels)
    assert all_finite(following) == (step not in bad)
    by_hand = by_hand._replace(step=by_hand.step + 1) if step in bad else following
  guarded = cached(skip_nonfinite)(algorithm, objective_of(name))
  after, metrics = run(guarded, state, 12, pixels)
  np.testing.assert_array_equal(np.flatnonzero(metrics["skipped"]), bad)
  assert all_finite(after) and after.step == 12
  for a, b in zip(leaves(after), leaves(by_hand), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "mcem"])
def test_streamed_steps_are_left_out_too(name):
  pixels = PIXELS.copy()
  pixels[5, 2] = np.nan
  guarded = cached(skip_nonfinite)(ALGORITHMS[name], objective_of(name))
  state = guarded.init(jax.random.key(0))
  resident, metrics = run(guarded, state, 12, pixels)
  key, streamed, parts = jax.random.key(DATA_KEY), copied(state), []
  for minibatches in stream(pixels, key, [6, 6], batch_size=M):
    streamed, expected = fit_streamed(guarded, streamed, key, minibatches)
    parts.append(expected["skipped"])
  assert_same(resident, streamed)
  np.testing.assert_array_equal(np.concatenate(parts), metrics["skipped"])
  assert metrics["skipped"].any()


def test_a_value_that_is_not_finite_is_enough():
  """The value is not finite, although the gradient and the new state are."""
  state = FAULTY.init(jax.random.key(0))
  at_fault = state._replace(step=jnp.int32(steps_with(17, 12)[0]))
  after, _ = run(FAULTY, at_fault, 1, marked("value"))
  assert all_finite(after)
  _, skipped, clause = survive(FAULTY, explain_faulty(), state, marked("value"))
  assert skipped == steps_with(17, 12)
  assert clause == "every term of the bound is finite, but what is computed from them is not: bound"


@pytest.mark.parametrize(
  "name, streamed",
  [("adam", False), ("adam", True), pytest.param("mcem", False, marks=pytest.mark.long)],
)
def test_a_member_that_skips_takes_no_other_along(name, streamed):
  algorithm = ALGORITHMS[name]
  objective, others = objective_of(name), np.asarray([0, 2])
  clean = jnp.asarray(PIXELS.clip(0, 1))

  def swept(algorithm, step_size):
    init_keys = jax.random.split(jax.random.key(0), 3)
    keys = jax.random.split(jax.random.key(1), 3)
    states = init_sweep(algorithm, init_keys, jnp.asarray([1e-2, step_size, 3e-2]))
    if not streamed:
      return fit_sweep(algorithm, states, keys, clean, batch_size=M, num_steps=8)
    streams = [next(stream(np.asarray(clean), key, [8], batch_size=M)) for key in keys]
    minibatches = Minibatch(*(np.stack(parts) for parts in zip(*streams)))
    return fit_sweep_streamed(algorithm, states, keys, minibatches)

  guarded = skip_nonfinite(algorithm, objective)
  states, metrics = swept(algorithm, 1e38)
  kept, expected = swept(guarded, 1e38)
  np.testing.assert_array_equal(jax.vmap(all_finite)(states), [True, False, True])
  np.testing.assert_array_equal(jax.vmap(all_finite)(kept), [True, True, True])
  np.testing.assert_array_equal(kept.step, [8, 8, 8])
  assert not expected["skipped"][others].any() and expected["skipped"][1].any()
  quiet, told_quiet = swept(guarded, 2e-2)
  assert not told_quiet["skipped"].any()
  for a, b, c in zip(leaves(states), leaves(kept), leaves(quiet), strict=True):
    np.testing.assert_array_equal(b[others], c[others])
    np.testing.assert_allclose(a[others], b[others], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(metrics[objective][others], expected[objective][others], rtol=1e-5)


def test_devices_that_share_a_minibatch():
  pixels = PIXELS.copy()
  pixels[5, 2] = np.nan
  algorithm, sharding = ALGORITHMS["adam"], make_shardings(jax.devices()[:4])
  guarded, explained = skip_nonfinite(algorithm, "bound"), explain_aevb(algorithm, BERNOULLI)
  state = jax.device_put(algorithm.init(jax.random.key(0)), sharding.replicated)
  after, metrics = run(guarded, state, 12, pixels, sharding=sharding.minibatch)
  np.testing.assert_array_equal(np.flatnonzero(metrics["skipped"]), steps_with(5, 12))
  assert all_finite(after)
  before, _ = run(guarded, state, steps_with(5, 12)[0], pixels, sharding=sharding.minibatch)
  clause = first_offence(examined(explained, before, pixels, sharding=sharding.minibatch))
  assert clause == "x is not finite in 1 of 8 examples, first training example 5"


# Which term is the cause


def test_nothing_is_to_blame():
  algorithm = ALGORITHM
  state = algorithm.init(jax.random.key(0))
  _, skipped, clause = survive(algorithm, explained_by(algorithm, MODEL), state)
  assert skipped == [] and clause == "when computed again, everything in the step is finite"


def test_a_pixel():
  algorithm, pixels = ALGORITHM, PIXELS.copy()
  pixels[17, 3] = np.nan
  state = algorithm.init(jax.random.key(0))
  after, skipped, clause = survive(algorithm, explained_by(algorithm, MODEL), state, pixels)
  assert skipped == steps_with(17, 12) and all_finite(after)
  assert clause == "x is not finite in 1 of 8 examples, first training example 17"


def test_several_pixels():
  algorithm, pixels = ALGORITHM, PIXELS.copy()
  bad = indices(3)[2][[4, 1, 6]]  # of the third minibatch
  pixels[bad, 3] = np.inf
  state = algorithm.init(jax.random.key(0))
  _, skipped, clause = survive(algorithm, explained_by(algorithm, MODEL), state, pixels)
  assert skipped[0] == 2
  assert clause == f"x is not finite in 3 of 8 examples, first training example {bad.min()}"


@pytest.mark.parametrize(
  "change, name",
  [
    (dict(theta__hidden_0__kernel=((2, 1), np.nan)), "theta/hidden_0/kernel"),
    (dict(phi__head_1__bias=(3, np.inf)), "phi/head_1/bias"),
  ],
)
def test_a_parameter_that_was_so_before(change, name):
  algorithm = ALGORITHM
  state = started(algorithm, **change)
  _, skipped, clause = survive(algorithm, explained_by(algorithm, MODEL), state)
  assert skipped == list(range(12))  # there is no good state to resume from
  assert clause == f"not finite before the step: {name}"


def test_an_optimizer_that_was_so_before():
  algorithm = ALGORITHM
  state = algorithm.init(jax.random.key(0))
  state = state._replace(opt_state=jax.tree.map(lambda a: a * jnp.nan, state.opt_state))
  _, _, clause = survive(algorithm, explained_by(algorithm, MODEL), state)
  assert clause.startswith("not finite before the step: opt_state/")
  assert clause.endswith(" more")


@pytest.mark.parametrize(
  "fault, clause",
  [
    ("log_var", "q(z|x) has no finite log_var at latents 1, 3 in {}"),
    ("kl", "KL(q(z|x) ‖ p(z)) overflows at latent 2 in {}"),
    ("gradient", "every term of the bound is finite, but {}theta/head_0/bias"),
    (
      "square",
      "every term of the bound is finite, but {}opt_state/inner_state/0/nu/phi/head_1/bias",
    ),
  ],
)
def test_one_example(fault, clause):
  state = FAULTY.init(jax.random.key(0))
  after, skipped, found = survive(FAULTY, explain_faulty(), state, marked(fault))
  assert skipped == steps_with(17, 12) and all_finite(after)
  if fault in ("log_var", "kl"):
    assert found.startswith(clause.format("1 of 8 examples, first training example 17 (largest "))
  else:
    assert found == clause.format("its gradient or update is not: ")


def test_a_kl_that_overflows_by_a_parameter():
  algorithm = ALGORITHM
  state = started(algorithm, phi__head_1__bias=(2, 200.0))
  after, skipped, clause = survive(algorithm, explained_by(algorithm, MODEL), state)
  assert skipped == list(range(12)) and all_finite(after)
  assert clause == (
    f"KL(q(z|x) ‖ p(z)) overflows at latent 2 {every(indices(1))} "
    "(largest parameter: phi/head_1/bias, 2e+02 in size)"
  )


class OtherGaussian(DiagonalGaussian):
  """The parameters of a prior for which no closed form of the KL is known."""


def without_closed_form(size):
  return standard_normal(size)._replace(eta=OtherGaussian(jnp.zeros(size), jnp.zeros(size)))


SAMPLED_MODEL = vae(prior=without_closed_form)
SAMPLED = learn(SAMPLED_MODEL, elbo_a)


@pytest.mark.parametrize(
  "log_var, offence",
  [
    (200.0, "z is not finite at latent 2"),  # exp(100) overflows
    (150.0, "log p(z) is not finite"),  # exp(75)² overflows
    (-200.0, "log q(z|x) is not finite"),  # z − mean is 0, times exp(100)
  ],
)
def test_without_a_closed_form(log_var, offence):
  model, algorithm = SAMPLED_MODEL, SAMPLED
  state = started(algorithm, phi__head_1__bias=(2, log_var), phi__head_0__bias=(2, 1.0))
  after, skipped, clause = survive(algorithm, explained_by(algorithm, model), state)
  assert skipped == list(range(12)) and all_finite(after)
  blame = f"(largest parameter: phi/head_1/bias, {abs(log_var):.2g} in size)"
  assert clause == f"{offence} {every(indices(1))} {blame}"


def test_a_density_of_x_that_is_unbounded():
  """A Gaussian decoder is certain of one dimension, and wrong there in only one data point."""
  pixels = PIXELS.copy()
  pixels[:, 0] = 0
  pixels[17, 0] = 1
  changes = dict(theta__head_1__bias=(0, -170.0), theta__head_0__kernel=((slice(None), 0), 0.0))
  model, algorithm = MODEL, ALGORITHM
  state = started(algorithm, **changes)
  after, skipped, clause = survive(algorithm, explained_by(algorithm, model), state, pixels)
  assert skipped == steps_with(17, 12) and all_finite(after)
  assert clause == (
    "the reconstruction log p(x|z) is not finite in 1 of 8 examples, first training example 17 "
    "(largest parameter: theta/head_1/bias, 1.7e+02 in size)"
  )


def test_logits_that_overflow():
  model, algorithm = BERNOULLI, ALGORITHMS["adam"]
  changes = dict(
    theta__hidden_0__bias=(slice(None), 100.0),  # saturated
    theta__head_0__kernel=((slice(None), 5), 3e38),
  )
  _, skipped, clause = survive(
    algorithm, explained_by(algorithm, model), started(algorithm, **changes), PIXELS.clip(0, 1)
  )
  assert skipped == list(range(12))
  assert clause == (
    f"p(x|z) has no finite logits at dimension 5 {every(indices(1))} "
    "(largest parameter: theta/head_0/kernel, 3e+38 in size)"
  )


@pytest.mark.parametrize("model, algorithm", [(MODEL, ALGORITHM), (BERNOULLI, ALGORITHMS["adam"])])
def test_a_step_size(model, algorithm):
  """The first step reaches numbers that are finite but far too large for the next step."""
  state = with_step_size(algorithm.init(jax.random.key(0)), 1e30)
  explained = explained_by(algorithm, model)
  after, skipped, clause = survive(algorithm, explained, state, PIXELS.clip(0, 1))
  assert skipped == list(range(1, 12)) and all_finite(after)
  assert clause.startswith("KL(q(z|x) ‖ p(z)) overflows at latent")
  assert clause.endswith(", 1e+30 in size)")


def test_the_prior_on_the_parameters():
  log_prior = gaussian_weight_prior(1.0)
  algorithm = learn(MODEL, log_prior=log_prior)
  pixels = PIXELS.copy()
  pixels[:, 3] = 0  # so that the weight below changes nothing else
  state = started(algorithm, phi__hidden_0__kernel=((3, 1), 1e20))
  clause = first_offence(
    examined(explain_aevb(algorithm, MODEL, log_prior=log_prior), state, pixels)
  )
  assert clause == (
    "the prior on the parameters, log p(θ), is not finite "
    "(largest parameter: phi/hidden_0/kernel, 1e+20 in size)"
  )
  without = first_offence(examined(explained_by(ALGORITHM, MODEL), state, pixels))
  assert without.startswith("when computed again, ")


@pytest.mark.parametrize(
  "num_samples, latents", [(1, "binary"), (3, "continuous"), (60, "continuous")]
)
def test_z_is_that_of_the_estimator(num_samples, latents):
  """The examples whose z is beyond a wall in the decoder are those without a finite estimate."""
  binary = dict(posterior=bernoulli, prior=fair_coins) if latents == "binary" else {}
  model = vae(bernoulli, **binary)
  given, wall = model.decoder.given, {1: 0.2, 3: 0.8, 60: 2.2}[num_samples]

  def with_a_wall(theta, z):
    p = given(theta, z)
    beyond = z.sum() > 2 if latents == "binary" else z[0] > wall
    return p._replace(log_prob=lambda x: jnp.where(beyond, -jnp.inf, p.log_prob(x)))

  model = model._replace(decoder=model.decoder._replace(given=with_a_wall))
  estimator = functools.partial(score_function, num_samples=num_samples)
  algorithm = learn(model, estimator)
  state = algorithm.init(jax.random.key(0))._replace(step=jnp.int32(2))
  terms = examined(
    explain_aevb(algorithm, model, num_samples=num_samples), state, PIXELS.clip(0, 1)
  )
  np.testing.assert_array_equal(terms.index, indices(1, first=2)[0])
  keys = jax.random.split(jax.random.fold_in(state.key, 2), M)
  batch = jnp.asarray(PIXELS.clip(0, 1)[terms.index])
  values = jax.vmap(lambda key, x: estimator(key, model, state.params, x))(keys, batch)
  np.testing.assert_array_equal(terms.reconstruction, np.isfinite(values))
  assert 0 < terms.reconstruction.sum() < M


# Monte Carlo EM


MCEM = ALGORITHMS["mcem"]
explained_mcem = functools.partial(cached(explain_mcem), MCEM, BERNOULLI)


def test_mcem_nothing_is_to_blame():
  state, clean = MCEM.init(jax.random.key(0)), PIXELS.clip(0, 1)
  _, skipped, clause = survive(MCEM, explained_mcem(), state, clean, "log_joint")
  assert skipped == [] and clause == "when computed again, everything in the step is finite"


def test_mcem_a_pixel():
  pixels = PIXELS.clip(0, 1)
  pixels[17, 3] = np.nan
  state = MCEM.init(jax.random.key(0))
  after, skipped, clause = survive(MCEM, explained_mcem(), state, pixels, "log_joint")
  assert skipped == steps_with(17, 12) and all_finite(after)
  assert clause == "x is not finite in 1 of 8 examples, first training example 17"


def test_mcem_a_chain():
  state = MCEM.init(jax.random.key(0))
  state = state._replace(z=state.z.at[17, 2].set(1e30))  # its square overflows
  after, skipped, clause = survive(MCEM, explained_mcem(), state, PIXELS.clip(0, 1), "log_joint")
  assert skipped == steps_with(17, 12) and all_finite(after)
  assert clause.startswith("log p(z) is not finite in 1 of 8 examples, first training example 17 (")


def test_mcem_a_chain_that_is_missing():
  short = mcem(BERNOULLI, adam(1e-2), num_data=N - 1, num_leapfrogs=3, num_updates=2)
  state = short.init(jax.random.key(0))
  explained = explain_mcem(short, BERNOULLI)
  _, skipped, clause = survive(short, explained, state, PIXELS.clip(0, 1), "log_joint")
  assert skipped == steps_with(39, 12)
  assert clause.startswith(
    "z is not finite at latents 0, 1, 2 and 1 more in 1 of 8 examples, first training example 39 ("
  )


def test_mcem_a_step_size():
  state = with_step_size(MCEM.init(jax.random.key(0)), 1e38)
  clean = PIXELS.clip(0, 1)
  after, skipped, clause = survive(MCEM, explained_mcem(), state, clean, "log_joint")
  assert skipped == list(range(1, 12)) and all_finite(after)
  assert clause.startswith("p(x|z) has no finite logits at dimensions 0, 1, 2 and 3 more in 8 of 8")
  assert clause.endswith("e+38 in size)")


def test_mcem_the_prior_on_the_parameters():
  state = MCEM.init(jax.random.key(0))
  explained = explained_mcem(
    log_prior=lambda params: jnp.log(0 * jnp.sum(params.theta["head_0"]["bias"]))
  )
  clause = first_offence(examined(explained, state, PIXELS.clip(0, 1)))
  assert clause.startswith("the prior on the parameters, log p(θ), is not finite (")
