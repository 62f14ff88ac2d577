"""The flags that name an estimator, and the flags that change its KL during training."""

from absl import flags

from aevb_jax.estimators.table import ESTIMATORS
from aevb_jax.runs.checks import LEAST
from experiments.flags.validators import validate

flags.DEFINE_string(
  "estimator",
  "elbo_b",
  f"One of {', '.join(ESTIMATORS)}, with arguments after colons (renyi:alpha=0.5, "
  "miwae:num_groups=5, score_function:baseline=leave_one_out, moving_average or learned); or "
  "package.module:function for your own, called with (key, model, params, x, num_samples=L) for "
  "one data point x, returning a scalar.",
)
flags.DEFINE_integer(
  "num_samples",
  1,
  "L or K, number of samples of z per data point.",
  lower_bound=LEAST["num_samples"],
)
flags.DEFINE_float(
  "beta", 1.0, "Weight of the KL in the training objective.", lower_bound=LEAST["beta"]
)
flags.DEFINE_integer(
  "kl_warmup",
  0,
  "Number of training samples during which the weight of the KL grows from 0 to --beta.",
  lower_bound=LEAST["kl_warmup"],
)
flags.DEFINE_float(
  "free_bits",
  0.0,
  "Nats of KL per latent that cost nothing in the training objective.",
  lower_bound=LEAST["free_bits"],
)
validate("beta", "free_bits")
