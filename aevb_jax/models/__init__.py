"""p(z), p(x|z) and q(z|x): networks (appendix C), priors, and the densities of both together.

`vae` makes models of `networks`, `priors` has p(z), `joint` log p(x, z) and draws of it,
`linear_gaussian` the one model of which everything is known.
"""

from aevb_jax.models.joint import log_joint, log_weight, simulate
from aevb_jax.models.linear_gaussian import linear_gaussian_vae
from aevb_jax.models.networks import MLP, ConvDecoder, ConvEncoder, conditional
from aevb_jax.models.priors import (
  fair_coins,
  standard_normal,
  with_mixture_prior,
  with_prior,
  with_vamp_prior,
)
from aevb_jax.models.vae import conv_vae, init_params, mlp_vae, with_output_bias
