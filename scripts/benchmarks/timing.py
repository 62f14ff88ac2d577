"""The timing of several programs in turn, so that a noisy machine slows them alike."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Timed(NamedTuple):
  """Something to time: `run` takes `num_steps` steps and waits for them."""

  run: Callable[[], object]
  num_steps: int = 1
  compile_seconds: float | None = None
  memory_mb: float | None = None  # at the peak, without arguments and results


def in_own_process(make: Callable[..., Timed], *arguments) -> Timed:
  """Returns a `Timed` that runs `make(*arguments)` in a process of its own.

  The threads of one library then do not disturb the threads of another. `make` must be a
  function of a module, and the arguments must be picklable. The process ends with this one.

  Raises:
    Exception: whatever `make` raises.
  """
  context = multiprocessing.get_context("spawn")
  here, there = context.Pipe()
  context.Process(target=_serve, args=(there, make, arguments), daemon=True).start()

  def receive() -> object:
    answer = here.recv()
    if isinstance(answer, Exception):
      raise answer
    return answer

  def run() -> None:
    here.send(None)
    receive()

  return Timed(run, *receive())


def _serve(pipe, make: Callable[..., Timed], arguments: tuple) -> None:
  try:
    timed = make(*arguments)
    pipe.send(timed[1:])
    while True:
      pipe.recv()
      timed.run()
      pipe.send(None)
  except EOFError:  # the other end is gone
    pass
  except Exception as error:
    pipe.send(error)


STATISTICS = {"median": statistics.median, "min": min, "max": max}


def time_in_turn(timed: dict[str, Timed], repeats: int) -> dict[str, list[float]]:
  """Returns each one's milliseconds per step in every round; programs are compiled beforehand."""
  times = {name: [] for name in timed}
  for entry in timed.values():
    entry.run()  # the first call is slower, and some programs are compiled in it
  for _ in range(repeats):
    for name, entry in timed.items():
      start = time.perf_counter()
      entry.run()
      times[name].append(1e3 * (time.perf_counter() - start) / entry.num_steps)
  return times


def ratio(times: list[float], others: list[float]) -> float:
  """Returns the median over the rounds of one time divided by the other."""
  return statistics.median(a / b for a, b in zip(times, others, strict=True))


def rows_of(
  workload: str,
  timed: dict[str, Timed],
  times: dict[str, list[float]],
  *,
  samples_per_step: int | None,
  ours: str = "step",
) -> list[dict]:
  """Makes a row for each of `timed`; the others are compared with the one called floor.

  `ratio` is time / floor, and `speed` how many times as fast as this row `ours` is, both medians
  over the rounds. `ratio_least` and `speed_least` are the same for the least times, which other
  work on the machine disturbs least.
  """
  rows = []
  for name, entry in timed.items():
    row = dict(workload=workload, what=name)
    row |= {f"ms_{stat}": function(times[name]) for stat, function in STATISTICS.items()}
    if samples_per_step is not None:
      row["samples_per_second"] = 1e3 * samples_per_step / row["ms_median"]
    row["ratio"] = ratio(times[name], times["floor"]) if "floor" in timed else None
    row["ratio_least"] = row["ms_min"] / min(times["floor"]) if "floor" in timed else None
    row["speed"] = ratio(times[name], times[ours])
    row["speed_least"] = row["ms_min"] / min(times[ours])
    row["compile_seconds"] = entry.compile_seconds
    row["memory_mb"] = entry.memory_mb
    rows.append(row)
  return rows


COLUMNS = (
  ("workload", 22, "<"),
  ("what", 14, "<"),
  ("ms", 24, ">"),
  ("ratio", 7, ">.2f"),
  ("ratio_least", 8, ">.2f"),
  ("speed", 7, ">.2f"),
  ("speed_least", 8, ">.2f"),
  ("samples_per_second", 12, ">,.0f"),
  ("compile_seconds", 11, ">.1f"),
  ("memory_mb", 8, ">.0f"),
)
TITLES = dict(
  ratio_least="least",
  speed_least="least",
  samples_per_second="samples/s",
  compile_seconds="compile s",
  memory_mb="MB",
)


def header() -> str:
  return "".join(f"{TITLES.get(name, name):{how[0]}{width}}" for name, width, how in COLUMNS)


def line(row: dict) -> str:
  cells = dict(row, ms="{ms_median:.2f} ({ms_min:.2f}-{ms_max:.2f})".format(**row))
  text = ""
  for name, width, how in COLUMNS:
    value = cells.get(name)
    value = "" if value is None else format(value, how[1:])
    text += f"{value:{how[0]}{width}}"
  return text.rstrip()
