"""The exceptions of the package: what could not be done, with a message that says what to do."""

from typing import Any


class UnsupportedError(TypeError):
  """An estimator asked a model for something that its distributions lack."""


class DataError(Exception):
  """A data set that cannot be had; the message says what to do about it."""


class NotPreparedError(DataError):
  """A data set that is not where it was looked for, and is not prepared unasked."""


class CacheError(DataError):
  """A cache of decoded arrays that cannot be written."""


class CheckpointError(Exception):
  """A state that is not there, or not of the expected shape."""


class DamagedError(CheckpointError):
  """A checkpoint that is no longer what was saved."""


class SaveError(Exception):
  """A checkpoint that could not be written; those before it are as they were."""


class GoneError(Exception):
  """The directory of a run that was moved or removed while the run was going on."""


class Held(Exception):
  """A lock that another process holds; the text says which."""


class ConfigError(ValueError):
  """A field of a configuration whose value cannot be used.

  Its text is "field=value: message", where the values of a tuple or list are joined by commas.

  Attributes:
    field: the name of the field.
    value: what it was given.
    message: what it takes.
  """

  def __init__(self, field: str, value: object, message: str):
    self.field, self.value, self.message = field, value, message
    shown = ",".join(map(str, value)) if isinstance(value, tuple | list) else value
    super().__init__(f"{field}={shown}: {message}")

  def __reduce__(self) -> tuple:  # an exception is pickled by its arguments, which are others
    return type(self), (self.field, self.value, self.message)


class RunError(Exception):
  """A directory that holds no run that can be opened.

  Attributes:
    workdir: the directory.
    message: why, and what to do.
  """

  def __init__(self, workdir: Any, message: str):
    super().__init__(f"{workdir}: {message}")
    self.workdir, self.message = workdir, message
