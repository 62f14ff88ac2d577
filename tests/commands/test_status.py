"""experiments.status reports what a directory holds, or prints one line that says why not."""

import os

import pytest

from tests.support import processes

FLAGS = "--batch_size=100\n--likelihood=bernoulli\n--num_examples=3000\n"
HEADER = "step,examples_seen,evaluations,train_bound,test_bound,seconds\n"
ROWS = "10,1000,1000,-31.5,-32.5,0.5\n20,2000,2000,-30.5,-31.5,1.0\n"


def status(workdir):
  return processes.run("status", f"--workdir={workdir}")


def write(workdir, flags=FLAGS, metrics=HEADER + ROWS):
  (workdir / "flags.txt").write_text(flags)
  (workdir / "metrics.csv").write_text(metrics)


def test_a_run_that_has_begun_has_no_rows_yet(tmp_path):
  write(tmp_path, metrics=HEADER)
  result = status(tmp_path)
  assert result.returncode == 0, result.stderr
  assert "not finished: 0 of 3,000 training samples" in result.stdout
  assert "rows         none yet" in result.stdout
  write(tmp_path)
  assert (
    "rows         2, the last after 2,000 samples: test bound -31.50" in status(tmp_path).stdout
  )


BROKEN = {
  "a word": dict(metrics=HEADER + ROWS.replace("2000", "x")),
  "no header": dict(metrics=ROWS),
  "a torn row": dict(metrics=HEADER + ROWS[:-8]),
  "no bound": dict(metrics=HEADER.replace("test_bound", "a") + ROWS),
  "two columns of one name": dict(metrics=HEADER.replace("test_bound", "train_bound") + ROWS),
  "a zero byte": dict(metrics=HEADER + ROWS.replace("-", "\0", 1)),
  "quotes": dict(metrics=HEADER + ROWS + '"'),
  "no minibatch": dict(flags=FLAGS.replace("100", "0", 1)),
  "no number": dict(flags=FLAGS.replace("3000", "many")),
  "no flag": dict(flags=FLAGS.replace("--num_examples=3000\n", "")),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_was_edited_is_one_line(how, tmp_path):
  write(tmp_path, **BROKEN[how])
  result = status(tmp_path)
  (name,) = BROKEN[how]
  assert result.returncode == 2 and result.stdout == ""
  (line,) = result.stderr.splitlines()
  assert line.startswith(f"error: --workdir={tmp_path}: has a damaged {name}.")
  assert line.endswith("; restore or remove it")


@pytest.mark.parametrize("name", ["flags.txt", "metrics.csv", "config.json"])
@pytest.mark.parametrize("kind", ["pipe", "bytes"])
def test_what_is_no_text_is_one_line(name, kind, tmp_path):
  write(tmp_path)
  (tmp_path / name).unlink(missing_ok=True)
  if name == "config.json":
    (tmp_path / "flags.txt").unlink()
  if kind == "pipe":
    os.mkfifo(tmp_path / name)
  else:
    (tmp_path / name).write_bytes(bytes(range(256)))
  result = status(tmp_path)
  assert result.returncode == 2 and result.stdout == ""
  (line,) = result.stderr.splitlines()
  assert line.startswith(f"error: --workdir={tmp_path}: ")
