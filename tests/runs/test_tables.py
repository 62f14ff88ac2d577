"""Tables are read as rows of numbers and as DataFrames, whatever wrote them."""

import math
import pathlib
import sys

import pytest

from aevb_jax import runs
from aevb_jax.errors import RunError
from aevb_jax.runs import files

ROOT = pathlib.Path(__file__).parents[2]
TABLES = sorted((ROOT / "experiments" / "results").rglob("*.csv"))


def test_a_table_that_is_written_is_read(tmp_path):
  columns = ("step", "bound", "finished", "name", "note", "mixed", "seed_0")
  rows = [
    dict(step=1, bound=-1.5, finished=True, name="1_0", note=None, mixed=1, seed_0=3),
    dict(step=2, bound=math.inf, finished=False, name="2_0", note=None, mixed=2.5, seed_0=None),
    dict(step=3, bound=None, finished=True, name="a,b", note=None, mixed=-3, seed_0=-4),
  ]
  files.write_csv(tmp_path / "table.csv", columns, rows)
  read = runs.read_table(tmp_path / "table.csv")
  assert read == rows and runs.read_table(str(tmp_path / "table.csv")) == rows
  assert all(type(row["mixed"]) is float and type(row["step"]) is int for row in read)
  assert read[0]["finished"] is True
  files.write_csv(tmp_path / "empty.csv", columns, [])
  assert runs.read_table(tmp_path / "empty.csv") == []


def test_not_a_number_stays(tmp_path):
  (tmp_path / "table.csv").write_text("bound\nnan\n-1\n")
  first, second = (row["bound"] for row in runs.read_table(tmp_path / "table.csv"))
  assert math.isnan(first) and second == -1.0


def test_what_cannot_be_read(tmp_path):
  with pytest.raises(RunError, match="is a directory; name a table in it .there are: none.$"):
    runs.read_table(tmp_path)
  (tmp_path / "table.csv").write_text("a,b\n1\n")
  with pytest.raises(RunError, match="damaged table.csv"):
    runs.read_table(tmp_path / "table.csv")
  with pytest.raises(RunError, match="there are: table.csv"):
    runs.to_pandas(tmp_path)
  with pytest.raises(FileNotFoundError):
    runs.read_table(tmp_path / "missing.csv")


@pytest.mark.parametrize("path", TABLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_of_results_are_those_that_pandas_reads(path):
  pandas = pytest.importorskip("pandas")
  ours, theirs = runs.to_pandas(path), pandas.read_csv(path)
  assert len(ours) > 0
  pandas.testing.assert_frame_equal(ours, theirs, check_dtype=False)


def test_rows_and_runs_are_data_frames(tmp_path):
  pytest.importorskip("pandas")
  frame = runs.to_pandas([dict(step=1, bound=None), dict(step=2, bound=-0.5)])
  assert frame["bound"].isna().tolist() == [True, False] and frame["step"].sum() == 3
  rows = [dict(step=i, examples_seen=100 * i, test_bound=-i, seconds=0.5) for i in (1, 2)]
  run = runs.LoadedRun(tmp_path, *[None] * 5, rows, None)
  assert runs.to_pandas(run)["test_bound"].tolist() == [-1, -2]


def test_without_pandas(monkeypatch):
  monkeypatch.setitem(sys.modules, "pandas", None)
  with pytest.raises(ImportError, match="^runs.to_pandas needs pandas.*: pip install pandas$"):
    runs.to_pandas([])
