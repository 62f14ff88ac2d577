"""The rule for names: ours, or package.module:function, with arguments."""

import pytest

from aevb_jax import names


def test_names_are_split_from_arguments():
  assert names.split("gamma", ["gamma"]) == ("gamma", {})
  text = "gamma:shape=2:rate=0.5:fast=true:kind=wide"
  expected = dict(shape=2, rate=0.5, fast=True, kind="wide")
  assert names.split(text, ["gamma"]) == ("gamma", expected)
  assert type(names.split("gamma:shape=2", ["gamma"])[1]["shape"]) is int
  assert names.split("my.families:kumaraswamy:a=2", ()) == ("my.families:kumaraswamy", dict(a=2))


@pytest.mark.parametrize("text", ["gama", "gama:shape=2", "", "my.families:", ":f"])
def test_unknown_names_are_refused(text):
  if text == ":f":
    with pytest.raises(ValueError, match="cannot be imported"):
      names.load(names.split(text, ["gamma"])[0])
    return
  with pytest.raises(ValueError, match="takes gamma, or package.module:function"):
    names.split(text, ["gamma"])


@pytest.mark.parametrize("argument", ["2", "=2", "a=", "a b=2", "a-b=2"])
def test_arguments_have_a_name_and_a_value(argument):
  with pytest.raises(ValueError, match="name=value"):
    names.split(f"gamma:{argument}", ["gamma"])


def test_a_known_name_is_not_imported():
  assert not names.is_own("json:dumps", ["json"]) and names.is_own("json:dumps", ["jso"])


def test_a_function_gets_what_its_signature_names():
  offered = dict(width=3, depth=4)
  how = dict(takes="x", arguments=dict(scale=2), offered=offered)
  assert names.call(lambda x, *, scale, width: (x, scale, width), 1, **how) == (1, 2, 3)
  assert names.call(lambda x, scale, **more: more, 1, **how) == offered
  assert names.call(lambda x, scale, depth=9: depth, 1, **how) == 4
  with pytest.raises(ValueError, match=r"\(x, scale=...\), which it does not accept"):
    names.call(lambda x: x, 1, **how)
  # The user's argument is preferred to what is offered.
  assert names.call(lambda width: width, takes="", arguments=dict(width=7), offered=offered) == 7


def first(x):
  return second(x)


def second(x):
  raise RuntimeError("too\nlong " * 200)


def test_an_error_names_the_lines_of_the_users_code():
  with pytest.raises(ValueError) as caught:
    names.call(first, 1, takes="x", arguments={})
  text = str(caught.value)
  lines = [function.__code__.co_firstlineno + 1 for function in (second, first)]
  assert f"test_names.py, line {lines[0]}, called from line {lines[1]})" in text
  assert text.startswith("fails: RuntimeError: too long") and "\n" not in text and len(text) < 500


def test_shapes_are_required():
  import jax
  import jax.numpy as jnp

  found = names.shapes("f", lambda x: x.sum(), jax.ShapeDtypeStruct((3,), jnp.float32))
  names.require_shape("f must return a number", found, ())
  with pytest.raises(ValueError, match=r"f must return a number, of shape \(2,\); .* \(\)"):
    names.require_shape("f must return a number", found, (2,))
  with pytest.raises(ValueError, match="it returns str"):
    names.require_shape("f must return a number", "text", ())
