"""The exceptions of the package; each message says what to do."""

from typing import Any


class ConfigError(ValueError):
  """A field of a configuration that cannot be used.

  Attributes:
    field: its name, which is that of a flag of experiments.train.
    value: its value.
    message: what it takes.
  """

  def __init__(self, field: str, value: Any, message: str):
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    super().__init__(f"{field}={text}: {message}")
    self.field, self.value, self.message = field, value, message


class RunError(Exception):
  """A directory that holds no run that can be opened.

  Attributes:
    workdir: the directory.
    message: why, and what to do.
  """

  def __init__(self, workdir: Any, message: str):
    super().__init__(f"{workdir}: {message}")
    self.workdir, self.message = workdir, message
