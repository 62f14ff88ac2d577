"""Compiles training and evaluation for TPUs and NVIDIA cards that need not be there.

  python scripts/compile_for.py --platform=tpu --topology=v5e:2x2     # or v5e:16x16, v6e:2x4
  python scripts/compile_for.py --platform=cuda --topology=1x1x8      # hosts x processes x cards
  python scripts/compile_for.py --platform=cpu --topology=4           # devices of this machine
  python scripts/compile_for.py ... --only="paper;gamma"   # names that contain one of these
  python scripts/compile_for.py ... --csv=FILE     # appends each row; skips what the file has
  python scripts/compile_for.py ... --batch_size=25600   # M, shared by all devices; else 128
  python scripts/compile_for.py --page             # fills scripts/accelerators.md

For TPUs it needs the extra `tpu`, for cards the extra `cuda`; neither needs a device or a driver. A
card is described by scripts/cards/CARD.txtpb, --card=h100 if not given. Nothing runs: the vendor's
compiler refuses what the hardware cannot do, and its program is read. A row has

  s          seconds to compile, without tracing
  kernels    launches of one training step, the body of `fit`'s loop, in the optimized program:
             fusions, custom calls, copies (also asynchronous ones, at their start), collectives,
             and every other instruction with a result of more than one number. Parameters,
             constants, tuples, bitcasts, waits and scalars outside fusions do not count. An inner
             loop counts its body and condition for each round. `+` marks inner loops whose number
             of rounds depends on data: they count one. An evaluation has no steps: its whole
             program counts
  sent       the collectives of a step by kind: their number, and the bytes of their results on
             one device. Inner loops count as for kernels
  args MB    the arguments on one device: state and data set
  temp MB    temporaries of the whole program on one device
  MFLOP      XLA's estimate for one device. It counts every loop's body once, so that it is one step
             and what precedes the loop; an inner loop hides its rounds. CUDA gives none

or the compiler's error. Training is compiled with the options of runs (training/program.py). Cards
are not autotuned without a card: their kernels are defaults, and a card at hand chooses others.
"""

import argparse
import pathlib
import re
import sys
from typing import NoReturn

from compiling.targets import EXAMPLES, PLATFORMS, Target, check_batch_size, devices_of, prepare
from support.start import ROOT, fail

PAGE = ROOT / "scripts" / "accelerators.md"


class Parser(argparse.ArgumentParser):
  """A parser whose errors are one line."""

  def error(self, message: str) -> NoReturn:
    fail(f"{message}; --help describes the flags")


def parse(arguments: list[str]) -> argparse.Namespace:
  parser = Parser(add_help=False, allow_abbrev=False)
  parser.add_argument("--platform", choices=PLATFORMS)
  parser.add_argument("--topology")
  parser.add_argument("--card", default="h100")
  parser.add_argument("--only", default="")
  parser.add_argument("--csv", type=pathlib.Path)
  parser.add_argument("--batch_size", type=int, default=128)
  parser.add_argument("--page", action="store_true")
  return parser.parse_args(arguments)


def main() -> None:
  if "--help" in sys.argv[1:]:
    print(__doc__.strip())
    return
  given = parse(sys.argv[1:])
  if given.page:
    from compiling import pages

    PAGE.write_text(pages.fill(PAGE.read_text()))
    return
  if not given.platform:
    fail(f"--platform= takes one of {', '.join(PLATFORMS)}")
  if not given.topology:
    fail(f"--topology= takes one such as {EXAMPLES[given.platform]}")
  card = given.card if given.platform == "cuda" else ""
  compile_all(given, Target(given.platform, given.topology, card))


def compile_all(given: argparse.Namespace, target: Target) -> None:
  """Prints the table, a row as soon as it is there."""
  prepare(target)
  devices = devices_of(target)
  from compiling import pages, rows
  from compiling.members import chosen
  from compiling.sizes import Sizes

  sizes = Sizes(batch_size=given.batch_size)
  check_batch_size(sizes.batch_size, len(devices), sizes.num_data)
  members = chosen(given.only)
  if not members:
    fail(f"--only={given.only}: no member has such a name; names begin with {', '.join(kinds())}")
  done = [r for r in rows.read_rows(given.csv) if r[:3] == target] if given.csv else []
  there = {r.member for r in done if r.batch_size == str(sizes.batch_size)}
  print(pages.line(pages.COLUMNS))
  for name, make in members.items():
    if name in there:
      continue
    row = rows.compile_row(name, make, sizes, devices, target)
    print(pages.line(pages.cells(row)), flush=True)
    if given.csv:
      rows.append(given.csv, row)


def kinds() -> list[str]:
  from compiling.members import MEMBERS

  return list(dict.fromkeys(re.split(":", name)[0] for name in MEMBERS))


if __name__ == "__main__":
  sys.path.insert(0, str(ROOT))
  main()
