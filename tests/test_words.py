"""Docstrings begin plainly, and those of the names that the package exports are complete."""

import ast
import inspect
import pathlib
import re
import typing

import pytest

import aevb_jax

ROOT = pathlib.Path(__file__).parents[1]
ODD = re.compile(r"(Of|What|Which|Where|How|Whether|By|To|As|With)\b")
VERB = re.compile(r"[A-Z][a-z]+s\b")  # in the third person
RETURNS = re.compile(r"(Returns|Yields|Makes)\b|.*\nReturns:\n", re.DOTALL)
FEW_VERBS = 0.7  # the least share of function docstrings of the package that begin with a verb
ONE_LINE = {}  # exported functions that are simple enough for one line, with the reason
PUBLIC = [
  name
  for name, value in vars(aevb_jax).items()
  if callable(value) and not inspect.isclass(value) and typing.get_origin(value) is None
]


def docstrings(folder, kinds=(ast.FunctionDef, ast.ClassDef, ast.Module)):
  """Returns the docstrings in a folder, by the path and the name of what each describes."""
  found = {}
  for path in sorted((ROOT / folder).rglob("*.py")):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, kinds) and (text := ast.get_docstring(node)):
        found[f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}"] = text
  return found


@pytest.mark.parametrize("folder", ["aevb_jax", "experiments", "scripts"])
def test_docstrings_begin_plainly(folder):
  assert not [where for where, text in docstrings(folder).items() if ODD.match(text)]


def test_most_functions_begin_with_a_verb():
  texts = docstrings("aevb_jax", ast.FunctionDef)
  others = [where for where, text in texts.items() if not VERB.match(text)]
  assert len(others) <= (1 - FEW_VERBS) * len(texts), others


def lacks(function):
  """Names the parts that the docstring of a public function lacks."""
  text, signature = inspect.getdoc(function) or "", inspect.signature(function)
  needed = {"Args:": bool(signature.parameters)}
  needed["Returns:"] = signature.return_annotation not in (None, "None")
  there = {"Args:": "\nArgs:\n" in text, "Returns:": bool(RETURNS.match(text))}
  return [part for part in needed if needed[part] and not there[part]]


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in ONE_LINE])
def test_exported_functions_are_described_whole(name):
  assert not lacks(getattr(aevb_jax, name))


def test_what_is_missing_is_found():
  def half(x: int) -> int:
    """Halves x.

    Args:
      x: a number.
    """

  def sound(x: int) -> None:
    """Says x."""

  assert lacks(half) == ["Returns:"] and lacks(sound) == ["Args:"]
  assert ODD.match("Of x.") and not ODD.match("Often.") and VERB.match("Draws z.")
