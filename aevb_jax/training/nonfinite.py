"""Numbers in training that are not finite: detected, skipped and explained.

Training runs at full speed and checks only the result of each chunk of steps. If that result is not
finite (`all_finite`), `skip_nonfinite` repeats the steps and finds the first step whose result is
not. The algorithm's own `explain_aevb` or `explain_mcem` repeats that step and gathers `Terms`.
`first_offence` names in words the first term that was not finite.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.errors import UnsupportedError
from aevb_jax.families.kl import kl_per_latent
from aevb_jax.types import Algorithm, Array, Distribution, Model, Params, PyTree

MOST_NAMES = 3  # names that a clause lists at most


def all_finite(tree: PyTree) -> Array:
  """Reports whether every number of a tree is finite; integers and keys always are.

  The function reads each array once.

  Args:
    tree: arrays of any shapes.

  Returns:
    A boolean array of shape ().
  """
  return functools.reduce(jnp.logical_and, jax.tree.leaves(_finite_arrays(tree)), jnp.array(True))


def skip_nonfinite(algorithm: Algorithm, objective: str) -> Algorithm:
  """Makes the same algorithm, except that it skips every step that would spoil its state.

  A step is skipped if the objective on its minibatch, or anything in the state after the update, is
  not finite. The whole state then stays as it was, except `step`, so that training continues with
  the next minibatch of the same order. Other steps equal those of `algorithm`: bit for bit on CPU
  for a single run, up to rounding for a sweep. A state that is not finite at the start stays so. A
  step that moves the state far away, to finite numbers, is not skipped.

  Args:
    algorithm: its state is a NamedTuple with fields `step` and `key`, as for `aevb` and `mcem`.
    objective: the metric that it climbs, before the update: "bound" for `aevb`, "log_joint" for
      `mcem`.

  Returns:
    An algorithm whose metrics also have "skipped", bool (). For a skipped step the other metrics
    come from the update that failed.
  """

  def update(state: PyTree, batch: Array, index: Array) -> tuple[PyTree, dict]:
    following, metrics = algorithm.update(state, batch, index)
    good = all_finite((metrics[objective], following))
    # XLA would fuse a `where` with the update and change its rounding, so this is a `cond`. The
    # key, which never changes, stays out: JAX counts a choice between two keys as a use of both.
    choices = [s._replace(step=following.step, key=()) for s in (following, state)]
    kept = jax.lax.cond(good, lambda: choices[0], lambda: choices[1])
    return kept._replace(key=state.key), metrics | {"skipped": ~good}

  return Algorithm(algorithm.init, update)


class Terms(NamedTuple):
  """The finiteness of every term of one update: booleans, True where the term is finite.

  There are J latents, D dimensions of x and M examples. A drawn value counts as finite if all its
  samples are. The keys of `q` and `p` are the names of the parameters of the distributions.
  """

  index: Array  # type: ignore[assignment]  # (M,) int32, the places of the examples in the data
  before: PyTree  # the state before the update, () for every array
  largest: Params  # not booleans: the largest |w| of every array before the update, ()
  x: Array  # (M,)
  q: dict[str, Array]  # parameters of q(z|x), (M, J) each; none without an encoder
  kl: Array | None  # the terms of KL(q(z|x) ‖ p(z)), (M, J); None without a closed form
  z: Array  # (M, J)
  p: dict[str, Array]  # parameters of p(x|z), (M, D) each
  reconstruction: Array  # log p(x|z), (M,)
  prior: Array  # log p(z), (M,)
  log_q: Array | None  # log q(z|x), (M,); None without an encoder
  log_prior: Array  # log p(θ), ()
  metrics: dict[str, Array]  # metrics of the update, () each
  after: PyTree  # the state after the update, () for every array


def first_offence(terms: Terms) -> str:
  """Names the first term that was not finite, in the order of cause and effect, as a clause.

  Args:
    terms: the terms of one update, as NumPy arrays.

  Returns:
    The clause, such as "z is not finite at latent 0 in 1 of 100 examples, ...".
  """
  return next(_offences(terms))


def _offences(terms: Terms) -> Iterator[str]:
  """Yields a clause for each term that is not finite, causes before effects."""
  bound = "the bound" if terms.q else "log p(x, z)"
  value_is_finite = all(terms.metrics.values())

  if broken := _broken(terms.before):
    yield f"not finite before the step: {_names(broken)}"
  if not terms.x.all():
    yield f"x is not finite {_examples(terms.x, terms.index)}"
  for name, finite in terms.q.items():
    if not finite.all():
      yield f"q(z|x) has no finite {name} {_entries('latent', finite, terms)}"
  # An estimator uses only one of KL and log q. The other one is not a cause if the value is finite.
  if terms.kl is not None and not terms.kl.all() and not value_is_finite:
    yield f"KL(q(z|x) ‖ p(z)) overflows {_entries('latent', terms.kl, terms)}"
  if not terms.z.all():
    yield f"z is not finite {_entries('latent', terms.z, terms)}"
  for name, finite in terms.p.items():
    if not finite.all():
      yield f"p(x|z) has no finite {name} {_entries('dimension', finite, terms)}"
  if not terms.reconstruction.all():
    where = _examples(terms.reconstruction, terms.index)
    yield f"the reconstruction log p(x|z) is not finite {where}{_largest(terms)}"
  if not terms.prior.all():
    yield f"log p(z) is not finite {_examples(terms.prior, terms.index)}{_largest(terms)}"
  if terms.log_q is not None and not terms.log_q.all() and not value_is_finite:
    yield f"log q(z|x) is not finite {_examples(terms.log_q, terms.index)}{_largest(terms)}"
  if not terms.log_prior:
    yield f"the prior on the parameters, log p(θ), is not finite{_largest(terms)}"
  if not value_is_finite:
    names = [name for name, finite in terms.metrics.items() if not finite]
    yield f"every term of {bound} is finite, but what is computed from them is not: {_names(names)}"
  if broken := _broken(terms.after):
    yield f"every term of {bound} is finite, but its gradient or update is not: {_names(broken)}"
  yield "when computed again, everything in the step is finite"


def _finite_arrays(tree: PyTree) -> PyTree:
  """Reports for every array whether all its numbers are finite; bool () each."""

  def finite(array: Array) -> Array:
    if not jnp.issubdtype(array.dtype, jnp.inexact):
      return jnp.array(True)
    # 0·∞ and 0·NaN are NaN, and a sum keeps a NaN. A maximum does not: on CPU, XLA's maximum of
    # 4096 numbers or more leaves NaN out. On CPU, a test of each number takes 1.5 times as long.
    return jnp.isfinite(jnp.sum(0 * array))

  return jax.tree.map(finite, tree)


def _largest_size(array: Array) -> Array:
  return jnp.max(jnp.abs(array), initial=0)


def terms_of_z(model: Model, params: Params, x: Array, z: Array) -> dict[str, PyTree]:
  """Returns the terms of one x that models with and without an encoder have."""
  p = model.decoder.given(params.theta, z)
  return dict(
    z=jnp.isfinite(z),
    p=finite_by_name(p.eta),
    reconstruction=jnp.isfinite(p.log_prob(x)),
    prior=jnp.isfinite(model.prior(params).log_prob(z)),
  )


def terms_of_update(
  algorithm: Algorithm,
  state: PyTree,
  batch: Array,
  index: Array,
  log_prior: Callable[[Params], Array] | None,
) -> dict[str, PyTree]:
  """Returns the terms of an update that do not belong to single examples."""
  following, metrics = algorithm.update(state, batch, index)
  return dict(
    before=_finite_arrays(state),
    largest=jax.tree.map(_largest_size, state.params),
    log_prior=jnp.array(True) if log_prior is None else jnp.isfinite(log_prior(state.params)),
    metrics=_finite_arrays(metrics),
    after=_finite_arrays(following),
  )


def finite_by_name(eta: PyTree) -> dict[str, Array]:
  """Reports which entries of the parameters of a distribution are finite, by name."""
  finite = jax.tree.map(lambda leaf: jnp.atleast_1d(jnp.isfinite(leaf)), eta)
  return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(finite)}


def finite_kl(q: Distribution, p: Distribution) -> Array | None:
  """Reports which terms of KL(q ‖ p) are finite; None if the KL has no closed form."""
  try:
    return jnp.isfinite(kl_per_latent(q, p))
  except UnsupportedError:
    return None


def _name(path: tuple) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("params/")


def _broken(state: PyTree) -> list[str]:
  """Names the parameters that are not finite or, if all are finite, other arrays of the state."""
  of = lambda tree: [_name(path) for path, ok in jax.tree.leaves_with_path(tree) if not ok]
  return of(state.params) or of(state)


def _names(names: Sequence) -> str:
  listed = ", ".join(map(str, names[:MOST_NAMES]))
  rest = len(names) - MOST_NAMES
  return f"{listed} and {rest} more" if rest > 0 else listed


def _examples(finite: Array, index: Array) -> str:
  """Names the examples that are not finite, given (M,) booleans."""
  first = index[~finite].min()
  return f"in {np.sum(~finite)} of {len(finite)} examples, first training example {first}"


def _entries(kind: str, finite: Array, terms: Terms) -> str:
  """Names the latents or dimensions of x that are not finite, given (M, n) booleans."""
  finite = finite.reshape(*finite.shape[:2], -1).all(-1)
  entries = np.flatnonzero(~finite.all(0))
  kinds = kind if len(entries) == 1 else f"{kind}s"
  where = _examples(finite.all(1), terms.index)
  return f"at {kinds} {_names(entries.tolist())} {where}{_largest(terms)}"


def _largest(terms: Terms) -> str:
  """Names the parameter with the largest entry, which often is the cause."""
  leaves = jax.tree.leaves_with_path(terms.largest)
  path, size = max(leaves, key=lambda leaf: leaf[1])
  return f" (largest parameter: {_name(path)}, {size:.2g} in size)"
