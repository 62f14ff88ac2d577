"""The README's example runs as it stands, and its table names the flags there are."""

import os
import pathlib
import re
import subprocess
import sys

from tests.support import processes

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAINS = ["train", "data", "gradients", "full_vb", "evaluate", "linear_gaussian", "status"]
MAINS += ["lower_bound", "marginal_likelihood", "manifold", "samples", "conv_vae", "iwae_table"]
MAINS += ["uses", "families", "plots.__main__"]


EXAMPLE, RUNS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_runs():
  example = EXAMPLE
  assert len(example.splitlines()) <= 25
  # Of 5000 steps, and so compiled as users have it.
  environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": ""}
  how = dict(cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
  result = subprocess.run([sys.executable, "-c", example], **how)
  assert result.returncode == 0, result.stderr
  value, error = map(float, re.findall(r"=([-\d.]+)", result.stdout))
  assert -20 < value < -14 and 0 < error < 1


def test_the_flag_table_is_complete():
  flags = set()
  for main in MAINS:
    flags |= {flag["name"] for flag in processes.definitions(main)["flags"]}
  listed = set(re.findall(r"`--(\w+)`", README))
  assert flags <= listed
  assert listed <= flags | {f"no{flag}" for flag in flags} | {"flagfile", "help"}


def test_the_pictures_are_there():
  pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", README)
  assert len(pictures) >= 2
  for picture in pictures:
    assert (ROOT / picture).is_file()


def test_runs_are_trained_opened_and_compared(tmp_path):
  how = dict(cwd=tmp_path, capture_output=True, text=True, timeout=300)
  result = subprocess.run([sys.executable, "-c", RUNS], **how)
  assert result.returncode == 0, result.stderr
  # A row for each number of latents, under the three columns.
  rows = re.findall(r"^(2|5|10) +(-\d+\.\d+) +(-\d+\.\d+) +\d", result.stdout, re.MULTILINE)
  assert [row[0] for row in rows] == ["2", "5", "10"]
  for _, bound, log_p in rows:
    assert -50 < float(bound) < float(log_p) < -20
