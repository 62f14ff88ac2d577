"""What the paper says a trained model is for (sections 1 and 2.1), with numbers.

  python -m experiments.uses --workdir=runs/uses

Trains two models of MNIST, with J = 20 and J = 2 latents (500 hidden units, dynamic binarization,
Adam at 0.001), and uses them for

  recognition       q(z|x) as the posterior: the nats between the bound and log p(x)
  representation    a linear probe and nearest neighbours on the means of q(z|x), against pixels
                    and as many principal components
  visualization     neighbours in the plane of two latents, against two principal components
  inpainting, super-resolution, denoising
                    P(x|y) of test images of which y is all that is known: the upper half, the sums
                    of 4×4 squares, or all pixels with a tenth of them flipped

The last are by inference under the model, p(x, z|y) ∝ p(z) p(x|z) p(y|x), in three ways: hmc
moves z by HMC with x summed out, gibbs alternates encoder and decoder with a Metropolis
correction (Mattei & Frellsen 2018), and pseudo_gibbs leaves that out (Rezende et al. 2014); each
has about as many passes through the networks. Simple methods have pixels that are independent,
with the frequencies of all training images or of those nearest to y, and are told the same of y.

Errors are standard errors over test images. Writes uses.csv (a row for each number), uses.png and
summary.json.

Of --budget=cpu: the bound of J = 20 ends at -97.2 on test images, 5.3 nats below log p(x) where
that was estimated; nearest neighbours are right on 96.9 % by 20 latents, 96.0 % by as many
principal components and 94.8 % by pixels; HMC is wrong on 8.9 % of missing pixels in inpainting,
3.7 % in super-resolution and 2.0 % in denoising. Half an hour on one core of a CPU.
"""

from collections.abc import Iterator

import jax
import numpy as np
from absl import flags

from aevb_jax import figures
from aevb_jax.data.datasets import ImageData
from aevb_jax.data.minibatches import read_rows
from aevb_jax.estimators.sgvb import elbo_b
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.training.evaluation import Mean, evaluate, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.types import Array, Key, Params
from experiments.flags import budgets, data, sweeps
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots.uses import Panel, draw_uses
from experiments.runs import directory, loading
from experiments.runs.loading import Trained
from experiments.studies import completion, representation
from experiments.studies import jobs as batch
from experiments.studies.completion import Completed, Sampling, Task

FLAGS = flags.FLAGS

METHODS = ("hmc", "gibbs", "pseudo_gibbs")
BUDGETS = {
  "smoke": dict(
    dataset="mnist", num_examples=5_000, num_points=20, num_labels=["500"], methods=["hmc"],
    chains=2, burn_in=20, draws=5,
  ),
  "cpu": dict(dataset="mnist", num_examples=10_000_000),
  "paper": dict(dataset="mnist", num_examples=10_000_000, num_points=10_000),
}  # fmt: skip
budgets.define(BUDGETS)
batch.define("uses")
for name in ("dataset", "num_examples", "seed"):
  flags.declare_key_flag(name)
flags.DEFINE_integer(
  "num_points", 500, "Completes the first so many test images.", lower_bound=completion.SHOWN
)
flags.DEFINE_list(
  "num_labels", ["1000", "0"], "Labelled training images that classifiers learn from; 0 for all."
)
flags.DEFINE_list("methods", list(METHODS), "How y is completed; the first is drawn.")
flags.DEFINE_integer("chains", 4, "Chains for each y.", lower_bound=1)
flags.DEFINE_integer("burn_in", 50, "hmc: transitions that are thrown away.", lower_bound=1)
flags.DEFINE_integer("draws", 30, "hmc: transitions of each chain that are kept.", lower_bound=1)
flags.DEFINE_integer("leapfrogs", 5, "hmc: leapfrog steps in a transition.", lower_bound=1)
flags.DEFINE_integer("block", 4, "super-resolution: pixels on a side.", lower_bound=2)
flags.DEFINE_float("flip_probability", 0.1, "denoising: of each pixel.")

COLUMNS = ("use", "method", "labels", "features", "measure", "value", "standard_error",
           "num_points")  # fmt: skip
LATENT_DIMS = (20, 2)


@flags.validator("flip_probability", "takes a number between 0 and 1/2")
def _check_flip_probability(value: float) -> bool:
  return 0 < value < 0.5


def main() -> None:
  commit = directory.git_commit()
  budgets.settle(BUDGETS)
  sweeps.refuse()
  images = data.load_images()
  label_counts = check_flags(images)
  shape, key = images.image_shape, jax.random.fold_in(jax.random.key(FLAGS.seed), 2**20)
  tasks = [
    completion.inpainting(shape),
    completion.super_resolution(shape, FLAGS.block),
    completion.denoising(shape, FLAGS.flip_probability),
  ]
  methods, num_points = FLAGS.methods, FLAGS.num_points
  sampling = Sampling(FLAGS.chains, FLAGS.burn_in, FLAGS.draws, FLAGS.leapfrogs)
  jobs = {J: make_job(J) for J in LATENT_DIMS}
  workdir = batch.open_workdir()
  batch.train(list(jobs.values()))

  rows = []

  def report(new: Iterator[dict]) -> None:
    for row in new:
      rows.append(row)
      directory.write_csv(workdir / "uses.csv", COLUMNS, rows)
      print(describe(row), flush=True)

  large, small = LATENT_DIMS
  with loading.loaded(batch.member_directories(jobs[small])[0]) as run:
    features = representation.represent(key, run)
    z = features["latents"].test
    report(classify("visualization", features, images, [len(images.train)], probes=False))
  with loading.loaded(batch.member_directories(jobs[large])[0]) as run:
    report(recognize(key, run, num_points))
    features = representation.represent(key, run)
    report(classify("representation", features, images, label_counts, probes=True))
    panels = []
    for task in tasks:
      x = binary_test(run, num_points)
      drawn = {}
      for method in methods:
        drawn[method] = completion.complete(key, task, method, run, num_points, sampling)
        report(score_model(task, method, drawn[method], x))
      report(score_simple(task, drawn[methods[0]].y, x, images))
      panels.append(picture(task, drawn[methods[0]], x, shape))
  title = f"test images in the plane of {small} latents"
  figure = draw_uses(panels, z, images.test_labels, title, budget=FLAGS.budget)
  directory.write_figure(workdir, "uses", figure)
  batch.write_summary(workdir, dict(results=rows), list(jobs.values()), commit)
  print("\n" + as_table(rows, tasks))
  print(f"written to {workdir.resolve()}: uses.csv uses.png summary.json")


def check_flags(images: ImageData) -> list[int]:
  """Refuses what the images do not allow; the numbers of labels.

  Raises:
    UsageError: if there is something.
  """
  num_train, num_test = len(images.train), len(images.test)
  if images.train_labels is None or images.test_labels is None:
    raise UsageError("dataset", "has no labels, which representations are judged by")
  if images.train.dtype != np.uint8:
    raise UsageError("dataset", "takes 8-bit images")
  if FLAGS.num_points > num_test:
    raise UsageError("num_points", f"takes at most the {num_test} test images")
  if any(side % FLAGS.block for side in images.image_shape[:2]):
    raise UsageError("block", "does not divide {} by {} pixels".format(*images.image_shape))
  if not FLAGS.methods or set(FLAGS.methods) - set(METHODS):
    raise UsageError("methods", f"takes some of {', '.join(METHODS)}")
  counts = FLAGS.num_labels
  if not counts or not all(command.is_count(n, 0) for n in counts):
    raise UsageError("num_labels", "takes whole numbers, separated by commas")
  counts = [int(n) or num_train for n in counts]
  if not all(100 <= n <= num_train for n in counts):
    raise UsageError("num_labels", f"takes numbers from 100 to {num_train}")
  return counts


def make_job(latent_dim: int) -> batch.Job:
  arguments = (
    f"--dataset={FLAGS.dataset}",
    f"--latent_dim={latent_dim}",
    "--binarization=dynamic",
    f"--num_examples={FLAGS.num_examples}",
    f"--seed={FLAGS.seed}",
    "--num_importance_samples=0",
  )
  name = f"{FLAGS.dataset}-{latent_dim}-adam-seed-{FLAGS.seed}".replace(":", "-")
  return batch.Job(name, arguments, float(FLAGS.num_examples))


def recognize(key: Key, run: Trained, num_points: int) -> Iterator[dict]:
  """The bound, log p(x), and what is between them: KL(q(z|x) ‖ p(z|x))."""

  def both(key: Key, params: Params, x: Array) -> tuple[Array, Array]:
    bound_key, key = jax.random.split(key)
    bound = elbo_b(bound_key, run.model, params, x, num_samples=100)
    return bound, importance_sampling(key, run.model, params, x, num_samples=1000).value

  few = read_rows(run.pixels.test, np.arange(num_points))
  how = dict(preprocess=run.pixels.preprocess, static_key=run.pixels.test_draw, batch_size=20)
  bound, log_p = evaluate_in_blocks(both, key, run.params, few, **how)
  about = dict(use="recognition", method="encoder", num_points=num_points)
  for measure, values in {"bound": bound, "log_p": log_p, "gap": log_p - bound}.items():
    yield number(about, measure, mean_and_standard_error(values))


def classify(
  use: str,
  features: dict[str, representation.Features],
  images: ImageData,
  label_counts: list[int],
  *,
  probes: bool,
) -> Iterator[dict]:
  """Accuracies of classifiers on every representation, for every number of labels."""
  classifiers = {"nearest neighbours": representation.nearest_neighbours}
  if probes:
    classifiers = {"linear probe": representation.linear_probe} | classifiers
  for name, classifier in classifiers.items():
    for n in label_counts:
      for kind, feature in features.items():
        if kind == "pixels" and not probes:
          continue
        found = classifier(feature, images.train_labels[:n], images.test_labels)
        size = f"{feature.train.shape[1]} {kind}"
        about = dict(use=use, method=name, labels=n, features=size, num_points=len(images.test))
        yield number(about, "accuracy", found)


def binary_test(run: Trained, num_points: int) -> np.ndarray:
  """The test images that models and simple methods alike are held against."""
  few = read_rows(run.pixels.test, np.arange(num_points))
  how = dict(preprocess=run.pixels.preprocess, static_key=run.pixels.test_draw)
  return np.asarray(evaluate(lambda key, params, x: x, jax.random.key(0), (), few, **how))


def score_model(task: Task, method: str, drawn: Completed, x: np.ndarray) -> Iterator[dict]:
  about = dict(use=task.name, method=method, num_points=len(x))
  for measure, mean in completion.scores(drawn.mean, x, task.scored).items():
    yield number(about, measure, mean)
  yield dict(about, measure="acceptance", value=drawn.acceptance)
  yield dict(about, measure="seconds", value=drawn.seconds)


def score_simple(task: Task, y: np.ndarray, x: np.ndarray, images: ImageData) -> Iterator[dict]:
  train = np.asarray(images.train, np.float32) / images.levels
  for method, mean in completion.baselines(task, y, train).items():
    about = dict(use=task.name, method=method, num_points=len(x))
    for measure, score in completion.scores(mean, x, task.scored).items():
      yield number(about, measure, score)


def number(about: dict, measure: str, mean: Mean) -> dict:
  return dict(about, measure=measure, value=mean.value, standard_error=mean.standard_error)


def picture(task: Task, drawn: Completed, x: np.ndarray, shape: tuple[int, int, int]) -> Panel:
  """Rows of images: x, y, the mean of the completions, and some of them."""
  n = completion.SHOWN
  some = min(3, drawn.few.shape[1])
  lines = [x[:n], task.picture(drawn.y[:n]), drawn.mean[:n]]
  lines += [drawn.few[:n, i] for i in range(some)]
  labels = ["x", "y", "E[x|y]", *["E[x|y,z]"] * some]
  tiled = figures.tile(np.concatenate(lines), shape, n)
  return Panel(f"{task.name}: {task.words}", tiled, labels)


def describe(row: dict) -> str:
  of = " ".join(f"{row[n]}" for n in ("use", "method", "features") if n in row)
  of += f" {row['labels']} labels" if "labels" in row else ""
  error = f" ± {row['standard_error']:.4f}" if "standard_error" in row else ""
  return f"{of:60} {row['measure']:14} {row['value']:10.4f}{error}"


def as_table(rows: list[dict], tasks: list[Task]) -> str:
  """For each use what it is measured by, with standard errors over test images."""

  def text(measure: str, of: dict, scale: float = 1.0, digits: int = 2) -> str:
    for row in rows:
      if row["measure"] == measure and of.items() <= row.items():
        value, error = scale * row["value"], scale * row["standard_error"]
        return f"{value:.{digits}f} ± {error:.{digits}f}"
    return ""

  encoder = dict(use="recognition")
  lines = [
    f"recognition: bound {text('bound', encoder)}, log p(x) {text('log_p', encoder)}, "
    f"KL(q(z|x) ‖ p(z|x)) {text('gap', encoder)} nats"
  ]
  for use in ("representation", "visualization"):
    mine = [row for row in rows if row["use"] == use]
    counts = list(dict.fromkeys(row["labels"] for row in mine))
    head = "".join(f"{f'{n} labels':>20}" for n in counts)
    lines += ["", f"{f'{use}: test accuracy, %':44}{head}"]
    for method, features in dict.fromkeys((row["method"], row["features"]) for row in mine):
      of = dict(use=use, method=method, features=features)
      cells = "".join(f"{text('accuracy', of | dict(labels=n), 100):>20}" for n in counts)
      lines.append(f"  {f'{method} on {features}':42}{cells}")
  for task in tasks:
    head = f"{'nats per pixel':>20}{'wrong pixels, %':>20}{'squared error':>20}"
    lines += ["", f"{f'{task.name}: {task.words}':44}{head}"]
    for method in dict.fromkeys(row["method"] for row in rows if row["use"] == task.name):
      of = dict(use=task.name, method=method)
      cells = (
        text("log_prob", of, digits=4),
        text("wrong", of, 100),
        text("squared_error", of, 1, 4),
      )
      lines.append(f"  {method:42}" + "".join(f"{cell:>20}" for cell in cells))
  return "\n".join(lines)


if __name__ == "__main__":
  command.run(main)
