"""Fills the tables of experiments/README.md with the numbers under experiments/results.

  python scripts/page.py runs/reproduce-cpu   # copies the results of scripts/reproduce.sh there
  python scripts/page.py                      # fills the tables again
  python scripts/page.py --check              # fails if the page differs from the results

A table stands between <!-- NAME --> and <!-- end -->; the rest of the page is written by hand.
"""

import pathlib
import re
import shutil
import sys

from pages import figures, published, structure, uses
from pages.results import RESULTS
from support.start import ROOT

PAGE = ROOT / "experiments" / "README.md"
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
FIGURES = (
  "lower_bound", "marginal_likelihood", "manifold", "samples", "conv_vae", "iwae_table", "uses",
  "analogies"
)  # fmt: skip
# Sections 2.2, 2.4 and 4, and the models of other papers that are no figures made of runs.
SECTIONS = (
  "gradients", "families", "linear_gaussian", "iwae_layers", "semi_supervised", "frey_face_video"
)  # fmt: skip
TABLES = dict(
  made=lambda: figures.made(FIGURES),
  lower_bound=figures.lower_bound,
  marginal_likelihood=figures.marginal_likelihood,
  manifold=figures.drawn("manifold"),
  samples=figures.drawn("samples"),
  recognition=uses.recognition,
  representation=uses.representation,
  completion=uses.completion,
  conv_vae=figures.conv_vae,
  iwae_table=figures.iwae_table,
  iwae_stages=figures.iwae_stages,
  layers=structure.layers,
  semi_supervised=structure.semi_supervised,
  video=structure.video,
  published=published.published,
)


def main() -> None:
  match sys.argv[1:]:
    case arguments if "--help" in arguments:
      print(__doc__.strip())
    case []:
      PAGE.write_text(fill(PAGE.read_text()))
    case ["--check"]:
      text = PAGE.read_text()
      sys.exit(0 if fill(text) == text else f"{PAGE.name} differs: run python scripts/page.py")
    case [made] if not made.startswith("-"):
      for name in (*FIGURES, *SECTIONS):
        take_over(pathlib.Path(made) / name)
      PAGE.write_text(fill(PAGE.read_text()))
    case _:
      sys.exit("error: scripts/page.py takes nothing, --check, or a directory of figures")


def take_over(directory: pathlib.Path) -> None:
  """Copies the results of a main, without the training runs; results not made again stay."""
  if (directory / "summary.json").exists():
    for path in directory.iterdir():
      if path.suffix in {".csv", ".png", ".json", ".txt"}:
        (RESULTS / directory.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, RESULTS / directory.name / path.name)


def fill(text: str) -> str:
  """Fills all tables of the page from the results."""
  return BLOCK.sub(lambda found: found[1] + "\n".join(TABLES[found[2]]()) + "\n" + found[3], text)


if __name__ == "__main__":
  main()
