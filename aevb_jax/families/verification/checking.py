"""The check of a family that somebody wrote: do its functions agree with each other?"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.errors import FamilyError
from aevb_jax.families.support import contains, in_words
from aevb_jax.families.verification import comparisons, slopes
from aevb_jax.families.verification.comparisons import Difference, Draws
from aevb_jax.families.verification.members import (
  BATCH,
  Programs,
  Run,
  cast,
  check_contract,
  eta_at,
  in_precision,
  make_draw,
  make_members,
  reporting,
)
from aevb_jax.types import Eta, Family, Support

FEWEST_DRAWS = 10_000
FEWER = 2000  # draws of the comparisons that are exact except for rounding
# log_prob in float32 has to be within this share of 1 + |log_prob| of its value in float64.
PRECISION = 1e-3


def check(family: Family, *, eta: Eta = None, num_draws: int = 100_000, seed: int = 0) -> None:
  """Checks that the functions of a family agree with each other, in float32 and in float64.

  It makes two members from random heads, or takes one, and compares

  - shapes, types and precisions with those that `Family` says;
  - draws with `support`, and `support` with `widest` and with where `log_prob` is finite;
  - draws with `log_prob` and its normalization constant: an error of 0.05 nats over the whole
    support is found, and one of 0.1 nats over a third of one coordinate, or a point mass;
  - `mean`, `variance` and `entropy` with draws: errors of 0.05 standard deviations, of a tenth of
    the variance, and of 0.1 nats are found. What is infinite or NaN is not compared, and neither
    are the mean and the variance of a family with `init_shared`: those of a flow are not exact;
  - derivatives of `log_prob` with central differences;
  - derivatives of means through `transform`, if the family is reparameterized, with those that
    follow from `log_prob`;
  - `log_prob` in float32 with its value in float64, to 1e-3 (1 + |log_prob|). NaN has to stay NaN,
    and outside a box `log_prob` has to be −inf.

  A right family is rejected with a probability of 1e-6. A size of 1 to 3 is enough for most
  families, and takes about ten seconds.

  Args:
    family: a family of small size.
    eta: parameters of the member to check; by default two members are made from random heads.
    num_draws: how many draws of each member are compared, at least 10 000. The sizes above are
      those of the default for up to three dimensions.
    seed: of heads and draws.

  Raises:
    FamilyError: if something is wrong; the text says what, where, by how much, and what to look at.

  Warns:
    UserWarning: if an error of the size that is looked for could have been missed, such as that of
      a mean to which a few draws contribute most.
  """
  if not isinstance(family, Family):
    raise FamilyError(f"families.check takes a Family, not {type(family).__name__}")
  sizes = family.sizes
  if not isinstance(sizes, tuple) or not all(isinstance(n, int) and n > 0 for n in sizes):
    raise FamilyError(f"sizes is {sizes!r}, expected a tuple of positive widths of heads")
  if num_draws < FEWEST_DRAWS:
    raise ValueError(f"num_draws is {num_draws}, expected at least {FEWEST_DRAWS}")
  num_all = -(-num_draws * 6 // 5 // BATCH) * BATCH
  # Derivatives through networks take long, and those through samplers longer than draws.
  num_slopes = num_all // (6 if family.init_shared else 2) // BATCH * BATCH
  functions = (
    make_draw(family, num_all),
    slopes.make_slopes(family),
    slopes.make_pathwise(family, num_slopes),
  )
  programs, decided = Programs(*map(jax.jit, functions)), dict[str, bool]()
  with jax.enable_x64(True):
    members = make_members(family, eta, seed)
  for index, member in enumerate(members):
    atoms = None
    for precision in ("float64", "float32"):
      with jax.enable_x64(precision == "float64"):
        own = in_precision(family, member, precision)
        run = Run(family, own, precision, seed + index, programs, decided)
        draws, atoms = _check_member(run, atoms)
    with jax.enable_x64(True):
      _check_precision(run, draws)
  if unknown := [name for name, is_decided in decided.items() if not is_decided]:
    warnings.warn(
      f"families.check would not have found a small error in {', '.join(unknown)}: "
      "few draws decide it; give more num_draws, a smaller size, or another eta",
      stacklevel=2,
    )


def _check_member(
  run: Run, atoms: list[np.ndarray] | None
) -> tuple[Draws, list[np.ndarray]]:  # fmt: skip
  """Checks one member in one precision; returns its draws and its point masses."""
  support = check_contract(run)
  if not contains(run.family.widest, support):
    raise FamilyError(
      f"support is {in_words(support)} {run.where}, and widest, {in_words(run.family.widest)}, "
      "does not contain it"
    )
  draws = _draw(run, support)
  _check_borders(run, support, draws)
  _check_nan(run, draws)
  atoms = comparisons.find_atoms(draws, atoms)
  if run.precision == "float64":
    if not run.member.heads:
      run.decided["derivatives in eta, which no heads make"] = False
    slopes.check_log_prob_slopes(run, draws, atoms)
  _check_densities(run, draws, atoms)
  if run.family.reparameterized and run.precision == "float64":
    slopes.check_pathwise(run, draws)
  _check_moments(run, draws)
  return draws, atoms


def _draw(run: Run, support: Support) -> Draws:
  """Draws, and checks that draws are in the support and have densities."""
  with reporting("a draw, or its log_prob, under jax.jit and jax.vmap"):
    z, y, log_prob, log_det, z_together, together = (
      np.asarray(a, np.float64) for a in run.programs.draw(run.member, run.seed)
    )
  if not np.isfinite(z).all():
    i, k = np.argwhere(~np.isfinite(z))[0]
    raise FamilyError(f"transform draws z[{k}] = {z[i, k]} {run.where}: look at its overflow")
  eps = np.finfo(run.precision).eps
  ends = [np.broadcast_to(np.asarray(end, np.float64), z.shape[1:]) for end in support[:2]]
  slack = [np.where(np.isfinite(end), 8 * eps * np.abs(end), 0.0) for end in ends]
  outside = (z < ends[0] - slack[0]) | (z > ends[1] + slack[1])
  if support.kind == "simplex":
    outside |= np.abs(z.sum(axis=1, keepdims=True) - 1) > np.sqrt(eps)
  if support.kind == "integers":
    outside |= z != np.round(z)
  if outside.any():
    i, k = np.argwhere(outside)[0]
    raise FamilyError(
      f"transform draws z[{k}] = {z[i, k]:.5g}, outside the support, {in_words(support)}, "
      f"{run.where}: look at transform and support"
    )
  if not np.isfinite(log_prob).all():
    i = np.argwhere(~np.isfinite(log_prob))[0][0]
    hint = "look at overflow, 0 · ∞ and ∞ − ∞ in log_prob, and at transform"
    if np.any((z[i] == ends[0]) | (z[i] == ends[1])):
      hint = "keep draws off the border of the support, to which they may be rounded"
    raise FamilyError(
      f"log_prob is {log_prob[i]} at the draw z = {_shown(z[i])} {run.where}: {hint}"
    )
  is_discrete = support.kind in ("integers", "levels")
  draws = Draws(z, y, log_prob, log_det, is_discrete, len(z) // 6)
  if run.family.transform_with_log_prob:
    _check_together(run, draws, z_together, together)
  return draws


def _check_together(run: Run, draws: Draws, z: np.ndarray, log_prob: np.ndarray) -> None:
  """Compares transform_with_log_prob with transform and log_prob, away from borders."""
  eps = np.finfo(run.precision).eps
  few = slice(0, FEWER)
  with reporting("the derivative of log_prob"):
    of_z = jax.jit(jax.vmap(jax.grad(run.family.log_prob, 1), (None, 0)))
    slope = np.asarray(of_z(run.member.eta, jnp.asarray(draws.z[few], run.precision)), float)
  # z has been rounded, and log_prob then is that of the rounded number.
  rounding = 8 * eps * np.sum(np.abs(slope * draws.z[few]), axis=1)
  allowed = np.sqrt(eps) * (1 + np.abs(draws.log_prob[few])) + rounding
  inside = np.isfinite(draws.y[few]).all(axis=1)
  inside &= (np.abs(draws.z[few]) > 8 * np.finfo(run.precision).tiny).all(axis=1)
  inside &= (np.abs(1 - draws.z[few]) > 8 * eps).all(axis=1)
  errors = {
    "z": np.max(np.abs(z - draws.z)[few], axis=1) - np.sqrt(eps) * np.abs(z[few]).max(axis=1),
    "log_prob": np.abs(log_prob - draws.log_prob)[few] - allowed,
  }
  for name, error in errors.items():
    if not np.all((error <= 0) | ~inside):
      i = np.argwhere(~((error <= 0) | ~inside))[0][0]
      raise FamilyError(
        f"transform_with_log_prob gives z = {_shown(z[i])} with log_prob {log_prob[i]:.6g}, and "
        f"transform and log_prob give {_shown(draws.z[i])} with {draws.log_prob[i]:.6g}, "
        f"{run.where}: look at its {name}"
      )


def _check_borders(run: Run, support: Support, draws: Draws) -> None:
  """Checks that a box is where log_prob is finite: not less, and not more."""
  if support.kind != "box":
    return
  first, typical = draws.z[: draws.num_first], draws.z[np.argmax(draws.log_prob)]
  low, high = (np.broadcast_to(np.asarray(end, float), typical.shape) for end in support[:2])
  middle = np.median(first, axis=0)
  spread = np.quantile(first, 0.9, axis=0) - np.quantile(first, 0.1, axis=0)
  for k in range(len(typical)):
    for end, side in ((low[k], -1.0), (high[k], 1.0)):
      inside = end + 0.01 * (middle[k] - end) if np.isfinite(end) else middle[k] + side * spread[k]
      value = _log_prob_at(run, typical, k, inside)
      if not np.isfinite(value):
        raise FamilyError(
          f"log_prob is {value} where z[{k}] = {inside:.5g}, although that is in the support, "
          f"{in_words(support)}, {run.where}: look at support and log_prob"
        )
      outside = end + side * (0.5 * spread[k] + 1e-3 * abs(end) + 1e-30)
      if not np.isfinite(end):
        continue
      if (value := _log_prob_at(run, typical, k, outside)) != -np.inf:
        raise FamilyError(
          f"log_prob is {value:.5g} where z[{k}] = {outside:.5g}, outside the support, "
          f"{in_words(support)}, {run.where}: it has to be -inf"
        )


def _log_prob_at(run: Run, z: np.ndarray, k: int, value: float) -> float:
  """Computes log_prob at z with another number in place k."""
  z = z.copy()
  z[k] = value
  with reporting("log_prob"):
    return float(jax.jit(run.family.log_prob)(run.member.eta, jnp.asarray(z, run.precision)))


def _check_nan(run: Run, draws: Draws) -> None:
  """Checks that NaN in z, and NaN in a head, gives NaN."""
  z = draws.z[0]
  for k in range(min(len(z), 4)):
    if not np.isnan(value := _log_prob_at(run, z, k, np.nan)):
      raise FamilyError(
        f"log_prob is {value:.5g} where z[{k}] is NaN: it has to be NaN, or an error elsewhere "
        "goes unnoticed; look at comparisons, which are False for NaN, and at minimum and clip"
      )
  heads = run.member.heads
  for i in range(len(run.family.sizes) if heads else 0):
    with reporting("from_heads"):
      nan = tuple(jnp.full_like(head, jnp.nan) if i == j else head for j, head in enumerate(heads))
      eta = eta_at(run.family, run.member, nan)
    several = jnp.asarray(draws.z[:64], run.precision)
    with reporting("log_prob"):
      values = np.asarray(jax.jit(jax.vmap(run.family.log_prob, (None, 0)))(eta, several))
    if not np.isnan(values).any():  # not all, because a point mass does not have all parameters
      raise FamilyError(
        f"log_prob is {values[0]:.5g} where head {i} is NaN: it has to be NaN, or an error in the "
        "network goes unnoticed; look at comparisons, which are False for NaN, and at clip"
      )


def _check_densities(run: Run, draws: Draws, atoms: list[np.ndarray]) -> None:
  results = comparisons.compare_densities(draws, atoms)
  _note(run, "log_prob", all(difference.decided for _, difference in results))
  wrong = [result for result in results if result[1].is_wrong]
  if not wrong:
    return
  # An error that is the same everywhere is one of the constant.
  errors = [_error_of(difference) for _, difference in results]
  constant = bool(results[0][1].is_wrong and max(errors) - min(errors) < 0.3 * abs(errors[0]))
  words, worst = results[0] if constant else max(wrong, key=lambda result: abs(result[1].size))
  error = _error_of(worst)
  hint = "the normalization constant of log_prob" if constant else "how log_prob depends on z"
  raise FamilyError(
    f"log_prob is too {'large' if error > 0 else 'small'} by {abs(error):.3g} "
    f"(± {worst.allowed:.1g}) nats for the draws of transform{words or ' everywhere'}, "
    f"{run.where}: look at {hint}, and at transform"
  )


def _error_of(difference: Difference) -> float:
  """Returns the error of log_prob in nats: E[f / p] is too large where p is too small."""
  return -float(np.log(max(1 + difference.size, 1e-300)))


def _note(run: Run, name: str, decided: bool) -> None:
  run.decided[name] = run.decided.get(name, False) or decided


def _check_moments(run: Run, draws: Draws) -> None:
  family, eta = run.family, run.member.eta

  def value(name: str) -> np.ndarray | None:
    if (function := getattr(family, name)) is None:
      return None
    with reporting(name):
      return np.asarray(jax.jit(function)(eta), np.float64)

  mean, variance, entropy = (value(name) for name in ("mean", "variance", "entropy"))
  if mean is None or family.init_shared:  # the mean of a flow is that of its base, mapped
    mean, variance = np.full(draws.z.shape[1], np.nan), None
  results = comparisons.compare_moments(
    draws, mean, variance, None if entropy is None else float(entropy)
  )
  for name, claimed, difference in results:
    _note(run, name, difference.decided)
    if difference.is_wrong:
      raise FamilyError(
        f"{name} is {claimed:.4g}, and draws have {claimed + difference.size:.4g} "
        f"(± {difference.allowed:.1g}), {run.where}: look at the family's "
        f"{name.partition('[')[0]}"
      )


def _check_precision(run: Run, draws: Draws) -> None:
  """Compares log_prob in float32 with its value in float64 at the same z and parameters."""
  # Digits are lost in tails and near borders.
  unusual = np.argsort(-np.abs(draws.log_prob - np.median(draws.log_prob)))
  chosen = np.concatenate([np.arange(FEWER), unusual[:FEWER]])
  z, eta = draws.z[chosen], cast(run.member.eta, "float64")
  with reporting("log_prob"):
    exact = jax.jit(jax.vmap(run.family.log_prob, (None, 0)))(eta, jnp.asarray(z))
  exact, found = np.asarray(exact), draws.log_prob[chosen]
  wrong = ~(np.abs(found - exact) <= PRECISION * (1 + np.abs(exact)))
  if wrong.any():
    i = np.argwhere(wrong)[0][0]
    raise FamilyError(
      f"log_prob is {found[i]:.6g} in float32 and {exact[i]:.6g} in float64 at z = {_shown(z[i])}, "
      f"{run.where}: look at differences of large numbers"
    )


def _shown(z: np.ndarray) -> str:
  with np.printoptions(precision=5, threshold=6):
    return str(z)
