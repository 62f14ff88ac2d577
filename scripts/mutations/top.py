"""Errors in the modules of aevb_jax that lie in no folder."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation("prepare: no lock", "locks", "fcntl.LOCK_EX", "fcntl.LOCK_SH", "data/builders"),
  Mutation("cache: no lock", "locks", "fcntl.LOCK_EX", "fcntl.LOCK_SH", "data/array_cache"),
  Mutation("manifold: upside down", "figures", "quantiles[::-1]", "quantiles"),
]
