"""Section 2.4: every reparameterizable family of the paper in one figure.

  python -m experiments.families --workdir=runs/families

Each row is a family, in the order of the paper's three constructions: the density of three
members; their transforms z = g(ε), against the noise if it is one number, otherwise against the
rank of the draw; samples of the second member with its density; and the pathwise derivative of
those draws with respect to its parameters, which is how gradients reach the encoder.

Writes families.png, families.csv (for the second member, means and variances of the draws beside
the closed forms) and summary.json.

Takes a minute on one core. A mistake in a family would show in the third column.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from aevb_jax.families.table import REPARAMETERIZABLE
from aevb_jax.runs import files
from aevb_jax.runs.directory import SUMMARY
from experiments.flags import resuming
from experiments.flags.reading import read
from experiments.launch import command
from experiments.plots import families as family_figure
from experiments.plots.families import Drawn, Portrait

flags.adopt_module_key_flags(resuming)
flags.DEFINE_string("workdir", "runs/families", "Directory for the figure and its numbers.")
flags.DEFINE_integer("num_draws", 20_000, "Number of draws of every member.", lower_bound=400)
flags.DEFINE_integer("seed", 0, "Seed of the draws.", lower_bound=0, upper_bound=2**32 - 1)

# Fixed parameters, the parameter that differs between the three members, and its values.
MEMBERS = {
  "exponential": (dict(), "rate", (0.5, 1, 2)),
  "cauchy": (dict(location=0), "scale", (0.5, 1, 2)),
  "logistic": (dict(location=0), "scale", (0.5, 1, 2)),
  "rayleigh": (dict(), "scale", (0.5, 1, 2)),
  "pareto": (dict(scale=1), "shape", (1, 2, 4)),
  "weibull": (dict(scale=1), "shape", (0.8, 1.5, 4)),
  "reciprocal": (dict(low=1), "high", (3, 5, 10)),
  "gompertz": (dict(rate=1), "shape", (0.1, 0.5, 2)),
  "gumbel": (dict(location=0), "scale", (0.5, 1, 2)),
  "erlang": (dict(), "rate", (0.5, 1, 2)),
  "laplace": (dict(location=0), "scale", (0.5, 1, 2)),
  "elliptical": (None, "", ()),
  "student_t": (dict(location=0), "scale", (0.5, 1, 2)),
  "uniform": (dict(low=0), "high", (1, 2, 3)),
  "triangular": (dict(low=0), "width", (1, 2, 3)),
  "gaussian": (dict(mean=0), "log_var", (-1, 0, 1)),
  "log_normal": (dict(location=0), "scale", (0.25, 0.5, 1)),
  "gamma": (dict(rate=1), "shape", (0.8, 2, 5)),
  "dirichlet": (None, "", ()),
  "beta": (dict(b=2), "a", (0.8, 2, 5)),
  "chi_squared": (dict(), "degrees_of_freedom", (1.5, 3, 6)),
  "f": (dict(denominator=6), "numerator", (1.5, 4, 12)),
}
SYMBOLS = {"degrees_of_freedom": "ν", "log_var": "log σ²"}
HEAVY = ("cauchy", "pareto", "f", "student_t")  # the outermost 2 % of their draws are far away
CONSTRUCTIONS = ["inverse CDF"] * 10 + ["location + scale · ε"] * 6 + ["composition"] * 6


@dataclasses.dataclass(frozen=True)
class FamiliesConfig:
  """The number of draws, and their seed."""

  num_draws: int = 20_000
  seed: int = 0


def main() -> None:
  commit, config = files.git_commit(), read(FamiliesConfig)
  workdir = pathlib.Path(flags.FLAGS.workdir).expanduser()
  if not resuming.open_workdir(workdir, [config]):
    return
  key, portraits, draws, rows = jax.random.key(config.seed), [], [], []
  for i, (name, group) in enumerate(zip(MEMBERS, CONSTRUCTIONS, strict=True)):
    portrait = make_portrait(name, group)
    drawn = family_figure.draw(
      jax.random.fold_in(key, i), portrait.family, portrait.etas, config.num_draws
    )
    portraits.append(portrait)
    draws.append(drawn)
    rows.append(row_of(name, portrait, drawn[1]))
    row = rows[-1]
    print(
      f"{name:12} mean {row['sample_mean']:8.4f} of {config.num_draws} draws, {row['mean']:8.4f}"
    )
  columns = list(dict.fromkeys(column for row in rows for column in row))
  files.write_csv(workdir / "families.csv", columns, rows)
  files.save_figure(workdir / "families.png", family_figure.draw_families(portraits, draws))
  files.write_summary(workdir / SUMMARY, dict(families=rows, git_commit=commit))
  print(f"written to {workdir.resolve()}: families.csv families.png summary.json")


def make_portrait(name: str, group: str) -> Portrait:
  make = REPARAMETERIZABLE[name].make
  title = name.replace("_", "-").title() if name != "student_t" else "Student's t"
  if name == "dirichlet":
    family = make(3)
    etas = [
      type(family.from_heads(jnp.zeros(3)))(jnp.asarray(a))
      for a in ([1.2, 1.2, 1.2], [4.0, 2.0, 2.0], [2.0, 6.0, 12.0])
    ]
    return Portrait(
      title, group, family, etas, ["α = 1.2, 1.2, 1.2", "α = 4, 2, 2", "α = 2, 6, 12"]
    )
  if name == "elliptical":
    family = make(2)
    heads = ((0.0, 0.0, 0.0), (0.5, -0.5, 0.8), (-1.0, 1.0, -1.2))
    etas = [
      family.from_heads(jnp.zeros(2), jnp.asarray([a, b]), jnp.asarray([c])) for a, b, c in heads
    ]
    return Portrait(title, group, family, etas, ["L = I", "L longer in z₁", "L longer in z₂"])
  family = make(1)
  fixed, changing, values = MEMBERS[name]
  eta_type = type(family.from_heads(*(jnp.zeros(size) for size in family.sizes)))
  number = lambda value: jnp.asarray([float(value)])
  etas = [
    eta_type(**{key: number(value) for key, value in (fixed | {changing: value}).items()})
    for value in values
  ]
  symbol = SYMBOLS.get(changing, changing)
  labels = [f"{symbol} {value:g}" for value in values]
  return Portrait(title, group, family, etas, labels, 0.9 if name in HEAVY else 0.98)


def row_of(name: str, portrait: Portrait, drawn: Drawn) -> dict:
  """Compares closed forms for the first number of a member with estimates from its draws."""
  family, eta, z = portrait.family, portrait.etas[1], drawn.z[:, 0]
  row = dict(family=name, construction=portrait.group)
  row |= dict(
    eta=" ".join(f"{k}={np.ravel(v).round(3).tolist()}" for k, v in eta._asdict().items())
  )
  row |= dict(mean=float(family.mean(eta)[0]), sample_mean=float(z.mean()))
  row |= dict(sample_mean_se=float(z.std(ddof=1) / np.sqrt(len(z))), sample_variance=float(z.var()))
  if family.variance:
    row |= dict(variance=float(family.variance(eta)[0]))
  if family.entropy:
    row |= dict(entropy=float(family.entropy(eta)))
  return row


if __name__ == "__main__":
  command.run(main)
