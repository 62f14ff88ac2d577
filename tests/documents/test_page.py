"""The page of figures agrees with the results."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "experiments" / "README.md"
TEXT = PAGE.read_text()


def test_its_numbers_are_those_of_the_results():
  command = [sys.executable, "scripts/page.py", "--check"]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert result.returncode == 0, result.stderr


def test_nothing_is_left_to_do():
  assert "TODO" not in TEXT
