"""Counts the right values of log-densities, moments and divergences, here and in other libraries.

  python scripts/conformance.py                 # this package, and all libraries installed
  python scripts/conformance.py --only=numpyro  # aevb_jax, scipy, numpyro, tfp, distrax or torch
  python scripts/conformance.py --list          # also prints each wrong value and the right one
  python scripts/conformance.py --page          # also writes the counts to scripts/conformance.md
  python scripts/conformance.py --make          # makes tests/contracts/conformance.json again

The file has points: a member of a family, mostly a z, and the right values of quantities there,
which are the cases. All inputs are exact in float32. mpmath computed the right values with 60
digits. A value is right if it is off by at most 1e-10 (1 + |right|) in float64, 1e-5 in float32; a
KL, a mean, a variance or a sum of probabilities by that times |right|. `not there` is what a
library has no function for. --page keeps the rows of libraries that are not installed.
"""

import json
import re
import sys
from typing import Any, NamedTuple

from conformances.libraries import LIBRARIES, Library
from conformances.score import cases, is_right, numbers
from support.start import ROOT, fail, need

SUITE = ROOT / "tests" / "contracts" / "conformance.json"
PAGE = ROOT / "scripts" / "conformance.md"
BLOCK = re.compile(r"(<!-- table -->\n)(.*?)(<!-- end -->)", re.DOTALL)
HEADER = ("library", "version", "float64: right", "wrong", "not there")
HEADER += ("float32: right", "wrong", "not there")
FLAGS = ("--list", "--page", "--make", "--help")


class Count(NamedTuple):
  """The cases of one library in one precision; `wrong` lists them in words."""

  right: int
  wrong: list[str]
  missing: int


def main() -> None:
  arguments = sys.argv[1:]
  only = [a.removeprefix("--only=") for a in arguments if a.startswith("--only=")]
  unknown = [a for a in arguments if a not in FLAGS and not a.startswith("--only=")]
  if "--help" in arguments:
    print(__doc__.strip())
  elif unknown or set(only) - set(LIBRARIES):
    fail(f"takes {', '.join(FLAGS)}, or --only= one of {', '.join(LIBRARIES)}")
  elif "--make" in arguments:
    need("mpmath", extra="test")
    from conformances import making

    SUITE.write_text(making.text(making.points()))
  else:
    rows = report([LIBRARIES[name] for name in only or LIBRARIES], "--list" in arguments)
    if "--page" in arguments:
      PAGE.write_text(fill(PAGE.read_text(), rows))


def report(libraries: list[Library], listed: bool) -> list[tuple[str, ...]]:
  """Prints the table, a row as soon as it is there, and returns its rows."""
  points, rows = json.loads(SUITE.read_text()), []
  print(line(HEADER))
  for library in libraries:
    if not library.is_there():
      print(f"{library.title} is not installed, or does not work with this JAX", file=sys.stderr)
      continue
    counts = {p: count(library, points, p) for p in library.precisions}
    rows.append((library.title, library.version() or "this one", *cells(counts)))
    print(line(rows[-1]), flush=True)
    for precision, of_precision in counts.items() if listed else ():
      print("\n".join(f"  {precision} {case}" for case in of_precision.wrong))
  return rows


def count(library: Library, points: list[dict], precision: str) -> Count:
  """Counts the cases that a library has right, has wrong and does not have."""
  right, wrong, missing = 0, [], 0
  for point, values in zip(points, library.run()(points, precision), strict=True):
    for name in cases(point, precision):
      if name not in values:
        missing += 1
      elif is_right(name, values[name], point["right"][name], precision):
        right += 1
      else:
        wrong.append(in_words(point, name, values[name]))
  return Count(right, wrong, missing)


def in_words(point: dict, name: str, value: Any) -> str:
  """Describes a wrong value: the member, z, the quantity, the value, and the right one."""
  where = f"{point['family']}({arguments(point)})"
  if "p" in point:
    where += f" ‖ {point['p']['family']}({arguments(point['p'])})"
  if "z" in point:
    where += f" at {brief(point['z'])}"
  return f"{where}: {name} {brief(value)}, right {brief(point['right'][name])}"


def arguments(of: dict) -> str:
  return ", ".join(f"{name}={brief(value)}" for name, value in (of["options"] | of["eta"]).items())


def brief(value: Any) -> str:
  found = [f"{number:.10g}" for number in numbers(value)]
  shown = ", ".join(found[:6]) + (", …" if len(found) > 6 else "")
  return shown if len(found) == 1 else f"({shown})"


def cells(counts: dict[str, Count]) -> list[str]:
  found = []
  for precision in ("float64", "float32"):
    of = counts.get(precision)
    found += [str(of.right), str(len(of.wrong)), str(of.missing)] if of else ["–"] * 3
  return found


def line(texts: tuple[str, ...]) -> str:
  return "| " + " | ".join(texts) + " |"


def fill(text: str, rows: list[tuple[str, ...]]) -> str:
  """Returns the page with these rows in its table; rows of other libraries stay."""
  block = BLOCK.search(text)
  if block is None:
    fail(f"{PAGE.name} has no table")
  there = {row.split("|")[1].strip(): row for row in block[2].splitlines()[2:]}
  there |= {row[0]: line(row) for row in rows}
  titles = [library.title for library in LIBRARIES.values()]
  ordered = [there[title] for title in titles if title in there]
  lines = [line(HEADER), line(tuple(["---"] * len(HEADER))), *ordered]
  return BLOCK.sub(lambda found: found[1] + "\n".join(lines) + "\n" + found[3], text)


if __name__ == "__main__":
  sys.path.insert(0, str(ROOT))
  main()
