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
MAINS += ["uses", "families"]


def test_the_example_runs():
  (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
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
