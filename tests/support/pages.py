"""The pages of the repository, and the passages of code in them."""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = sorted(
  page.relative_to(ROOT)
  for page in (*ROOT.glob("*.md"), *(p for d in ("aevb_jax", "experiments", "scripts", "tests")
                                     for p in (ROOT / d).rglob("*.md")))
)  # fmt: skip


class Passage(NamedTuple):
  """What stands between two fences."""

  language: str
  text: str


def read(page: pathlib.Path) -> str:
  return (ROOT / page).read_text()


def passages(page: pathlib.Path) -> list[Passage]:
  """Returns the passages of code of a page, in order."""
  return [Passage(*found) for found in FENCE.findall(read(page))]


def python_of(page: pathlib.Path) -> str:
  """Returns all Python passages of a page, one after another, as one program."""
  return "\n".join(text for language, text in passages(page) if language == "python")


def without_code(page: pathlib.Path) -> str:
  return re.sub(r"`[^`\n]*`", "", FENCE.sub("", read(page)))


def commands(page: pathlib.Path) -> list[str]:
  """Returns the command lines of a page: those in passages of bash, and those in running text."""
  found = []
  for language, text in passages(page):
    if language == "bash":
      lines = text.replace("\\\n", " ").splitlines()
      found += [line.partition(" #")[0].strip() for line in lines]
  prose = FENCE.sub("", read(page))
  found += [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose)]
  return [line for line in found if line]


def slugs(page: pathlib.Path) -> set[str]:
  """Returns the anchors of the headings of a page, as GitHub makes them."""
  headings = re.findall(r"^#+ (.*)$", FENCE.sub("", read(page)), re.MULTILINE)
  return {re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}
