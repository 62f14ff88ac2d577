"""The table of what is compiled: every estimator, algorithm, family and network of the package.

A member is a function (sizes, shardings) -> `Program`. Nothing is computed to make a program: the
states are those of `jax.eval_shape`, and the data are shapes.
"""

import functools
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import optax
from compiling.evaluations import EVALUATIONS
from compiling.sizes import Sizes
from compiling.steps import Make, Parts, step, streamed, sweep

from aevb_jax import bernoulli, elbo_a, elbo_b, gaussian, mlp_vae
from aevb_jax.algorithms import full_variational_bayes as full
from aevb_jax.algorithms.auto_encoding import aevb, gaussian_weight_prior
from aevb_jax.algorithms.monte_carlo_em import mcem
from aevb_jax.algorithms.optimizers import adagrad, adam, sgd
from aevb_jax.data.preprocess import beside, binarize, scale, threshold
from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators import beta_weighted, free_bits, kl_warmup
from aevb_jax.estimators.importance import iwae
from aevb_jax.estimators.score_functions import vimco, with_baseline
from aevb_jax.estimators.semi_supervised import semi_supervised_bound
from aevb_jax.estimators.stratified import stratified_elbo, stratified_iwae
from aevb_jax.estimators.table import BASELINES, ESTIMATORS, parse_estimator
from aevb_jax.families import table
from aevb_jax.families.support import check_support
from aevb_jax.models.hierarchical import DIRECTIONS, hierarchical_vae
from aevb_jax.models.priors import standard_normal, with_mixture_prior, with_vamp_prior
from aevb_jax.models.semi_supervised import m2_vae
from aevb_jax.models.state_space import INFERENCE, state_space_vae
from aevb_jax.models.vae import conv_vae
from aevb_jax.runs.build import for_baseline
from aevb_jax.types import Algorithm, Distribution, Family, Model

P = functools.partial
# Estimators that do not start without arguments; the others take K.
ARGUMENTS = {
  "renyi": "renyi:alpha=0.5",
  "miwae": "miwae:num_groups=2",
  "piwae": "piwae:num_groups=2",
  "ciwae": "ciwae:beta=0.5",
}
ONE_SAMPLE = ("elbo_a", "elbo_b", "sticking_the_landing")
# The first of these whose support lies in that of a prior is the posterior under it.
UNDER_PRIORS = (
  "gaussian", "log_normal", "uniform", "uniform:low=1:high=2", "dirichlet", "bernoulli"
)  # fmt: skip
FLOWS = ("iaf", "affine_flow", "spline_flow")


def vae(sizes: Sizes, likelihood: Family | None = None, **layers) -> Model:
  """Makes the paper's model, of binary pixels unless there is another likelihood."""
  how = dict(data_dim=sizes.data_dim, latent_dim=sizes.latent_dim, hidden_dim=sizes.hidden_dim)
  return mlp_vae(likelihood or bernoulli(sizes.data_dim), **how | layers)


def of_estimator(
  sizes: Sizes, model: Model, estimator: Callable, optimizer=adagrad(0.01), **more
) -> Algorithm:
  return aevb(model, estimator, optimizer, num_data=sizes.num_data, **more)


def paper(sizes: Sizes, *, optimizer=adagrad(0.01), num_samples: int = 1, dtype=None) -> Parts:
  """Makes the paper's step on MNIST: SGVB B, binary pixels, a prior on the weights."""
  model = vae(sizes, dtype=dtype)
  log_prior = gaussian_weight_prior(1.0)
  estimator = P(elbo_b, num_samples=num_samples)
  return Parts(of_estimator(sizes, model, estimator, optimizer, log_prior=log_prior), binarize)


def frey_face(sizes: Sizes) -> Parts:
  """Makes the paper's step on Frey Face: a Gaussian likelihood whose means are from 0 to 1."""
  likelihood = gaussian(sizes.data_dim, mean_link=lambda head: 1 / (1 + jnp.exp(-head)))
  return Parts(of_estimator(sizes, vae(sizes, likelihood), elbo_b), scale)


def burda(sizes: Sizes, layers: tuple[int, ...]) -> Parts:
  """Makes the step of Burda et al. (2015): two layers, J = 50 latents, K samples, Adam."""
  model = vae(sizes, latent_dim=sizes.latent_dim * 5 // 2, hidden_dim=layers)
  estimator = P(iwae, num_samples=sizes.num_samples)
  return Parts(of_estimator(sizes, model, estimator, adam(1e-3, eps=1e-4)), binarize)


def layered(sizes: Sizes, *, inference: str, estimator: str) -> Parts:
  """Makes the step of a model with two layers of latents, as of Burda et al. or Sønderby et al."""
  model = hierarchical_vae(
    bernoulli(sizes.data_dim),
    data_dim=sizes.data_dim,
    latent_dims=(sizes.latent_dim, sizes.latent_dim // 2),
    hidden_dims=((sizes.hidden_dim,) * 2, (sizes.hidden_dim // 2,) * 2),
    inference=inference,
  )
  many = P(iwae, num_samples=sizes.num_samples)
  chosen = {"elbo_b": elbo_b, "iwae": many}[estimator]
  return Parts(of_estimator(sizes, model, chosen, adam(1e-3)), binarize)


def sequences(sizes: Sizes, *, inference: str) -> Parts:
  """Makes the step of a state-space model whose frames are the rows of an image."""
  height, width, channels = sizes.image_shape
  model = state_space_vae(
    bernoulli(width * channels),
    num_steps=height,
    data_dim=width * channels,
    latent_dim=sizes.latent_dim,
    hidden_dim=sizes.hidden_dim,
    inference=inference,
  )
  return Parts(of_estimator(sizes, model, elbo_b, adam(1e-3)), binarize)


def with_labels(sizes: Sizes) -> Parts:
  """Makes the step of M2 on images of ten classes: x and a label, or zeros, are one vector."""
  classes, data_dim = 10, sizes.data_dim - 10  # of a row of pixels
  model, classifier = m2_vae(
    bernoulli(data_dim),
    data_dim=data_dim,
    num_classes=classes,
    latent_dim=sizes.latent_dim,
    hidden_dim=sizes.hidden_dim,
  )
  estimator = semi_supervised_bound(elbo_b, classifier, data_dim=data_dim, alpha=1.0)
  return Parts(of_estimator(sizes, model, estimator, adam(1e-3)), beside(binarize, data_dim))


def article(sizes: Sizes, *, latent_dim: int = 2, dtype=None) -> Parts:
  """Makes the step of the convolutional VAE of TensorFlow's tutorial."""
  likelihood = bernoulli(sizes.data_dim)
  model = conv_vae(likelihood, image_shape=sizes.image_shape, latent_dim=latent_dim, dtype=dtype)
  return Parts(of_estimator(sizes, model, elbo_a, adam(1e-4)), threshold)


def estimator_of(sizes: Sizes, name: str) -> Parts:
  num_samples = 1 if name in ONE_SAMPLE else sizes.num_samples
  text = ARGUMENTS.get(name, name)
  estimator, _ = parse_estimator(text, sizes.data_dim, num_samples)
  return Parts(of_estimator(sizes, vae(sizes), estimator), binarize)


def with_baseline_of(sizes: Sizes, name: str) -> Parts:
  text = f"score_function:baseline={name}"
  estimator, baseline = parse_estimator(text, sizes.data_dim, sizes.num_samples)
  optimizer = for_baseline(adagrad(0.01), baseline)
  init = with_baseline(baseline)
  return Parts(of_estimator(sizes, vae(sizes), estimator, optimizer, init=init), binarize)


def stratified(sizes: Sizes, estimator: Callable) -> Parts:
  mixture = P(table.mixture, components=3)
  model = vae(sizes, posterior=mixture)
  return Parts(of_estimator(sizes, model, P(estimator, num_samples=2)), binarize)


def objective(sizes: Sizes, estimator: Callable) -> Parts:
  return Parts(of_estimator(sizes, vae(sizes), estimator), binarize)


def bayes_of_weights(sizes: Sizes, **how) -> Parts:
  estimator = full.full_vb(elbo_b, num_data=sizes.num_data, **how)
  return Parts(of_estimator(sizes, vae(sizes), estimator, init=full.init_params), binarize)


def monte_carlo_em(sizes: Sizes) -> Parts:
  algorithm = mcem(vae(sizes), adagrad(0.01), num_data=sizes.num_data)
  return Parts(algorithm, threshold)


def named_family(name: str, sizes: Sizes, size: int) -> Family:
  of_flow = f":hidden={sizes.context}:context={sizes.context}" if name in FLOWS else ""
  return table.make_family(name + of_flow, table.POSTERIORS, size)


def posterior(sizes: Sizes, name: str) -> Parts:
  """Makes the step with a q(z|x) of a family and the prior that goes with it."""
  prior = table.default_prior(name, sizes.latent_dim)
  p = standard_normal if prior == "gaussian" else P(table.make_prior, prior)
  return of_latents(sizes, P(named_family, name, sizes), p)


def prior(sizes: Sizes, name: str) -> Parts:
  """Makes the step with a p(z) and a posterior on its support."""
  if name == "mixture":
    model = with_mixture_prior(vae(sizes), sizes.latent_dim, 10)
    return Parts(of_estimator(sizes, model, elbo_a), binarize)
  if name == "vamp":
    pseudo_inputs = jnp.zeros((10, sizes.data_dim))
    model = with_vamp_prior(vae(sizes), pseudo_inputs)
    return Parts(of_estimator(sizes, model, elbo_a), binarize)
  q = next(q for q in UNDER_PRIORS if is_under(q, table.make_prior(name, 2)))
  family = lambda size: table.make_family(q, table.POSTERIORS, size)
  return of_latents(sizes, family, P(table.make_prior, name))


def is_under(name: str, p: Distribution) -> bool:
  try:
    check_support(table.make_family(name, table.POSTERIORS, 2), p)
  except UnsupportedError:
    return False
  return True


def of_latents(sizes: Sizes, family: Callable, p: Callable) -> Parts:
  model = vae(sizes, posterior=family, prior=p)
  pathwise = family(sizes.latent_dim).reparameterized
  estimator = elbo_a if pathwise else P(vimco, num_samples=sizes.num_samples)
  return Parts(of_estimator(sizes, model, estimator), binarize)


def likelihood(sizes: Sizes, name: str) -> Parts:
  """Makes the step with a p(x|z) of a family, of pixels in [0, 1]."""
  if name in table.LEVELS:
    family = table.PIXELS[name](sizes.data_dim, step=1 / 255)
  elif name in table.PIXELS:
    family = table.PIXELS[name](sizes.data_dim)
  else:
    family = table.make_family(name, table.POSTERIORS, sizes.data_dim)
  preprocess = binarize if name == "bernoulli" else scale
  return Parts(of_estimator(sizes, vae(sizes, family), elbo_a), preprocess)


def mlp(sizes: Sizes, *, layers: int, dtype=None) -> Parts:
  model = vae(sizes, hidden_dim=(sizes.hidden_dim,) * layers, dtype=dtype)
  return Parts(of_estimator(sizes, model, elbo_b), binarize)


def of_optimizer(sizes: Sizes, optimizer: optax.GradientTransformation) -> Parts:
  return Parts(of_estimator(sizes, vae(sizes), elbo_b, optimizer), binarize)


def _table() -> Iterator[tuple[str, Make]]:
  """Yields the name of every member, which begins with its kind, and how it is made."""
  yield "paper: MNIST, Adagrad", step(paper)
  yield "paper: MNIST, Adam", step(paper, optimizer=adam(1e-3))
  yield "paper: MNIST, L = 10", step(paper, num_samples=10)
  yield "paper: MNIST, bfloat16", step(paper, dtype=jnp.bfloat16)
  yield "paper: Frey Face", step(frey_face)
  yield "article: convolutional VAE", step(article)
  yield "IWAE: one layer", step(burda, layers=(200, 200))
  yield "IWAE: two layers", step(burda, layers=(200, 200, 100, 100))
  for inference in DIRECTIONS:
    for estimator in ("elbo_b", "iwae"):
      name = f"layers: {inference.replace('_', ' ')}, {estimator}"
      yield name, step(layered, inference=inference, estimator=estimator)
  for inference in INFERENCE:
    yield f"sequences: {inference.replace('_', ' ')}", step(sequences, inference=inference)
  yield "labels: M2", step(with_labels)
  for name in ESTIMATORS:
    yield f"estimator: {name}", step(estimator_of, name=name)
  for name in BASELINES:
    yield f"estimator: score_function, {name}", step(with_baseline_of, name=name)
  yield "estimator: stratified_elbo", step(stratified, estimator=stratified_elbo)
  yield "estimator: stratified_iwae", step(stratified, estimator=stratified_iwae)
  yield "objective: β", step(objective, estimator=beta_weighted(elbo_b, 0.5))
  yield "objective: KL warm-up", step(objective, estimator=kl_warmup(elbo_b, 100))
  yield "objective: free bits", step(objective, estimator=free_bits(elbo_b, 0.1))
  yield "algorithm: mcem", step(monte_carlo_em)
  yield "algorithm: full_vb", step(bayes_of_weights)
  yield "algorithm: full_vb, sampled KL", step(bayes_of_weights, closed_form=False)
  yield "algorithm: full_vb, local", step(bayes_of_weights, local=True)
  yield "algorithm: aevb, streamed", streamed(paper)
  yield "optimizer: sgd", step(of_optimizer, optimizer=sgd(1e-3))
  for name in table.POSTERIORS:
    yield f"posterior: {name}", step(posterior, name=name)
  for name in table.PRIORS:
    yield f"prior: {name}", step(prior, name=name)
  for name in table.LIKELIHOODS:
    yield f"likelihood: {name}", step(likelihood, name=name)
  yield "network: mlp, three layers", step(mlp, layers=3)
  yield "network: mlp, bfloat16", step(mlp, layers=1, dtype=jnp.bfloat16)
  yield "network: conv, J", step(lambda sizes: article(sizes, latent_dim=sizes.latent_dim))
  yield "network: conv, bfloat16", step(article, dtype=jnp.bfloat16)
  yield "sweep: MNIST, Adagrad", sweep(paper)
  yield "sweep: MNIST, Adam", sweep(paper, optimizer=adam(1e-3))
  yield "sweep: mcem", sweep(monte_carlo_em)
  for name, evaluation in EVALUATIONS.items():
    yield f"evaluation: {name}", P(evaluation, model_of=vae)


MEMBERS: dict[str, Make] = dict(_table())


def chosen(words: str) -> dict[str, Make]:
  """Returns the members whose names contain one of the words, separated by semicolons."""
  parts = [part.strip() for part in words.split(";")]
  return {name: make for name, make in MEMBERS.items() if any(part in name for part in parts)}
