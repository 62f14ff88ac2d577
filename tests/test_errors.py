"""The texts of the exceptions of the package."""

import pickle

import pytest

from aevb_jax.errors import ConfigError


@pytest.mark.parametrize(
  "value, text",
  [
    (0, "batch_size=0: takes at least 1"),
    ("many", "batch_size=many: takes at least 1"),
    ((1, 0), "batch_size=1,0: takes at least 1"),
    ([0.5], "batch_size=0.5: takes at least 1"),
  ],
)
def test_a_config_error_names_the_field(value, text):
  error = ConfigError("batch_size", value, "takes at least 1")
  again = pickle.loads(pickle.dumps(error))  # as an error comes back from another process
  for each in (error, again):
    assert isinstance(each, ValueError) and str(each) == text
    assert (each.field, each.value, each.message) == ("batch_size", value, "takes at least 1")
