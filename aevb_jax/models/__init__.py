"""Models p(z), p(x|z) and q(z|x): networks (appendix C), priors, and the joint density.

`vae` makes models of `networks`. `heads` makes them of networks of one's own, and `adapters` takes
those from other libraries. `priors` has p(z). `joint` has log p(x, z) and draws from p(x, z).
`hierarchical` has several layers of latents, `state_space` a latent for every frame of a sequence.
`conditions` has p(x|z, c) and q(z|x, c), and `semi_supervised` models of x and its class.
`linear_gaussian` and `linear_state_space` have the models for which every quantity has a closed
form.
"""

from aevb_jax.models.adapters import from_equinox, from_linen, from_nnx
from aevb_jax.models.conditions import (
  conditional_vae,
  given_condition,
  num_classes,
  of_pairs,
  one_hot_labels,
  with_labels,
)
from aevb_jax.models.heads import network_vae, with_heads
from aevb_jax.models.hierarchical import hierarchical_vae
from aevb_jax.models.joint import log_joint, log_weight, simulate
from aevb_jax.models.linear_gaussian import linear_gaussian_vae
from aevb_jax.models.linear_state_space import linear_state_space_vae
from aevb_jax.models.networks import MLP, ConvDecoder, ConvEncoder, conditional
from aevb_jax.models.priors import (
  fair_coins,
  standard_normal,
  with_mixture_prior,
  with_prior,
  with_vamp_prior,
)
from aevb_jax.models.semi_supervised import (
  encoded,
  keep_few_labels,
  labelled_rows,
  m2_vae,
  with_classifier,
)
from aevb_jax.models.state_space import state_space_vae
from aevb_jax.models.vae import conv_vae, init_params, mlp_vae, with_output_bias
