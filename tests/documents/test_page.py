"""The page of figures says what the results say, and all that it shows and links is there."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "experiments" / "README.md"
TEXT = PAGE.read_text()


def test_its_numbers_are_those_of_the_results():
  command = [sys.executable, "scripts/page.py", "--check"]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert result.returncode == 0, result.stderr


def test_its_links_lead_somewhere():
  anchors = {
    "#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
    for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
  }
  links = re.findall(r"\]\(([^)]*)\)", TEXT)
  assert len(links) > 15
  for link in links:
    if link.startswith("#"):
      assert link in anchors
    elif not link.startswith("https://"):
      assert (PAGE.parent / link.partition("#")[0]).exists(), link


def test_nothing_is_left_to_do():
  assert "TODO" not in TEXT
