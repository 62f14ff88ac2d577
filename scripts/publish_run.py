"""Copies a finished run of experiments.train into experiments/results, with parameters and a card.

  python scripts/publish_run.py runs/mnist-adam mnist_adam "MNIST, 784-500-20, Adam"
  python scripts/publish_run.py --card    # writes all cards again, from what is there
  python scripts/publish_run.py --check   # fails if a card differs from the results

The parameters go into params.npz as float16 if that moves log p(x) of 1000 test images by less than
0.01 nats, else as float32. Of the pictures, those are replaced that are there. Names of directories
are left out of the flags. The card, README.md, says what the numbers are and how they were made.
"""

import json
import pathlib
import shutil
import sys

from support.start import ROOT, fail, need

RESULTS = ROOT / "experiments" / "results"
TOLERANCE = 0.01  # nats by which float16 may move the mean of log p(x)
NUM_POINTS, NUM_SAMPLES, NUM_TESTED = 1000, 500, 200
KEPT = ("metrics.csv", "summary.json")
PLACES = dict(data_dir=None, manual_dir=None, mirror=None)
LICENCE = "Apache-2.0, as this repository"


def main() -> None:
  match sys.argv[1:]:
    case arguments if "--help" in arguments:
      print(__doc__.strip())
    case ["--card"]:
      for place in published():
        (place / "README.md").write_text(card(place))
    case ["--check"]:
      changed = [p.name for p in published() if (p / "README.md").read_text() != card(p)]
      sys.exit(f"cards differ: {' '.join(changed)}; run it with --card" if changed else 0)
    case [workdir, name, title] if not workdir.startswith("-"):
      need("jax", extra="test")
      publish(pathlib.Path(workdir), RESULTS / name, title)
    case _:
      fail("takes a directory of a run, a name and a title; or --card, or --check")


def published() -> list[pathlib.Path]:
  return sorted(path.parent for path in RESULTS.glob("*/params.json"))


def publish(workdir: pathlib.Path, place: pathlib.Path, title: str) -> None:
  """Writes the results, the parameters, and the card."""
  from aevb_jax import runs
  from aevb_jax.runs import directory, texts
  from aevb_jax.training import weights

  run = runs.load(workdir)
  if run.summary is None:
    fail(f"{workdir} holds a run that is not finished; run its command again")
  is_new = not place.exists()
  place.mkdir(exist_ok=True)
  config = runs.replace(run.config, **PLACES)
  (place / directory.CONFIG).write_text(texts.to_json(config))
  (place / directory.FLAG_FILE).write_text(texts.flags_text(config))
  pictures = [path for path in workdir.glob("*.png") if is_new or (place / path.name).exists()]
  for path in (*(workdir / name for name in KEPT), *pictures):
    shutil.copy(path, place / path.name)
  path = place / directory.PARAMS
  weights.write(path, run.params, half=True)
  moved = differences(run, run._replace(params=weights.read(path, run.params)))
  is_half = abs(moved.mean()) < TOLERANCE
  if not is_half:
    weights.write(path, run.params)
  about = dict(
    title=title,
    precision="float16" if is_half else "float32",
    float16_moves=float(moved.mean()),
    float16_moves_se=float(moved.std(ddof=1) / len(moved) ** 0.5),
    num_points=len(moved),
    num_importance_samples=NUM_SAMPLES,
    first_images=NUM_TESTED,
    first_log_likelihood=float(log_likelihood(run, NUM_TESTED).mean()),
  )
  (place / "params.json").write_text(json.dumps(about, indent=2) + "\n")
  (place / "README.md").write_text(card(place))
  print((place / "README.md").read_text())


def log_likelihood(run, num_points: int):
  """Estimates log p(x) of the first test images of a run, always with the same noise."""
  from aevb_jax import runs

  labels = run.data.test_labels[:num_points] if run.config.model.condition else None
  return runs.log_likelihood(run, run.data.test[:num_points], labels, num_samples=NUM_SAMPLES)


def differences(run, rounded):
  """Returns log p(x) of the rounded parameters minus log p(x), for each of some test images."""
  num_points = min(NUM_POINTS, len(run.data.test))
  return log_likelihood(rounded, num_points) - log_likelihood(run, num_points)


def card(place: pathlib.Path) -> str:
  """Formats the card from summary.json, params.json and config.json."""
  names = ("summary.json", "params.json", "config.json")
  summary, about, config = (json.loads((place / name).read_text()) for name in names)
  where = place.relative_to(ROOT)
  licence, homepage = licence_of(summary["dataset"])
  sizes = f"{summary['num_train']} training and {summary['num_test']} test images"
  moves = f"{signed(about['float16_moves'], 4)} ± {about['float16_moves_se']:.4f} nats"
  tested = f"over {about['num_points']} test images with the same noise"
  num_samples = summary["num_importance_samples"]
  return f"""# {about["title"]}

The parameters of a variational auto-encoder, in `params.npz`: arrays by name, without pickle, as
{about["precision"]}. In Python, and as a command, in the root of the repository:

```python
from aevb_jax import runs
run = runs.load("{where}")
```
```bash
python -m experiments.evaluate --workdir={where} --num_points=0
```

| | |
|---|---|
| data | {summary["dataset"]} {summary["dataset_version"]}: {summary["protocol"]}; {sizes} |
| x | {pixels(summary)} |
| model | {model(config)} |
| training | {training(config, summary)} |
| how to make it | `python -m experiments.train --flagfile={where}/flags.txt` |
| commit | `{summary["git_commit"]}`, jax {summary["jax_version"]} on {summary["device"]} |
| test bound | {interval(summary, "test_bound")} |
| test log p(x) | {interval(summary, "test_log_likelihood")}, K = {num_samples} |
| rounding | float16 moves log p(x) by {moves}, {tested} |
| licence | {LICENCE}; the data: {licence} (<{homepage}>) |

Intervals are standard errors over the test images, for one seed.
"""


def signed(value: float, digits: int) -> str:
  return f"{value:+.{digits}f}".replace("-", "−")


def interval(summary: dict, name: str) -> str:
  digits = 1 if summary[f"{name}_se"] > 2 else 2
  value = f"{summary[name]:.{digits}f}".replace("-", "−")
  return f"{value} ± {summary[f'{name}_se']:.{digits}f} nats"


def pixels(summary: dict) -> str:
  scale = f"pixels / {summary['pixel_scale']}"
  if summary["binarization"] == "none":
    return f"{scale}, real values"
  seed = summary["binarization_seed"]
  return f"{scale}, {summary['binarization']} binarization; test images by one draw, seed {seed}"


def model(config: dict) -> str:
  named = config["model"]
  widths = "–".join(map(str, named["hidden_dim"]))
  return (
    f"D–{widths}–{named['latent_dim']} {named['model']}, {named['likelihood']} p(x given z), "
    f"{named['posterior']} q(z given x), {named['prior']} p(z)"
  )


def training(config: dict, summary: dict) -> str:
  optimizer, objective = config["optimizer"], config["objective"]
  samples = "1 sample" if objective["num_samples"] == 1 else f"{objective['num_samples']} samples"
  return (
    f"{objective['estimator']} with {samples}, {optimizer['optimizer']} "
    f"with step size {optimizer['step_size']}, minibatches of {optimizer['batch_size']}, "
    f"{summary['examples_seen']:,} training samples, seed {summary['seed']}"
  )


def licence_of(dataset: str) -> tuple[str, str]:
  """Returns the licence of a data set and its homepage."""
  from aevb_jax.data.builders import BUILDERS
  from aevb_jax.data.protocols import PROTOCOLS

  builder = BUILDERS[PROTOCOLS[dataset].source]
  return builder.license, builder.homepage


if __name__ == "__main__":
  main()
