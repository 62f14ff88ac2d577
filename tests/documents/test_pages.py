"""The links of all pages lead somewhere, their commands are valid and their Python runs."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.support import pages
from tests.support.pages import PAGES, ROOT

MAIN = re.compile(r"python -m experiments\.(\w+)(.*)")
SCRIPT = re.compile(r"\b(?:python|bash) ((?:scripts|experiments)/\S+\.(?:py|sh))\b")
RECIPES = "CONTRIBUTING.md"  # test_contributing.py runs it
# Options of other programs, such as pip and tensorboard, and those that absl defines.
OTHER_OPTIONS = {"editable", "logdir", "flagfile", "help", "helpshort", "fix", "no", "backend"}
# The pages that are left out have tests of their own; tests/models has the one of numpyro.md.
OTHERS = ("estimators/README.md", "runs/README.md", "models/numpyro.md")
WITH_PYTHON = [
  page
  for page in PAGES
  if pages.python_of(page)
  and page not in (RECIPES, "README.md", *(f"aevb_jax/{other}" for other in OTHERS))
  and not page.startswith("experiments/results/")  # test_published.py opens those
]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
  for link in pages.links(page):
    if link.startswith(("https://", "http://")):
      continue
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists(), link
    if anchor:
      assert anchor in pages.anchors(str(target.resolve().relative_to(ROOT))), link


def test_the_check_of_links_can_fail():
  found = pages.links("README.md")
  assert len(found) > 20 and any("#" in link for link in found)
  assert any(link.endswith(".png") for link in found)
  assert "where-log-px-is-known" in pages.anchors("aevb_jax/inference/README.md")
  assert "where-log-p-is-known" not in pages.anchors("aevb_jax/inference/README.md")


def test_the_readme_is_short():
  assert len(pages.read("README.md").splitlines()) <= 200


def test_every_room_has_a_line_on_the_map():
  listed = set(re.findall(r"`(\w+)/`", pages.read("aevb_jax/README.md")))
  rooms = {path.parent.name for path in (ROOT / "aevb_jax").glob("*/__init__.py")}
  assert rooms <= listed


def test_every_script_has_a_line():
  listed = set(re.findall(r"^\| `(\w+\.\w+)` \|", pages.read("scripts/README.md"), re.MULTILINE))
  there = {path.name for path in (ROOT / "scripts").iterdir() if path.suffix in {".py", ".sh"}}
  assert listed == there


def test_every_figure_is_on_a_page():
  for path in (ROOT / "experiments" / "results").glob("*/*.png"):
    if path.stem == path.parent.name:
      assert any(f"{path.parent.name}/{path.name}" in pages.read(page) for page in PAGES), path


def test_commands_can_be_given():
  given = {}
  for page in PAGES:
    for command in pages.all_commands(page):
      for script in SCRIPT.findall(command):
        assert (ROOT / script).is_file(), command
      found = MAIN.search(command)
      if found and page != RECIPES and "--flagfile" not in command and "--help" not in command:
        main = "plots.__main__" if found[1] == "plots" else found[1]
        assert (ROOT / "experiments" / f"{main.replace('.', '/')}.py").is_file(), command
        given.setdefault(main, []).append(shlex.split(found[2]))
  assert len(given) > 10 and sum(map(len, given.values())) > 30
  assert refused(given) == []
  assert len(refused({"train": [["--seed=x"], ["--no_such_flag"], ["--seed=1"]]})) == 2


def refused(given):
  result = subprocess.run(
    [sys.executable, "-m", "tests.support.parsing"],
    cwd=ROOT,
    input=json.dumps(given),
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout.splitlines()


def test_flags_that_pages_name_are_there():
  own = pages.read("experiments/flags/README.md")
  flags = set(re.findall(r"^\| `--(\w+)` \|", own, re.MULTILINE))
  for script in (ROOT / "scripts").glob("*.*"):
    flags |= set(re.findall(r'(?:--|DEFINE_\w+\(\s*")(\w+)', script.read_text()))
  assert len(flags) > 100
  for page in set(PAGES) - {"CHANGELOG.md"}:  # CHANGELOG.md names flags that were renamed
    for name in set(re.findall(r"(?<![\w-])--(\w+)", pages.read(page))) - OTHER_OPTIONS:
      assert name in flags or name.removeprefix("no") in flags, (page, name)


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_runs(page, tmp_path):
  run_python(pages.python_of(page), tmp_path)


def test_an_estimator_of_ones_own_trains():
  *_, example = [
    p.text for p in pages.passages("aevb_jax/estimators/README.md") if "def " in p.text
  ]
  assert len(example.splitlines()) <= 25
  # It trains for 5000 steps, so it is compiled with all optimizations, as for users.
  output = run_python(example, ROOT, JAX_DISABLE_MOST_OPTIMIZATIONS="0", XLA_FLAGS="")
  value, error = map(float, re.findall(r"=([-\d.]+)", output))
  assert -20 < value < -14 and 0 < error < 1


def test_the_first_estimator_has_a_gradient(tmp_path):
  first, *_ = [
    p.text for p in pages.passages("aevb_jax/estimators/README.md") if p.language == "python"
  ]
  check = "\nassert value < 0 and all((leaf != 0).any() for leaf in jax.tree.leaves(gradient.phi))"
  run_python(first + check, tmp_path)


def test_runs_are_trained_opened_and_compared(tmp_path):
  output = run_python(pages.python_of("aevb_jax/runs/README.md"), tmp_path)
  # The table has a row for each number of latents, under three columns.
  rows = re.findall(r"^(2|5|10) +(-\d+\.\d+) +(-\d+\.\d+) +\d", output, re.MULTILINE)
  assert [row[0] for row in rows] == ["2", "5", "10"]
  for _, bound, log_p in rows:
    assert -50 < float(bound) < float(log_p) < -20


def run_python(text, directory, **environment):
  """Runs a program in a directory and returns what it prints."""
  environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
  how = dict(cwd=directory, env=environment, capture_output=True, text=True, timeout=300)
  result = subprocess.run([sys.executable, "-c", text], **how)
  assert result.returncode == 0, result.stderr
  return result.stdout
