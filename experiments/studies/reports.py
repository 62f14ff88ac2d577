"""The report of experiments.evaluate on the points that it estimated."""

import math

import numpy as np

from aevb_jax.data.preprocess import bits_of_levels, bits_per_dim
from aevb_jax.families import table
from aevb_jax.inference.annealing import sandwich_in_words
from aevb_jax.runs.config import Config
from aevb_jax.runs.pixels import real_valued
from aevb_jax.training.evaluation import Mean, mean_and_standard_error

METHODS = ("importance", "reciprocal", "ais", "bdmc")
MAX_PARETO_K, MAX_R_HAT, MIN_ESS = 0.7, 1.1, 5  # limits beyond which an estimate is doubtful
SIDES = {"log_p": "", "lower": ", from below", "upper": ", from above"}


def summarize(rows: list[dict], data_dim: int, config: Config) -> tuple[dict, list[str]]:
  """Returns summary.json, and the lines to print."""
  columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
  summary, lines = dict(num_points=len(rows)), []
  sides = [name for name in ("log_p", "lower", "upper") if name in columns]
  means = {}
  for side in sides:
    means[side], counted, line = average(side, columns[side], columns[f"{side}_se"])
    summary |= counted
    lines.append(line)
  if "lower" in means and all(math.isfinite(mean.value) for mean in means.values()):
    bounds = sandwich_in_words(*(monte_carlo(columns, side) for side in sides))
    lines.append(f"{bounds} (sampling errors only)")
  for side in sides:
    bits = to_bits(means[side].value, data_dim, config)
    if bits is not None and math.isfinite(bits):
      summary[f"{side}_bits_per_dim"] = bits
      lines.append(f"{'bits per dimension':22}{bits:.4f}{SIDES[side]}")
  if condition := config.model.condition:
    summary |= dict(condition=condition, likelihoods_are_of=f"log p(x|{condition})")
    lines.append(f"{'condition':22}all likelihoods are of log p(x|{condition})")
  diagnosed, more = diagnose(columns)
  return summary | diagnosed, lines + more


def average(side: str, values: np.ndarray, errors: np.ndarray) -> tuple[Mean, dict, str]:
  """Averages over points; for values that are not finite it reports their number and no mean."""
  name = f"log p(x){SIDES[side]}"
  finite = np.isfinite(values)
  mean = mean_and_standard_error(values)
  error = monte_carlo_error(errors)
  summary = {
    side: mean.value,
    f"{side}_se": mean.standard_error,
    f"{side}_monte_carlo_se": error,
    f"{side}_num_not_finite": int((~finite).sum()),
  }
  line = f"{name:22}{mean.value:.2f} ± {mean.standard_error:.2f} nats over {len(values)} "
  line += f"points, of it ± {error:.3f} from sampling"
  if not finite.all():
    where = ", ".join(map(str, np.flatnonzero(~finite)[:5]))
    more = ", …" if (~finite).sum() > 5 else ""
    line = f"{name:22}not finite at {(~finite).sum()} of {len(values)} points ({where}{more}), "
    line += "so there is no mean"
    if finite.any():
      rest = mean_and_standard_error(values[finite])
      line += f"; the mean of the others is {rest.value:.2f} ± {rest.standard_error:.2f}"
  return mean, summary, line


def monte_carlo_error(errors: np.ndarray) -> float:
  """Returns the standard error, only from sampling, of a mean over independent estimates."""
  return float(np.sqrt(np.sum(errors**2)) / len(errors))


def monte_carlo(columns: dict[str, np.ndarray], side: str) -> tuple[float, float]:
  return float(columns[side].mean()), monte_carlo_error(columns[f"{side}_se"])


def to_bits(log_p: float, data_dim: int, config: Config) -> float | None:
  """Returns bits per dimension for a probability of discrete data; None for other data."""
  if config.data.dequantization:
    return bits_per_dim(log_p, data_dim)
  discrete = config.model.likelihood in table.LEVELS or not real_valued(config.data)
  return bits_of_levels(log_p, data_dim) if discrete else None


def diagnose(columns: dict[str, np.ndarray]) -> tuple[dict, list[str]]:
  """Summarizes the diagnostics over all points, with a warning for each doubtful one."""
  summary, lines = {}, []
  for name, values in columns.items():
    side = next((s for s in ("lower", "upper") if name.startswith(f"{s}_")), "log_p")
    kind = name.removeprefix(f"{side}_")
    if kind in DIAGNOSTICS:
      found, more = DIAGNOSTICS[kind](values)
      summary |= {f"{key}_{name}": value for key, value in found.items()}
      lines += [line + SIDES[side] for line in more]
  return summary, lines


def tell_ess(ess: np.ndarray) -> tuple[dict, list[str]]:
  lines = [f"{'effective samples':22}{np.median(ess):.1f} at the median point"]
  if few := count_not(ess >= MIN_ESS):
    lines.append(f"warning: fewer than {MIN_ESS} effective samples at {few} of {len(ess)} points")
  return dict(median=float(np.median(ess)), num_small=few), lines


def tell_annealing_ess(ess: np.ndarray) -> tuple[dict, list[str]]:
  lines = []
  if few := count_not(ess >= MIN_ESS):
    lines.append(
      f"warning: annealing left fewer than {MIN_ESS} effective chains at {few} of {len(ess)} "
      "points, which may have missed modes; more --temperatures may help"
    )
  return dict(median=float(np.median(ess)), num_small=few), lines


def tell_acceptance(acceptance: np.ndarray) -> tuple[dict, list[str]]:
  mean = float(acceptance.mean())
  if not math.isfinite(mean):  # there were no transitions
    return dict(mean=mean), []
  lines = [f"{'HMC acceptance':22}{mean:.3f}"]
  if not 0.8 < mean < 0.97:
    lines.append("warning: HMC acceptance is far from 0.9; more --temperatures may help")
  return dict(mean=mean), lines


def tell_divergences(num_divergent: np.ndarray) -> tuple[dict, list[str]]:
  total, points = int(num_divergent.sum()), int((num_divergent > 0).sum())
  lines = [f"warning: {total} transitions diverged, at {points} points"] if total else []
  return dict(total=total), lines


def tell_pareto_k(k: np.ndarray) -> tuple[dict, list[str]]:
  lines = []
  if np.isposinf(k).all():
    lines.append("warning: too few samples to estimate Pareto k̂")
  elif doubtful := count_not(k <= MAX_PARETO_K):
    lines.append(
      f"warning: Pareto k̂ is not below {MAX_PARETO_K} at {doubtful} of {len(k)} points: few "
      "samples carry their weight, and their errors are too small"
    )
  return dict(num_doubtful=count_not(k <= MAX_PARETO_K)), lines


def tell_r_hat(r_hat: np.ndarray) -> tuple[dict, list[str]]:
  lines = []
  if doubtful := count_not(r_hat <= MAX_R_HAT):
    lines.append(
      f"warning: R̂ is not below {MAX_R_HAT} at {doubtful} of {len(r_hat)} points: their chains "
      "disagree about the posterior; more --posterior_samples may help"
    )
  return dict(median=float(np.median(r_hat)), num_doubtful=doubtful), lines


def count_not(good: np.ndarray) -> int:
  """Counts the values that are not good; NaN is not."""
  return int((~good).sum())


DIAGNOSTICS = {
  "ess": tell_ess,
  "annealing_ess": tell_annealing_ess,
  "acceptance": tell_acceptance,
  "num_divergent": tell_divergences,
  "pareto_k": tell_pareto_k,
  "r_hat": tell_r_hat,
}


def difference_in_words(pairs: list[tuple[dict, dict]], name: str) -> tuple[str, bool] | None:
  """Compares the estimates of two methods, point by point.

  Returns:
    A line, and True if sampling does not explain the difference; None for too few numbers.
  """
  values, errors = (
    np.array([[row[name] for row in pair] for pair in pairs]) for name in ("log_p", "log_p_se")
  )
  finite = np.isfinite(values).all(axis=1)
  if finite.sum() < 2:
    return None
  left_out = f" ({(~finite).sum()} not finite are left out)" if not finite.all() else ""
  values, errors = values[finite], errors[finite]
  mean = mean_and_standard_error(values[:, 0] - values[:, 1])
  sampling = monte_carlo_error(np.hypot(*errors.T))
  line = (
    f"{name:22}{mean.value:+.2f} ± {mean.standard_error:.2f} nats, {len(values)} points{left_out}"
  )
  is_large = bool(abs(mean.value) > 3 * sampling)
  return line + is_large * f"; sampling explains ± {sampling:.2f}.", is_large


def why_methods_differ(method: str, other: str) -> str:
  """Explains why estimates may differ by more than their errors: heavy weights bias them low."""
  if "reciprocal" not in (method, other):
    return "Both err downwards, the more the fewer samples carry the weight: the higher is nearer"
  rest = next(name for name in (method, other) if name != "reciprocal")
  return f"{rest} errs downwards, and reciprocal upwards as far as its chains found the posterior"
