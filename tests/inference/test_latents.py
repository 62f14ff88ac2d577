"""What latents are used for."""

import numpy as np

from aevb_jax.inference.latents import active_units


def test_active_units_are_those_whose_mean_varies_over_the_data():
  rng = np.random.default_rng(0)
  means = rng.normal(size=(1000, 4)) * np.sqrt([1.0, 0.02, 0.005, 0.0]) + [0.0, 3.0, -5.0, 7.0]
  assert active_units(means).tolist() == [True, True, False, False]
  assert active_units(means, threshold=0.5).tolist() == [True, False, False, False]
