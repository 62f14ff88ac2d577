"""The exceptions of the package: each message says what could not be done and what to do."""

import contextlib
from collections.abc import Iterator
from typing import Any


class UnsupportedError(TypeError):
  """Raised when a function needs something of a model that its distributions lack."""


class FamilyError(ValueError):
  """Raised for a family whose functions fail or contradict each other; the text is one sentence."""


class DataError(Exception):
  """Raised for a data set that cannot be obtained or read; the message says what to do."""


class NotPreparedError(DataError):
  """Raised for a data set that is not prepared, and that only a user may decide to prepare."""


class CacheError(DataError):
  """Raised for a cache of decoded arrays that cannot be written."""


class CheckpointError(Exception):
  """Raised for a training state that is missing, or not of the expected shape."""


class DamagedError(CheckpointError):
  """Raised for a checkpoint whose contents differ from what was saved."""


class SaveError(Exception):
  """Raised for a checkpoint that could not be written; earlier checkpoints are unchanged."""


class GoneError(Exception):
  """Raised when the directory of a run was moved or removed during the run."""


class Held(Exception):
  """Raised for a lock that another process holds; the text names that process."""


class ConfigError(ValueError):
  """Raised for a field of a configuration whose value cannot be used.

  The text is "field=value: message". The values of a tuple or list are joined by commas.

  Attributes:
    field: the name of the field.
    value: the value that the field was given.
    message: the values that the field takes.
  """

  def __init__(self, field: str, value: object, message: str):
    self.field, self.value, self.message = field, value, message
    shown = ",".join(map(str, value)) if isinstance(value, tuple | list) else value
    super().__init__(f"{field}={shown}: {message}")

  def __reduce__(self) -> tuple:  # the default would call __init__ with the text only
    return type(self), (self.field, self.value, self.message)


@contextlib.contextmanager
def blaming(field: str, value: object) -> Iterator[None]:
  """Makes a ValueError of what a field names a ConfigError of that field.

  Args:
    field: the name of the field.
    value: the value that the field was given.

  Raises:
    ConfigError: for a ValueError; a ConfigError, which names its own field, stays as it is.
  """
  try:
    yield
  except ConfigError:
    raise
  except ValueError as error:
    raise ConfigError(field, value, str(error)) from error


class RunError(Exception):
  """Raised for a directory that holds no run that can be opened.

  Attributes:
    workdir: the directory.
    message: the reason, and what to do.
  """

  def __init__(self, workdir: Any, message: str):
    super().__init__(f"{workdir}: {message}")
    self.workdir, self.message = workdir, message
