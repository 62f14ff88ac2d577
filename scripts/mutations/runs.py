"""Errors in the runs: data, sweeps, resuming, faults, directories."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation(
    "flags: static is dynamic",
    "runs/pixels",
    'train_draw if data.binarization == "static" else None',
    "None",
    "runs/pixels",
  ),
  Mutation(
    "flags: always by 255",
    "runs/pixels",
    "levels = pixel_scale(images, data)\n  scale",
    "levels = 255\n  scale",
    "runs/pixels",
  ),
  Mutation(
    "sweep: the worst step size is kept",
    "runs/state",
    "best = max(means, key=lambda s: means[s])",
    "best = min(means, key=lambda s: means[s])",
    "commands/sweep",
  ),
  Mutation(
    "resume: the data from the start",
    "training/program",
    "        start=start,\n",
    "        start=0,\n",
    "commands/sweep",
  ),
  Mutation(
    "resume: what the next row sums up begins again",
    "runs/state",
    'sums = {name: np.asarray(values) for name, values in record["sums"].items()}',
    "sums = {}",
    "runs/loop",
  ),
  Mutation(
    "resume: without the rows so far",
    "runs/state",
    'record["runs"].get(run.name, {})',
    "{}",
    "runs/loop",
  ),
  Mutation(
    "stop: the row of that step left out",
    "runs/loop",
    "  if is_due(training, end, loop.plan):  # an",
    "  if False:  # an",
    "runs/loop",
  ),
  Mutation(
    "non-finite: the state after the fault is saved",
    "runs/faults",
    "    if not active.any():",
    "    if False:",
    "runs/loop",
  ),
  Mutation(
    "best: the lowest validation bound",
    "runs/resume",
    "now.bound > saved.best.bound",
    "now.bound < saved.best.bound",
    "runs/loop",
  ),
  Mutation(
    "a second run of a directory is let in",
    "runs/directory",
    "file = locks.hold(directory / LOCK)",
    "file = open(directory / LOCK, 'a+')",
    "runs/directory",
  ),
  Mutation(
    "a directory that was moved is made again",
    "runs/directory",
    "if os.path.samestat(directory.stat(), held.status):",
    "if True:",
    "runs/directory",
  ),
  Mutation(
    "resume: under another configuration",
    "runs/resume",
    '"flags" in record and texts',
    "False and texts",
    "runs/resume",
  ),
  Mutation(
    "resume: from a checkpoint of another step",
    "runs/resume",
    'if (saved_as := record.get("step", step)) != step:',
    'if (saved_as := step) != record.get("step"):',
    "runs/resume",
  ),
  Mutation(
    "condition: the label of another image",
    "models/conditions",
    "Joined(source, one_hot_labels(labels, size))",
    "Joined(source, one_hot_labels(labels, size)[::-1])",
    "runs/conditions",
  ),
]
