"""Section 2.4: every reparameterizable family of the paper in one figure.

  python -m experiments.families --workdir=runs/families

Each row is a family, in the order of the paper's three constructions: the density of three
members; their transforms z = g(ε), by the noise where it is one number, otherwise by the rank of
the draw; samples of the second member against its density; and the pathwise derivative of those
draws with respect to its parameters, which is how gradients reach the encoder.

Writes families.png, families.csv (of the second member, means and variances of the draws beside
the closed forms) and summary.json.

A figure that is finished is left as it is; --noresume makes it anew and sets the other aside.

A minute on one core; mistakes of a family would show in the third column.
"""

import dataclasses

import jax
from absl import flags

from aevb_jax.runs import directory, files
from aevb_jax.runs.config import DataConfig
from experiments.flags import figures as figure_flags
from experiments.flags import machine as machine_flags
from experiments.flags.reading import read
from experiments.launch import command
from experiments.plots.families import draw, draw_families
from experiments.studies.portraits import CONSTRUCTIONS, MEMBERS, make_portrait, moments

flags.DEFINE_string("workdir", "runs/families", "Directory for the figure and its numbers.")
flags.DEFINE_integer("num_draws", 20_000, "Draws of every member.", lower_bound=400)
flags.DEFINE_integer("seed", 0, "Seed of the draws.", lower_bound=0, upper_bound=2**32 - 1)
for name in ("resume", "overwrite"):
  flags.declare_key_flag(name)


@dataclasses.dataclass(frozen=True)
class FamiliesConfig:
  """How many draws there are of every member, and from which seed."""

  num_draws: int = 20_000
  seed: int = 0


def main() -> None:
  commit = files.git_commit()
  figure_flags.refuse_others()
  config, machine = read(FamiliesConfig), machine_flags.machine(DataConfig())
  how = dict(resume=machine.resume, overwrite=machine.overwrite)
  workdir, finished = directory.open_run(machine.workdir, [config], **how)
  if finished:
    print(f"finished before: {workdir / directory.SUMMARY} (--noresume starts anew)")
    return
  key, portraits, draws, rows = jax.random.key(config.seed), [], [], []
  for i, (name, group) in enumerate(zip(MEMBERS, CONSTRUCTIONS, strict=True)):
    portrait = make_portrait(name, group)
    drawn = draw(jax.random.fold_in(key, i), portrait.family, portrait.etas, config.num_draws)
    portraits.append(portrait)
    draws.append(drawn)
    row = moments(name, portrait, drawn[1])
    rows.append(row)
    told = f"{row['sample_mean']:8.4f} of {config.num_draws} draws, {row['mean']:8.4f}"
    print(f"{name:12} mean {told}")
  columns = list(dict.fromkeys(column for row in rows for column in row))
  files.write_csv(workdir / "families.csv", columns, rows)
  files.save_figure(workdir / "families.png", draw_families(portraits, draws))
  summary = dict(families=rows, git_commit=commit)
  files.write_summary(workdir / directory.SUMMARY, summary)
  print(f"written to {workdir.resolve()}: families.csv families.png summary.json")


if __name__ == "__main__":
  command.run(main)
