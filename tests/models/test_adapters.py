"""Networks of other libraries compute what their modules compute, from named parameters."""

import sys
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from aevb_jax import elbo_b, gaussian, init_params
from aevb_jax.models import conditional, from_equinox, from_linen, from_nnx, standard_normal
from aevb_jax.models.adapters import with_named_params
from aevb_jax.training import checkpoint
from aevb_jax.types import Array, Model, Network

X = jnp.asarray([0.3, -1.2, 0.5])


class Linen(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.tanh(nn.Dense(4, param_dtype=jnp.result_type(float))(x))


class Nnx(nnx.Module):
  """Has a list of layers, whose keys NNX numbers."""

  def __init__(self, rngs):
    sizes = [3, *[4] * 11]
    make = lambda a, b: nnx.Linear(a, b, param_dtype=jnp.result_type(float), rngs=rngs)
    self.layers = nnx.List([make(a, b) for a, b in zip(sizes, sizes[1:])])

  def __call__(self, x):
    for layer in self.layers:
      x = nnx.tanh(layer(x))
    return x


def equinox_mlp(key):
  eqx = pytest.importorskip("equinox", reason="the extra equinox is not installed")
  return eqx.nn.MLP(3, 4, 5, 11, key=key)  # layers 2 and 10, whose names sort otherwise


def network_of(library):
  if library == "linen":
    return from_linen(Linen(), (3,))
  if library == "nnx":
    return from_nnx(Nnx)
  pytest.importorskip("equinox", reason="the extra equinox is not installed")
  return from_equinox(equinox_mlp)


def output_of(library, key):
  """Computes what the library itself computes."""
  if library == "linen":
    return Linen().apply(Linen().init(key, jnp.zeros(3)), X)
  return (Nnx(nnx.Rngs(key)) if library == "nnx" else equinox_mlp(key))(X)


LIBRARIES = ["linen", "nnx", "equinox"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_network_computes_what_its_module_computes(library):
  network = network_of(library)
  for seed in (0, 1):
    params = network.init(jax.random.key(seed))
    expected = output_of(library, jax.random.key(seed))
    np.testing.assert_allclose(network.apply(params, X), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(network.apply)(params, X), expected, rtol=1e-12)
  assert expected.dtype == jnp.result_type(float)


@pytest.mark.parametrize("library", LIBRARIES)
def test_params_are_dicts_that_one_key_decides(library):
  def check(tree):
    for key, value in tree.items():
      assert type(key) is str and isinstance(value, dict | jax.Array)
      check(value) if isinstance(value, dict) else None

  network = network_of(library)
  one, again, other = (network.init(jax.random.key(seed)) for seed in (0, 0, 1))
  check(one)
  jax.tree.map(np.testing.assert_array_equal, one, again)
  assert not any(
    np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other))) if np.any(a)
  )
  assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(one))


@pytest.mark.parametrize("library", LIBRARIES)
def test_gradients_and_minibatches_are_those_of_the_function(library):
  network = network_of(library)
  params, keys = network.init(jax.random.key(0)), jax.random.split(jax.random.key(1), 5)
  x = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
  rows = jnp.stack([network.apply(params, row) for row in x])
  np.testing.assert_allclose(jax.vmap(network.apply, (None, 0))(params, x), rows, rtol=1e-12)
  loss = lambda p: jnp.sum(network.apply(p, X) ** 2)
  check_grads(loss, (params,), order=1, modes=("rev",))


@pytest.mark.parametrize("library", ["nnx", "equinox"])
def test_checkpoints_hold_them(library, tmp_path):
  network, (key, other) = network_of(library), jax.random.split(jax.random.key(0))
  state = (jnp.int32(3), network.init(key))
  with checkpoint.saver(tmp_path) as save:
    save(3, state, {})
  shapes = jax.eval_shape(lambda: (jnp.int32(0), network.init(other)))
  _, params = checkpoint.restore(tmp_path, 3, shapes)
  jax.tree.map(np.testing.assert_array_equal, params, state[1])


class Layer(NamedTuple):
  kernel: Array
  bias: Array


def by_hand():
  """A network whose parameters are a list of tuples."""

  def init(key):
    keys = jax.random.split(key)
    shapes = [(3, 4), (4, 4)]
    return [Layer(jax.random.normal(k, s), jnp.zeros(s[1])) for k, s in zip(keys, shapes)]

  def apply(params, x):
    for layer in params:
      assert isinstance(layer, Layer)
      x = jnp.tanh(x @ layer.kernel + layer.bias)
    return x[:2], x[2:]

  return Network(init, apply)


def test_params_in_any_tree_get_names():
  network = with_named_params(by_hand())
  params = network.init(jax.random.key(0))
  assert params.keys() == {"0", "1"} and params["0"].keys() == {"kernel", "bias"}
  expected = by_hand().apply(by_hand().init(jax.random.key(0)), X)
  jax.tree.map(np.testing.assert_array_equal, network.apply(params, X), expected)
  assert with_named_params(network) is network  # they have names already

  one_array = with_named_params(Network(lambda key: jnp.ones(3), lambda params, x: params * x))
  params = one_array.init(jax.random.key(0))
  assert params.keys() == {"value"}
  np.testing.assert_array_equal(one_array.apply(params, X), X)


def test_two_params_of_one_name_are_refused():
  class Name(str):
    def __str__(self):
      return "name"

  network = Network(lambda key: {Name("a"): X, Name("b"): X}, lambda params, x: x)
  with pytest.raises(ValueError, match="two parameters of the network have the same name"):
    with_named_params(network)


def test_a_pair_of_functions_is_a_conditional():
  encoder = conditional(by_hand(), gaussian(2), 3)
  params = encoder.init(jax.random.key(0))
  mean, log_var = by_hand().apply(by_hand().init(jax.random.key(0)), X)
  q = encoder.given(params, X)
  np.testing.assert_array_equal(q.mean, mean)
  np.testing.assert_array_equal(q.eta.log_var, log_var)


def test_heads_of_low_precision_become_densities_of_the_default():
  def apply(params, x):
    return (x.astype(jnp.bfloat16), jnp.zeros(3, jnp.bfloat16))

  q = conditional(Network(lambda key: {}, apply), gaussian(3), 3).given({}, X)
  assert {q.mean.dtype, q.sample(jax.random.key(0)).dtype} == {jnp.dtype(jnp.float64)}


def test_params_that_families_share_are_beside_the_network():
  from aevb_jax.families.table import iaf

  encoder = conditional(
    Network(lambda key: {}, lambda params, x: (x[:2],) * 3), iaf(2, hidden=4, context=2), 3
  )
  params = encoder.init(jax.random.key(0))
  assert params.keys() == {"network", "shared"}
  assert np.isfinite(encoder.given(params, X).sample_with_log_prob(jax.random.key(1))[1])


@pytest.mark.parametrize(
  "apply,said",
  [
    (lambda params, x: x, r"a tuple of 2 arrays.*shapes \(2,\), \(2,\); this returns float64"),
    (lambda params, x: (x[:2], x[:1]), r"returns a tuple of float64 \(2,\), float64 \(1,\)"),
    (lambda params, x: (x[:2],), r"returns a tuple of float64 \(2,\)$"),
    (lambda params, x: (x[:2] > 0, x[:2]), r"returns a tuple of bool \(2,\)"),
    (lambda params, x: (x[:2], None), r"returns a tuple of float64 \(2,\), NoneType"),
    (lambda params, x: x @ jnp.ones(4), r"cannot be applied to an input of shape \(3,\): "),
  ],
)
def test_heads_that_do_not_fit_are_refused(apply, said):
  with pytest.raises(ValueError, match=said) as raised:
    conditional(Network(lambda key: {}, apply), gaussian(2), 3)
  assert "\n" not in str(raised.value)


def test_an_error_has_the_place_in_the_users_code():
  def apply(params, x):
    raise KeyError("layer")  # this line

  line = next(i for i, text in enumerate(open(__file__), 1) if text.endswith("# this line\n"))
  with pytest.raises(ValueError, match=rf"KeyError: 'layer' \({__file__}, line {line}\b"):
    conditional(Network(lambda key: {}, apply), gaussian(2), 3)
  with pytest.raises(ValueError, match="cannot be initialized: ZeroDivisionError"):
    conditional(Network(lambda key: 1 / 0, apply), gaussian(2), 3)
  with pytest.raises(ValueError, match="cannot be made: ZeroDivisionError"):
    from_nnx(lambda rngs: 1 / 0)


@pytest.mark.parametrize("thing", [Nnx, nnx.relu, None, "MLP", Linen])
def test_what_is_no_network_is_refused(thing):
  with pytest.raises(ValueError, match=r"Flax linen module or a Network, .* is neither"):
    conditional(thing, gaussian(2), 3)


def test_state_of_nnx_is_refused():
  class Stateful(nnx.Module):
    def __init__(self, rngs):
      self.bn = nnx.BatchNorm(3, rngs=rngs)
      self.dropout = nnx.Dropout(0.5, rngs=rngs)
      self.constant = jnp.ones(3)

  with pytest.raises(ValueError, match="Stateful keeps state in") as raised:
    from_nnx(Stateful)
  for name in ("bn.mean (BatchStat)", "dropout.rngs.key (RngKey)", " constant"):
    assert name in str(raised.value)
  from_nnx(lambda rngs: nnx.Dropout(0.0))  # keeps none


def test_state_of_equinox_is_refused():
  eqx = pytest.importorskip("equinox", reason="the extra equinox is not installed")

  class Norm(eqx.Module):
    norm: eqx.nn.BatchNorm

    def __init__(self, key):
      self.norm = eqx.nn.BatchNorm(3, "batch", mode="batch")

  class Order(eqx.Module):
    order: Array

    def __init__(self, key):
      self.order = jax.random.permutation(key, 3)

  with pytest.raises(ValueError, match="Norm keeps state in norm"):
    from_equinox(Norm)
  with pytest.raises(ValueError, match="Order keeps state in order"):
    from_equinox(Order)
  dropout = from_equinox(lambda key: eqx.nn.Dropout(0.5))
  with pytest.raises(ValueError, match="Dropout requires a key"):
    conditional(dropout, gaussian(2), 3)


def test_a_library_that_is_not_installed_has_a_line(monkeypatch):
  monkeypatch.setitem(sys.modules, "equinox", None)
  with pytest.raises(ImportError, match="pip install equinox"):
    from_equinox(lambda key: None)


def test_sweeps_have_members_of_their_own():
  """States of several seeds are trained in one program, so parameters get another axis."""
  heads = lambda rngs: nnx.Linear(3, 2, param_dtype=jnp.result_type(float), rngs=rngs)
  network = from_nnx(heads)
  both = network._replace(apply=lambda params, x: (network.apply(params, x),) * 2)
  decoder = conditional(
    Network(lambda key: {"w": jnp.ones((2, 3))}, lambda p, z: (z @ p["w"], z @ p["w"])),
    gaussian(3),
    2,
  )
  model = Model(lambda params: standard_normal(2), decoder, conditional(both, gaussian(2), 3))
  keys = jax.random.split(jax.random.key(0), 3)
  params = jax.vmap(lambda key: init_params(key, model))(keys)
  bound = lambda p: elbo_b(jax.random.key(1), model, p, X)
  member = jax.tree.map(lambda leaf: leaf[1], params)
  np.testing.assert_allclose(jax.vmap(bound)(params)[1], bound(member), rtol=1e-12)
