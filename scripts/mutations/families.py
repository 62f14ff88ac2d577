"""Errors in the families: densities, transforms, closed-form KL divergences."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation(
    "gaussian: log-variance as log-std in samples",
    "families/base",
    "jnp.exp(0.5 * eta.log_var) * noise",
    "jnp.exp(eta.log_var) * noise",
  ),
  Mutation(
    "gaussian: log-variance as log-std in the density",
    "families/base",
    "LOG_2PI + eta.log_var + ",
    "LOG_2PI + 2 * eta.log_var + ",
  ),
  Mutation(
    "bernoulli: KL without its second class",
    "families/kl",
    "jax.nn.sigmoid(-q.logits) * off",
    "jax.nn.sigmoid(q.logits) * off",
    "families/base",
  ),
  Mutation(
    "bernoulli: derivative of softplus",
    "families/base",
    "jax.nn.sigmoid(logits) * tangent",
    "jax.nn.sigmoid(-logits) * tangent",
    "contracts/float32",
  ),
  Mutation(
    "gaussian: KL constant",
    "families/kl",
    "squared_distance - 1",
    "squared_distance",
    "families/base",
  ),
  Mutation(
    "gaussian: floor in std, not variance", "families/base", "2 * math.log(min", "math.log(min"
  ),
  Mutation(
    "bernoulli: classes swapped",
    "families/base",
    "x * logits - _softplus",
    "(1 - x) * logits - _softplus",
  ),
  Mutation(
    "bernoulli: mean over pixels", "families/base", "jnp.sum(x * logits", "jnp.mean(x * logits"
  ),
  Mutation(
    "weibull: shape and its inverse",
    "families/inverse_cdf",
    "_exponential_noise(u) ** (1 / eta.shape)",
    "_exponential_noise(u) ** eta.shape",
    "families/reparameterizable",
  ),
  Mutation(
    "gumbel: the other tail",
    "families/inverse_cdf",
    "eta.location - eta.scale * jnp.log(-jnp.log(u))",
    "eta.location + eta.scale * jnp.log(-jnp.log(u))",
    "families/reparameterizable",
  ),
  Mutation(
    "uniform noise: 0 is drawn",
    "families/univariate",
    "return noise + jnp.finfo(noise.dtype).eps / 2",
    "return noise",
    "contracts/float32",
  ),
  Mutation(
    "densities: outside as inside",
    "families/univariate",
    "_within(low, high))), -jnp.inf)",
    "_within(low, high))), 0.0)",
    "families/reparameterizable",
  ),
  Mutation(
    "gamma: rate as scale in samples",
    "families/composition",
    "_log_gamma_variables(noise, eta.shape)[0] - jnp.log(eta.rate)",
    "_log_gamma_variables(noise, eta.shape)[0] + jnp.log(eta.rate)",
    "families/reparameterizable",
  ),
  Mutation(
    "beta: one noise for both variables",
    "families/composition",
    "keys = jax.random.split(key, len(shapes))",
    "keys = [jax.random.clone(key) for _ in shapes]",
    "families/reparameterizable",
  ),
  Mutation(
    "KL of Gammas: the wrong way round",
    "families/kl",
    "ratio = p.rate / q.rate",
    "ratio = q.rate / p.rate",
  ),
  Mutation(
    "KL of Gaussians: no dimensions taken off",
    "families/kl",
    "0.5 * (squares - len(q.mean))",
    "0.5 * squares",
  ),
  Mutation(
    "autoregression: a number sees itself",
    "families/flows",
    "of_hidden[None] >= degrees[:, None]",
    "of_hidden[None] + 1 >= degrees[:, None]",
  ),
  Mutation(
    "flow: the sign of the volume",
    "families/flows",
    "return base.log_prob(eta.base, z_0) - log_det",
    "return base.log_prob(eta.base, z_0) + log_det",
  ),
  Mutation(
    "spline: slope of the bin left out",
    "families/flows",
    "return 2 * jnp.log(slope) + jnp.log(above)",
    "return jnp.log(above)",
  ),
  Mutation(
    "mixture: no implicit gradient",
    "families/mixtures",
    "return z - solve_triangular(slopes, change, lower=True)",
    "return z",
  ),
  Mutation(
    "strata: not weighed",
    "families/mixtures",
    "return jnp.exp(log_pi) @ jnp.mean(log_w, axis=1)",
    "return jnp.mean(log_w)",
  ),
  Mutation(
    "VampPrior: the sum, not the mean",
    "families/mixtures",
    "jax.nn.logsumexp(of_each) - math.log(k)",
    "jax.nn.logsumexp(of_each)",
  ),
  Mutation(
    "continuous Bernoulli: no normalizer",
    "families/pixels",
    "jax.nn.softplus(l) + _log_normalizer(l)",
    "jax.nn.softplus(l)",
  ),
  Mutation(
    "discretized: ends closed",
    "families/pixels",
    "return jnp.where(inner, log_mass(a, b), ends)",
    "return log_mass(a, b)",
  ),
]
