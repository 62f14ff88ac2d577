"""Full variational Bayes (appendix F) against point estimates of θ, on few images.

  python -m experiments.full_vb --dataset=mnist --num_data=1000 --latent_dim=10 \
      --hidden_dim=100 --step_size=0.003 --weight_std=0.05 --num_examples=1000000 \
      --eval_every=100000 --num_importance_samples=200 --workdir=runs/full_vb

The first --num_data training images are kept. ml has no prior; map has the paper's N(0, I)
on the weight matrices of both networks; full_vb has a posterior q(θ) under N(0, I) for all
of the decoder, biases too, and for the encoder the point estimate and the prior of map.
They share the initial weights, the order of the data, the optimizer and its step size. The
other flags are the flags of experiments.train.

Writes metrics.csv, full_vb.png and summary.json into --workdir. A row is one evaluation
with θ a point estimate (point), the mean of q(θ) (mean), or drawn from q(θ) for each data
point (drawn). Bounds are of x given θ: the bound on the evidence of the training set, which
full_vb maximizes, is the train bound of drawn minus KL(θ)/N. log p(x) is at the mean of q(θ).

The command above took 4 minutes on two CPU cores shared with other work, and printed, in
nats per image (standard errors 0.4 to 0.5 on the test images, 0.8 to 1.1 on the training
images; best is the highest of ten evaluations, chosen on the test images):

  method   theta      train   KL(θ)/N      test  best test    test log p(x)
  ml       point    -103.40             -139.63    -131.67   -128.22 ± 0.46
  map      point    -104.99             -133.94    -130.97   -124.13 ± 0.41
  full_vb  mean     -117.90     36.12   -130.50    -130.43   -124.18 ± 0.39
  full_vb  drawn    -128.35     36.12   -140.25    -140.25

After long training the bounds of ml and map overfit, and the bound at the mean of q(θ) does
not. But its log p(x) equals that of map within the error, so map and full_vb differ in the gap
between log p(x) and the bound. q(θ) is a poor posterior: its KL takes 36 of 164 nats, and a
drawn θ is 10 nats worse on the test images than the mean θ. With --step_size=0.001 and all
else equal, ml ended at -130.49 (best -128.98), map at -128.82 (-128.30), and the mean of q(θ)
at -129.53: map, stopped early at the smaller step, has the best bound. Each is a single run.
"""

import time

from absl import flags

from aevb_jax.runs import files
from aevb_jax.runs.build import make_model
from aevb_jax.runs.checks import check_single
from aevb_jax.runs.directory import SUMMARY
from aevb_jax.runs.learning import make_estimation
from aevb_jax.runs.pixels import (
  about_images,
  check_resident,
  first_images,
  load_images,
  make_pixels,
)
from experiments.flags import data, learning, resuming, schedule
from experiments.flags.reading import read
from experiments.launch import command, stopping
from experiments.launch.command import UsageError
from experiments.plots.full_vb import draw_full_vb, title_of
from experiments.studies import full_vb as study
from experiments.studies.full_vb import FullVbConfig

flags.adopt_module_key_flags(learning)
flags.adopt_module_key_flags(schedule)
flags.adopt_module_key_flags(resuming)

flags.DEFINE_string(
  "workdir", None, "Directory for what this writes. Default: runs/full_vb-DATASET-TIME."
)
flags.DEFINE_list(
  "methods", list(study.METHODS), f"Methods to compare, of {', '.join(study.METHODS)}."
)
flags.DEFINE_integer("num_data", 1000, "N, number of training images.", lower_bound=1)
flags.DEFINE_float("weight_std", 0.05, "Standard deviation of q(θ) at the start.")


@flags.validator("weight_std", "takes a positive number")
def _check_weight_std(value: float) -> bool:
  return 0 < value < float("inf")


def main() -> None:
  started, commit = time.perf_counter(), files.git_commit()
  config = read_config()
  named, num_data = config.train, config.num_data
  images = load_images(named, data.array_cache_dir())
  batch_size, all_images = named.optimizer.batch_size, len(images.train)
  if not batch_size <= num_data <= all_images:
    has = f"the {all_images} training images of {named.data.dataset}"
    raise UsageError("num_data", f"takes from --batch_size={batch_size} to {has}")
  images = first_images(images, num_data)._replace(train_labels=None)
  model = make_model(named, images)
  estimation = make_estimation(model, images.train.shape[1], named.objective, batch_size)
  methods = {n: study.make_method(n, config, model, estimation) for n in config.methods}
  # No choice is made here that would need a third split.
  pixels = make_pixels(images, named.data)._replace(validation=None)
  check_resident(pixels, named.data)
  workdir = resuming.workdir(named.data, "full_vb")
  if not resuming.open_workdir(workdir, [config]):
    return
  is_named = flags.FLAGS.workdir is not None
  with stopping.telling_what_is_safe(workdir, batch_size, is_named=is_named):
    with stopping.heard() as asked_to_stop:
      compared = study.compare(workdir, config, methods, model, pixels, asked_to_stop=asked_to_stop)
    rows, likelihoods = compared
    title = title_of(named.data.dataset, num_data, named.model.latent_dim)
    files.save_figure(workdir / "full_vb.png", draw_full_vb(rows, title))
    results = study.summarize(rows, likelihoods)
    summary = dict(
      results=results,
      num_importance_samples=named.objective.num_importance_samples,
      **about_images(images, named.data),
      wall_seconds=time.perf_counter() - started,
      **files.provenance(commit),
      seed=named.seed,
    )
    files.write_summary(workdir / SUMMARY, summary)
  print(study.as_table(results))
  print(f"written to {workdir.resolve()}: metrics.csv full_vb.png")


def read_config() -> FullVbConfig:
  """Reads the configuration of the comparison from the flags.

  Raises:
    UsageError, ConfigError: for flags that cannot be used, or that conflict.
  """
  config = read(FullVbConfig)
  config = FullVbConfig(config.methods, config.num_data, config.weight_std, learning.config())
  check_single(config.train)
  if config.train.model.condition:
    raise UsageError("condition", "is not a flag of this main; experiments.train takes it")
  methods, known = config.methods, ", ".join(study.METHODS)
  if config.train.objective.algorithm != "aevb":
    raise UsageError("algorithm", "is not a flag of this main; it compares --methods")
  if not methods or len(set(methods)) < len(methods):
    raise UsageError("methods", f"takes some of {known}, each once")
  if unknown := [name for name in methods if name not in study.METHODS]:
    raise UsageError("methods", f"takes {known}, not {unknown[0]!r}")
  if config.train.optimizer.weight_prior not in (0, 1):
    message = "is not a flag of this main: N(0, I) for map and full_vb, none for ml"
    raise UsageError("weight_prior", message)
  if config.train.objective.estimator not in study.ESTIMATORS:
    raise UsageError("estimator", f"takes {', '.join(study.ESTIMATORS)} here")
  return config


if __name__ == "__main__":
  command.run(main)
