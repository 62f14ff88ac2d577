"""Families, priors, models, networks, optimizers and algorithms of a user's own, right and wrong.

The right ones repeat what the package has, so that they must give the same numbers.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import aevb_jax
from aevb_jax import families
from aevb_jax.models import MLP, conditional_vae, with_mixture_prior
from aevb_jax.types import Algorithm


def gaussian(size, floor=0.0):
  return families.gaussian(size, min_std=floor)


def bernoulli(size):
  return families.bernoulli(size)


def unit(size):
  family = families.uniform(size, within=(0.0, 1.0))
  eta = family.from_heads(jnp.zeros(size), jnp.zeros(size))
  return families.distribution(family, type(eta)(jnp.zeros(size), jnp.ones(size)))


def standard(size):
  """Returns N(0, I) as a family, whose member with heads of zeros is meant."""
  return families.gaussian(size)


def mixture(model, latent_dim, components=10):
  return with_mixture_prior(model, latent_dim, components)


def mlp(likelihood, *, data_dim, latent_dim, hidden_dim=(500,), posterior, prior):
  sizes = dict(data_dim=data_dim, latent_dim=latent_dim, hidden_dim=hidden_dim)
  return aevb_jax.mlp_vae(likelihood, **sizes, posterior=posterior, prior=prior)


def small(likelihood, *, data_dim, latent_dim, width=20):
  """Makes a model that takes neither --hidden_dim nor --posterior."""
  sizes = dict(data_dim=data_dim, latent_dim=latent_dim, hidden_dim=int(width))
  return aevb_jax.mlp_vae(likelihood, **sizes)


class Features(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x):
    return nn.tanh(nn.Dense(self.width)(x.reshape(-1)))


def networks(width=20):
  return Features(width), Features(width)


def adam(step_size, b1=0.9):
  return optax.adam(step_size, b1=b1)


def algorithm(model, estimator, optimizer, *, num_data, init):
  return aevb_jax.aevb(model, estimator, optimizer, num_data=num_data, init=init)


# What follows breaks a contract, each in one way.
def not_a_family(size):
  return size


def larger(size):
  return families.gaussian(size + 1)


def vector_log_prob(size):
  return families.gaussian(size)._replace(log_prob=lambda eta, z: z - eta.mean)


def no_heads(size):
  return families.gaussian(size)._replace(sizes=(size, 0))


def deep_error(size):
  def log_prob(eta, z):
    return _deeper(eta, z)

  return families.gaussian(size)._replace(log_prob=log_prob)


def _deeper(eta, z):
  return jnp.dot(eta.mean, jnp.ones(len(z) + 1))


def not_a_distribution(size):
  return jnp.zeros(size)


def not_a_model(likelihood, *, data_dim, latent_dim):
  return likelihood


def other_latents(likelihood, *, data_dim, latent_dim):
  sizes = dict(data_dim=data_dim, latent_dim=latent_dim + 1, hidden_dim=5)
  return aevb_jax.mlp_vae(likelihood, **sizes)


def changes_nothing_but_latents(model):
  return model._replace(prior=lambda params: aevb_jax.standard_normal(7))


def one_network():
  return Features(20)


class Normalized(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.BatchNorm(use_running_average=False)(x.reshape(-1))


def stateful():
  return Normalized(), Features(20)


def heads_by_itself():
  return MLP((5,), (2, 2)), Features(20)


def not_an_optimizer(step_size):
  return step_size


def scalar_updates(step_size):
  def update(grads, state, params=None):
    return jax.tree.map(jnp.sum, grads), state

  return optax.GradientTransformation(lambda params: (), update)


def not_an_algorithm(model, estimator, optimizer, *, num_data):
  return model


def without_bound(model, estimator, optimizer, *, num_data):
  made = aevb_jax.aevb(model, estimator, optimizer, num_data=num_data)
  return Algorithm(made.init, lambda *inputs: (made.update(*inputs)[0], {}))


def conditional(likelihood, *, data_dim, latent_dim, condition_dim, hidden_dim=(8,)):
  sizes = dict(data_dim=data_dim, condition_dim=condition_dim, latent_dim=latent_dim)
  return conditional_vae(likelihood, **sizes, hidden_dim=hidden_dim or (8,))


def no_pairs(likelihood, *, data_dim, latent_dim, condition_dim):
  """Makes a model that takes the size of a condition but no pairs (x, c)."""
  return small(likelihood, data_dim=data_dim, latent_dim=latent_dim)
