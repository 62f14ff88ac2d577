"""Command lines that must be refused, made by hypothesis from the definitions of the flags.

`scripts/bad_commands.py` runs many more, each in a process of its own.
"""

import os
import pathlib
import shutil
import sys
import time

import jax
import jax.numpy as jnp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.append(str(pathlib.Path(__file__).parents[2] / "scripts"))

from bad_commands import Ending, changes, complaints, environment, prepare, snapshot
from refusals.definitions import MAINS, Bad
from refusals.inputs import generated

from experiments.launch import command
from tests.support import processes

EXAMPLES = {"train": 30}  # ten for each other main


def ending(bad, place):
  """Runs a command and returns how it ended, like scripts/bad_commands.py."""
  place.mkdir()
  arguments, clean = prepare(place, bad, None), environment(place.parent)
  before, began = snapshot(place), time.perf_counter()
  result = processes.run(
    bad.main, *arguments, cwd=place, environment=clean, num_devices=bad.num_devices
  )
  seconds, changed = time.perf_counter() - began, changes(before, snapshot(place))
  shutil.rmtree(place)
  return Ending(result.returncode, result.stdout, result.stderr, seconds, changed)


@pytest.mark.parametrize("main", MAINS)
def test_what_is_bad_is_refused_in_one_clear_line(main, tmp_path):
  by_kind = generated(main, processes.definitions(main))
  assert len(by_kind) >= 6

  @settings(
    max_examples=EXAMPLES.get(main, 10),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
  )
  @given(st.sampled_from(sorted(by_kind)).flatmap(by_kind.get))
  def refused(bad):
    ended = ending(bad, tmp_path / "place")
    assert not complaints(bad, ended), (bad, ended)

  refused()


def test_want_of_memory_is_told_in_a_line(capsys):
  much = lambda: jax.block_until_ready(jnp.ones((2**24, 2**24)))
  assert command.status_of(much) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: Out of memory") and "--batch_size" in line
  with pytest.raises(ZeroDivisionError):  # other exceptions pass through unchanged
    command.status_of(lambda: 1 / 0)


def test_the_checks_can_fail():
  bad = Bad("train", "out of bounds", ("--latent_dim=0",))
  clear = "error: flag --latent_dim=0: 0 is not a positive integer\n"
  assert complaints(bad, Ending(2, "", clear, 1.0, [])) == []
  traceback = "Traceback (most recent call last):\nValueError: latent_dim\n"
  for wrong in (
    Ending(0, "", clear, 1.0, []),
    Ending(-11, "", clear, 1.0, []),
    Ending(2, "digits\n", clear, 1.0, []),
    Ending(2, "", clear, 1.0, ["run/flags.txt"]),
    Ending(1, "", traceback, 1.0, []),
    Ending(2, "", clear + clear, 1.0, []),
    Ending(2, "", "error: something is wrong\n", 1.0, []),
    Ending(2, "", f"error: --latent_dim=0 {'is wrong' * 60}\n", 1.0, []),
  ):
    assert len(complaints(bad, wrong)) == 1


def test_what_is_made_or_changed_is_seen(tmp_path):
  (tmp_path / "file").write_text("a")
  os.utime(tmp_path / "file", ns=(0, 0))
  before = snapshot(tmp_path)
  (tmp_path / "file").write_text("b")
  (tmp_path / "run").mkdir()
  assert changes(before, snapshot(tmp_path)) == ["file", "run"]
  shutil.rmtree(tmp_path / "run")
  (tmp_path / "file").unlink()
  assert changes(before, snapshot(tmp_path)) == ["file"]
