"""The devices to compile for, which need not be there."""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from support.start import fail, need

CARDS = pathlib.Path(__file__).parents[1] / "cards"
PLATFORMS = ("tpu", "cuda", "cpu")
EXAMPLES = {
  "tpu": "v5e:2x2, v5e:16x16 or v6e:2x4",
  "cuda": "1x1x1, 1x1x4 or 1x1x8",
  "cpu": "1 or 4",
}


class Target(NamedTuple):
  """A platform, the topology of its devices, and for CUDA the card."""

  platform: str
  topology: str
  card: str = ""


def prepare(target: Target) -> None:
  """Sets the environment that JAX needs, before it is imported, and checks what is installed.

  It ends the script with one line if a plugin or the description of the card is missing.
  """
  os.environ["JAX_PLATFORMS"] = "cpu"  # the devices are described; only the CPU is used
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # a TPU's host would be asked what it is
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no process has a TPU
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  if target.platform == "tpu":
    need("libtpu", extra="tpu")
  elif target.platform == "cuda":
    description(target.card)
    need("jax_cuda12_plugin", extra="cuda")


def devices_of(target: Target) -> Sequence:
  """Returns the devices of a topology; ends the script with one line if there is no such one."""
  import jax
  from jax.experimental import topologies

  if target.platform == "cpu":
    if not re.fullmatch("[1-9][0-9]*", target.topology):
      refuse(target, "is no number of devices")
    jax.config.update("jax_num_cpu_devices", int(target.topology))
    return jax.devices()
  try:
    if target.platform == "tpu":
      return topologies.get_topology_desc(platform="tpu", topology_name=target.topology).devices
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", target.topology):
      refuse(target, "is not HOSTSxPROCESSESxDEVICES")
    described = dict(topology=target.topology, target_config=description(target.card))
    return topologies.get_topology_desc(target.card, platform="cuda", **described).devices
  except Exception as error:  # of the plugin, of many types
    refuse(target, f"is not known to the compiler ({in_few_words(error)})")


def refuse(target: Target, why: str) -> None:
  fail(f"--topology={target.topology} {why}; give one such as {EXAMPLES[target.platform]}")


def description(card: str) -> str:
  """Returns what XLA's compiler needs to know of a card."""
  path = CARDS / f"{card}.txtpb"
  if not path.is_file():
    known = ", ".join(sorted(path.stem for path in CARDS.glob("*.txtpb")))
    fail(f"--card={card} is not described; take {known}, or write {path}")
  return path.read_text()


def in_few_words(error: BaseException, limit: int = 120) -> str:
  """Returns the beginning of the first line of an error, without its code."""
  line = (str(error).strip().splitlines() or [type(error).__name__])[0]
  line = re.sub(r"^(\w+: )?(INTERNAL|UNIMPLEMENTED|INVALID_ARGUMENT|NOT_FOUND): ", "", line)
  return line if len(line) <= limit else line[: limit - 1] + "…"


def check_batch_size(batch_size: int, num_devices: int, num_data: int) -> None:
  """Ends the script with one line if the devices cannot share a minibatch evenly."""
  if batch_size > num_data:
    fail(f"--batch_size={batch_size} is larger than the data set; give at most {num_data}")
  if batch_size < 1 or batch_size % num_devices:
    below = batch_size // num_devices * num_devices
    fitting = " or ".join(str(n) for n in (below, below + num_devices) if n > 0)
    fail(
      f"--batch_size={batch_size} cannot be shared evenly by {num_devices} devices; give {fitting}"
    )
