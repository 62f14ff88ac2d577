"""Tracing as on the machine that has the devices."""

import contextlib
import types
from collections.abc import Iterator
from unittest import mock

import jax
from jax._src.random import core as draws

BACKENDS = {"tpu": "tpu", "cuda": "gpu", "cpu": "cpu"}  # as `jax.default_backend` names them


@contextlib.contextmanager
def as_on(platform: str) -> Iterator[None]:
  """Traces functions that ask for the default backend as they are traced on another platform.

  On a CPU, `aevb_jax.ops.convolutions` makes products of convolutions, and JAX loops over the
  derivatives of Gamma samples, which it vectorizes elsewhere. Both decide when they are traced,
  from the backend of this process and not from the devices that the program is for.
  """
  backend = types.SimpleNamespace(platform=BACKENDS[platform])
  asked = types.SimpleNamespace(get_backend=lambda: backend)
  default = mock.patch.object(jax, "default_backend", lambda: backend.platform)
  with default, mock.patch.object(draws, "xla_bridge", asked):
    yield
