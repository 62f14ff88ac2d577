"""A full disk at one write after another: one line, and then with room the command completes."""

import contextlib
import os
import pathlib
import re
import subprocess
from collections import Counter
from collections.abc import Iterator

from tortures import compare, runs
from tortures.kills import newest
from tortures.runs import Case, Ended, Lab, Outcome

PAGE = 4096
# Numbers of free pages; then shares of what the whole run takes, and that less some pages.
PAGES = (1, 2, 3, 4, 6, 8, 16, 32)
SHARES = (0.3, 0.5, 0.7, 0.85, 0.94)
PAGES_LEFT = (4, 2, 1)
INODES = (2, 3, 5, 8, 12, 30, 60)
FILE_SIZES = (16, 200, 400, 1000, 3000, 10_000)
# Removes root's capability to ignore the modes of files; other users cannot ignore them.
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
OBEY_MODES = (
  f"import ctypes; ctypes.CDLL(None).prctl({PR_CAPBSET_DROP}, {CAP_DAC_OVERRIDE}, 0, 0, 0)"
)
CACHE_WARNING = re.compile(
  r".* Error writing persistent compilation cache entry .*| +warnings\.warn\("
)
NO_CACHE = dict(JAX_ENABLE_COMPILATION_CACHE="false")  # the cache would be files, too
PRINTED = ("digits, ", " ", "pictures ", "test bound ")  # how lines of standard output begin
SAVED = (
  r"(nothing is saved in \S+ yet|the state after [\d,]+ training samples is in \S+; the same .*)"
)
REASONS = {
  "full": "No space left on device",
  "limit": "File too large",
  "unwritable": "Permission denied",
}


def cases(lab: Lab) -> Iterator[Case]:
  """Yields full disks and other limits; only root can mount the file systems of some of them."""
  for size in FILE_SIZES:
    name = f"disk/limit of {size} bytes a file"
    yield Case(name, lambda name=name, size=size: _limited(lab, name, size))
  for which in ("checkpoints", "all"):
    name = f"disk/unwritable {which}"
    yield Case(name, lambda name=name, which=which: _unwritable(lab, name, which))
  if os.geteuid():
    return
  with mounted(lab, "disk/measured", "size=64m") as place:
    runs.complete(lab, lab.flags_of("short"), place / "run")
    used = os.statvfs(place)
    whole = (used.f_blocks - used.f_bfree) * used.f_frsize // PAGE
  pages = {*PAGES, *(round(share * whole) for share in SHARES), *(whole - n for n in PAGES_LEFT)}
  limits = [f"size={number * PAGE}" for number in sorted(pages)]
  for limit in [*limits, *(f"nr_inodes={number}" for number in INODES)]:
    name = f"disk/full at {limit}"
    yield Case(name, lambda name=name, limit=limit: _full(lab, name, limit))
  yield Case("disk/full cache", lambda: _full_cache(lab, "disk/full cache"))


@contextlib.contextmanager
def mounted(lab: Lab, name: str, limit: str) -> Iterator[pathlib.Path]:
  """Mounts a file system in memory, with a limited size."""
  place = lab.new(name)
  place.mkdir()
  subprocess.run(["mount", "-t", "tmpfs", "-o", limit, "tmpfs", str(place)], check=True)
  try:
    yield place
  finally:
    subprocess.run(["umount", "--lazy", str(place)], check=True)
    place.rmdir()


def _full(lab: Lab, name: str, limit: str) -> Outcome:
  with mounted(lab, name, limit) as place:
    workdir = place / "run"
    ended = runs.run(lab, lab.flags_of("short"), workdir)
    room = "remount,size=64m,nr_inodes=100000"
    subprocess.run(["mount", "-o", room, str(place)], check=True)
    return _ended_and_goes_on(lab, workdir, ended, REASONS["full"])


def _full_cache(lab: Lab, name: str) -> Outcome:
  """Fills the cache of compiled programs, which no run needs."""
  workdir = lab.new(name)
  with mounted(lab, name, f"size={PAGE}") as place:
    ended = runs.run(lab, lab.flags_of("short"), workdir, env=dict(XDG_CACHE_HOME=str(place)))
  problems = [] if ended.status == 0 else [f"status {ended.status}: {runs.in_words(ended)}"]
  others = [line for line in ended.err.splitlines() if not CACHE_WARNING.fullmatch(line)]
  if others:
    problems.append(f"on standard error: {others[:5]}")
  problems += compare.differences(workdir, runs.uninterrupted(lab, "short"))
  return Outcome(1, problems, Counter(["cache"]))


def _limited(lab: Lab, name: str, size: int) -> Outcome:
  """Trains while no file may grow beyond a size."""
  workdir = lab.new(name)
  runs.uninterrupted(lab, "short")  # compiles the programs that are kept in files
  limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
  # Output goes through a pipe, which has no size.
  with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pipe:
    how = dict(first=limit, stdout=pipe.stdin, stderr=pipe.stdin, env=NO_CACHE)
    started = runs.start(lab, lab.flags_of("short"), workdir, **how)
    status = runs.end(started).status
    pipe.stdin.close()
    printed = pipe.stdout.read().splitlines(keepends=True)
  ours = [line for line in printed if not line.startswith(PRINTED)]
  ended = Ended(status, "".join(printed), "".join(ours))
  return _ended_and_goes_on(lab, workdir, ended, REASONS["limit"])


def _unwritable(lab: Lab, name: str, which: str) -> Outcome:
  """Makes directories read-only in the middle of a run."""
  workdir = lab.new(name)
  started = runs.start(lab, lab.flags_of("short"), workdir, first=OBEY_MODES)
  runs.until(lambda: newest(workdir) > 0, started)
  directories = [workdir / "checkpoints"] + [workdir] * (which == "all")
  for directory in directories:
    directory.chmod(0o555)
  ended = runs.end(started)
  for directory in directories:
    directory.chmod(0o755)
  return _ended_and_goes_on(lab, workdir, ended, REASONS["unwritable"])


def _ended_and_goes_on(lab: Lab, workdir: pathlib.Path, ended: Ended, reason: str) -> Outcome:
  """Checks that a run ended with one line, and that it resumes once it can write."""
  problems, line = [], ended.err.strip()
  safe = re.fullmatch(
    rf"error: (\S+) cannot be (used|written|written or read) \({reason}.*\).*", line
  )
  if ended.status == 0:
    problems += [f"on standard error: {ended.err}"] if ended.err else []
    hit = "nothing"
  elif ended.status == 2:
    hit = "the start"
    if newest(workdir) or not safe:
      problems.append(f"status {ended.status}: {ended.err[:2000]}")
  else:
    if ended.status != os.EX_IOERR or not safe or not re.search(f"; {SAVED}$", line):
      problems.append(f"status {ended.status}: {ended.err[:2000]}")
    hit = _kind(safe[1]) if safe else "unknown"
    if (saved := newest(workdir)) and f"after {saved * 100:,} training" not in line:
      problems.append(f"the checkpoint of step {saved} is there, and it says {line}")
  problems += runs.complete(lab, lab.flags_of("short"), workdir)
  problems += compare.differences(workdir, runs.uninterrupted(lab, "short"))
  return Outcome(1, problems, Counter([hit]))


def _kind(path: str) -> str:
  file = pathlib.Path(path)
  return (
    "checkpoint" if "checkpoints" in file.parts else re.sub(r"\.partial$|tfevents.*", "", file.name)
  )
