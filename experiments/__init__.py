"""Experiments: one main for each figure or question, with absl flags."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m` looks for a main, and has imported nothing yet
  from experiments.launch import starting

  starting.begin()
