"""Writes the site of scripts/docs.sh: the API of the package by pdoc, and the repository's pages.

  python scripts/support/docs.py site

The site holds everything that it needs, and can be read from the disk as from a server.
"""

import importlib
import inspect
import os
import pathlib
import pkgutil
import re
import shutil
import sys
import types
import warnings
from collections.abc import Iterator

import latex2mathml.converter
import pdoc
import pdoc.render
import pdoc.render_helpers

import aevb_jax

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEMPLATES = pathlib.Path(__file__).with_name("docs")
LINK = re.compile(r'(?P<kind>href|src)="(?P<path>[^":#?]+)(?P<anchor>#[^"]*)?"')
NO_PAGES = ("runs", "site")  # folders that programs make
# Text that pdoc writes and that says nothing to a reader, and its replacement. In the search index
# quotes have backslashes.
DOT = r'<span class=\\?"o\\?">\.</span>'
ARRAY = DOT.join(rf'<span class=\\?"n\\?">{word}</span>' for word in ("jax", "jaxlib", "_jax", ""))
PLAINER = {
  ARRAY.removesuffix(r'<span class=\\?"n\\?"></span>'): "",
  rf'<span class=\\?"n\\?">typing</span>{DOT}': "",
  r"jax\.jaxlib\._jax\.|typing\.(?=Any)": "",
  r'<div class="docstring"><p>(Alias for field|Create new instance)[^<]*</p>\s*</div>': "",
  r"Create new instance of [^<]*|Alias for field number \d+": "",
}
CODE_OR_MATH = re.compile(
  r"(?P<block>```math\n(?P<display>.*?)```)|(?P<code>```.*?```|`[^`\n]*`)"
  r"|\$(?P<inline>[^\s$][^$]*?)(?<=\S)\$(?!\d)",
  re.DOTALL,
)
# pdoc evaluates the types of inherited signatures in a module other than their own.
OF_OTHERS = "Error parsing type annotation"


def main(site: pathlib.Path) -> None:
  shutil.rmtree(site, ignore_errors=True)
  warnings.simplefilter("error")
  warnings.filterwarnings("ignore", OF_OTHERS)
  warnings.filterwarnings("ignore", category=DeprecationWarning)  # raised by imported libraries
  pdoc.render.configure(docformat="google", template_directory=TEMPLATES)
  rooms = [room for room in packages() if room is not aevb_jax]
  for room in rooms:
    room.__doc__ = f"{inspect.getdoc(room)}\n\n" + "\n".join(contents(room))
  # pdoc finds the modules in __all__ by itself.
  others = {found.name for found in pkgutil.iter_modules(aevb_jax.__path__)} - {*aevb_jax.__all__}
  names = ["aevb_jax", *(f"aevb_jax.{name}" for name in sorted(others))]
  pdoc.pdoc(*names, output_directory=site)
  for path in (*site.rglob("*.html"), site / "search.js"):
    text = path.read_text()
    for pattern, plainer in PLAINER.items():
      text = re.sub(pattern, plainer, text)
    path.write_text(text)
  write_pages(site, [room.__name__ for room in rooms])


def packages() -> Iterator[types.ModuleType]:
  yield aevb_jax
  for found in pkgutil.walk_packages(aevb_jax.__path__, "aevb_jax."):
    if found.ispkg:
      yield importlib.import_module(found.name)


def contents(room: types.ModuleType) -> Iterator[str]:
  """Yields a line for each name that a room exports: where it is, and its first line."""
  for name, value in vars(room).items():
    module = getattr(value, "__module__", None) or ""
    public = not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
    if not public or not module.startswith(f"{room.__name__}."):
      continue
    place = module.removeprefix(f"{room.__name__.rpartition('.')[0]}.").replace(".", "/")
    first = (inspect.getdoc(value) or "").partition("\n\n")[0]
    yield f"- [`{name}`]({place}.html#{value.__name__}): {' '.join(first.split())}"


def write_pages(site: pathlib.Path, rooms: list[str]) -> None:
  """Writes a page for every .md file beside the API; the README becomes index.html."""
  sources = [path.relative_to(ROOT) for path in sorted(ROOT.rglob("*.md"))]
  sources = [
    source
    for source in sources
    if source.parts[0] not in NO_PAGES and not any(part.startswith(".") for part in source.parts)
  ]
  pages = [(str(source), address(source)) for source in sources]
  template = pdoc.render.env.get_template("page.html.jinja2")
  for source in sources:
    text = CODE_OR_MATH.sub(as_mathml, (ROOT / source).read_text())
    body = pdoc.render_helpers.to_html(text)
    up = "../" * (len(source.parts) - 1)
    html = template.render(
      title=f"aevb_jax: {source}",
      body=LINK.sub(lambda found, source=source: linked(found, source, site), body),
      contents=body.toc_html,
      pages=pages,
      rooms=rooms,
      up=up,
      search=False,
    )
    target = site / address(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(html)


def as_mathml(found: re.Match) -> str:
  """Turns a formula of a page into MathML, which browsers draw without a program."""
  if found["code"]:
    return found["code"]
  if found["block"]:
    return latex2mathml.converter.convert(found["display"], display="block") + "\n"
  # A line that starts with <math> would be a block of HTML.
  return f"<span>{latex2mathml.converter.convert(found['inline'])}</span>"


def address(source: pathlib.Path) -> str:
  """Returns where the page of a .md file is on the site."""
  return "index.html" if str(source) == "README.md" else str(source.with_suffix(".html"))


def linked(found: re.Match, source: pathlib.Path, site: pathlib.Path) -> str:
  """Turns a link to a file of the repository into one to its place on the site."""
  path = pathlib.Path(os.path.normpath(source.parent / found["path"]))
  if (ROOT / path / "README.md").is_file():
    path = path / "README.md"
  up = "../" * (len(source.parts) - 1)
  api = path.with_suffix("") if path.suffix == ".py" else path
  if path.suffix == ".md":
    place = address(path)
  elif (site / f"{api}.html").is_file():
    place = f"{api}.html"
  elif (ROOT / path).is_file():
    place = str(path)
    (site / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / path, site / path)
  elif (ROOT / path).is_dir():  # the site shows no folders
    return f'title="{path}"'
  else:
    raise FileNotFoundError(f"{source} links to {found['path']}, which there is not")
  return f'{found["kind"]}="{up}{place}{found["anchor"] or ""}"'


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
