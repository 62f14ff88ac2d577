"""Models, networks and priors of your own, which names such as my.models:ladder stand for."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from aevb_jax import names
from aevb_jax.errors import ConfigError, blaming
from aevb_jax.models import hierarchical
from aevb_jax.models.conditions import given_condition
from aevb_jax.models.heads import network_vae
from aevb_jax.models.vae import init_params
from aevb_jax.types import Distribution, Family, Model, Params

LAYERED = "hierarchical"  # a model whose name has its layers as arguments
# Fields of `ModelConfig`, and the keywords by which a user's model takes what they name.
TAKEN_BY_MODEL = {
  "condition": "condition_dim",
  "hidden_dim": "hidden_dim",
  "posterior": "posterior",
  "prior": "prior",
  "init": "kernel_init",
  "compute_dtype": "dtype",
}


def make_model(
  text: str,
  likelihood: Family,
  *,
  data_dim: int,
  latent_dim: int,
  given: Mapping[str, Any],
  offered: Mapping[str, Any],
) -> Model:
  """Makes a model by a user's function, and tries it on shapes.

  Args:
    text: package.module:function, called with (likelihood, data_dim=D, latent_dim=J), and its other
      arguments after colons.
    likelihood: the family of x.
    data_dim: D.
    latent_dim: J.
    given: the fields among `TAKEN_BY_MODEL` that are not the defaults, which the function has to
      take, with their values.
    offered: further arguments, of which the function gets those that its signature names. If they
      have condition_dim, C, it makes a conditional model, for pairs (z, c) and (x, c).

  Returns:
    The model.

  Raises:
    ConfigError: if there is no such function, it does not take a field that is given, or it does
      not make a model of x (D,) and z (J,).
  """
  sizes = dict(data_dim=data_dim, latent_dim=latent_dim)
  with blaming("model", text):
    name, arguments = names.split(text, ())
    function = names.load(name)
    for field, value in given.items():
      _require(function, f"--model={text}", field, value)
    takes = f"likelihood, data_dim={data_dim}, latent_dim={latent_dim}"
    how = dict(arguments=sizes | arguments, offered=offered)
    model = names.call(function, likelihood, takes=takes, **how)
    tried = model
    if "condition_dim" in offered and isinstance(model, Model):
      tried = given_condition(model, jnp.zeros(offered["condition_dim"]))
    try_model(tried, data_dim, latent_dim)
  return model


def with_networks(
  text: str,
  likelihood: Family,
  *,
  image_shape: tuple[int, int, int],
  hidden_dim: tuple[int, ...] | None,
  latent_dim: int,
  **layers: Any,
) -> Model:
  """Makes a model with the encoder and decoder of a user's function, and heads after them.

  Args:
    text: package.module:function, which returns the pair (encoder, decoder) as `network_vae` takes
      them. It gets those of image_shape, latent_dim, hidden_dim, kernel_init, bias_init and dtype
      that its signature names.
    likelihood: the family of x.
    image_shape: (H, W, C), with H·W·C = D.
    hidden_dim: its widths, if they are given.
    latent_dim: J.
    layers: other arguments of `network_vae`.

  Returns:
    The model.

  Raises:
    ConfigError: if there is no such function, or its networks do not make a model.
  """
  offered = {name: layers[name] for name in ("kernel_init", "bias_init", "dtype")}
  offered |= dict(image_shape=image_shape, latent_dim=latent_dim)
  with blaming("network", text):
    name, arguments = names.split(text, ())
    function = names.load(name)
    if hidden_dim is not None:
      _require(function, f"--network={text}", "hidden_dim", hidden_dim)
      offered |= dict(hidden_dim=hidden_dim)
    pair = names.call(function, takes="", arguments=arguments, offered=offered)
    if not isinstance(pair, tuple) or len(pair) != 2:
      kind = type(pair).__name__
      raise ValueError(f"must return a pair of networks (encoder, decoder), not {kind}")
    how: dict[str, Any] = dict(image_shape=image_shape, latent_dim=latent_dim) | layers
    model = network_vae(likelihood, encoder=pair[0], decoder=pair[1], **how)
    try_model(model, math.prod(image_shape), latent_dim)
  return model


def with_prior(text: str, model: Model, *, data_dim: int, latent_dim: int) -> Model:
  """Gives a model the prior of a user's function from model to model, and tries it on shapes.

  Args:
    text: package.module:function, called with the model, and its other arguments after colons. It
      gets latent_dim and data_dim if its signature names them.
    model: the model that it changes.
    data_dim: D.
    latent_dim: J.

  Raises:
    ConfigError: if there is no such function, or it does not make a model of x (D,) and z (J,).
  """
  sizes = dict(data_dim=data_dim, latent_dim=latent_dim)
  with blaming("prior", text):
    name, arguments = names.split(text, ())
    function = names.load(name)
    made = names.call(function, model, takes="model", arguments=arguments, offered=sizes)
    try_model(made, data_dim, latent_dim)
  return made


def _require(function: Callable, flag: str, field: str, value: Any) -> None:
  """Refuses a field that is given, if a user's function does not take what it names."""
  keyword = TAKEN_BY_MODEL[field]
  if not names.accepts(function, keyword):
    message = f"{flag} does not take it: it has no argument {keyword}"
    raise ConfigError(field, value, message)


def try_model(model: Any, data_dim: int, latent_dim: int) -> None:
  """Refuses what is not a model of x (D,) and z (J,), without computing a number.

  Args:
    model: what a user's function returned.
    data_dim: D.
    latent_dim: J.

  Raises:
    ValueError: in one line that says which part is missing or has another shape.
  """
  if not isinstance(model, Model):
    raise ValueError(f"must return an aevb_jax.Model, not {type(model).__name__}")
  key = jax.eval_shape(jax.random.key, 0)
  params = names.shapes("the model's init", lambda key: init_params(key, model), key)
  x, z = (jax.ShapeDtypeStruct((n,), jnp.result_type(float)) for n in (data_dim, latent_dim))

  def try_on(
    what: str, given: Callable[[Params, Any], Distribution], input: Any, size: int
  ) -> None:
    def outputs(params: Params, input: Any, key: Any) -> tuple:
      p = given(params, input)
      if not isinstance(p, Distribution):
        raise TypeError(f"{what} is a {type(p).__name__}, not an aevb_jax.Distribution")
      draw = p.sample(key)
      return draw, p.mean, p.log_prob(draw)

    draw, mean, log_p = names.shapes(what, outputs, params, input, key)
    names.require_shape(f"a draw of {what} must be an array", draw, (size,))
    names.require_shape(f"the mean of {what} must be an array", mean, (size,))
    names.require_shape(f"log_prob of {what} must return a number", log_p, ())

  try_on("p(z)", lambda params, _: model.prior(params), z, latent_dim)
  try_on("q(z|x)", lambda params, x: model.encoder.given(params.phi, x), x, latent_dim)
  try_on("p(x|z)", lambda params, z: model.decoder.given(params.theta, z), z, data_dim)


def layers_of(text: str) -> dict[str, Any] | None:
  """Returns the layers that a name such as hierarchical:layers=100,50 stands for.

  Returns:
    latent_dims, hidden_dims and inference, as `hierarchical_vae` takes them; None for the name of
    another model.

  Raises:
    ValueError: if an argument is missing or unknown, or the layers do not fit.
  """
  if text.partition(":")[0] != LAYERED:
    return None
  _, arguments = names.split(text, (LAYERED,))
  names.check_call(_read_layers, takes="layers=100,50", **arguments)
  return _read_layers(**arguments)  # type: ignore[arg-type]


def _read_layers(
  *, layers: str | int, hidden: str | int | None = None, inference: str = hierarchical.DIRECTIONS[0]
) -> dict[str, Any]:
  """Reads the arguments of `hierarchical_vae` from text, such as layers=100,50:hidden=200,200/100.

  Args:
    layers: dimensions of z_1, z_2, …, separated by commas.
    hidden: units of the deterministic layers below each layer; a slash separates the groups. None
      for one layer of twice as many units as the latents above it have.
    inference: "bottom_up" or "top_down".

  Returns:
    latent_dims, hidden_dims and inference.

  Raises:
    ValueError: if a text is not of positive whole numbers, or the layers do not fit.
  """
  sizes = _whole_numbers("layers", str(layers))
  groups = [[2 * size] for size in sizes]
  if hidden is not None:
    groups = [_whole_numbers("hidden", group) for group in str(hidden).split("/")]
  hierarchical.check_layers(sizes, groups, inference)
  return dict(latent_dims=sizes, hidden_dims=groups, inference=inference)


def _whole_numbers(name: str, text: str) -> list[int]:
  numbers = text.split(",")
  if not all(number.isdecimal() and int(number) for number in numbers):
    raise ValueError(f"{name}={text} takes positive whole numbers, separated by commas")
  return list(map(int, numbers))
