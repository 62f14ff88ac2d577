"""The uses of a trained model that the paper names (sections 1 and 2.1), with numbers.

  python -m experiments.uses --workdir=runs/uses

Trains two models of MNIST, with J = 20 and J = 2 latents (500 hidden units, dynamic binarization,
Adam at 0.001), and uses them for

  recognition       q(z|x) as the posterior: the nats between the bound and log p(x)
  representation    a linear probe and nearest neighbours on the means of q(z|x), against pixels
                    and as many principal components
  visualization     neighbours in the plane of two latents, against two principal components
  inpainting, super-resolution, denoising
                    P(x|y) of test images when only y is known: the upper half, the sums of 4×4
                    squares, or all pixels with a tenth of them flipped

The last three use inference under the model, p(x, z|y) ∝ p(z) p(x|z) p(y|x), in three ways: hmc
moves z by HMC with x summed out, gibbs alternates encoder and decoder with a Metropolis
correction (Mattei & Frellsen 2018), and pseudo_gibbs omits the correction (Rezende et al. 2014).
All three make about the same number of passes through the networks. Simple methods model pixels as
independent, with the frequencies of all training images or of the training images nearest to y,
and use the same y.

Errors are standard errors over test images. Writes uses.csv (a row for each number), uses.png and
summary.json.

With --budget=cpu the bound of J = 20 ends at -97.2 on test images, 5.3 nats below log p(x) on the
images where log p(x) was estimated. Nearest neighbours are right on 96.9 % by 20 latents, 96.0 % by
as many principal components and 94.8 % by pixels. HMC is wrong on 8.9 % of missing pixels in
inpainting, 3.7 % in super-resolution and 2.0 % in denoising. All takes half an hour on one core of
a CPU.
"""

import jax
import numpy as np
from absl import flags

from aevb_jax.data.datasets import ImageData
from aevb_jax.runs import files
from aevb_jax.runs.pixels import load_data
from experiments.flags import data, training  # noqa: F401 (flags that are declared below)
from experiments.flags import figures as figure_flags
from experiments.flags.validators import is_count
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots.uses import draw_uses
from experiments.studies import completion, jobs, representation
from experiments.studies import uses as study
from experiments.studies.uses import UsesConfig

BUDGETS = {
  "smoke": dict(
    dataset="mnist", num_examples=5_000, num_points=20, num_labels=["500"], methods=["hmc"],
    chains=2, burn_in=20, draws=5,
  ),
  "cpu": dict(dataset="mnist", num_examples=10_000_000),
  "paper": dict(dataset="mnist", num_examples=10_000_000, num_points=10_000),
}  # fmt: skip
figure_flags.define("uses", BUDGETS)
for name in ("dataset", "num_examples", "seed"):
  flags.declare_key_flag(name)
flags.DEFINE_integer(
  "num_points",
  500,
  "Number of test images to complete, from the first.",
  lower_bound=completion.SHOWN,
)
flags.DEFINE_list(
  "num_labels", ["1000", "0"], "Labelled training images that classifiers learn from; 0 for all."
)
flags.DEFINE_list("methods", list(study.METHODS), "Methods that complete y; the first is drawn.")
flags.DEFINE_integer("chains", 4, "Chains for each y.", lower_bound=1)
flags.DEFINE_integer("burn_in", 50, "hmc: transitions that are discarded.", lower_bound=1)
flags.DEFINE_integer("draws", 30, "hmc: transitions of each chain that are kept.", lower_bound=1)
flags.DEFINE_integer("leapfrogs", 5, "hmc: leapfrog steps in a transition.", lower_bound=1)
flags.DEFINE_integer(
  "block",
  4,
  "super-resolution: pixels on a side of the squares whose sums are known.",
  lower_bound=2,
)
flags.DEFINE_float("flip_probability", 0.1, "denoising: probability that a pixel is flipped.")

LATENT_DIMS = (20, 2)


@flags.validator("flip_probability", "takes a number between 0 and 1/2")
def _check_flip_probability(value: float) -> bool:
  return 0 < value < 0.5


@flags.validator("num_labels", "takes whole numbers, separated by commas")
def _check_num_labels(values: list[str]) -> bool:
  return bool(values) and all(is_count(value, 0) for value in values)


def main() -> None:
  commit = files.git_commit()
  figure, config = figure_flags.settings(UsesConfig, BUDGETS)
  images = load_data(data.config(), data.array_cache_dir())
  label_counts = check(config, images)
  large, small = made_of = [study.make_job(config, latent_dim) for latent_dim in LATENT_DIMS]
  jobs.check(made_of, figure)
  workdir = figure_flags.open_workdir(figure, config)
  made = jobs.train(made_of, figure)
  # Only after the runs, because JAX takes the accelerator here, and the runs need it.
  key = jax.random.fold_in(jax.random.key(config.seed), 2**20)
  tasks = study.make_tasks(config, images.image_shape)
  report = study.Report(workdir / "uses.csv")

  run = jobs.load_member(jobs.member_directories(small, figure)[0])
  features = representation.represent(jax.random.clone(key), run)
  z, whole = features["latents"].test, [len(images.train)]
  classify = lambda: study.classify("visualization", features, images, whole, probes=False)
  report.add(dict(use="visualization"), classify)

  run = jobs.load_member(jobs.member_directories(large, figure)[0])
  report.add(dict(use="recognition"), lambda: study.recognize(key, run, config.num_points))
  features = representation.represent(jax.random.clone(key), run)
  classify = lambda: study.classify("representation", features, images, label_counts, probes=True)
  report.add(dict(use="representation"), classify)
  panels = study.finish_tasks(key, tasks, run, config, workdir=workdir, report=report)

  title = f"test images in the plane of {LATENT_DIMS[1]} latents"
  picture = draw_uses(panels, z, images.test_labels, title, budget=figure.budget)
  files.save_figure(workdir / "uses.png", picture)
  jobs.write_summary(workdir, dict(results=report.rows), made, commit)
  print("\n" + study.as_table(report.rows, tasks))
  print(f"written to {workdir.resolve()}: uses.csv uses.png summary.json")


def check(config: UsesConfig, images: ImageData) -> list[int]:
  """Returns the numbers of labels, with 0 replaced by all.

  Raises:
    UsageError: for values that the images do not allow.
  """
  num_train, num_test = len(images.train), len(images.test)
  if images.train_labels is None or images.test_labels is None:
    raise UsageError("dataset", "has no labels, which representations are judged by")
  if images.train.dtype != np.uint8:
    raise UsageError("dataset", "takes 8-bit images")
  if config.num_points > num_test:
    raise UsageError("num_points", f"takes at most the {num_test} test images")
  if any(side % config.block for side in images.image_shape[:2]):
    raise UsageError("block", "does not divide {} by {} pixels".format(*images.image_shape))
  if not config.methods or set(config.methods) - set(study.METHODS):
    raise UsageError("methods", f"takes some of {', '.join(study.METHODS)}")
  counts = [n or num_train for n in config.num_labels]
  if not counts or not all(100 <= n <= num_train for n in counts):
    raise UsageError("num_labels", f"takes numbers from 100 to {num_train}")
  return counts


if __name__ == "__main__":
  command.run(main)
