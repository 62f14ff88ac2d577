"""The README's example runs as it stands, and its table names the flags there are."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAINS = ["train", "data", "gradients", "full_vb", "evaluate", "linear_gaussian", "inspect"]
MAINS += ["lower_bound", "marginal_likelihood", "manifold", "samples", "conv_vae", "iwae_table"]
MAINS += ["uses", "families"]


def test_the_example_runs():
  (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
  assert len(example.splitlines()) <= 25
  result = subprocess.run(
    [sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, timeout=300
  )
  assert result.returncode == 0, result.stderr
  value, error = map(float, re.findall(r"=([-\d.]+)", result.stdout))
  assert -20 < value < -14 and 0 < error < 1


def test_the_flag_table_is_complete():
  # Each in a process of its own: two mains may have flags of the same name.
  program = (
    "from experiments import {0} as main; "
    "print(*(flag.name for flag in main.FLAGS.get_key_flags_for_module(main)))"
  )
  asked = [
    subprocess.Popen(
      [sys.executable, "-c", program.format(main)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    for main in MAINS
  ]
  flags = {name for process in asked for name in process.communicate(timeout=300)[0].split()}
  assert all(process.returncode == 0 for process in asked)
  listed = set(re.findall(r"`--(\w+)`", README))
  assert flags <= listed
  assert listed <= flags | {f"no{flag}" for flag in flags} | {"flagfile", "help"}


def test_the_pictures_are_there():
  pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", README)
  assert len(pictures) >= 2
  for picture in pictures:
    assert (ROOT / picture).is_file()
