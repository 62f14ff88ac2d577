"""Errors in the training loop: minibatches on devices, sweeps, NaN, checkpoints."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation(
    "fit: same pixels' noise at every step",
    "training/fitting",
    "fold_in(pixel_key, state.step)",
    "fold_in(pixel_key, 0)",
  ),
  Mutation(
    "fit: static draws are fresh",
    "training/fitting",
    "if static_key is None:",
    "if True:",
  ),
  Mutation(
    "evaluate: same noise for every example",
    "training/evaluation",
    "fold_in(key, index)",
    "fold_in(key, 0)",
  ),
  Mutation(
    "evaluate: every block is the first",
    "training/evaluation",
    "first=first",
    "first=0",
  ),
  Mutation(
    "mcem: index not passed",
    "training/fitting",
    "algorithm.update(state, batch, minibatch.index)",
    "algorithm.update(state, batch, jnp.arange(len(batch)))",
    "algorithms/monte_carlo_em",
  ),
  Mutation(
    "devices: the padding is evaluated too",
    "training/evaluation",
    "v.reshape(-1, *v.shape[2:])[: len(pixels)]",
    "v.reshape(-1, *v.shape[2:])",
    "training/sharding",
  ),
  Mutation(
    "devices: a minibatch that is not shared",
    "training/fitting",
    "    minibatch = constrain(minibatch, sharding)\n",
    "    minibatch = constrain(minibatch, replicated_on(sharding))\n",
    "training/sharding",
  ),
  Mutation(
    "sweep: members see the data of the first",
    "training/sweep",
    "      key,\n      pixels,",
    "      keys[0],\n      pixels,",
  ),
  Mutation(
    "sweep: the step size of the algorithm",
    "training/sweep",
    "return states if step_sizes is None else with_step_size(states, step_sizes)",
    "return states",
  ),
  Mutation(
    "standard error of one, not of the mean",
    "training/evaluation",
    " / np.sqrt(len(values)))",
    ")",
  ),
  Mutation(
    "non-finite: the value alone is looked at",
    "training/nonfinite",
    "all_finite((metrics[objective], following))",
    "all_finite(metrics[objective])",
  ),
  Mutation(
    "non-finite: the state alone is looked at",
    "training/nonfinite",
    "all_finite((metrics[objective], following))",
    "all_finite(following)",
  ),
  Mutation(
    "non-finite: the same minibatch for ever",
    "training/nonfinite",
    "s._replace(step=following.step, key=())",
    "s._replace(key=())",
  ),
  Mutation(
    "non-finite: explained by another z",
    "algorithms/auto_encoding",
    "z = draw(key, q, num_samples)",
    "z = draw(jax.random.fold_in(key, 1), q, num_samples)",
    "training/nonfinite",
  ),
  Mutation(
    "non-finite: the place in the minibatch for that in the data",
    "training/nonfinite",
    "index[~finite].min()",
    "np.flatnonzero(~finite).min()",
  ),
  Mutation(
    "checkpoint: arrays are not compared with their checksums",
    "training/checkpoint",
    "    if saved != found:",
    "    if saved and found and saved[:3] != found[:3]:",
  ),
  Mutation(
    "checkpoint: a checksum that does not see the order",
    "training/checkpoint",
    "weights * words",
    "words",
  ),
  Mutation(
    "checkpoint: another model is damage",
    "training/checkpoint",
    'raise CheckpointError(f"the checkpoint',
    'raise DamagedError(f"the checkpoint',
  ),
  Mutation(
    "checkpoint: deleted before another has taken its place",
    "training/checkpoint",
    '(directory / str(step)).rename(directory / f"{step}{REPLACED}")',
    "shutil.rmtree(directory / str(step))",
  ),
  Mutation(
    "checkpoint: too few open files is damage",
    "training/arrays_on_disk",
    "    _raise_of_machine(error)\n",
    "",
    "training/checkpoint",
  ),
  Mutation(
    "checkpoint: the first is not read back",
    "training/checkpoint",
    "        if not read_back:",
    "        if False:",
  ),
  Mutation(
    "checkpoint: a path is a pattern",
    "training/arrays_on_disk",
    "    if of_process.is_dir():\n      yield of_process",
    "    if True:\n      yield path",
    "training/checkpoint",
  ),
]
