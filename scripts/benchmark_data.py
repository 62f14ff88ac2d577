"""Times the preparation and loading of data, and measures the memory that streaming takes.

  python scripts/benchmark_data.py --manual_dir=DIRECTORY_WITH_THE_IDX_FILES_OF_MNIST
  python scripts/benchmark_data.py --csv=memory.csv

The first part needs --manual_dir. It times the steps from the raw files of MNIST to prepared
records, to arrays, and from the cache, each in a process of its own, and leaves
nothing behind.

The second part trains the paper's MNIST model on streams of 1, 4 and 16 GiB:
a few records that are repeated, and a memory-mapped file of holes, which takes
no disk. `anonymous` is the memory that the process holds; `file pages` are
pages of the file that the system keeps until the memory is needed.
"""

import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from absl import flags

from aevb_jax import bernoulli, elbo_b, fit_streamed, mlp_vae
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.optimizers import adagrad
from aevb_jax.data import datasets
from aevb_jax.data.minibatches import stream
from aevb_jax.data.preprocess import binarize
from aevb_jax.errors import DataError
from experiments.launch import command

FLAGS = flags.FLAGS
flags.DEFINE_string("manual_dir", None, "Directory with the four IDX files of MNIST.")
flags.DEFINE_integer("repeats", 3, "Times that reading MNIST is repeated.", lower_bound=1)
flags.DEFINE_list("sizes", ["1", "4", "16"], "GiB of records to stream.")
flags.DEFINE_integer("steps", 3000, "Training steps on each stream.", lower_bound=1)
flags.DEFINE_string("csv", None, "File to write the memory table to.")
flags.DEFINE_string("one", None, "Of the processes that this one starts.")

DATA_DIM, BATCH_SIZE, CHUNK = 784, 100, 250
MIB = 2**20


def main() -> None:
  if FLAGS.one:
    print(json.dumps(globals()[f"one_{FLAGS.one.split()[0]}"](*FLAGS.one.split()[1:])))
    return
  if FLAGS.manual_dir:
    time_mnist()
  measure_memory()


def run(*one: object) -> dict:
  """Runs a function of this file in a process of its own, and returns its result."""
  words = " ".join(map(str, one))
  process = [sys.executable, __file__, f"--one={words}", f"--steps={FLAGS.steps}"]
  result = subprocess.run(process, capture_output=True, text=True)
  if result.returncode:
    sys.stderr.write(result.stderr)
    raise command.Exit(result.returncode)
  return json.loads(result.stdout.splitlines()[-1])


def time_mnist() -> None:
  manual_dir = os.path.abspath(FLAGS.manual_dir)
  rows = {"raw files to prepared and cached": [], "prepared to arrays": [], "from the cache": []}
  for _ in range(FLAGS.repeats):
    with tempfile.TemporaryDirectory() as directory:
      where = directory, manual_dir
      rows["raw files to prepared and cached"].append(run("load", *where, "cached")["seconds"])
      rows["prepared to arrays"].append(run("load", *where, "decoded")["seconds"])
      rows["from the cache"].append(run("load", *where, "cached")["seconds"])
  print(f"MNIST, seconds of {FLAGS.repeats} processes; importing what reads it is counted")
  for name, seconds in rows.items():
    print(f"  {name:34}" + "".join(f"{s:8.2f}" for s in seconds))


def one_load(directory: str, manual_dir: str, how: str) -> dict:
  start = time.perf_counter()
  cache_dir = f"{directory}/cache" if how == "cached" else None
  try:
    images = datasets.load("mnist", f"{directory}/tfds", manual_dir=manual_dir, cache_dir=cache_dir)
  except DataError as error:
    command.fail(f"--manual_dir={manual_dir}: {error}", 2)
  return dict(seconds=time.perf_counter() - start, images=len(images.train))


def measure_memory() -> None:
  print(f"memory while streaming {FLAGS.steps} steps of {BATCH_SIZE}, in MiB")
  print(f"{'source':16}{'GiB':>6}{'records':>12}{'anonymous':>11}{'peak':>8}{'file pages':>12}")
  rows = []
  for source in ("repeated", "memory-mapped"):
    for size in FLAGS.sizes:
      row = dict(source=source, gib=float(size)) | run("stream", source, size)
      rows.append(row)
      print(
        f"{source:16}{size:>6}{row['records']:>12,}{row['anonymous_mib']:>11.0f}"
        f"{row['peak_anonymous_mib']:>8.0f}{row['file_pages_mib']:>12.0f}",
        flush=True,
      )
  if FLAGS.csv:
    with open(FLAGS.csv, "w", newline="") as file:
      table = csv.DictWriter(file, list(rows[0]))
      table.writeheader()
      table.writerows(rows)


class Repeated:
  """A Grain data source of many records, of which only a few differ."""

  def __init__(self, num_records: int):
    self._num_records = num_records
    self._pixels = np.random.default_rng(0).integers(0, 256, size=(1000, DATA_DIM), dtype=np.uint8)

  def __len__(self) -> int:
    return self._num_records

  def __getitem__(self, index: int) -> np.ndarray:
    return self._pixels[index % 1000]


def one_stream(source: str, size: str) -> dict:
  num_records = int(float(size) * 1024 * MIB / DATA_DIM)
  if source == "repeated":
    return train(Repeated(num_records))
  with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory, "pixels.npy")
    with open(path, "wb") as file:
      file.truncate(num_records * DATA_DIM)  # one hole: zeros that take no disk
    return train(np.memmap(path, np.uint8, "r", shape=(num_records, DATA_DIM)))


def train(source) -> dict:
  """Trains on a stream, and records the process's memory at every chunk."""
  model = mlp_vae(bernoulli(DATA_DIM), data_dim=DATA_DIM, latent_dim=20, hidden_dim=500)
  algorithm = aevb(model, elbo_b, adagrad(0.01), num_data=len(source))
  state, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
  watched = []
  for chunk in stream(source, key, [CHUNK] * (FLAGS.steps // CHUNK), batch_size=BATCH_SIZE):
    state, metrics = fit_streamed(algorithm, state, key, chunk, preprocess=binarize)
    jax.block_until_ready(metrics)
    watched.append(memory_mib())
  return dict(
    records=len(source),
    anonymous_mib=watched[-1]["RssAnon"],
    peak_anonymous_mib=max(memory["RssAnon"] for memory in watched),
    file_pages_mib=watched[-1]["RssFile"],
  )


def memory_mib() -> dict[str, float]:
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  fields = dict(line.split(":", 1) for line in lines)
  return {name: int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


if __name__ == "__main__":
  command.run(main)
