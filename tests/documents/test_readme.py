"""The README's example runs as it stands: it trains, opens and extends."""

import re

from tests.documents.test_pages import run_python
from tests.support import pages


def test_the_example_runs(tmp_path):
  (example,) = [
    passage.text for passage in pages.passages("README.md") if passage.language == "python"
  ]
  assert len(example.splitlines()) <= 25
  # It trains for thousands of steps, so it is compiled with all optimizations, as for users.
  settings = dict(JAX_DISABLE_MOST_OPTIMIZATIONS="0", XLA_FLAGS="")
  *_, opened, last = run_python(example, tmp_path, **settings).splitlines()
  bound, error = map(float, re.findall(r"[-\d.]+", opened))
  assert -40 < bound < -20 and 0 < error < 1
  assert -40 < float(last) < -20


def test_the_two_commands_are_there():
  commands = [
    line
    for passage in pages.passages("README.md")
    if passage.language == "bash"
    for line in pages.command_lines(passage.text)
  ]
  assert "bash scripts/quickstart.sh" in commands and "bash scripts/test.sh" in commands
