"""Derivatives of a family that is checked: of `log_prob`, and of means through `transform`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from aevb_jax.errors import FamilyError
from aevb_jax.families.verification import comparisons
from aevb_jax.families.verification.comparisons import Draws
from aevb_jax.families.verification.coordinates import from_line, to_line
from aevb_jax.families.verification.members import BATCH, Member, Run, eta_at, reporting
from aevb_jax.types import Array, Family

NUM_SLOPES = 64  # draws at which derivatives of log_prob are compared
STEP = 1e-5  # of central differences, in float64
# A derivative of log_prob has to be within this share of 1 + |derivative|.
SLOPE_PRECISION = 1e-5
MOST_DIRECTIONS = 16  # derivatives in more heads are compared in random directions
DETECTS = 0.1  # error of d E[g(z)] that is found, for functions g of size 1 and one unit of a head
SHIFTS = (0.8, -0.8)  # two functions g, of which no derivative is zero by symmetry


def check_log_prob_slopes(run: Run, draws: Draws, atoms: list[np.ndarray]) -> None:
  """Compares derivatives of log_prob in z and in the heads with central differences.

  Raises:
    FamilyError: if one is wrong, or is not finite.
  """
  chosen = slice(draws.num_first, draws.num_first + NUM_SLOPES)
  y, z = draws.y[chosen], draws.z[chosen]
  fixed = ~np.isfinite(y) | draws.is_discrete
  if not draws.is_discrete:
    fixed |= np.stack([np.isin(z[:, k], a) for k, a in enumerate(atoms)], axis=1)
  of_heads, words = directions(run)
  size = of_heads.shape[1]
  along_z = np.eye(size + y.shape[1])[size : size + MOST_DIRECTIONS]
  along = np.concatenate([np.pad(of_heads, ((0, 0), (0, y.shape[1]))), along_z])
  words = [*words, *(f"z[{k}]" for k in range(len(along_z)))]
  with reporting("the derivative of log_prob"):
    found = run.programs.slopes(run.member, y, z, fixed, along)
  exact, near, far = (np.asarray(values) for values in found)
  largest = np.maximum(np.abs(exact), np.abs(near))
  # Differences of two steps disagree where there is a kink between the points.
  allowed = SLOPE_PRECISION * (1 + largest) + 10 * np.abs(near - far)
  wrong = ~(np.abs(exact - near) <= allowed) & ~(np.isnan(near) & np.isfinite(exact))
  if wrong.any():
    i, d = np.argwhere(wrong)[0]
    with np.printoptions(precision=4):
      raise FamilyError(
        f"the derivative of log_prob in {words[d]} is {exact[i, d]:.5g}, but differences of "
        f"log_prob give {near[i, d]:.5g} at z = {z[i]}, {run.where}: look at what stops or "
        "replaces gradients, or divides by zero in a branch that is not taken"
      )


def directions(run: Run) -> tuple[np.ndarray, list[str]]:
  """Returns directions in the space of all heads, and words for each.

  They are the numbers of the heads if these are few, and otherwise random signs for each head.
  """
  sizes = [head.size for head in run.member.heads]
  names = [f"head {i}" for i in range(len(sizes))]
  if run.member.shared:
    names[-1] = "the shared parameters"
  total, rng = sum(sizes), np.random.default_rng(run.seed)
  rows, words, start = [], [], 0
  for size, name in zip(sizes, names, strict=True):
    few = total <= MOST_DIRECTIONS or size == 1
    block = np.eye(size) if few else rng.choice([-1.0, 1.0], (3, size))
    rows.append(np.pad(block, ((0, 0), (start, total - start - size))))
    words += [f"{name}, number {i}" if few and size > 1 else name for i in range(len(block))]
    start += size
  return np.concatenate(rows) if rows else np.zeros((0, 0)), words


def make_slopes(family: Family) -> Callable[..., tuple[Array, ...]]:
  """Makes the function of derivatives along directions, exact and by differences of two steps."""

  def one(member: Member, y: Array, z: Array, fixed: Array, along: Array) -> tuple[Array, ...]:
    flat, unravel = ravel_pytree((member.heads, jnp.where(fixed, 0.0, y)))

    def value(flat: Array) -> Array:
      heads, y = unravel(flat)
      eta = eta_at(family, member, heads)
      return family.log_prob(eta, from_line(y, z, fixed, family.support(eta))[0])

    steps = jnp.array([-2.0, -1.0, 1.0, 2.0]) * STEP
    at = jax.vmap(jax.vmap(lambda d, step: value(flat + step * d), (None, 0)), (0, None))
    values = at(along, steps)
    near, far = values[:, 2] - values[:, 1], values[:, 3] - values[:, 0]
    return along @ jax.grad(value)(flat), near / (2 * STEP), far / (4 * STEP)

  return jax.vmap(one, (None, 0, 0, 0, None))


def check_pathwise(run: Run, draws: Draws) -> None:
  """Compares derivatives of means through `transform` with those that follow from `log_prob`.

  For any density p(y; η) on a set that does not depend on η, d/dη E[g] = E[∂g/∂η + g ∂log p/∂η].
  In coordinates without borders that set is fixed, although the support of z may move.

  Raises:
    FamilyError: if a derivative is wrong.
  """
  along, words = directions(run)
  if not len(along):
    return
  first = draws.z[: draws.num_first]
  quartiles = np.quantile(first, [0.25, 0.75], axis=0)
  width = np.maximum(quartiles[1] - quartiles[0], 1e-30)
  middle = np.median(first, axis=0)
  signs = np.where(np.arange(draws.z.shape[1]) % 2, -1.0, 1.0)
  values = [np.tanh((first - middle) / width + s) @ signs for s in SHIFTS]
  means = np.array([v.mean() for v in values])
  constants = middle, width, signs, means
  with reporting("the derivative of transform"):
    found = run.programs.pathwise(run.member, run.seed + 1000, along, constants)
  path, gap = (np.asarray(values) for values in found)
  if not np.isfinite(path).all():
    d = np.argwhere(~np.isfinite(path))[0][2]
    raise FamilyError(
      f"the derivative of transform in {words[d]} is not finite {run.where}: "
      "look at branches that divide by zero although they are not taken"
    )
  results = [
    (d, i, comparisons.compare(gap[:, i, d], 0.0, DETECTS))
    for d in range(len(words)) for i in range(len(SHIFTS))
  ]  # fmt: skip
  decided = all(difference.decided for _, _, difference in results)
  name = "the derivative of transform"
  run.decided[name] = run.decided.get(name, False) or decided
  d, i, worst = max(results, key=lambda result: abs(result[2].size) / result[2].allowed)
  if worst.is_wrong:
    slope = path[:, i, d].mean()
    raise FamilyError(
      f"the derivative of transform in {words[d]} is wrong: through it a mean has the slope "
      f"{slope:.3g}, and by log_prob {slope - worst.size:.3g} (± {worst.allowed:.1g}), "
      f"{run.where}: look at what stops gradients in transform; a family that jumps needs "
      "reparameterized=False"
    )


def make_pathwise(family: Family, num_draws: int) -> Callable[..., tuple[Array, Array]]:
  """Makes the function of derivatives of means through `transform`.

  Returns:
    (member, seed, directions, constants of the functions g) -> for each draw, the slopes of all g
    along all directions, and what they exceed those by log_prob.
  """

  def one(
    member: Member, key: Array, along: Array, constants: tuple[Array, ...]
  ) -> tuple[Array, Array]:
    middle, width, signs, means = constants

    def functions(z: Array) -> Array:
      return jnp.stack([signs @ jnp.tanh((z - middle) / width + shift) for shift in SHIFTS])

    heads, unravel = ravel_pytree(member.heads)
    noise = family.noise(key)

    def drawn(heads: Array) -> Array:
      return family.transform(eta_at(family, member, unravel(heads)), noise)

    z = drawn(heads)
    y = jax.lax.stop_gradient(to_line(z, family.support(member.eta)))
    fixed = ~jnp.isfinite(y)

    def with_fixed_y(heads: Array) -> tuple[Array, Array]:
      eta = eta_at(family, member, unravel(heads))
      z_of_y, log_det = from_line(y, jax.lax.stop_gradient(z), fixed, family.support(eta))
      return functions(z_of_y), family.log_prob(eta, z_of_y) + jnp.sum(log_det)

    path = jax.jacrev(lambda heads: functions(drawn(heads)))(heads)
    moved, score = jax.jacrev(with_fixed_y)(heads)
    by_density = moved + jnp.outer(functions(z) - means, score)
    return path @ along.T, (path - by_density) @ along.T

  def many(
    member: Member, seed: int, along: Array, constants: tuple[Array, ...]
  ) -> tuple[Array, Array]:
    keys = jax.random.split(jax.random.key(seed), num_draws)
    return jax.lax.map(lambda key: one(member, key, along, constants), keys, batch_size=BATCH)

  return many
