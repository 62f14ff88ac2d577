"""Trackers that a user might pass to --tracker, right and wrong."""

import json

from aevb_jax.trackers import Tracker


def lines(workdir, name, config, *, file="lines.jsonl"):
  """Writes what it is given into a file, a line each."""
  path = workdir / file

  def write(*what):
    with open(path, "a") as opened:
      opened.write(json.dumps(what) + "\n")

  write("start", name, config["dataset"])
  log = lambda step, row: write("row", step, row["test_bound"])
  return Tracker(log, lambda summary: write("finish", summary and summary["test_bound"]))


def failing(workdir, name, config, *, when="log"):
  """Fails at the start, in its second row and all later ones, or at the end."""

  def fail(at):
    if at == when:
      raise RuntimeError(f"no connection at {at}")

  fail("start")
  log = lambda step, row: step > 1000 and fail("log")
  return Tracker(log, lambda summary: fail("finish"))


def of_two(workdir, name):
  """Lacks the configuration."""
