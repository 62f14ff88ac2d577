"""Times training on a folder of images that is streamed, beside one that is kept on the device.

  python scripts/benchmark_streaming.py                  # 5000 and 50000 images
  python scripts/benchmark_streaming.py --sizes=5000     # two minutes

Makes PNG files of 64×64×3 pixels in a temporary directory, and trains the convolutional VAE of
--model=conv on them with minibatches of 32. Speed: calls of `fit` on the device and of
`fit_streamed` from the cache of decoded images are timed in turn in one process. Each streamed
call starts its own stream, so nothing is read ahead outside the time. `ratio` is the streamed
speed over the resident one, the median over the repeats.

Memory: a process of its own for each, which runs `runs.train` with --max_resident_mb=0 (streamed)
or the default (resident), and an evaluation at the end. `cache` is its largest resident set (RSS)
up to the end of the load, which decodes the images into a new cache, and `peak` is the largest of
all. The pictures are of smooth random shades, which compress as photographs do.
"""

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

import jax
import numpy as np
from absl import flags
from benchmarks.timing import Timed, time_in_turn

from aevb_jax import aevb, bernoulli, binarize, conv_vae, data, elbo_b, fit, fit_streamed, runs
from aevb_jax.algorithms.optimizers import adam
from aevb_jax.data.minibatches import stream
from experiments.launch import command

FLAGS = flags.FLAGS
flags.DEFINE_list("sizes", ["5000", "50000"], "Numbers of images.")
flags.DEFINE_integer("steps", 20, "Training steps in a timed call.", lower_bound=10)
flags.DEFINE_integer("repeats", 7, "Timed calls of each, in turn.", lower_bound=1)
flags.DEFINE_string("one", None, "Of the processes that this one starts.")

SHAPE, BATCH_SIZE, CHUNK = (64, 64, 3), 32, 10
MAX_RESIDENT_MB = {"resident": 2048.0, "streamed": 0.0}


def main() -> None:
  if FLAGS.one:
    kind, folder = FLAGS.one.split(":", 1)
    one = {"speed": one_speed, "resident": one_memory, "streamed": one_memory}[kind]
    print(json.dumps(one(kind, pathlib.Path(folder))))
    return
  print(f"{jax.devices()[0].device_kind}, conv VAE of 64×64×3, minibatches of {BATCH_SIZE}")
  for size in map(int, FLAGS.sizes):
    with tempfile.TemporaryDirectory() as directory:
      folder = pathlib.Path(directory, "images")
      make_images(folder, size)
      for kind in MAX_RESIDENT_MB:
        cache, peak = run(kind, folder).values()
        print(f"{size:>8} images, {kind}: cache {cache:.0f} MiB, peak {peak:.0f} MiB", flush=True)
      speed = run("speed", folder)
    print(
      f"{size:>8} images, steps/s: resident {speed['resident']:.2f}, streamed "
      f"{speed['streamed']:.2f}, ratio {speed['ratio']:.3f}",
      flush=True,
    )


def make_images(folder: pathlib.Path, size: int) -> None:
  """Writes PNG files of smooth random shades."""
  from PIL import Image

  folder.mkdir()
  rng = np.random.default_rng(0)
  for i in range(size):
    small = rng.integers(0, 256, size=(6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize(SHAPE[:2], Image.Resampling.BICUBIC)
    picture.save(folder / f"{i:06d}.png", compress_level=1)


def run(kind: str, folder: pathlib.Path) -> dict:
  """Runs a part of this file in a process of its own, and returns its result."""
  process = [sys.executable, __file__, f"--one={kind}:{folder}"]
  process += [f"--steps={FLAGS.steps}", f"--repeats={FLAGS.repeats}"]
  result = subprocess.run(process, capture_output=True, text=True)
  if result.returncode:
    sys.stderr.write(result.stderr)
    raise command.Exit(result.returncode)
  return json.loads(result.stdout.splitlines()[-1])


def one_speed(kind: str, folder: pathlib.Path) -> dict:
  """Times steps of both kinds in turn; the cache is there already."""
  del kind
  images = data.from_folder(folder, cache_dir=str(folder.parent / "streamed"))
  likelihood = bernoulli(images.train.shape[1])
  model = conv_vae(likelihood, image_shape=images.image_shape, latent_dim=2)
  how = dict(num_data=len(images.train), examples_at_once=32)
  algorithm = aevb(model, elbo_b, adam(1e-4), **how)
  start, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
  states = {"resident": start, "streamed": jax.tree.map(lambda leaf: leaf.copy(), start)}
  pixels, num_chunks = jax.device_put(np.asarray(images.train)), FLAGS.steps // CHUNK

  def resident() -> None:
    for _ in range(num_chunks):
      states["resident"], metrics = fit(
        algorithm, states["resident"], key, pixels,
        batch_size=BATCH_SIZE, num_steps=CHUNK, preprocess=binarize,
      )  # fmt: skip
    jax.block_until_ready(metrics)

  def streamed() -> None:
    lengths, step = [CHUNK] * num_chunks, int(states["streamed"].step)
    for rows in stream(images.train, key, lengths, batch_size=BATCH_SIZE, start=step):
      state = states["streamed"]
      states["streamed"], metrics = fit_streamed(algorithm, state, key, rows, preprocess=binarize)
    jax.block_until_ready(metrics)

  steps = num_chunks * CHUNK
  timed = {"resident": Timed(resident, steps), "streamed": Timed(streamed, steps)}
  times = time_in_turn(timed, FLAGS.repeats)
  ratios = [a / b for a, b in zip(times["resident"], times["streamed"], strict=True)]
  speeds = {name: 1e3 / statistics.median(of_one) for name, of_one in times.items()}
  return speeds | dict(ratio=statistics.median(ratios))


def one_memory(kind: str, folder: pathlib.Path) -> dict:
  """Trains and evaluates as the main job does, and measures the most memory that it held."""
  cache_dir = str(folder.parent / kind)
  config = runs.replace(
    runs.Config(),
    dataset=f"images:{folder}",
    model="conv",
    max_resident_mb=MAX_RESIDENT_MB[kind],
    batch_size=BATCH_SIZE,
    num_examples=BATCH_SIZE * FLAGS.steps,
    eval_every=BATCH_SIZE * FLAGS.steps,
    num_importance_samples=0,
  )
  data.load(config.data.dataset, cache_dir=cache_dir)  # decodes the images into the cache
  cache = peak_mib()
  runs.train(config, folder.parent / f"run-{kind}", array_cache_dir=cache_dir)
  return dict(cache=cache, peak=peak_mib())


def peak_mib() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
  command.run(main)
