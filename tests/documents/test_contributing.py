"""The recipes of CONTRIBUTING.md work: their files are written, their commands and code run."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.documents.test_pages import run_python
from tests.support import pages

PAGE = "CONTRIBUTING.md"
FILE = re.compile(r"# (\S+\.py)\n")
RESULTS = {  # files that each recipe leaves
  "Write an estimator": ("runs/tempered/gradients.csv", "runs/digits-tempered/summary.json"),
  "Add a family": ("runs/kumaraswamy/summary.json", "runs/zero-inflated/summary.json"),
  "Use your own networks": ("runs/residual/summary.json",),
  "Use your own images": ("runs/my_data/stripes.png", "runs/stripes/summary.json"),
  "Draw a figure": ("runs/latents/latents.csv", "runs/latents/latents.png"),
  "Tests": (),
}


@pytest.mark.parametrize("section", RESULTS)
def test_a_recipe_works_as_written(section, tmp_path):
  if section == "Draw a figure":  # its new files stand among the mains
    ignored = shutil.ignore_patterns("results", "__pycache__")
    shutil.copytree(pages.ROOT / "experiments", tmp_path / "experiments", ignore=ignored)
  num_run = 0
  for passage in pages.passages(PAGE):
    if passage.section != section:
      continue
    file = FILE.match(passage.text) if passage.language == "python" else None
    if file:
      path = tmp_path / file[1]
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(passage.text)
    elif passage.language == "python":
      run_python(passage.text, tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{pages.ROOT}")
      num_run += 1
    else:
      num_run += sum(run_command(line, tmp_path) for line in pages.command_lines(passage.text))
  assert num_run
  for name in RESULTS[section]:
    assert (tmp_path / name).is_file(), name


@pytest.mark.parametrize("name", ["my_families.py", "my_likelihoods.py", "my_networks.py"])
def test_a_part_of_ones_own_takes_thirty_lines(name):
  (text,) = [p.text for p in pages.passages(PAGE) if p.text.startswith(f"# {name}")]
  assert sum(bool(line.strip()) for line in text.splitlines()[1:]) <= 30


def test_every_recipe_is_run():
  sections = {passage.section for passage in pages.passages(PAGE)}
  assert sections - {""} == set(RESULTS)


def run_command(line: str, directory: pathlib.Path) -> bool:
  """Runs a command line of Python, unless it is one of scripts/; returns whether it did."""
  python, *arguments = shlex.split(line)
  if python != "python" or arguments[0].startswith("scripts/"):
    return False
  environment = os.environ | {"PYTHONPATH": f"{directory}{os.pathsep}{pages.ROOT}"}
  how = dict(cwd=directory, env=environment, capture_output=True, text=True, timeout=300)
  result = subprocess.run([sys.executable, *arguments], **how)
  assert result.returncode == 0, (line, result.stderr)
  return True
