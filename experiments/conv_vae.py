"""The convolutional VAE of the article that retells the paper, on thresholded MNIST.

  python -m experiments.conv_vae --workdir=runs/conv_vae

--preset=article of experiments.train: two convolutions and 2 latents, minibatches of 32, Adam at
1e-4, for 50 epochs of 60000 images. The article: "the loss falls quickly to 155, then very
slowly"; TensorFlow's own tutorial, whose network it is, came to 155.9 in 10 epochs of 60000. The
loss is minus the bound, in nats per image.

Draws test images, what becomes of them in the mean of q(z|x), E[x|z] for z from the prior (where
the article has some from the posterior), and the loss, all in conv_vae.png. Writes conv_vae.csv
(the loss against epochs) and summary.json too.

Of --budget=cpu: a test loss of 155 after 13 epochs and of 150.4 after 50, half an hour of one core
of a CPU.
"""

import pathlib

import jax
import numpy as np
from absl import flags

from aevb_jax import figures
from aevb_jax.data.minibatches import read_rows
from aevb_jax.training.evaluation import evaluate
from experiments.flags import budgets, sweeps
from experiments.launch import command
from experiments.plots.conv_vae import draw_conv_vae
from experiments.runs import directory, loading, program
from experiments.studies import jobs

FLAGS = flags.FLAGS

ROWS = dict(eval_every=10_000, evals_per_decade=10)
BUDGETS = {
  "smoke": dict(dataset="mnist", num_examples=3_200, eval_every=1_600),
  "cpu": dict(dataset="mnist:60k", num_examples=3_000_000, **ROWS),
  "paper": dict(dataset="mnist:60k", num_examples=3_000_000, **ROWS),
}
budgets.define(BUDGETS)
jobs.define("conv_vae")
flags.adopt_module_key_flags(program)
for name in ("dataset", "num_examples", "seed"):
  flags.declare_key_flag(name)

ARTICLE = 155  # nats
COLUMNS = (
  "epochs",
  "examples_seen",
  *(f"{split}_loss{end}" for split in ("train", "test") for end in ("", "_se")),
  "seconds",
)
GRID = 6  # images in a row and in a column


def main() -> None:
  commit = directory.git_commit()
  budgets.settle(BUDGETS)
  sweeps.refuse()
  dataset = FLAGS.dataset
  job = make_job()
  workdir = jobs.open_workdir()
  jobs.train([job])
  (member,) = jobs.member_directories(job)
  with loading.loaded(member) as run:
    pictures = draw(run)
    rows = losses(member, len(run.images.train))
  directory.write_csv(workdir / "conv_vae.csv", COLUMNS, rows)
  level = ARTICLE if dataset.startswith("mnist") else None
  figure = draw_conv_vae(pictures, rows, level, budget=FLAGS.budget)
  directory.write_figure(workdir, "conv_vae", figure)
  last = rows[-1]
  results = {name: last[name] for name in COLUMNS}
  jobs.write_summary(workdir, dict(dataset=dataset, **results, article=level), [job], commit)
  print(
    f"\n{dataset}, thresholded: test loss {last['test_loss']:.2f} ± {last['test_loss_se']:.2f}, "
    f"training loss {last['train_loss']:.2f} ± {last['train_loss_se']:.2f} nats after "
    f"{last['epochs']:.3g} epochs" + (f"; the article: about {level}" if level else "")
  )
  print(f"written to {workdir.resolve()}: conv_vae.csv conv_vae.png summary.json")


def make_job() -> jobs.Job:
  arguments = (
    "--preset=article",
    f"--dataset={FLAGS.dataset}",
    f"--num_examples={FLAGS.num_examples}",
    f"--eval_every={FLAGS.eval_every}",
    f"--evals_per_decade={FLAGS.evals_per_decade}",
    f"--seed={FLAGS.seed}",
    "--num_importance_samples=0",
  )
  name = f"{FLAGS.dataset}-article-seed-{FLAGS.seed}".replace(":", "-")
  return jobs.Job(name, arguments, float(FLAGS.num_examples))


def losses(member: pathlib.Path, num_train: int) -> list[dict]:
  """The rows of the run as losses against epochs."""
  rows = []
  for row in jobs.read_rows(member):
    loss = {f"{split}_loss": -row[f"{split}_bound"] for split in ("train", "test")}
    loss |= {f"{split}_loss_se": row[f"{split}_bound_se"] for split in ("train", "test")}
    seen = row["examples_seen"]
    rows.append(dict(epochs=seen / num_train, examples_seen=seen, seconds=row["seconds"]) | loss)
  return rows


def draw(run: loading.Trained) -> list[tuple[str, np.ndarray]]:
  """Test images, their reconstructions, and samples, each a picture with its title."""
  model, params, n = run.model, run.params, GRID**2
  how = dict(preprocess=run.pixels.preprocess, static_key=run.pixels.test_draw)
  few = read_rows(run.pixels.test, np.arange(n))
  x = evaluate(lambda key, params, x: x, jax.random.key(0), params, few, **how)
  z = figures.sample_prior(jax.random.key(FLAGS.seed), model, params, n)
  images = {
    "test images": x,
    "reconstructions": figures.decode(model, params, figures.encode(model, params, x)),
    "samples": figures.decode(model, params, z),
  }
  shape = run.images.image_shape
  return [(title, figures.tile(x, shape, GRID)) for title, x in images.items()]


if __name__ == "__main__":
  command.run(main)
