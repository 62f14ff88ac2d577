"""A video by a state-space VAE and by the VAE of single frames: their training and comparison.

All numbers are in nats per frame. A window is T consecutive frames. The static VAE takes a frame as
its data point, and the dynamic models take a window. Windows tile the frames that are evaluated, so
that every number is known for the same windows by all models, and their differences are paired.
"""

from experiments.studies.frey_face_video.comparison import (
  WINDOW_COLUMNS,
  as_table,
  compare,
  make_frames,
  paired,
)
from experiments.studies.frey_face_video.training import (
  METHODS,
  FreyFaceVideoConfig,
  check_name,
  check_video,
  make_method,
  train,
)
