"""--preset: values for the flags that are not given, of published experiments."""

from collections.abc import Mapping
from typing import Any

from absl import flags

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # --preset belongs to the module that defines the flags it sets

# paper: sections 5 and C; choices that the paper leaves open follow its first author's code.
# article: the convolutional VAE of an article that retells the paper. Its standard deviation is
# softplus(head) + 1e-8; here the head is a log-variance, as in every model of this package. The
# network and its initialization, glorot, are TensorFlow's tutorial's; glorot learns faster.
# iwae: Burda, Grosse & Salakhutdinov (2015), one stochastic layer, for --dataset=mnist:60k and
# --num_examples=196800000. Their code sums the gradients of a minibatch of 20 and this package
# averages them: its eps of 1e-4 is 5e-6 here. beta_1 is the paper's, 0.9; their code has 0.99.
# iwae_2: the same with two stochastic layers.
PRESETS = {
  "paper": dict(
    binarization="none",
    hidden_dim=["500"],
    min_std=0.0,
    estimator="elbo_b",
    num_samples=1,
    batch_size=100,
    optimizer="adagrad",
    step_size=0.02,
    init="0.1",
    weight_prior=1.0,
  ),
  "article": dict(
    model="conv",
    init="glorot",
    binarization="threshold",
    latent_dim=2,
    estimator="elbo_b",
    num_samples=1,
    batch_size=32,
    optimizer="adam",
    step_size=1e-4,
  ),
  "iwae": dict(
    binarization="dynamic",
    latent_dim=50,
    hidden_dim=["200", "200"],
    estimator="iwae",
    num_samples=50,
    batch_size=20,
    optimizer="adam",
    step_size=1e-3,
    adam_eps=1e-4 / 20,
    stage_epochs=[str(3**i) for i in range(8)],
    init="glorot",
    output_bias="data_mean",
  ),
}
LAYERS = "hierarchical:layers=100,50:hidden=200,200/100,100"
PRESETS["iwae_2"] = {
  name: value for name, value in PRESETS["iwae"].items() if name not in ("latent_dim", "hidden_dim")
} | dict(model=LAYERS)


def in_words() -> str:
  """Describes what each preset sets."""
  return "; ".join(
    f"{preset} sets "
    + ", ".join(
      f"{name}={','.join(value) if isinstance(value, list) else value}"
      for name, value in values.items()
    )
    for preset, values in PRESETS.items()
  )


def apply() -> None:
  """Gives the flags that are not given the values of --preset."""
  given = {name: FLAGS[name].value for name in FLAGS if FLAGS[name].present}
  for name, value in values(FLAGS.preset, given).items():
    FLAGS[name].value = value


def values(preset: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values of a preset for the flags that are not given.

  Args:
    preset: its name; None for no preset.
    given: the values of the flags that are given, by name.
  """
  found = {name: value for name, value in PRESETS.get(preset, {}).items() if name not in given}
  if given.get("optimizer", found.get("optimizer", "adam")) != "adam":
    found.pop("adam_eps", None)  # belongs to the preset's own optimizer
  return found
