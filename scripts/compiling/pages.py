"""The table on the terminal, and the tables of scripts/accelerators.md from the CSV files."""

import math
import pathlib
import re

from compiling.rows import Row, collectives_of, read_rows

TABLES = pathlib.Path(__file__).parent / "tables"
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
COLUMNS = ("member", "s", "kernels", "sent", "args MB", "temp MB", "MFLOP")
PAPER = "paper: MNIST, Adagrad"


def line(texts: tuple[str, ...] | list[str]) -> str:
  return "| " + " | ".join(texts) + " |"


def cells(row: Row) -> list[str]:
  """Formats a row of the table on the terminal."""
  if row.error:
    return [row.member, row.seconds, row.error.replace("|", "/"), "", "", "", ""]
  return [
    row.member,
    row.seconds,
    kernels(row),
    sent(row) or "–",
    millions(row.argument_bytes),
    *numbers(row),
  ]


def kernels(row: Row) -> str:
  return row.kernels + ("+" if int(row.open_loops or 0) else "")


def sent(row: Row) -> str:
  """Names the collectives of a step, such as "1 all-reduce (3.3 MB)"."""
  more = "+" if int(row.open_loops or 0) else ""
  found = collectives_of(row).items()
  return ", ".join(f"{n}{more} {kind} ({millions(str(size))} MB)" for kind, (n, size) in found)


def millions(number: str) -> str:
  return f"{float(number) / 1e6:.3g}" if number else ""


def tables() -> dict[str, list[Row]]:
  """Reads the CSV files: the rows of each target, by how the page names it."""
  found: dict[str, list[Row]] = {}
  all_rows = [row for path in TABLES.glob("*.csv") for row in read_rows(path)]
  for row in sorted(all_rows, key=place):
    found.setdefault(target_of(row), []).append(row)
  return found


def place(row: Row) -> tuple:
  """Sorts TPUs before cards, then by generation and by the number of devices."""
  generation, _, shape = row.topology.rpartition(":")
  return row.platform != "tpu", generation, math.prod(map(int, shape.split("x")))


def target_of(row: Row) -> str:
  """Names the devices of a row, such as "v5e:2x2" or "4 × H100"."""
  if row.platform != "cuda":
    return row.topology
  return f"{math.prod(map(int, row.topology.split('x')))} × {row.card.upper()}"


def summary() -> list[str]:
  """Writes a line for each target: what compiles, and the paper's step."""
  head = ("devices", "M", "JAX", "members", "refused", "kernels of the paper's step", "it sends")
  lines = [line(head), line(["---"] * len(head))]
  for target, rows in tables().items():
    refused = [row.member for row in rows if row.error]
    paper = next((row for row in rows if row.member == PAPER and not row.error), None)
    of_paper = [kernels(paper), sent(paper) or "–"] if paper else ["–", "–"]
    sizes = [rows[0].batch_size, rows[0].jax, str(len(rows)), str(len(refused))]
    lines.append(line([target, *sizes, *of_paper]))
  return lines


def refusals() -> list[str]:
  """Writes a line for each error: the devices, the members and the compiler's words."""
  lines = [line(("devices", "members", "the compiler's words")), line(["---"] * 3)]
  for target, rows in tables().items():
    by_error: dict[str, list[str]] = {}
    for row in rows:
      if row.error:
        by_error.setdefault(row.error, []).append(row.member)
    for error, members in by_error.items():
      lines.append(line([target, "; ".join(members), error.replace("|", "/")]))
  return lines


def members() -> list[str]:
  """Writes a line for each member, with a column for each target."""
  by_target = {t: {row.member: row for row in rows} for t, rows in tables().items()}
  names = list(dict.fromkeys(name for rows in by_target.values() for name in rows))
  names.sort(key=lambda name: ORDER.index(name.split(":")[0]))
  lines = [line(["member", *by_target]), line(["---"] * (len(by_target) + 1))]
  return lines + [
    line([name, *(short(rows.get(name)) for rows in by_target.values())]) for name in names
  ]


ORDER = (
  "paper", "article", "IWAE", "layers", "sequences", "labels", "estimator", "objective",
  "algorithm", "optimizer", "posterior", "prior", "likelihood", "network", "sweep", "evaluation",
)  # fmt: skip


SHORT = {
  "all-reduce": "r", "all-gather": "g", "reduce-scatter": "s", "all-to-all": "a",
  "collective-permute": "p",
}  # fmt: skip


def short(row: Row | None) -> str:
  """Formats a cell: kernels, collectives by kind, and megabytes of temporaries."""
  if row is None:
    return "–"
  if row.error:
    return "refused"
  found = " ".join(f"{n}{SHORT.get(kind, kind)}" for kind, (n, _) in collectives_of(row).items())
  return " · ".join(
    part for part in (kernels(row), found, f"{millions(row.temporary_bytes)} MB") if part
  )


def scaling() -> list[str]:
  """Writes a line for each number of chips that share a minibatch which grows with them."""
  rows = read_rows(TABLES / "weak_scaling" / "v5e.csv")
  rows.sort(key=lambda row: (row.member, *place(row)))
  head = ("member", "devices", "M", "kernels", "it sends", "temp MB", "MFLOP of a chip")
  return [line(head), line(["---"] * len(head))] + [
    line([row.member, row.topology, row.batch_size, row.kernels, sent(row), *numbers(row)])
    for row in rows
  ]


def numbers(row: Row) -> list[str]:
  return [millions(row.temporary_bytes), millions(row.flops) or "–"]


FILLED = dict(summary=summary, refusals=refusals, members=members, scaling=scaling)


def fill(text: str) -> str:
  """Returns the page with its tables filled from the CSV files."""
  return BLOCK.sub(lambda found: found[1] + "\n".join(FILLED[found[2]]()) + "\n" + found[3], text)
