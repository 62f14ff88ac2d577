"""The convolutional VAE of the article that retells the paper, on thresholded MNIST.

  python -m experiments.conv_vae --workdir=runs/conv_vae

--preset=article of experiments.train: two convolutions and 2 latents, minibatches of 32, Adam at
1e-4, for 50 epochs of 60000 images. The article says that "the loss falls quickly to 155, then very
slowly"; TensorFlow's own tutorial, with the same network, reached 155.9 in 10 epochs of 60000. The
loss is minus the bound, in nats per image.

Draws test images, their reconstructions from the mean of q(z|x), E[x|z] for z from the prior (some
of the article's are from the posterior), and the loss, all in conv_vae.png. Also writes
conv_vae.csv (the loss against epochs) and summary.json.

With --budget=cpu the test loss is 155 after 13 epochs and 150.4 after 50, in half an hour on one
core of a CPU.
"""

import dataclasses

import jax
import numpy as np
from absl import flags

from aevb_jax import figures
from aevb_jax.runs import LoadedRun, checks, files
from aevb_jax.runs.pixels import points
from aevb_jax.training.evaluation import evaluate
from experiments.flags import figures as figure_flags
from experiments.flags import schedule, training  # noqa: F401 (they define flags)
from experiments.launch import command
from experiments.plots.conv_vae import draw_conv_vae
from experiments.studies import jobs

ROWS = dict(eval_every=10_000, evals_per_decade=10)
BUDGETS = {
  "smoke": dict(dataset="mnist", num_examples=3_200, eval_every=1_600),
  "cpu": dict(dataset="mnist:60k", num_examples=3_000_000, **ROWS),
  "paper": dict(dataset="mnist:60k", num_examples=3_000_000, **ROWS),
}
figure_flags.define("conv_vae", BUDGETS)
for name in ("dataset", "num_examples", "seed", "eval_every", "evals_per_decade"):
  flags.declare_key_flag(name)

ARTICLE = 155  # nats
COLUMNS = (
  "epochs",
  "examples_seen",
  *(f"{split}_loss{end}" for split in ("train", "test") for end in ("", "_se")),
  "seconds",
)
GRID = 6  # images in a row and in a column


@dataclasses.dataclass(frozen=True)
class ConvVaeConfig:
  """The training images, the length of training and the seed of the article's VAE."""

  dataset: str = "mnist:60k"
  num_examples: int = 3_000_000
  eval_every: int = 10_000
  evals_per_decade: int = 10
  seed: int = 0


def main() -> None:
  commit = files.git_commit()
  figure, config = figure_flags.settings(ConvVaeConfig, BUDGETS)
  checks.check_single(config)
  job, dataset = make_job(config), config.dataset
  jobs.check([job], figure)
  workdir = figure_flags.open_workdir(figure, config)
  made = jobs.train([job], figure)
  run = jobs.load_member(jobs.place_of(job, figure))
  rows = losses(run)
  files.write_csv(workdir / "conv_vae.csv", COLUMNS, rows)
  level = ARTICLE if dataset.startswith("mnist") else None
  picture = draw_conv_vae(draw_images(run, config.seed), rows, level, budget=figure.budget)
  files.save_figure(workdir / "conv_vae.png", picture)
  last = rows[-1]
  results = dict(dataset=dataset, **{name: last[name] for name in COLUMNS}, article=level)
  jobs.write_summary(workdir, results, made, commit)
  print(
    f"\n{dataset}, thresholded: test loss {last['test_loss']:.2f} ± {last['test_loss_se']:.2f}, "
    f"training loss {last['train_loss']:.2f} ± {last['train_loss_se']:.2f} nats after "
    f"{last['epochs']:.3g} epochs" + (f"; the article: about {level}" if level else "")
  )
  print(f"written to {workdir.resolve()}: conv_vae.csv conv_vae.png summary.json")


def make_job(config: ConvVaeConfig) -> jobs.Job:
  """Returns the run of experiments.train."""
  settings = (f"--{name}={value}" for name, value in dataclasses.asdict(config).items())
  arguments = ("--preset=article", *settings, "--num_importance_samples=0")
  name = f"{config.dataset}-article-seed-{config.seed}".replace(":", "-").replace("/", "-")
  return jobs.Job(name, arguments, float(config.num_examples))


def losses(run: LoadedRun) -> list[dict]:
  """Returns the rows of a run as losses against epochs."""
  rows = []
  for row in run.metrics:
    loss = {f"{split}_loss": -row[f"{split}_bound"] for split in ("train", "test")}
    loss |= {f"{split}_loss_se": row[f"{split}_bound_se"] for split in ("train", "test")}
    seen = row["examples_seen"]
    about = dict(epochs=seen / len(run.data.train), examples_seen=seen, seconds=row["seconds"])
    rows.append(about | loss)
  return rows


def draw_images(run: LoadedRun, seed: int) -> list[tuple[str, np.ndarray]]:
  """Returns test images, their reconstructions, and samples, each a picture with its title."""
  model, params, n = run.model, run.params, GRID**2
  few, reading = points(run.pixels, "test", n)
  x = evaluate(lambda key, params, x: x, jax.random.key(0), params, few, **reading)
  z = figures.sample_prior(jax.random.key(seed), model, params, n)
  images = {
    "test images": x,
    "reconstructions": figures.decode(model, params, figures.encode(model, params, x)),
    "samples": figures.decode(model, params, z),
  }
  shape = run.data.image_shape
  return [(title, figures.tile(x, shape, GRID)) for title, x in images.items()]


if __name__ == "__main__":
  command.run(main)
