"""Analogies: one style of handwriting in every class, by a VAE that is given the class.

  python -m experiments.analogies --workdir=runs/analogies
  python -m experiments.analogies --dataset=digits --num_examples=100000 --workdir=runs/small

Figure 1 of Kingma, Rezende, Mohamed & Welling (2014), with the label of every training image. The
runs are two of experiments.train with --condition=label, with 2 and with 50 latents z.
(a) From 2 latents: p(x|z, c) of a class c for a grid of z, as in figure 4 of the paper.
(b) From 50 latents: a test image x in the left column, and beside it p(x|z, c) of every class c for
the mean z of q(z|x, y), where y is the label of x. All pictures are means.

A generative classifier shows whether c is used: of the first --num_points test images, it takes the
class c with the highest bound on log p(x|c), with 10 draws of z. It has not been trained to
classify.

Writes analogies.png, analogies.csv (for each class of these test images: the bound given their own
label, and how often it is the highest) and summary.json.

With --budget=cpu the test bound is -98.55 with 50 latents, and log p(x|y) -92.26 ± 0.24; the bound
classifies 95.2 % ± 0.7 % of 1000 test images rightly. That takes twelve minutes on one core of a
CPU that is shared with other work.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from aevb_jax import figures
from aevb_jax.estimators import elbo_b
from aevb_jax.models import given_condition, num_classes
from aevb_jax.runs import LoadedRun, checks, files
from aevb_jax.runs.pixels import points
from aevb_jax.training.evaluation import evaluate, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.types import Array, Key, Params
from experiments.flags import figures as figure_flags
from experiments.flags import schedule, training  # noqa: F401 (they define flags)
from experiments.launch import command
from experiments.plots.analogies import Pictures, draw_analogies
from experiments.studies import jobs

ROWS = dict(eval_every=10_000, evals_per_decade=10)
BUDGETS = {
  "smoke": dict(dataset="mnist", num_examples=3_000, eval_every=1_000, num_points=100),
  "cpu": dict(dataset="mnist", num_examples=1_000_000, **ROWS),
  "paper": dict(dataset="mnist", num_examples=10_000_000, **ROWS),
}
figure_flags.define("analogies", BUDGETS)
for name in ("dataset", "num_examples", "seed", "eval_every", "evals_per_decade"):
  flags.declare_key_flag(name)
flags.DEFINE_integer(
  "num_points", 1000, "Number of test images, from the first, that are classified.", lower_bound=2
)

LATENT_DIM, PLANE_DIM, HIDDEN_DIM = 50, 2, 500
NUM_SAMPLES = 10  # draws of z for a bound by which an image is classified
STYLES = (2, 4)  # the classes of figure 1a
GRID = 10  # images in a row and in a column, and the most classes that are drawn
COLUMNS = ("class", "num_points", "test_bound", "test_bound_se", "accuracy", "accuracy_se")


@dataclasses.dataclass(frozen=True)
class AnalogiesConfig:
  """The data set, the length of training, and the number of images that are classified."""

  dataset: str = "mnist"
  num_examples: int = 1_000_000
  eval_every: int = 10_000
  evals_per_decade: int = 10
  num_points: int = 1000
  seed: int = 0


def main() -> None:
  commit = files.git_commit()
  figure, config = figure_flags.settings(AnalogiesConfig, BUDGETS)
  checks.check_single(config)
  plane_job, job = made_of = [make_job(config, J) for J in (PLANE_DIM, LATENT_DIM)]
  jobs.check(made_of, figure)
  workdir = figure_flags.open_workdir(figure, config)
  made = jobs.train(made_of, figure)
  plane, run = (jobs.load_member(jobs.place_of(one, figure)) for one in (plane_job, job))
  rows, total = classify(run, config)
  files.write_csv(workdir / "analogies.csv", COLUMNS, rows)
  pictures = Pictures(draw_styles(plane), *draw_classes(run))
  picture = draw_analogies(pictures, budget=figure.budget)
  files.save_figure(workdir / "analogies.png", picture)
  summary: dict = run.summary or {}
  names = ("test_bound", "test_log_likelihood")
  of_run = {name + end: summary[name + end] for name in names for end in ("", "_se")}
  about = dict(dataset=config.dataset, latent_dim=LATENT_DIM, num_samples=NUM_SAMPLES)
  results = about | of_run | {name: total[name] for name in ("num_points", *COLUMNS[-2:])}
  jobs.write_summary(workdir, results, made, commit)
  print(f"\n{config.dataset}, {LATENT_DIM} latents, given the label y:\n{in_words(results)}")
  print(f"written to {workdir.resolve()}: analogies.csv analogies.png summary.json")


def make_job(config: AnalogiesConfig, latent_dim: int) -> jobs.Job:
  """Returns a run of experiments.train; log p(x|y) is estimated for the larger model only."""
  arguments = (
    "--condition=label",
    f"--dataset={config.dataset}",
    f"--latent_dim={latent_dim}",
    f"--hidden_dim={HIDDEN_DIM}",
    "--optimizer=adam",
    f"--num_importance_samples={500 if latent_dim == LATENT_DIM else 0}",
    f"--num_examples={config.num_examples}",
    f"--eval_every={config.eval_every}",
    f"--evals_per_decade={config.evals_per_decade}",
    f"--seed={config.seed}",
  )
  name = f"{config.dataset}-label-{latent_dim}-seed-{config.seed}"
  return jobs.Job(name.replace(":", "-").replace("/", "-"), arguments, float(config.num_examples))


def bounds_of_classes(run: LoadedRun, num_points: int, seed: int) -> np.ndarray:
  """Estimates the bound on log p(x|c) of the first test images for each class c.

  The classes of an image share their draws of the noise, so that the differences are less noisy.

  Returns:
    The bounds in nats, shape (number of images, K).
  """
  data_dim, classes = run.data.train.shape[1], jnp.eye(num_classes(run.data))

  def of_point(key: Key, params: Params, xc: Array) -> Array:
    def bound(c: Array) -> Array:
      model = given_condition(run.model, c)
      return elbo_b(key, model, params, xc[:data_dim], num_samples=NUM_SAMPLES)

    return jax.vmap(bound)(classes)

  few, reading = points(run.pixels, "test", num_points)
  key = jax.random.key(seed)
  return evaluate_in_blocks(of_point, key, run.params, few, batch_size=20, **reading)


def classify(run: LoadedRun, config: AnalogiesConfig) -> tuple[list[dict], dict]:
  """Classifies the first test images by the highest bound; returns rows by class, and of all."""
  bounds = bounds_of_classes(run, config.num_points, config.seed)
  labels: np.ndarray = np.asarray(run.data.test_labels)[: len(bounds)]
  right = np.argmax(bounds, axis=1) == labels
  own = bounds[np.arange(len(bounds)), labels]

  def row(name: int | str, chosen: np.ndarray) -> dict:
    bound, accuracy = (mean_and_standard_error(values[chosen]) for values in (own, right))
    return dict(zip(COLUMNS, (name, int(chosen.sum()), *bound, *accuracy)))

  rows = [row(int(label), labels == label) for label in np.unique(labels)]
  return rows, row("all", np.full(len(labels), True))


def draw_styles(run: LoadedRun) -> list[tuple[str, np.ndarray]]:
  """Draws figure 1a: for a few classes, E[x|z, c] for a grid of two latents, with a title."""
  classes = np.eye(num_classes(run.data), dtype=np.float32)
  chosen = [label for label in STYLES if label < len(classes)] or [0]
  z = figures.manifold_latents(GRID)
  x = figures.decode_each(run.model, run.params, z, classes[chosen])
  pictures = [figures.tile(x[:, i], run.data.image_shape, GRID) for i in range(len(chosen))]
  return [(f"styles of class {label}", picture) for label, picture in zip(chosen, pictures)]


def draw_classes(run: LoadedRun) -> tuple[np.ndarray, np.ndarray, list[str]]:
  """Draws figure 1b: test images of different classes, their analogies, and the columns' names."""
  labels, data_dim = np.asarray(run.data.test_labels), run.data.train.shape[1]
  _, first = np.unique(labels, return_index=True)  # the first test image of each class
  source, reading = points(run.pixels, "test", int(first[:GRID].max()) + 1)
  rows = evaluate(lambda key, params, x: x, jax.random.key(0), (), source, **reading)
  x, c = np.split(np.asarray(rows)[first[:GRID]], [data_dim], axis=1)
  classes = np.eye(c.shape[1], dtype=c.dtype)[:GRID]
  z = figures.encode(run.model, run.params, (x, c))
  analogies = figures.decode_each(run.model, run.params, z, classes)
  shape, names = run.data.image_shape, [str(label) for label in range(len(classes))]
  return figures.tile(x, shape, 1), figures.tile(analogies, shape, len(classes)), names


def in_words(results: dict) -> str:
  """Formats the numbers of the larger model in lines."""
  lines = [
    f"{words:18} {results[name]:.2f} ± {results[f'{name}_se']:.2f} nats"
    for name, words in (("test_bound", "test bound"), ("test_log_likelihood", "test log p(x|y)"))
  ]
  accuracy = f"{results['accuracy']:.2%} ± {results['accuracy_se']:.2%}"
  lines.append(f"{'accuracy':18} {accuracy} of {results['num_points']} by the highest bound")
  return "\n".join(lines)


if __name__ == "__main__":
  command.run(main)
