"""Prepares a data set ahead of time, describes it and draws some of its images.

  python -m experiments.data --dataset=mnist
  python -m experiments.data --dataset=frey_face:random --manual_dir=~/Downloads
  python -m experiments.data --dataset=arrays:my_images.npz

For a machine without a network, run it on one that has a network, with --data_dir on a
disk that both see. Prints the data set's card and writes a contact sheet.
"""

import dataclasses
import json
import os
import pathlib
import time
from typing import NamedTuple

import numpy as np
from absl import flags

from aevb_jax import disk, figures, names
from aevb_jax.data.image_data import ImageData
from aevb_jax.data.minibatches import Source, blocks, read_rows
from aevb_jax.data.protocols import PROTOCOLS, kind_of
from aevb_jax.errors import ConfigError
from aevb_jax.runs import checks, files
from aevb_jax.runs.config import DataConfig, replace
from aevb_jax.runs.pixels import file_name, load_data, pixel_range, pixel_scale
from experiments.flags import data
from experiments.flags.reading import read
from experiments.launch import command

flags.adopt_module_key_flags(data)
flags.DEFINE_string(
  "contact_sheet", None, "PNG file to draw. Default: runs/data/DATASET.png; empty for none."
)

ROWS = {"train": 5, "validation": 2, "test": 3}  # rows of the contact sheet
COLUMNS = 10


@dataclasses.dataclass(frozen=True)
class Sheet:
  """The file that some of the images are drawn into."""

  contact_sheet: str | None = None


OWN = {"arrays": "an .npz file", "images": "a folder", "function": "a function"}
NOT_STATED = "not stated"


class Card(NamedTuple):
  """The description of a data set."""

  description: str
  homepage: str
  licence: str
  citation: str


DIGITS = Card(
  "The test part of the UCI ML optical recognition of handwritten digits data set: 1797 images "
  "of 8×8 pixels with 17 levels.",
  "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
  "Creative Commons Attribution 4.0",
  """@misc{alpaydin1998optical,
  title = {Optical recognition of handwritten digits},
  author = {Alpaydin, E. and Kaynak, C.},
  howpublished = {UCI Machine Learning Repository},
  year = {1998}
}""",
)


def main() -> None:
  config = data.config()
  config = replace(config, binarization=config.binarization or "dynamic")
  checks.check_data(config)
  sheet = contact_sheet_path(read(Sheet).contact_sheet, config)
  start = time.perf_counter()
  images = load_data(config, data.array_cache_dir(), prepare_any=True)
  seconds = time.perf_counter() - start
  splits = {
    "train": (images.train, images.train_labels),
    "validation": (images.validation, images.validation_labels),
    "test": (images.test, images.test_labels),
  }
  splits = {name: split for name, split in splits.items() if split[0] is not None}
  levels, words = 1, "x = pixels"
  if images.train.dtype == np.uint8:
    levels = pixel_scale(images, config)
    words = f"x = (pixels + u) / {levels}" if config.dequantization else f"x = pixels / {levels}"
  if sheet:  # before anything is printed, because writing it may fail
    title = file_name(config) if kind_of(config.dataset) in OWN else config.dataset
    sources = {name: source for name, (source, _) in splits.items()}
    draw(sheet, title, images, sources, levels=levels)
  card = find_card(config, images)
  print(f"{config.dataset}, version {images.version}, read in {seconds:.2f} s")
  print(card.description)
  print(f"homepage  {card.homepage}\nlicence   {card.licence}")
  print(place_in_words(config, images))
  print(f"protocol  {images.protocol}; {words}")
  print(
    f"{'':12}{'images':>8}{'shape':>12}{'type':>9}{'min':>9}{'max':>9}{'mean x':>9}{'std x':>9}"
    f"{'x = 0':>9}{'x = max':>9}  labels"
  )
  for name, (source, labels) in splits.items():
    print(f"{name:12}{statistics(source, labels, images.image_shape, levels)}")
  if sheet:
    print(f"contact sheet  {sheet.resolve()}")
  if card.citation:
    print(card.citation)


def contact_sheet_path(name: str | None, config: DataConfig) -> pathlib.Path | None:
  """Returns the file to draw; None for none.

  Raises:
    ConfigError: if the file cannot be written, or would replace a file that aevb_jax did not draw.
  """
  if name is None:
    name = f"runs/data/{file_name(config)}.png"
  if not name:
    return None
  path = pathlib.Path(name).expanduser()
  # Its directory is made only after the data are read, so that no mistake in a flag leaves one.
  there = next(parent for parent in path.absolute().parents if os.path.exists(parent))
  if os.path.isdir(path) or not (there.is_dir() and os.access(there, os.W_OK)):
    raise cannot_be_written(path, "; name a file in a directory that can")
  if os.path.lexists(path) and not files.is_our_picture(path):
    message = "exists and is not a picture that aevb_jax drew; name another file, or remove it"
    raise ConfigError("contact_sheet", path, message)
  return path


def cannot_be_written(path: pathlib.Path, more: str) -> ConfigError:
  """Makes the error of a contact sheet that cannot be written."""
  return ConfigError("contact_sheet", path, f"cannot be written{more}")


def find_card(config: DataConfig, images: ImageData) -> Card:
  """Returns the card of a data set."""
  if (kind := kind_of(config.dataset)) == "digits":
    return DIGITS
  if kind in OWN:
    return Card(f"Images of your own, from {OWN[kind]}.", NOT_STATED, NOT_STATED, "")
  if kind == "protocol":
    from aevb_jax.data.builders import BUILDERS

    builder = BUILDERS[PROTOCOLS[config.dataset].source]
    return Card(builder.description, builder.homepage, builder.license, builder.citation)
  info = json.loads(disk.read_text(pathlib.Path(images.directory, "dataset_info.json")))
  return Card(
    " ".join(info.get("description", "").split()),
    " ".join(info.get("location", {}).get("urls", [])) or "none stated",
    info.get("redistributionInfo", {}).get("license") or "none stated",
    info.get("citation", "").strip(),
  )


def place_in_words(config: DataConfig, images: ImageData) -> str:
  """Formats the line that says where the data are."""
  if (kind := kind_of(config.dataset)) in OWN:
    source = names.source_of(config.dataset) if kind == "function" else images.directory
    return f"path      {source or NOT_STATED}"
  return f"prepared  {images.directory or 'nothing to prepare'}"


def statistics(
  source: Source, labels: np.ndarray | None, image_shape: tuple[int, int, int], levels: int
) -> str:
  """Formats a line of statistics, computed block by block."""
  low, high = pixel_range(source)
  count, total, squares, at_zero, at_high = 0, 0.0, 0.0, 0, 0
  for block in blocks(source):
    x = block.astype(np.float64)
    count += x.size
    total += x.sum()
    squares += np.square(x).sum()
    at_zero += np.count_nonzero(block == 0)
    at_high += np.count_nonzero(block == high)
  mean = total / count
  std = np.sqrt(max(squares / count - mean**2, 0.0))
  shape = "×".join(map(str, image_shape))
  line = (
    f"{len(source):>8}{shape:>12}{source.dtype!s:>9}{low:>9.3g}{high:>9.3g}"
    f"{mean / levels:>9.4f}{std / levels:>9.4f}{at_zero / count:>9.1%}{at_high / count:>9.1%}"
  )
  if labels is None:
    return f"{line}  none" if isinstance(source, np.ndarray) else f"{line}  not read"
  counts = np.unique(labels, return_counts=True)[1]
  return f"{line}  {len(counts)} classes of {counts.min()} to {counts.max()}"


def draw(
  path: pathlib.Path, title: str, images: ImageData, splits: dict[str, Source], *, levels: int
) -> None:
  """Draws the first images of every split; values outside 0 to 1 are clipped."""
  shown, row_labels = [], []
  for name, source in splits.items():
    count = min(ROWS[name] * COLUMNS, len(source))
    x = np.clip(read_rows(source, np.arange(count)) / levels, 0, 1)
    shown.append(np.pad(x, ((0, -count % COLUMNS), (0, 0)), constant_values=1.0))
    row_labels += [name, *[""] * (len(shown[-1]) // COLUMNS - 1)]
  picture = figures.tile(np.concatenate(shown), images.image_shape, COLUMNS)
  figure = figures.draw_images(picture, title, row_labels=row_labels)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.save_figure(path, figure)
  except OSError as error:
    raise cannot_be_written(path, f" ({error.strerror})") from error


if __name__ == "__main__":
  command.run(main)
