"""The page on NumPyro: its code, run as it stands, has the densities of NumPyro and of SciPy."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from aevb_jax import elbo_b, errors, log_joint
from tests.support import pages
from tests.support.statistics import assert_unbiased

numpyro = pytest.importorskip("numpyro", reason="the extra numpyro is not installed")

LOG_S, U = 0.4, np.asarray([0.3, -1.2, 0.5, 2.0])
Z = jnp.asarray([LOG_S, *U])


@pytest.fixture(scope="module")
def page():
  """The names that the code of the page defines, after all of it has run."""
  names = {}
  with jax.numpy_rank_promotion("allow"):  # NumPyro broadcasts arrays of different ranks
    exec(pages.python_of("aevb_jax/models/numpyro.md"), names)
    yield types.SimpleNamespace(**names)


def test_a_hierarchical_prior_has_its_density(page):
  s = np.exp(LOG_S)
  expected = scipy.stats.halfnorm.logpdf(s) + LOG_S + np.sum(scipy.stats.norm.logpdf(U, 0, s))
  np.testing.assert_allclose(page.p_z.log_prob(Z), expected, rtol=1e-12)
  theirs, _ = numpyro.infer.util.log_density(page.hierarchy, (), {}, {"s": s, "u": U})
  np.testing.assert_allclose(page.p_z.log_prob(Z), theirs + LOG_S, rtol=1e-12)


def test_its_draws_follow_the_density(page):
  z, log_p = jax.vmap(page.p_z.sample_with_log_prob)(jax.random.split(jax.random.key(0), 20_000))
  np.testing.assert_allclose(jax.vmap(page.p_z.log_prob)(z[:5]), log_p[:5], rtol=1e-12)
  s = np.exp(z[:, 0])
  assert_unbiased(s, np.sqrt(2 / np.pi))
  assert_unbiased(z[:, 1:] ** 2, np.ones(4))
  assert_unbiased((z[:, 1:] / s[:, None]) ** 2, np.ones(4))


def test_a_decoder_has_the_density_of_its_program(page):
  theta = page.model.decoder.init(jax.random.key(0))
  assert theta.keys() == {"hidden", "kernel", "bias"}
  assert np.std(theta["hidden"]) > 0.1  # drawn, not zeros
  x = jnp.asarray(np.random.default_rng(0).integers(0, 2, 64), float)
  p = page.model.decoder.given(theta, Z)
  program = numpyro.handlers.substitute(page.decoder, theta)
  theirs, _ = numpyro.infer.util.log_density(program, (Z,), {}, {"x": x})
  logits = np.tanh(Z @ theta["hidden"]) @ theta["kernel"] + theta["bias"]
  expected = np.sum(scipy.stats.bernoulli.logpmf(x, scipy.special.expit(logits)))
  np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-12)
  np.testing.assert_allclose(p.log_prob(x), theirs, rtol=1e-12)
  np.testing.assert_allclose(p.mean, scipy.special.expit(logits), rtol=1e-12)
  assert not p.reparameterized and set(np.unique(p.sample(jax.random.key(1)))) == {0, 1}


def test_the_joint_density_is_that_of_one_program(page):
  def both(x):
    page.hierarchy()
    page.decoder(Z)

  params = page.state.params
  x = jnp.ones(64)
  program = numpyro.handlers.substitute(both, params.theta)
  values = {"s": np.exp(LOG_S), "u": U, "x": x}
  theirs, _ = numpyro.infer.util.log_density(program, (x,), {}, values)
  np.testing.assert_allclose(log_joint(page.model, params, x, Z), theirs + LOG_S, rtol=1e-12)


def test_a_mixture_has_its_density(page):
  own = page.mixed.params.theta["prior"]
  assert np.any(own["logits"] != 0)  # trained
  parts = [np.sum(scipy.stats.norm.logpdf(Z, mean)) for mean in np.asarray(own["mean"])]
  expected = scipy.special.logsumexp(np.asarray(jax.nn.log_softmax(own["logits"])) + parts)
  np.testing.assert_allclose(page.mixture(None, own).log_prob(Z), expected, rtol=1e-12)


def test_the_models_of_the_page_train(page):
  for bound in (page.metrics["bound"], page.learned_metrics["bound"]):
    assert np.mean(bound[:5]) < -42 and np.mean(bound[-20:]) > -26


def test_no_closed_form_is_said(page):
  x = jnp.ones(64)
  with pytest.raises(errors.UnsupportedError, match="closed form"):
    elbo_b(jax.random.key(0), page.model, page.state.params, x)
