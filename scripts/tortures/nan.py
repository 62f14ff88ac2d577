"""A NaN in a data set refuses it; elsewhere a run stops at its step, or skips the step."""

import contextlib
import functools
import io
import json
import pathlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from tortures import compare, contract, runs
from tortures.estimators import BRIGHT
from tortures.kills import newest
from tortures.runs import Case, Lab, Outcome

NUM_EXAMPLES = 3000
SHORT = ("--hidden_dim=20", "--num_importance_samples=0", f"--num_examples={NUM_EXAMPLES}")
SAFE = (
  r"the state after ([\d,]+) training samples is in (\S+); the same command resumes from there; "
  r"a smaller --step_size(, or --on_nonfinite=skip,)? may help"
)
PREPARING = threading.Lock()


class Planted(NamedTuple):
  flags: tuple[str, ...]
  batch_size: int
  faulty: list[int]  # the steps, from 0, whose minibatch has the NaN
  term: str  # a regular expression of the words that explain the first of them


def cases(lab: Lab) -> Iterator[Case]:
  for policy in ("stop", "skip"):
    name = f"nan/data {policy}"
    yield Case(name, lambda name=name, policy=policy: _refuses(lab, name, policy))
  for what in ("value", "gradient"):
    for policy in ("stop", "skip"):
      check = {"stop": _stops, "skip": _leaves_out}[policy]
      name = f"nan/{what} {policy}"
      yield Case(name, lambda what=what, name=name, check=check: check(lab, name, what))
  for policy in ("stop", "skip"):
    name = f"nan/parameters {policy}"
    yield Case(name, lambda name=name, policy=policy: _overflows(lab, name, policy))
  if lab.data:
    yield Case("nan/frey face", lambda: _frey_face(lab, "nan/frey face"))


def _plant(lab: Lab, what: str) -> Planted:
  from aevb_jax.data import datasets

  images = np.asarray(datasets.load("digits").train)
  batch_size, at_fault = 100, np.flatnonzero((images > 127).sum(axis=1) > BRIGHT)
  flags = (*SHORT, f"--estimator=tortures.estimators:nan_{what}", "--binarization=threshold")
  flags += ("--eval_every=1000",)
  made_of = dict(value="what is made of them", gradient="its gradient or the update")[what]
  term = rf"every term of the bound is finite, {made_of} is not: .+"
  order = _order(len(images), batch_size)
  faulty = [step for step, index in enumerate(order) if np.isin(index, at_fault).any()]
  return Planted(flags, batch_size, faulty, term)


def _order(num_data: int, batch_size: int) -> np.ndarray:
  """Returns the examples of each step of a run of --seed=0."""
  from aevb_jax.data.minibatches import minibatch_indices, order_key

  train_key, *_ = jax.random.split(jax.random.key(0), 3)
  _, fit_key, _ = jax.random.split(train_key, 3)
  sizes = dict(num_data=num_data, batch_size=batch_size)
  order = minibatch_indices(order_key(fit_key), 0, NUM_EXAMPLES // batch_size, **sizes)
  return np.asarray(order)


@functools.cache
def _images_with_a_nan(lab: Lab) -> tuple[pathlib.Path, np.ndarray]:
  """Makes a TFDS set of 4×4 real-valued images with one NaN; returns its place and the images."""
  with PREPARING:
    return _prepared(lab.directory / "tfds-nan")


@functools.cache
def _prepared(directory: pathlib.Path) -> tuple[pathlib.Path, np.ndarray]:
  import tensorflow_datasets as tfds

  from aevb_jax.data import datasets

  class ImagesWithNan(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self):
      image = tfds.features.Tensor(shape=(4, 4, 1), dtype=np.float32)
      features = tfds.features.FeaturesDict({"image": image})
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
      return {"train": self._images(300, 7), "test": self._images(50, None)}

    def _images(self, number, at_fault):
      pixels = np.random.default_rng(number).uniform(-1, 2, size=(number, 4, 4, 1))
      for i, image in enumerate(pixels.astype(np.float32)):
        if i == at_fault:
          image[2, 1] = np.nan
        yield i, {"image": image}

    def _generate_examples(self):
      raise NotImplementedError

  builder = ImagesWithNan(data_dir=str(directory), file_format="array_record")
  tfds.disable_progress_bar()
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare()
  return directory, np.asarray(datasets.load("images_with_nan", data_dir=str(directory)).train)


def _refuses(lab: Lab, name: str, policy: str) -> Outcome:
  """Checks that a data set with a NaN is refused before anything is trained or written."""
  directory, images = _images_with_a_nan(lab)
  ((image, _),) = np.argwhere(np.isnan(images))
  flags = (*SHORT, "--dataset=images_with_nan", f"--data_dir={directory}", "--batch_size=10")
  flags += ("--likelihood=gaussian", "--nosigmoid_mean", f"--on_nonfinite={policy}")
  flags += ("--array_cache_dir=",)  # two runs that start at once wait for it, and say so
  workdir = lab.new(name)
  ended = runs.run(lab, flags, workdir)
  words = rf".*: nan in image {image} of train, at row 2, column 1, channel 0 .*"
  problems = contract.faults(ended, 2, line=words)
  if workdir.exists():
    problems.append(f"{workdir} was made")
  return Outcome(1, problems, Counter(["refused"]))


def _stops(lab: Lab, name: str, what: str) -> Outcome:
  """Checks that the run stops at the step, and that skipping may be asked for afterwards."""
  planted, workdir = _plant(lab, what), lab.new(name)
  ended = runs.run(lab, planted.flags, workdir)
  first = planted.faulty[0] + 1
  problems = _not_said(
    ended, rf"step {first}: the bound is \S+?(, its gradient .+?)?; {planted.term}"
  )
  if not newest(workdir) * planted.batch_size < first * planted.batch_size:
    problems.append(f"the checkpoint of step {newest(workdir)} is not before step {first}")
  problems += _not_finite(workdir)
  problems += runs.complete(lab, (*planted.flags, "--on_nonfinite=skip"), workdir)
  return Outcome(1, problems + _not_left_out(planted, workdir), Counter(["stopped"]))


def _leaves_out(lab: Lab, name: str, what: str) -> Outcome:
  planted, workdir = _plant(lab, what), lab.new(name)
  problems = runs.complete(lab, (*planted.flags, "--on_nonfinite=skip"), workdir)
  problems += _not_left_out(planted, workdir)
  return Outcome(1, problems, Counter({"steps left out": len(planted.faulty)}))


def _overflows(lab: Lab, name: str, policy: str) -> Outcome:
  """Trains with a step size so large that only the first update is finite."""
  workdir = lab.new(name)
  flags = (*runs.KINDS["short"], "--step_size=1e30", f"--on_nonfinite={policy}")
  ended = runs.run(lab, flags, workdir)
  # Only the first step succeeds, and 100 failures in a row are reached in the fourth chunk of 30.
  skipped = "no step could be made of the last 119: step 91"
  step = dict(stop="step 2", skip=skipped)[policy]
  problems = _not_said(ended, rf"{step}: the bound is .+ \(largest parameter: .+\)")
  return Outcome(1, problems + _not_finite(workdir), Counter(["stopped"]))


def _frey_face(lab: Lab, name: str) -> Outcome:
  """Trains a model whose density has no bound: it trains, or explains why it does not."""
  workdir = lab.new(name)
  flags = (
    "--dataset=frey_face:random", f"--data_dir={lab.directory / 'tfds'}",
    f"--manual_dir={lab.data}", "--likelihood=gaussian", "--num_importance_samples=0",
    "--num_examples=200000", "--eval_every=20000", "--step_size=0.01",
  )  # fmt: skip
  ended = runs.run(lab, flags, workdir)
  if ended.status:
    problems = _not_said(ended, r"step \d+: .+")
  else:
    bounds = [float(row["test_bound"]) for row in compare.rows(workdir / "metrics.csv")]
    problems = [] if np.isfinite(bounds).all() else [f"test bounds {bounds}"]
  problems += _not_finite(workdir)
  return Outcome(
    1, problems, Counter(["Frey Face stopped" if ended.status else "Frey Face trained"])
  )


def _not_said(ended: runs.Ended, words: str) -> list[str]:
  """Lists what is wrong with the end of a run whose numbers are not finite."""
  if ended.status == 1 and re.fullmatch(f"error: {words}; {SAFE}", ended.err.strip()):
    return []
  return [f"status {ended.status}, not {words!r}: {ended.err[:1500]}"]


def _not_finite(workdir: pathlib.Path) -> list[str]:
  saved = compare.arrays(workdir, newest(workdir))
  floats = {name: a for name, a in saved.items() if np.issubdtype(a.dtype, np.floating)}
  return [
    f"{workdir}: {name} is not finite" for name, a in floats.items() if not np.isfinite(a).all()
  ]


def _not_left_out(planted: Planted, workdir: pathlib.Path) -> list[str]:
  """Lists what is wrong with a run that skipped steps: their count, and finite numbers."""
  if not (workdir / "summary.json").exists():
    return [f"{workdir} has no summary.json"]
  summary = json.loads((workdir / "summary.json").read_text())
  problems = _not_finite(workdir)
  if summary["skipped_steps"] != len(planted.faulty):
    problems.append(f"skipped {summary['skipped_steps']}, not {len(planted.faulty)}")
  if summary["test_bound"] is None:
    problems.append("the test bound is not finite")
  return problems
