"""Several starts in one directory at the same moment: exactly one of them gets it."""

import functools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tortures import compare, contract, runs
from tortures.kills import newest
from tortures.runs import Case, Lab, Outcome

TOGETHER = 4
# The flags of a start, and the kind of run that they make.
ASKED = {
  (): "aevb",
  ("--noresume",): "aevb",
  ("--overwrite", "--latent_dim=3"): "wider",
}
SECONDS_FOR_A_ROUND = 20


def cases(lab: Lab, number: int, rounds: int) -> Iterator[Case]:
  """Yields rounds of whole mains, and one case with all rounds of only `open_run`."""
  for i in range(number):
    name = f"starts/mains {i}"
    yield Case(name, functools.partial(_mains, lab, name))
  yield Case("starts/rounds", functools.partial(_rounds, lab, "starts/rounds", rounds))


def _mains(lab: Lab, name: str) -> Outcome:
  """Starts four mains on an unfinished run, each with random flags."""
  draw = lab.random(name)
  asked = draw.choices(list(ASKED), k=TOGETHER)
  for kind in set(ASKED.values()):
    runs.uninterrupted(lab, kind)
  workdir = contract.copied(lab, name, contract.stopped(lab, "aevb"))
  step = newest(workdir)
  starts = [runs.start(lab, (*lab.flags_of("aevb"), *flags), workdir) for flags in asked]
  ended = [runs.end(started) for started in starts]
  winners = [i for i, end in enumerate(ended) if end.status == 0]
  endings = f"{asked} ended with {[end.status for end in ended]}"
  if len(winners) != 1:
    errors = [runs.in_words(end) for end in ended]
    return contract.outcome(
      [f"{len(winners)} of {TOGETHER} continued: {endings} {errors}"], "several"
    )
  problems = [f for end in ended for f in contract.faults(end, 0 if end.status == 0 else 2)]
  (winner,) = winners
  problems += compare.differences(workdir, runs.uninterrupted(lab, ASKED[asked[winner]]))
  aside = sorted(workdir.parent.glob(f"{workdir.name}.[0-9]*"))
  if "resuming after" not in ended[winner].out and step not in map(newest, aside):
    problems.append(f"the run that was stopped at step {step} is gone: {endings}, {aside}")
  note = " ".join(asked[winner]) or "plain"
  return contract.outcome(problems, f"had by {note}", workdir, *aside)


def _rounds(lab: Lab, name: str, number: int) -> Outcome:
  """Lets a process without threads fork four that call `open_run` at once, again and again."""
  place = lab.new(name)
  place.mkdir()
  command = [sys.executable, "-m", "tortures.rounds", str(place), str(number), str(lab.seed)]
  limit = 60 + SECONDS_FOR_A_ROUND * number
  done = subprocess.run(
    command, capture_output=True, text=True, env=runs.environment(lab), timeout=limit
  )
  if done.returncode:
    raise RuntimeError(done.stderr[-2000:])
  failed, notes = _judged(Path(place, "rounds.json"))
  problems = (
    [f"{len(failed)} of {number} rounds, such as {'; '.join(failed[:3])}"] if failed else []
  )
  return Outcome(number, problems, notes, held=number - len(failed))


def _judged(file: Path) -> tuple[list[str], Counter]:
  """Reads what was wrong with the rounds that failed, and which process had the directory."""
  rounds = json.loads(file.read_text())
  return [r["wrong"] for r in rounds if r["wrong"]], Counter(r["winner"] for r in rounds)
