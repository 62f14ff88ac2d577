"""Settings of all tests: double precision, no silent broadcasting, no key reuse, 8 devices."""

import gc
import os
import subprocess
import sys

# These also apply to the processes that the tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def compile_quickly():
  """Sets XLA_FLAGS to compile quickly, because most programs here run only for an instant.

  With JAX_DISABLE_MOST_OPTIMIZATIONS=0 and XLA_FLAGS= they are compiled as users have them.
  """
  if "XLA_FLAGS" in os.environ:  # set by the user, or by the process whose worker this is
    return
  quick = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
  start = [sys.executable, "-c", "import jax; jax.devices()"]
  started = subprocess.run(start, env=os.environ | {"XLA_FLAGS": quick}, capture_output=True)
  # An XLA that no longer has one of these flags ends at once.
  os.environ["XLA_FLAGS"] = "" if started.returncode else quick


compile_quickly()
# Imports stay and tracing makes much garbage: collecting less often saves a tenth of the time.
gc.freeze()
gc.set_threshold(50_000)


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory):
  """Keeps decoded arrays in a cache that all processes share, instead of in the user's.

  Compiled programs are not kept: compiled as they are here, keeping them takes longer.
  """
  directory = tmp_path_factory.mktemp("cache")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XDG_CACHE_HOME", str(directory))
    patch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    yield


@pytest.fixture(scope="session")
def float_images_dir(tmp_path_factory):
  """A TFDS directory with the data set float_images: 4×4 pixels in [-1, 2]."""
  from tests.support import float_images

  return float_images.prepare(str(tmp_path_factory.mktemp("tfds")))
