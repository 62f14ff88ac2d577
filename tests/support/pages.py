"""The pages of the repository, and the passages of code in them."""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FOLDERS = ("aevb_jax", "experiments", "scripts", "tests")
PAGES = sorted(
  str(page.relative_to(ROOT))
  for pages in (ROOT.glob("*.md"), *((ROOT / folder).rglob("*.md") for folder in FOLDERS))
  for page in pages
)


class Passage(NamedTuple):
  """A passage of a page between two fences.

  Attributes:
    section: the heading of the second level above the passage; "" for none.
    language: python, bash, ...
    text: the passage without the fences.
  """

  section: str
  language: str
  text: str


def read(page: str) -> str:
  return (ROOT / page).read_text()


def passages(page: str) -> list[Passage]:
  """Returns the passages of code of a page, in order."""
  text, found = read(page), []
  for fence in FENCE.finditer(text):
    above = re.findall(r"^## (.*)$", FENCE.sub("", text[: fence.start()]), re.MULTILINE)
    found.append(Passage(above[-1] if above else "", fence[1], fence[2]))
  return found


def python_of(page: str) -> str:
  """Returns all Python passages of a page, one after another, as one program."""
  return "\n".join(passage.text for passage in passages(page) if passage.language == "python")


def command_lines(text: str) -> list[str]:
  """Returns the command lines of a passage of bash, without comments."""
  lines = text.replace("\\\n", " ").splitlines()
  return [line for line in (line.partition(" #")[0].strip() for line in lines) if line]


def all_commands(page: str) -> list[str]:
  """Returns the command lines of a page, in passages of bash and between backticks."""
  found = []
  for passage in passages(page):
    if passage.language == "bash":
      found += command_lines(passage.text)
  prose = FENCE.sub("", read(page))
  return found + [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose)]


def anchors(page: str) -> set[str]:
  """Returns the anchors of the headings of a page, as GitHub makes them."""
  headings = re.findall(r"^#+ (.*)$", FENCE.sub("", read(page)), re.MULTILINE)
  return {re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> list[str]:
  """Returns what a page links to and the pictures that it shows."""
  prose = re.sub(r"`[^`]*`", "", FENCE.sub("", read(page)))
  return re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'src="([^"]+)"', prose)
