"""Classification of images with few labels: the training of the models, and their errors."""

from experiments.studies.semi_supervised.models import (
  ALPHAS,
  FEATURE_STEP_SIZE,
  NAMES,
  Features,
  SemiSupervisedConfig,
  Trainer,
  check,
  make_features,
  make_parts,
  tasks,
)
from experiments.studies.semi_supervised.results import as_table, summarize
from experiments.studies.semi_supervised.training import train_all
