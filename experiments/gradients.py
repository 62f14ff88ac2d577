"""Measures gradient estimators: bias, variance, signal-to-noise ratio and cost.

  python -m experiments.gradients --dataset=mnist --latent_dim=20 \
      --estimators=elbo_a,elbo_b,score_function --samples=1,10 --at=0,100000 \
      --workdir=runs/gradients

The other flags are the flags of experiments.train and say which model is trained, by which
--estimator and on which data; the gradients of --estimators are measured on the first
--num_points test images, at initialization (--at=0) or after that many training samples.
Writes gradients.csv, with a row for each estimator, number of samples and block of
parameters, gradients.png and summary.json into --workdir. After an interruption
the same command resumes with the first of --at that is not measured yet.

variance is the sum over the block's coordinates of the variance of the gradient of the
mean over the points (the block value is the estimate itself); snr is ‖E g‖ over the root of
the variance; bias is ‖E g − E r‖ / ‖E r‖ for a reference r on the same keys; milliseconds is
the time of one gradient. All except the time have 95 % intervals.
"""

import dataclasses
import time

from absl import flags

from aevb_jax.runs import files
from aevb_jax.runs.build import make_model
from aevb_jax.runs.checks import MAX_COUNT, check_single
from aevb_jax.runs.directory import SUMMARY
from aevb_jax.runs.learning import make_estimation
from aevb_jax.runs.pixels import about_images, check_resident, load_images, make_pixels
from experiments.flags import budgets, data, resuming, training
from experiments.flags.reading import raw_value, read
from experiments.flags.validators import is_count
from experiments.launch import command, stopping
from experiments.launch.command import UsageError
from experiments.plots.gradients import draw_gradient_noise, title_of
from experiments.studies.gradients import measuring
from experiments.studies.gradients import rows as gradient_rows
from experiments.studies.gradients import training as study
from experiments.studies.gradients.measuring import GradientsConfig

flags.adopt_module_key_flags(training)
flags.adopt_module_key_flags(resuming)

SECTION_2_2 = dict(
  dataset="mnist",
  latent_dim=20,
  estimators=[
    "elbo_a",
    "elbo_b",
    "sticking_the_landing",
    "score_function",
    "score_function:baseline=moving_average",
    "score_function:baseline=learned",
    "score_function:baseline=leave_one_out",
    "score_function_optimal_scale",
  ],
  samples=["2", "10"],
)
BUDGETS = {
  "smoke": dict(
    dataset="mnist", hidden_dim=["20"], at=["0", "1000"], num_repeats=50, num_batches=5
  ),
  "cpu": SECTION_2_2 | dict(at=["0", "1000000"], num_repeats=500),
  "paper": SECTION_2_2 | dict(at=["0", "100000", "1000000", "10000000"], num_repeats=2000),
}
budgets.define(BUDGETS, default=None)

flags.DEFINE_list(
  "estimators",
  ["elbo_a", "elbo_b", "score_function", "score_function:baseline=leave_one_out"],
  "Estimators to measure, written as for --estimator and separated by commas.",
)
flags.DEFINE_list("samples", ["2"], "Numbers of samples L or K to measure them at.")
flags.DEFINE_list("at", ["0"], "Numbers of training samples after which to measure.")
flags.DEFINE_integer(
  "num_points", 10, "Number of test images whose mean gradient is measured.", lower_bound=1
)
flags.DEFINE_integer(
  "num_repeats", 2000, "Number of gradients to draw of each estimator.", lower_bound=40
)
flags.DEFINE_integer(
  "num_batches", 20, "Number of batches of gradients, from which the intervals come.", lower_bound=5
)
flags.DEFINE_string(
  "reference",
  None,
  "What gradients are compared with for their bias: an estimator, or exact, the gradient of the "
  "bound of equation 3 (one Gaussian latent or at most 12 binary ones). Default: what each is "
  "known to be unbiased for; an estimator of your own has none: name one.",
)
flags.DEFINE_string(
  "workdir", None, "Directory for what this writes. Default: runs/gradients-DATASET-TIME."
)


def main() -> None:
  started, commit = time.perf_counter(), files.git_commit()
  config = read_config()
  named = config.train
  images = load_images(named, data.array_cache_dir())
  data_dim, batch_size = images.train.shape[1], named.optimizer.batch_size
  model = make_model(named, images)
  estimation = make_estimation(model, data_dim, named.objective, batch_size)
  chosen = measuring.choose_all(config, model, data_dim)
  pixels = make_pixels(images, named.data)
  check_resident(pixels, named.data)
  workdir = resuming.workdir(named.data, "gradients")
  if not resuming.open_workdir(workdir, [config]):
    return
  is_named = flags.FLAGS.workdir is not None
  with stopping.telling_what_is_safe(workdir, batch_size, is_named=is_named):
    print(gradient_rows.header(config.reference))
    with stopping.heard() as asked_to_stop:
      trained = study.train(
        workdir, config, model, estimation, pixels, chosen=chosen, asked_to_stop=asked_to_stop
      )
    if note := gradient_rows.without_reference(measuring.unknown(config)):
      print(note)
    rows = [row | dict(at=row["examples_seen"]) for row in trained.runs[0].rows]
    num_points = min(config.num_points, len(images.test))
    title = title_of(named.data.dataset, named.model.latent_dim, num_points)
    figure = draw_gradient_noise(rows, title, budget=config.budget)
    files.save_figure(workdir / "gradients.png", figure)
    summary = dict(
      **about_images(images, named.data),
      num_points=num_points,
      num_repeats=config.num_repeats,
      num_batches=config.num_batches,
      seed=named.seed,
      wall_seconds=time.perf_counter() - started,
      **files.provenance(commit),
    )
    files.write_summary(workdir / SUMMARY, summary)
  print(f"written to {workdir.resolve()}: gradients.csv gradients.png")


def read_config() -> GradientsConfig:
  """Reads the configuration of the measurement from the flags.

  Raises:
    UsageError, ConfigError: for flags that cannot be used, or that conflict.
  """
  budgets.resolve(BUDGETS)
  for name, least in (("at", 0), ("samples", 1)):
    texts = raw_value(name)
    if not texts or not all(is_count(text, least) for text in texts):
      numbers = f"whole numbers of at least {least}, at most {MAX_COUNT}, separated by commas"
      raise UsageError(name, f"takes {numbers}")
  config = dataclasses.replace(read(GradientsConfig), train=training.config())
  check_single(config.train)
  if config.train.model.condition:
    raise UsageError("condition", "is not a flag of this main; experiments.train takes it")
  if not config.estimators:
    raise UsageError("estimators", "takes at least one")
  if config.num_repeats < 2 * config.num_batches:
    message = f"takes at least two for each of {config.num_batches} batches"
    raise UsageError("num_repeats", message)
  return config


if __name__ == "__main__":
  command.run(main)
