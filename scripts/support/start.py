"""The parts that scripts share: the root of the repository, and errors at the start in one line."""

import importlib
import pathlib
import shlex
import sys
from typing import NoReturn

ROOT = pathlib.Path(__file__).resolve().parents[2]


def fail(message: str) -> NoReturn:
  """Ends the script with one line on standard error and status 2."""
  print(f"error: {message}", file=sys.stderr)
  sys.exit(2)


def need(*libraries: str, extra: str | None = None) -> None:
  """Ends the script if a library is not installed, with the command that installs it.

  Scripts call it only after --help was answered, which needs no extra.

  Args:
    *libraries: names of modules.
    extra: the extra of pyproject.toml that has them; without it, they are installed by name.
  """
  for library in libraries:
    try:
      importlib.import_module(library)
    except ImportError:
      what = ["--editable", f"{ROOT}[{extra}]"] if extra else [library]
      command = shlex.join([sys.executable, "-m", "pip", "install", *what])
      fail(f"this needs {library}, which {command} installs")
