"""The one rule for names: a name of this package, or package.module:function, and its arguments.

Wherever a flag or a field of `runs.Config` names a thing, it takes a function of your own too. The
module is imported from the directory that the command was started in, or from PYTHONPATH. Arguments
follow after colons, for both kinds of names: gamma:shape=2, my.families:kumaraswamy:a=2.
"""

import importlib
import inspect
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

PACKAGE = os.path.dirname(__file__)  # error messages skip lines of its code
LENGTH = 250  # characters of an exception's text; some of JAX's go on for a page
Value = int | float | bool | str


def is_own(text: str, known: Collection[str]) -> bool:
  """Reports whether a name is package.module:function, rather than one of `known`.

  Args:
    text: a name, with or without arguments.
    known: the names that this package gives a meaning.
  """
  name, *rest = text.split(":")
  return name not in known and bool(rest) and bool(rest[0]) and "=" not in rest[0]


def split(text: str, known: Collection[str]) -> tuple[str, dict[str, Value]]:
  """Splits a name from the arguments after colons.

  Args:
    text: such as gamma:shape=2:rate=0.5 or my.families:kumaraswamy:a=2.
    known: the names that this package gives a meaning.

  Returns:
    The name, and its arguments: whole numbers, numbers, true or false, or other text.

  Raises:
    ValueError: if the name is neither known nor package.module:function, or an argument is not
      written name=value.
  """
  name, *rest = text.split(":")
  if is_own(text, known):
    name = f"{name}:{rest.pop(0)}"
  elif name not in known:
    ours = f"unknown; takes {', '.join(known)}, or " if known else "takes "
    raise ValueError(f"{ours}package.module:function")
  arguments: dict[str, Value] = {}
  for argument in rest:
    key, equals, value = argument.partition("=")
    if not (equals and key.isidentifier() and value):
      raise ValueError(f"arguments are written name=value, not {argument!r}")
    arguments[key] = _value(value)
  return name, arguments


def check_plain(known: Collection[str], text: str) -> None:
  """Refuses a name that is neither known nor a user's own; only the latter takes arguments.

  Raises:
    ValueError: for such a name, or for arguments that cannot be read.
  """
  if text in known:
    return
  if not is_own(text, known):
    raise ValueError(f"takes one of {', '.join(known)}, or package.module:function")
  split(text, known)


def _value(text: str) -> Value:
  for number in (int, float):
    try:
      return number(text)
    except ValueError:
      pass
  return {"true": True, "false": False}.get(text.lower(), text)


def load(name: str) -> Callable[..., Any]:
  """Imports the function that package.module:function names.

  Args:
    name: without arguments.

  Raises:
    ValueError: if it cannot be imported, or cannot be called; the message is one line.
  """
  module_name, _, attribute = name.partition(":")
  try:
    function = getattr(importlib.import_module(module_name), attribute)
  except (Exception, SystemExit) as error:  # the import of a user's module may raise anything
    hint = ""
    if _is_no_module(module_name, error):
      hint = "; takes a module's name without .py, in this directory or on PYTHONPATH"
    raise ValueError(f"cannot be imported: {one_line(error)}{hint}") from error
  if not callable(function):
    raise ValueError(f"is {type(function).__name__}, which cannot be called")
  return function


def call(
  function: Callable[..., Any],
  *positional: Any,
  takes: str,
  arguments: Mapping[str, Any],
  offered: Mapping[str, Any] = {},
) -> Any:
  """Calls a function of a user's.

  Args:
    function: the function.
    *positional: the arguments that it has to take.
    takes: the arguments in words, for messages.
    arguments: the keyword arguments that the user gave after colons.
    offered: keyword arguments of which the function gets those that its signature names.

  Returns:
    What the function returns.

  Raises:
    ValueError: if the function does not accept these arguments, or fails; the message is one line,
      with the place in the user's code.
  """
  keywords = {key: value for key, value in offered.items() if accepts(function, key)}
  check_call(function, *positional, takes=takes, **keywords | dict(arguments))
  try:
    return function(*positional, **keywords | dict(arguments))
  except (Exception, SystemExit) as error:
    raise ValueError(f"fails: {one_line(error)}") from error


def check_call(function: Callable[..., Any], *positional: Any, takes: str, **keywords: Any) -> None:
  """Refuses a function whose signature does not accept some arguments.

  Raises:
    ValueError: for such a function.
  """
  try:
    inspect.signature(function).bind(*positional, **keywords)
  except (TypeError, ValueError) as error:
    more = [f"{key}=..." for key in keywords if f"{key}=" not in takes]
    named = ", ".join(part for part in (takes, *more) if part)
    raise ValueError(f"is called with ({named}), which it does not accept: {error}") from error
  except (Exception, SystemExit) as error:  # the attributes of a user's object may raise anything
    raise ValueError(f"cannot be looked at: {one_line(error)}") from error


def accepts(function: Callable[..., Any], keyword: str) -> bool:
  """Reports whether a function names a keyword argument in its signature, or takes any."""
  try:
    parameters = inspect.signature(function).parameters
  except (Exception, SystemExit):  # `check_call` then says why
    return False
  any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
  by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
  return any_keyword or keyword in parameters and parameters[keyword].kind in by_name


def guarded(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
  """Calls a part of what a user made; an exception becomes a ValueError of one line.

  Args:
    what: the name of the part.
    function: the part.
    *arguments: its arguments.

  Raises:
    ValueError: if the function fails.
  """
  try:
    return function(*arguments)
  except (Exception, SystemExit) as error:  # a user's function may raise anything
    raise ValueError(f"{what} fails: {one_line(error)}") from error


def shapes(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
  """Returns the shapes of what a part of what a user made returns, as `jax.eval_shape` does.

  Raises:
    ValueError: if the function fails; the message is one line.
  """
  return guarded(what, lambda: jax.eval_shape(function, *arguments))


def require_shape(what: str, found: Any, shape: tuple[int, ...]) -> None:
  """Refuses what is not an array of numbers of some shape.

  Args:
    what: the requirement in words, such as "log_prob must return a number".
    found: what `shapes` returned.
    shape: the shape that it must have.

  Raises:
    ValueError: if it is something else, or has another shape.
  """
  is_array = hasattr(found, "shape") and hasattr(found, "dtype")
  is_number = is_array and (np.issubdtype(found.dtype, np.number) or found.dtype == bool)
  if not is_number or tuple(found.shape) != shape:
    returned = f"an array of shape {tuple(found.shape)}" if is_array else type(found).__name__
    raise ValueError(f"{what}, of shape {shape}; it returns {returned}")


def source_of(text: str, known: Collection[str] = ()) -> str | None:
  """Returns the file of the user's module that a name is in; None for a name of this package."""
  module = sys.modules.get(text.partition(":")[0]) if is_own(text, known) else None
  return getattr(module, "__file__", None)


def one_line(error: BaseException) -> str:
  """Describes an exception in one line and, for an error below a user's code, the lines there."""
  what = textwrap.shorten(f"{type(error).__name__}: {error}", LENGTH, placeholder=" ...")
  installed = ("<", os.path.dirname(os.__file__), PACKAGE + os.sep)
  frames = [
    frame
    for frame in traceback.extract_tb(error.__traceback__)
    if not frame.filename.startswith(installed) and "site-packages" not in frame.filename
  ]
  if not frames:
    return what
  places = [f"{frame.filename}, line {frame.lineno}" for frame in frames[-1:]]
  file = frames[-1].filename
  for caller in reversed(frames[:-1]):
    same = caller.filename == file
    places.append(f"line {caller.lineno}" if same else f"{caller.filename}, line {caller.lineno}")
    file = caller.filename
  return f"{what} ({', called from '.join(places[:3])})"


def _is_no_module(name: str, error: BaseException) -> bool:
  """Reports whether there is no such module, rather than one that the user's own imports."""
  missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
  return missing or "/" in name
