"""Parameters in one file without pickle: names, precision, and files that are of something else."""

import jax
import numpy as np
import pytest

from aevb_jax import bernoulli, init_params, mlp_vae
from aevb_jax.errors import CheckpointError
from aevb_jax.training import weights


def params(hidden_dim=3):
  model = mlp_vae(bernoulli(5), data_dim=5, latent_dim=2, hidden_dim=hidden_dim)
  return init_params(jax.random.key(0), model)


def test_what_is_written_is_read(tmp_path):
  weights.write(tmp_path / "p.npz", params())
  like = jax.eval_shape(params)
  read = weights.read(tmp_path / "p.npz", like)
  assert jax.tree.structure(read) == jax.tree.structure(params())
  for a, b in zip(jax.tree.leaves(read), jax.tree.leaves(params()), strict=True):
    np.testing.assert_array_equal(a, b)
    assert a.dtype == b.dtype
  with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
    assert "theta/hidden_0/kernel" in file.files and "phi/head_1/bias" in file.files
  first = (tmp_path / "p.npz").read_bytes()
  weights.write(tmp_path / "p.npz", params())
  assert (tmp_path / "p.npz").read_bytes() == first  # no time of day


def test_half_precision_has_three_digits(tmp_path):
  weights.write(tmp_path / "p.npz", params(), half=True)
  read = weights.read(tmp_path / "p.npz", jax.eval_shape(params))
  for a, b in zip(jax.tree.leaves(read), jax.tree.leaves(params()), strict=True):
    np.testing.assert_allclose(a, b, rtol=2**-11, atol=2**-25)
    assert a.dtype == b.dtype
  with pytest.raises(ValueError, match="theta/.* not finite in float16"):
    weights.write(tmp_path / "p.npz", jax.tree.map(lambda leaf: leaf + 7e4, params()), half=True)


def test_other_parameters_are_refused(tmp_path):
  weights.write(tmp_path / "p.npz", params())
  with pytest.raises(
    CheckpointError, match=r"head_0/kernel has shape \(3, 5\) there, and \(4, 5\)"
  ):
    weights.read(tmp_path / "p.npz", jax.eval_shape(lambda: params(4)))
  with pytest.raises(CheckpointError, match="phi/hidden_1/bias is missing"):
    weights.read(tmp_path / "p.npz", jax.eval_shape(lambda: params((3, 3))))
  weights.write(tmp_path / "p.npz", params((3, 3)))
  with pytest.raises(CheckpointError, match="phi/hidden_1/bias is not in the model"):
    weights.read(tmp_path / "p.npz", jax.eval_shape(params))


@pytest.mark.parametrize("contents", [b"", b"PK\x03\x04 cut off", b"\x80\x04K*."])
def test_what_is_no_such_file_is_refused(contents, tmp_path):
  """The last is a pickle, which would run anything when it is opened."""
  (tmp_path / "p.npz").write_bytes(contents)
  with pytest.raises(CheckpointError, match="p.npz cannot be read"):
    weights.read(tmp_path / "p.npz", jax.eval_shape(params))


def test_objects_are_not_unpickled(tmp_path):
  arrays = {name: np.asarray(leaf) for name, leaf in weights.named(params()).items()}
  np.savez(tmp_path / "p.npz", **arrays | {"theta/hidden_0/bias": np.array([print], object)})
  with pytest.raises(CheckpointError, match="cannot be read"):
    weights.read(tmp_path / "p.npz", jax.eval_shape(params))
