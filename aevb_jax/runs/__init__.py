"""Runs in Python: functions that train a configuration, resume it, and open the result.

`Config` and its parts decide what is computed. `train` trains a configuration in a directory,
`load` opens a directory, and `save` writes one. `encode`, `decode` and `log_likelihood` apply a run
to images. `read_table` and `to_pandas` open the tables that runs and figures write.
"""

from aevb_jax.runs.config import (
  AevbConfig,
  BudgetConfig,
  Config,
  DataConfig,
  Machine,
  McemConfig,
  ModelConfig,
  OptimizerConfig,
  members,
  replace,
)
from aevb_jax.runs.files import read_table
from aevb_jax.runs.loading import (
  LoadedRun,
  decode,
  encode,
  load,
  log_likelihood,
  save,
  to_pandas,
  train,
)
