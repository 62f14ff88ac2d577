"""The folders ("rooms") of the package import without circles, and all code is of readable size."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Each step imports only from itself and from the steps before it.
STAIRS = (
  ("types", "errors", "disk", "locks", "names"),
  ("ops",),
  ("data",),
  ("families",),
  ("models",),
  ("estimators",),
  ("inference",),
  ("training",),
  ("algorithms",),
  ("figures",),
  ("trackers",),
  ("runs",),
)
STEP = {room: step for step, rooms in enumerate(STAIRS) for room in rooms}
LINES, CODE_LINES, POSITIONAL, MODULES = 300, 40, 5, 15
# Names that may exceed these limits, each with the reason.
LARGE_MODULES = {}
LARGE_FUNCTIONS = {}
LARGE_FOLDERS = {
  "experiments": "the mains, each started by its name, stay where they are",
  "aevb_jax/families": "a file for each of the paper's constructions, and what they share",
  "experiments/plots": "a file for each main that draws a figure",
}


def modules(*folders):
  return {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in folders
    for path in sorted((ROOT / folder).rglob("*.py"))
  }


PACKAGE = modules("aevb_jax")


def dotted(path):
  return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


NAMES = {dotted(path) for path in PACKAGE}


def imports(source):
  """Yields the modules that a module imports anywhere; those of the package have whole names."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, "relative imports are not read here"
      for alias in node.names:
        whole = f"{node.module}.{alias.name}"
        yield whole if whole in NAMES else node.module


def above(path, source):
  """Returns the imports of a module from rooms above its own."""
  step = STEP[dotted(path).split(".")[1]]
  of_package = [name.split(".") for name in imports(source) if name.startswith("aevb_jax")]
  return [parts for parts in of_package if len(parts) < 2 or STEP[parts[1]] > step]


@pytest.mark.parametrize("path", [p for p in PACKAGE if p != "aevb_jax/__init__.py"])
def test_a_room_imports_from_those_before_it(path):
  assert not above(path, PACKAGE[path])


def test_a_step_up_would_be_noticed():
  up = "def f():\n  from aevb_jax.models.vae import mlp_vae\n"
  assert above("aevb_jax/families/kl.py", up) and not above("aevb_jax/training/sweep.py", up)
  assert above("aevb_jax/families/kl.py", "import aevb_jax")


def test_no_modules_form_a_circle():
  graph = {
    dotted(path): {name for name in imports(source) if name in NAMES}
    for path, source in PACKAGE.items()
  }
  graphlib.TopologicalSorter(graph).prepare()  # raises CycleError
  graph["aevb_jax.types"] = {"aevb_jax.models.vae"}
  with pytest.raises(graphlib.CycleError):
    graphlib.TopologicalSorter(graph).prepare()


def test_flags_are_not_of_the_package():
  readers = [path for path, s in PACKAGE.items() if any(n.startswith("absl") for n in imports(s))]
  assert not readers


def functions(source):
  return [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]


def docstring_lines(tree):
  """Returns the numbers of the lines of all docstrings."""
  documented = ast.FunctionDef | ast.ClassDef | ast.Module
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, documented) and ast.get_docstring(node) is not None:
      found |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
  return found


def code_lines(function, source):
  """Counts the lines of a function's body, without docstrings, comments and empty lines."""
  lines, docstrings = source.splitlines(), docstring_lines(function)
  body = set(range(function.body[0].lineno, function.end_lineno + 1)) - docstrings
  return sum(bool(text := lines[i - 1].strip()) and not text.startswith("#") for i in body)


def positional(function):
  names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
  return len([name for name in names if name not in ("self", "cls")])


EVERYTHING = modules("aevb_jax", "experiments")


def test_modules_are_of_readable_size():
  # Docstrings do not count, because a docstring is as long as it has to be.
  lines = lambda source: len(source.splitlines()) - len(docstring_lines(ast.parse(source)))
  large = {path for path, source in EVERYTHING.items() if lines(source) > LINES}
  assert not large - LARGE_MODULES.keys()


def test_functions_are_of_readable_size():
  large = {
    f"{path}:{function.name}"
    for path, source in EVERYTHING.items()
    for function in functions(source)
    if code_lines(function, source) > CODE_LINES or positional(function) > POSITIONAL
  }
  assert not large - LARGE_FUNCTIONS.keys()


def test_what_is_counted():
  source = 'def f(a, b, *, c):\n  """Says.\n\n  More.\n  """\n\n  # why\n  x = a\n  return x\n'
  (function,) = functions(source)
  assert code_lines(function, source) == 2 and positional(function) == 2


def test_folders_are_of_readable_size():
  folders = [str(pathlib.Path(path).parent) for path in EVERYTHING if "__init__" not in path]
  large = {folder for folder in folders if folders.count(folder) > MODULES}
  assert not large - LARGE_FOLDERS.keys()


def readers_of_flags(source):
  """Returns the lines that use absl's global flags, except in functions named main."""
  tree = ast.parse(source)
  mains = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "main"]
  named = [n for n in ast.walk(tree) if "FLAGS" in (getattr(n, "id", ""), getattr(n, "attr", ""))]
  in_main = lambda n: any(main.lineno <= n.lineno <= main.end_lineno for main in mains)
  return [node.lineno for node in named if not in_main(node)]


def test_only_mains_flags_and_launch_read_flags():
  """A configuration decides what is computed; nothing below the mains reads the command line."""
  exempt = ("experiments/flags/", "experiments/launch/")
  sources = modules("aevb_jax", "experiments")
  found = {p: readers_of_flags(s) for p, s in sources.items() if not p.startswith(exempt)}
  assert not {path: lines for path, lines in found.items() if lines}
  assert readers_of_flags("def f():\n  return flags.FLAGS.seed\n") == [2]
  assert readers_of_flags("FLAGS = flags.FLAGS\n") and not readers_of_flags(
    "def main():\n  return flags.FLAGS.seed\n"
  )
