"""Frey Face as a video: a state-space VAE against the VAE of single frames, on held-out frames.

  python -m experiments.frey_face_video --workdir=runs/frey_face_video

The static VAE has a z for each frame, independent of all others. The dynamic models also have
p(z_t given z_t−1), and see windows of T consecutive frames. Inference is by single frames, with the
static VAE's encoder q(z_t given x_t), or structured: a backward network (Krishnan et al. 2017). All
have --hidden_dim units a network and --latent_dim latents a frame. They share the optimizer, its
step size and the number of frames in a step. Each keeps the parameters of its best validation bound
(early stopping), and only these see the test frames.

Writes metrics.csv (bounds in training), windows.csv (the test windows), curves.png, which shows
metrics.csv, frey_face_video.png (held-out, reconstructed and generated frames) and summary.json
into --workdir. After an interruption the same command resumes from its last checkpoint. A video of
your own is --dataset=arrays:FILE.npz, whose train, validation and test are in order.

The test frames are tiled by windows; a rest that fills none is left out for all models. log p(x) is
by K draws of z for every frame: importance sampling for the static VAE, and four particle filters
of K/4 particles for the dynamic models. Errors are over windows, whose neighbours are correlated;
those of blocks are over pairs of windows.

With --budget=cpu it took ten minutes on one busy core of a CPU, and printed, in nats per frame:

  model         frames validation       test bound    test log p(x)     gain   error  blocks     ESS
  static       950,000    1051.77   65.09 ± 181.17  222.65 ± 154.18                              1.3
  frame      1,050,000    1049.79  333.27 ± 126.85  429.32 ± 113.49   206.67   43.60   43.10     1.0
  backward   1,050,000    1030.89  355.56 ± 119.83  449.28 ± 107.89   226.63   52.73   54.24     1.0

The test frames are unlike the others, and the dynamic models lose less there. It is
a single run.
"""

import time

from absl import flags

from aevb_jax.errors import ConfigError
from aevb_jax.runs import files
from aevb_jax.runs.checks import check_data, check_num_steps
from aevb_jax.runs.config import leaves, replace
from aevb_jax.runs.directory import SUMMARY
from aevb_jax.runs.pixels import about_images, check_resident, load_data
from experiments.flags import budgets, data, resuming
from experiments.flags.reading import read
from experiments.launch import command, stopping
from experiments.plots.frey_face_video import draw_curves, draw_video
from experiments.studies import frey_face_video as study
from experiments.studies.frey_face_video import FreyFaceVideoConfig

flags.adopt_module_key_flags(data)
flags.adopt_module_key_flags(resuming)

VIDEO = "frey_face:contiguous"
BUDGETS = {
  "smoke": dict(dataset=VIDEO, num_examples=2000, eval_every=1000, num_importance_samples=50),
  "cpu": dict(dataset=VIDEO),
  "paper": dict(dataset=VIDEO, num_examples=5_000_000, num_importance_samples=100_000),
}
budgets.define(BUDGETS)

flags.DEFINE_integer("num_frames", 10, "T, consecutive frames of a window.", lower_bound=2)
flags.DEFINE_integer("latent_dim", 10, "J, dimensions of z for every frame.", lower_bound=1)
flags.DEFINE_integer("hidden_dim", 200, "Hidden units of every network.", lower_bound=1)
flags.DEFINE_float(
  "min_std", 0.01, "Floor on the standard deviation of p(x|z), in units of x.", lower_bound=0
)
flags.DEFINE_integer(
  "batch_size",
  10,
  "M, windows per minibatch; a minibatch of the static VAE has M·T frames.",
  lower_bound=1,
)
flags.DEFINE_float(
  "step_size", 1e-3, "Adam's step size at the start; at the end it is 33 times smaller."
)
flags.DEFINE_integer(
  "num_examples",
  1_200_000,
  "Number of training frames to evaluate, for each model; M·T of them make a step.",
  lower_bound=1,
  upper_bound=10**12,
)
flags.DEFINE_integer(
  "eval_every", 50_000, "Number of training frames between two bounds.", lower_bound=1
)
flags.DEFINE_integer(
  "num_importance_samples", 1000, "K, draws of z for log p(x) of every test frame.", lower_bound=8
)
flags.DEFINE_integer(
  "seed", 0, "Seed of initialization, data order and noise.", lower_bound=0, upper_bound=2**32 - 1
)
flags.DEFINE_string(
  "workdir",
  None,
  "Directory for what this writes. Default: runs/frey_face_video-DATASET-TIME.",
)


@flags.validator("step_size", "takes a positive number")
def _check_step_size(value: float) -> bool:
  return 0 < value < float("inf")


@flags.validator("min_std", "takes a number that is not negative")
def _check_min_std(value: float) -> bool:
  return 0 <= value < float("inf")


def main() -> None:
  started, commit = time.perf_counter(), files.git_commit()
  config = read_config()
  study.check_name(config.data)
  images = load_data(config.data, data.array_cache_dir())
  study.check_video(images, config)
  methods = [study.make_method(name, images, config) for name in study.METHODS]
  for method in methods:
    check_resident(method.pixels, config.data)
  workdir = resuming.workdir(config.data, "frey_face_video")
  if not resuming.open_workdir(workdir, [config]):
    return
  per_step, is_named = config.batch_size * config.num_frames, flags.FLAGS.workdir is not None
  with stopping.telling_what_is_safe(workdir, per_step, is_named=is_named):
    with stopping.heard() as asked_to_stop:
      rows, trained = study.train(workdir, config, methods, asked_to_stop=asked_to_stop)
    tests, results = study.compare(config, methods, trained)
    files.write_csv(workdir / "windows.csv", study.WINDOW_COLUMNS, tests)
    files.save_figure(workdir / "curves.png", draw_curves(rows, budget=config.budget))
    video = study.make_frames(config, methods, trained)
    picture = draw_video(video, images.image_shape, budget=config.budget)
    files.save_figure(workdir / "frey_face_video.png", picture)
    summary = dict(
      results=results,
      num_importance_samples=config.num_importance_samples,
      **about_images(images, config.data),
      wall_seconds=time.perf_counter() - started,
      **files.provenance(commit),
      seed=config.seed,
    )
    files.write_summary(workdir / SUMMARY, summary)
  print(study.as_table(results))
  names = "metrics.csv windows.csv curves.png frey_face_video.png"
  print(f"written to {workdir.resolve()}: {names}")


def read_config() -> FreyFaceVideoConfig:
  """Reads the configuration of the comparison from the flags.

  Raises:
    ConfigError: for flags that cannot be used, or that conflict.
  """
  budgets.resolve(BUDGETS)
  config = replace(read(FreyFaceVideoConfig), **leaves(data.config()))
  if config.data.binarization is None:
    config = replace(config, binarization="none")
  if config.data.binarization != "none":
    message = "takes none here, where p(x|z) is Gaussian"
    raise ConfigError("binarization", config.data.binarization, message)
  if config.data.dequantization:
    raise ConfigError("dequantization", True, "is not a flag of this main")
  check_data(config.data)
  check_num_steps(config.num_examples, config.batch_size * config.num_frames)
  return config


if __name__ == "__main__":
  command.run(main)
