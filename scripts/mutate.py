"""Plants errors in a copy of the package, one at a time: some test must fail for each.

  python scripts/mutate.py          # all of them, about ten minutes
  python scripts/mutate.py elbo     # those whose name contains a word

Every line is one error that an implementation of the paper has made or could
make. A survivor is an error that the suite would let through.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]


class Mutation(NamedTuple):
  name: str
  module: str  # of aevb_jax, or "experiments/..."
  old: str  # stands exactly once in the module
  new: str
  tests: str  # the file of tests that must notice


ENTROPY = "log_joint(model, params.theta, x, z) - q.log_prob(z)"
MUTATIONS = [
  Mutation("elbo_a: sign of log q", "estimators", ENTROPY, ENTROPY.replace("-", "+"), "estimators"),
  Mutation(
    "elbo_a: no log q",
    "estimators",
    f"return {ENTROPY}",
    "return log_joint(model, params.theta, x, z)",
    "estimators",
  ),
  Mutation(
    "elbo_a: no gradient through z",
    "estimators",
    "z = q.sample(key)",
    "z = jax.lax.stop_gradient(q.sample(key))",
    "estimators",
  ),
  Mutation("elbo_b: sign of the KL", "estimators", "- kl(q, ", "+ kl(q, ", "estimators"),
  Mutation(
    "elbo_b: KL the wrong way round",
    "estimators",
    "kl(q, model.prior(params.theta))",
    "kl(model.prior(params.theta), q)",
    "estimators",
  ),
  Mutation("elbo_b: sum over samples", "estimators", "jnp.mean(rec", "jnp.sum(rec", "estimators"),
  Mutation(
    "gaussian: log-variance as log-std in samples",
    "families",
    "jnp.exp(0.5 * eta.log_var) * noise",
    "jnp.exp(eta.log_var) * noise",
    "families",
  ),
  Mutation(
    "gaussian: log-variance as log-std in the density",
    "families",
    "LOG_2PI + eta.log_var + ",
    "LOG_2PI + 2 * eta.log_var + ",
    "families",
  ),
  Mutation(
    "gaussian: KL constant", "families", "squared_distance - 1", "squared_distance", "families"
  ),
  Mutation(
    "gaussian: floor in std, not variance",
    "families",
    "2 * math.log(min",
    "math.log(min",
    "families",
  ),
  Mutation(
    "bernoulli: classes swapped",
    "families",
    "x * eta.logits -",
    "(1 - x) * eta.logits -",
    "families",
  ),
  Mutation(
    "bernoulli: mean over pixels", "families", "jnp.sum(x * eta", "jnp.mean(x * eta", "families"
  ),
  Mutation(
    "decoder and encoder: same key",
    "model",
    "phi=model.encoder.init(phi_key)",
    "phi=model.encoder.init(theta_key)",
    "networks",
  ),
  Mutation("networks: another activation", "networks", "= nn.tanh", "= nn.relu", "networks"),
  Mutation("aevb: descends", "aevb", "return -objective, bound", "return objective, bound", "aevb"),
  Mutation("aevb: prior by M", "aevb", "/ num_data, bound", "/ len(batch), bound", "aevb"),
  Mutation(
    "aevb: prior not divided", "aevb", "log_prior(params) / num_data", "log_prior(params)", "aevb"
  ),
  Mutation("aevb: prior on biases", "aevb", "w.ndim >= 2", "w.ndim >= 1", "aevb"),
  Mutation(
    "aevb: same noise at every step",
    "aevb",
    "fold_in(state.key, state.step)",
    "fold_in(state.key, 0)",
    "aevb",
  ),
  Mutation(
    "aevb: reports the objective", "aevb", '{"bound": bound}', '{"bound": bound + 1e-3}', "aevb"
  ),
  Mutation("adagrad: optax's accumulator", "optimizers", "value=0.0", "value=0.1", "optimizers"),
  Mutation(
    "adagrad: warm-up a step longer", "optimizers", "step < warmup", "step <= warmup", "optimizers"
  ),
  Mutation(
    "importance: wrong K",
    "marginal",
    "log_sum - jnp.log(num_samples)",
    "log_sum - jnp.log(num_chunks * chunk_size)",
    "marginal",
  ),
  Mutation(
    "importance: counts the padding", "marginal", "drawn < num_samples", "drawn >= 0", "marginal"
  ),
  Mutation(
    "importance: same noise in every chunk",
    "marginal",
    "jax.random.fold_in(key, i)",
    "jax.random.fold_in(key, 0)",
    "marginal",
  ),
  Mutation("importance: error without 1/K", "marginal", "0) / (num_samples - 1)", "0)", "marginal"),
  Mutation("binarize: half the probability", "preprocess", "<< 16", "<< 15", "preprocess"),
  Mutation(
    "binarize: same bits for neighbours",
    "preprocess",
    "(size + 1) // 2, jnp.uint32)",
    "(size + 1) // 2, jnp.uint32) & 0xFFFF0000",
    "preprocess",
  ),
  Mutation("threshold: not above a half", "preprocess", "> 0.5)", ">= 0.5)", "preprocess"),
  Mutation(
    "dequantize: by 255", "preprocess", "dtype) + u) / 256", "dtype) + u) / 255", "preprocess"
  ),
  Mutation("bits per dim: sign", "preprocess", "return 8 - ", "return 8 + ", "preprocess"),
  Mutation(
    "order: same in every epoch",
    "minibatches",
    "jax.random.fold_in(key, epoch)",
    "jax.random.fold_in(key, 0)",
    "minibatches",
  ),
  Mutation("order: always swaps", "minibatches", "swap == 1", "swap >= 0", "minibatches"),
  Mutation("order: off by one", "minibatches", "index > offset", "index >= offset", "minibatches"),
  Mutation(
    "order: partners do not agree",
    "minibatches",
    "jnp.maximum(index, partner)",
    "index",
    "minibatches",
  ),
  Mutation("stream: starts anew", "minibatches", "start + np", "0 + np", "minibatches"),
  Mutation(
    "stream: all processes read the same",
    "minibatches",
    "slice(process_index * share, (process_index + 1) * share)",
    "slice(0, share)",
    "minibatches",
  ),
  Mutation(
    "fit: same pixels' noise at every step",
    "train",
    "fold_in(pixel_key, state.step)",
    "fold_in(pixel_key, 0)",
    "train",
  ),
  Mutation("fit: static draws are fresh", "train", "if static_key is None:", "if True:", "train"),
  Mutation(
    "evaluate: same noise for every example",
    "train",
    "fold_in(key, index)",
    "fold_in(key, 0)",
    "train",
  ),
  Mutation("evaluate: every block is the first", "train", "first=first", "first=0", "train"),
  Mutation(
    "download: not checked",
    "downloads",
    "if wrong := mismatch(file, partial):",
    "if wrong := None:",
    "downloads",
  ),
  Mutation(
    "cache: not checked",
    "array_cache",
    '_sha256(path) != expected["sha256"]',
    "False",
    "array_cache",
  ),
  Mutation(
    "cache: of another source", "array_cache", 'or index["source"] != source', "", "array_cache"
  ),
  Mutation(
    "cache: altered index", "array_cache", 'index.pop("checksum") != ', "'' == ", "array_cache"
  ),
  Mutation(
    "flags: static is dynamic",
    "experiments/data_options",
    'train_draw if FLAGS.binarization == "static" else None',
    "None",
    "data_options",
  ),
  Mutation(
    "flags: always by 255",
    "experiments/data_options",
    "levels = pixel_scale(images)\n",
    "levels = 255\n",
    "data_options",
  ),
  Mutation("prepare: no lock", "locks", "fcntl.LOCK_EX", "fcntl.LOCK_SH", "builders"),
  Mutation("cache: no lock", "locks", "fcntl.LOCK_EX", "fcntl.LOCK_SH", "array_cache"),
  Mutation("omniglot: rows for columns", "builders", ".transpose(0, 2, 1)", "", "builders"),
  Mutation(
    "frey face: columns for rows", "builders", "frames.T.reshape", "frames.reshape", "builders"
  ),
  Mutation(
    "standard error of one, not of the mean", "train", " / np.sqrt(len(values)))", ")", "train"
  ),
  Mutation("manifold: upside down", "figures", "quantiles[::-1]", "quantiles", "figures"),
]


def main() -> None:
  chosen = [m for m in MUTATIONS if all(word in m.name for word in sys.argv[1:])]
  survivors = [mutation for mutation in chosen if not is_killed(mutation)]
  print(f"{len(chosen) - len(survivors)} of {len(chosen)} planted errors were noticed")
  if survivors:
    sys.exit("survived: " + "; ".join(mutation.name for mutation in survivors))


def is_killed(mutation: Mutation) -> bool:
  with tempfile.TemporaryDirectory() as directory:
    copy = pathlib.Path(directory)
    for name in ("aevb_jax", "experiments", "tests"):
      shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    folder = "" if "/" in mutation.module else "aevb_jax"
    module = copy / folder / f"{mutation.module}.py"
    text = module.read_text()
    if text.count(mutation.old) != 1:
      sys.exit(f"{mutation.name}: {mutation.old!r} must stand once in {mutation.module}.py")
    module.write_text(text.replace(mutation.old, mutation.new))
    test = f"tests/test_{mutation.tests}.py"
    command = [sys.executable, "-m", "pytest", "-x", "--numprocesses=0", "-p", "no:cacheprovider"]
    result = subprocess.run([*command, test], cwd=copy, capture_output=True, text=True)
  failed = [line for line in result.stdout.splitlines() if line.startswith("FAILED")]
  killed = result.returncode == 1 and bool(failed)
  verdict = failed[0].split(" - ")[0].removeprefix("FAILED ") if killed else "SURVIVED"
  print(f"{mutation.name:45} {verdict}", flush=True)
  return killed


if __name__ == "__main__":
  main()
