"""Members of a family that is checked: their parameters and draws, and the contract of a family."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

from aevb_jax.errors import FamilyError
from aevb_jax.families.verification.coordinates import from_line, to_line
from aevb_jax.names import one_line
from aevb_jax.types import Array, Eta, Family, PyTree, Support

BATCH = 1000  # draws that are computed at a time
SPREADS = ((-1.0, 1.0), (0.0, 3.0))  # the heads of the two members
KINDS = ("box", "simplex", "integers", "levels")


class Member(NamedTuple):
  """One member and the heads that make it.

  Attributes:
    heads: one array for each of `family.sizes`, and then the shift of the shared parameters along a
      direction, shape (1,), if there are any; () for an eta that no heads give.
    shared: the shared parameters and a direction; () if there are none.
    eta: the parameters of the member.
  """

  heads: tuple[Array, ...]
  shared: tuple[PyTree, ...]
  eta: Eta


class Programs(NamedTuple):
  """Functions that are compiled once for each precision, and take members.

  Attributes:
    draw: (member, seed) -> arrays of draws.
    slopes: derivatives of log_prob along directions.
    pathwise: derivatives through `transform`.
  """

  draw: Callable[..., tuple[Array, ...]]
  slopes: Callable[..., tuple[Array, ...]]
  pathwise: Callable[..., tuple[Array, ...]]


class Run(NamedTuple):
  """The check of one member in one precision.

  Attributes:
    family: the family.
    member: the member, in this precision.
    precision: "float32" or "float64".
    seed: of the draws.
    programs: the compiled functions.
    decided: what was compared, and whether an error of the size that matters would be found.
  """

  family: Family
  member: Member
  precision: str
  seed: int
  programs: Programs
  decided: dict[str, bool]

  @property
  def where(self) -> str:
    """The parameters of the member and the precision, for messages."""
    return f"at {in_words(self.member.eta)} in {self.precision}"


def in_words(eta: Eta) -> str:
  """Describes parameters in at most 100 characters."""
  with np.printoptions(precision=3, threshold=6):
    items = eta._asdict().items()
    fields = [f"{k}={np.asarray(v)}" for k, v in items if not isinstance(v, dict | tuple)]
  text = " ".join(f"{type(eta).__name__}({', '.join(fields)})".split())
  return text[:100] + "…" if len(text) > 100 else text


@contextlib.contextmanager
def reporting(what: str) -> Iterator[None]:
  """Turns an exception of a user's function into one sentence with its place.

  Args:
    what: the function, or what was computed of it.
  """
  try:
    yield
  except FamilyError:
    raise
  except Exception as error:  # the user's functions may raise anything
    raise FamilyError(f"{what} fails: {one_line(error)}") from error


def make_members(family: Family, eta: Eta, seed: int) -> list[Member]:
  """Makes members of random heads, or finds the heads of the given one, in float64."""
  if eta is not None:
    _check_type(eta, "eta is")
    eta = cast(eta, "float64")
    return [Member(() if family.init_shared else _find_heads(family, eta), (), eta)]
  members = []
  for index, (low, high) in enumerate(SPREADS):
    rng = np.random.default_rng((seed, index))
    heads = tuple(jnp.asarray(rng.uniform(low, high, size)) for size in family.sizes)
    shared: tuple[PyTree, ...] = ()
    if family.init_shared:
      with reporting("init_shared"):
        initial = family.init_shared(jax.random.key(seed + index))
      # Initial networks may have no effect, and an error in them would not show.
      moved, direction = (_random_like(rng, initial) for _ in range(2))
      shared = jax.tree.map(lambda a, b: a + b, cast(initial, "float64"), moved), direction
      heads = *heads, jnp.zeros(1)
    member = Member(heads, shared, None)
    with reporting("from_heads"):
      eta = eta_at(family, member, heads)
    _check_type(eta, "from_heads returns")
    members.append(member._replace(eta=eta))
  return members


def _random_like(rng: np.random.Generator, tree: PyTree) -> PyTree:
  """Makes Gaussian numbers of 0.1 for each floating number of a tree, and 0 for each other."""
  is_float = lambda leaf: jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating)
  return jax.tree.map(lambda p: 0.1 * is_float(p) * rng.normal(size=np.shape(p)), tree)


def in_precision(family: Family, member: Member, precision: str) -> Member:
  """Makes a member from the same heads in another precision."""
  heads, shared = cast(member.heads, precision), cast(member.shared, precision)
  member = Member(heads, shared, cast(member.eta, precision))
  if not heads:
    return member
  with reporting("from_heads"):
    eta = eta_at(family, member, heads)
  for path, leaf in jax.tree_util.tree_leaves_with_path(eta):
    kind = jnp.asarray(leaf).dtype
    if jnp.issubdtype(kind, jnp.floating) and kind != precision:
      raise FamilyError(
        f"from_heads makes eta{jax.tree_util.keystr(path)} {kind} of heads in {precision}: "
        "look for constants that have a dtype of their own"
      )
  return member._replace(eta=eta)


def cast(tree: PyTree, precision: str) -> PyTree:
  """Returns a tree with its floating numbers in another precision."""

  def to_precision(leaf: Any) -> Any:
    number = np.asarray(leaf)
    is_float = np.issubdtype(number.dtype, np.floating)
    return jnp.asarray(number, precision if is_float else number.dtype)

  return jax.tree.map(to_precision, tree)


def eta_at(family: Family, member: Member, heads: tuple[Array, ...]) -> Eta:
  """Returns the parameters that heads make; those of the member if it has no heads."""
  if not heads:
    return member.eta
  if not member.shared:
    return family.from_heads(*heads)
  *heads_of_network, shift = heads
  moved = lambda p, d: p + (shift[0] * d).astype(p.dtype)
  return family.from_heads(*heads_of_network, jax.tree.map(moved, *member.shared))


def _find_heads(family: Family, eta: Eta) -> tuple[Array, ...]:
  """Finds heads that make eta by least squares; () if there are none."""
  zeros, unravel = ravel_pytree(tuple(jnp.zeros(size) for size in family.sizes))
  target = ravel_pytree(eta)[0]
  error = jax.jit(lambda flat: ravel_pytree(family.from_heads(*unravel(flat)))[0] - target)
  with reporting("from_heads"):
    if jax.eval_shape(error, zeros).shape != target.shape:
      raise FamilyError(f"eta has {target.size} numbers, which is not what from_heads makes")
    jacobian = jax.jit(jax.jacrev(error))
    found = scipy.optimize.least_squares(
      lambda x: np.asarray(error(x)), np.asarray(zeros), lambda x: np.asarray(jacobian(x)),
      xtol=1e-15, ftol=1e-15, gtol=1e-15
    )  # fmt: skip
  scale = 1 + float(jnp.max(jnp.abs(target), initial=0.0))
  return unravel(jnp.asarray(found.x)) if np.abs(found.fun).max() < 1e-7 * scale else ()


def _check_type(eta: Eta, what: str) -> None:
  if not (isinstance(eta, tuple) and hasattr(eta, "_fields")):
    raise FamilyError(
      f"{what} a {type(eta).__name__}, expected a NamedTuple of arrays of your own: its type is "
      "how a closed-form KL is found"
    )


def check_contract(run: Run) -> Support:
  """Checks shapes, types and precisions; returns the support of the member."""
  family, eta = run.family, run.member.eta
  key = jax.eval_shape(lambda: jax.random.key(0))
  noise = _shape("noise", family.noise, key)
  z = _shape("transform", family.transform, eta, noise)
  if not hasattr(z, "shape") or len(z.shape) != 1 or not z.shape[0]:
    shown = f"shape {z.shape}" if hasattr(z, "shape") else type(z).__name__
    raise FamilyError(f"transform returns {shown}, expected one z of shape (J,)")
  expect = lambda name, value, shape: _expect(name, value, shape, run.precision)
  expect("transform", z, z.shape)
  expect("log_prob", _shape("log_prob", family.log_prob, eta, z), ())
  expect("mean", _shape("mean", family.mean, eta), z.shape)
  if family.variance:
    expect("variance", _shape("variance", family.variance, eta), z.shape)
  if family.entropy:
    expect("entropy", _shape("entropy", family.entropy, eta), ())
  if together := family.transform_with_log_prob:
    pair = _shape("transform_with_log_prob", together, eta, noise)
    if not isinstance(pair, tuple) or len(pair) != 2:
      raise FamilyError("transform_with_log_prob returns something else than z and its log_prob")
    expect("the z of transform_with_log_prob", pair[0], z.shape)
    expect("the log_prob of transform_with_log_prob", pair[1], ())
  with reporting("support"):
    support = family.support(eta)
  for name, found in (("support", support), ("widest", family.widest)):
    _check_support_type(name, found, z.shape)
  return support


def _shape(name: str, function: Callable[..., Any], *args: Any) -> Any:
  with reporting(name):
    return jax.eval_shape(function, *args)


def _expect(name: str, value: Any, shape: tuple[int, ...], precision: str) -> None:
  if getattr(value, "shape", None) != shape:
    shown = f"shape {value.shape}" if hasattr(value, "shape") else type(value).__name__
    hint = ": sum over the dimensions" if shape == () else ""
    raise FamilyError(f"{name} returns {shown}, expected shape {shape}{hint}")
  if value.dtype != precision:
    raise FamilyError(
      f"{name} returns {value.dtype} for parameters in {precision}, expected {precision}: look for "
      "constants that have a dtype of their own"
    )


def _check_support_type(name: str, support: Any, shape: tuple[int, ...]) -> None:
  if not isinstance(support, Support):
    raise FamilyError(f"{name} is {type(support).__name__}, expected a Support")
  if support.kind not in KINDS:
    raise FamilyError(f"{name} has the kind {support.kind!r}, expected one of {', '.join(KINDS)}")
  try:
    ends = [np.broadcast_to(np.asarray(end, float), shape) for end in support[:2]]
  except (TypeError, ValueError) as error:
    raise FamilyError(f"{name} has ends that are not numbers, or not of shape {shape}") from error
  if not np.all(ends[0] < ends[1]):
    raise FamilyError(f"{name} is from {support.low} to {support.high}: low must be below high")


def make_draw(family: Family, num_draws: int) -> Callable[..., tuple[Array, ...]]:
  """Makes the function that draws.

  Returns:
    (member, seed) -> z, its coordinates without borders, log p(z), the log-determinants of the
    coordinates, and z and log p(z) by `transform_with_log_prob` if the family has it.
  """

  def draw(member: Member, key: Array) -> tuple[Array, ...]:
    noise, eta = family.noise(key), member.eta
    z, support = family.transform(eta, noise), family.support(eta)
    y = to_line(z, support)
    _, log_det = from_line(y, z, ~jnp.isfinite(y), support)
    both = family.transform_with_log_prob
    together = both(eta, noise) if both else (z, jnp.zeros((), z.dtype))
    return z, y, family.log_prob(eta, z), log_det, *together

  def many(member: Member, seed: int) -> tuple[Array, ...]:
    keys = jax.random.split(jax.random.key(seed), num_draws)
    return jax.lax.map(lambda key: draw(member, key), keys, batch_size=BATCH)

  return many
