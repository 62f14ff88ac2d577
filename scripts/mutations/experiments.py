"""Errors in the experiments: flags, and runs that stop and resume."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation(
    "flags: static is dynamic",
    "experiments/flags/data",
    'train_draw if FLAGS.binarization == "static" else None',
    "None",
    "runs/pixels",
  ),
  Mutation(
    "flags: always by 255",
    "experiments/flags/data",
    "levels = pixel_scale(images)\n",
    "levels = 255\n",
    "runs/pixels",
  ),
  Mutation(
    "sweep: the worst step size goes on",
    "experiments/flags/sweeps",
    "best = max(means, key=means.get)",
    "best = min(means, key=means.get)",
    "commands/sweep",
  ),
  Mutation(
    "resume: the data from the start",
    "experiments/runs/program",
    "        start=start,\n",
    "        start=0,\n",
    "commands/sweep",
  ),
  Mutation(
    "resume: what the next row sums up begins anew",
    "experiments/runs/state",
    'sums = {name: np.asarray(values) for name, values in record["sums"].items()}',
    "sums = {}",
    "runs/loop",
  ),
  Mutation(
    "resume: without the rows so far",
    "experiments/runs/state",
    '**record["runs"].get(run.name, {})',
    "**{}",
    "runs/loop",
  ),
  Mutation(
    "stop: the row of that step left out",
    "experiments/runs/loop",
    "  if is_due(training, end):  # it",
    "  if False:  # it",
    "runs/loop",
  ),
  Mutation(
    "non-finite: the state after the fault is saved",
    "experiments/runs/faults",
    "    if not going_on.any():",
    "    if False:",
    "runs/loop",
  ),
  Mutation(
    "best: the lowest validation bound",
    "experiments/runs/saving",
    "now.bound > saved.best.bound",
    "now.bound < saved.best.bound",
    "runs/loop",
  ),
  Mutation(
    "a second run of a directory is let in",
    "experiments/runs/directory",
    "LOCKS_HELD.append(locks.hold(directory / LOCK))",
    "pass",
    "runs/survival",
  ),
]
