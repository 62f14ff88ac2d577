"""Every name of --posterior and --prior makes a model whose two estimators of the bound agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import bernoulli, elbo_a, elbo_b, init_params, kl_divergence, mlp_vae
from aevb_jax.errors import UnsupportedError
from aevb_jax.families import table
from aevb_jax.families.support import check_support, contains
from aevb_jax.types import Support
from tests.support.statistics import assert_unbiased

X = jnp.asarray([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
CLOSED = (
  "exponential weibull laplace uniform gaussian log_normal gamma dirichlet beta chi_squared "
  "bernoulli full_gaussian low_rank_gaussian"
).split()
PRIOR_OF = {"laplace": "laplace", "weibull": "gamma:shape=2:rate=0.5", "chi_squared": "chi_squared"}


def make(name):
  """Makes a small model, with parameters away from their initial values."""
  entry = table.POSTERIORS[name]
  few = ":steps=1" if name.endswith(("iaf", "flow")) else ""  # compiles faster
  family = table.make_family(name + few, table.POSTERIORS, 3)
  prior = PRIOR_OF.get(name, entry.prior)
  check_support(family, table.try_prior(prior, 3))
  model = mlp_vae(
    bernoulli(6),
    data_dim=6,
    latent_dim=3,
    hidden_dim=5,
    posterior=lambda size: family,
    prior=lambda size: table.make_prior(prior, size),
  )
  params = init_params(jax.random.key(1), model)  # eagerly, so that all models share compiled draws
  return model, jax.tree.map(lambda w: 0.5 * w + 0.3, params)


@pytest.mark.parametrize("name", table.POSTERIORS)
def test_a_posterior_and_its_prior(name):
  model, params = make(name)
  q, p = model.encoder.given(params.phi, X), model.prior(params)
  closed = name in CLOSED
  if not closed:
    with pytest.raises(UnsupportedError, match="no closed form"):
      kl_divergence(q, p)
  if name == "bernoulli":  # there is no gradient through z
    return

  def both(key):
    a_key, b_key = jax.random.split(key)
    bound, gradient = jax.value_and_grad(lambda ps: elbo_a(a_key, model, ps, X))(params)
    other = elbo_b(b_key, model, params, X) if closed else bound
    return bound, other, sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(gradient.phi))

  bounds, others, sizes = jax.jit(jax.vmap(both))(jax.random.split(jax.random.key(0), 3000))
  assert np.isfinite(bounds).all() and np.isfinite(sizes).all() and np.all(sizes > 0)
  if closed:
    mean = np.mean(others)
    assert_unbiased(bounds - others, 0.0, detects_shift=0.2 * abs(mean))


@pytest.mark.parametrize("name", table.FIXED_PRIORS)
def test_a_prior_is_a_density_that_can_be_drawn_from(name):
  p = table.try_prior(name, 3)
  density = jax.jit(jax.vmap(lambda key: p.log_prob(p.sample(key))))
  assert np.isfinite(density(jax.random.split(jax.random.key(0), 100))).all()


def test_arguments_reach_family_and_member():
  p = table.make_prior("student_t:degrees_of_freedom=3:scale=2", 2)
  np.testing.assert_array_equal(p.eta.scale, [2.0, 2.0])
  expected = table.make_prior("student_t:scale=2", 2)
  z = jnp.asarray([9.0, 9.0])
  assert p.log_prob(z) > expected.log_prob(z)  # 3 degrees of freedom instead of 5
  family = table.make_family("iaf:steps=3:context=5", table.POSTERIORS, 2)
  assert family.sizes == (2, 2, 5)
  assert len(family.init_shared(jax.random.key(0))) == 5  # 3 steps and 2 reversals between them
  alone = table.make_family("spline_flow:context=0", table.POSTERIORS, 2)
  assert alone.sizes == (2, 2)
  assert table.learned_prior("vamp:components=7") == ("vamp", 7)
  assert table.learned_prior("gaussian") is None


def test_what_lies_in_what():
  real, positive, unit = Support(), Support(low=0.0), Support(0.0, 1.0)
  assert contains(real, positive) and contains(positive, unit) and contains(unit, unit)
  assert not contains(positive, real) and not contains(unit, positive)
  simplex, coins = Support(0.0, 1.0, "simplex"), Support(0.0, 1.0, "integers")
  assert not contains(real, simplex) and not contains(unit, coins) and not contains(coins, unit)
  ends = Support(jnp.asarray([0.0, -1.0]), jnp.asarray([1.0, 2.0]))
  assert contains(ends, Support(0.0, 1.0)) and not contains(ends, Support(0.0, 1.5))
