"""Errors in what one asks of a trained model: log p(x), HMC, missing pixels, diagnostics."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation(
    "instrument: products of a batch with itself",
    "inference/gradient_noise",
    "(products.sum() - np.trace(products))",
    "products.sum()",
  ),
  Mutation(
    "instrument: biased variance",
    "inference/gradient_noise",
    "/ num_repeats) / (num_repeats - 1)",
    "/ num_repeats) / num_repeats",
  ),
  Mutation(
    "importance: same noise in every chunk",
    "inference/marginal",
    "jax.random.fold_in(key, i)",
    "jax.random.fold_in(key, 0)",
  ),
  Mutation(
    "hmc: a leapfrog more",
    "inference/hmc",
    "unit_mass, num_leapfrogs)",
    "unit_mass, num_leapfrogs + 1)",
  ),
  Mutation(
    "hmc: to infinite densities",
    "inference/hmc",
    "jnp.where(value == jnp.inf, jnp.nan, value)",
    "value",
  ),
  Mutation(
    "hmc: tuned for 65 %", "inference/hmc", "TARGET_ACCEPTANCE = 0.9 ", "TARGET_ACCEPTANCE = 0.65 "
  ),
  Mutation(
    "importance: error of K - 1 weights squared",
    "inference/marginal",
    "/ jnp.sqrt(len(w)) / jnp.mean(w)",
    "/ len(w) / jnp.mean(w)",
  ),
  Mutation(
    "importance: effective samples over K",
    "inference/marginal",
    "jnp.sum(w) ** 2 / jnp.sum(w**2)",
    "jnp.sum(w) ** 2 / jnp.sum(w**2) / len(w)",
  ),
  Mutation(
    "importance: k of the smallest weights",
    "inference/marginal",
    "psis_weights(log_w)",
    "psis_weights(-log_w)",
  ),
  Mutation(
    "reciprocal: not the reciprocal",
    "inference/reciprocal",
    "value=-largest - jnp.log(",
    "value=largest + jnp.log(",
  ),
  Mutation(
    "reciprocal: on the samples that fitted",
    "inference/reciprocal",
    "z = draws.z[num_chains:]",
    "z = draws.z[:num_chains]",
  ),
  Mutation(
    "reciprocal: draws as if independent",
    "inference/reciprocal",
    "jnp.std(of_chains, ddof=1) / math.sqrt(num_chains)",
    "jnp.std(terms, ddof=1) / math.sqrt(num_chains * num_samples)",
  ),
  Mutation(
    "reciprocal: kernels not normalized",
    "inference/reciprocal",
    " - math.log(num_samples) - log_volume",
    " - log_volume",
  ),
  Mutation(
    "reciprocal: modes not by weight",
    "inference/reciprocal",
    "jax.nn.softmax(log_w)",
    "jax.nn.softmax(jnp.zeros_like(log_w))",
  ),
  Mutation(
    "annealing: the posterior at every temperature",
    "inference/annealing",
    "self.start.log_prob(z) + beta * self.log_w(z)",
    "self.start.log_prob(z) + self.log_w(z)",
  ),
  Mutation(
    "annealing: moved at the temperature before",
    "inference/annealing",
    "target = path.at(betas[t])",
    "target = path.at(betas[t - 1])",
  ),
  Mutation(
    "annealing: the weights of the next temperature",
    "inference/annealing",
    "log_w += (betas[t] - betas[t - 1])",
    "log_w += (betas[t] - betas[0]) / t",
  ),
  Mutation(
    "annealing: reverse from the start",
    "inference/annealing",
    "chains.position, betas[::-1]",
    "jnp.zeros_like(chains.position), betas[::-1]",
  ),
  Mutation(
    "annealing: upper not turned",
    "inference/annealing",
    "inverse._replace(value=-inverse.value)",
    "inverse",
  ),
  Mutation(
    "importance: counts the padding",
    "inference/marginal",
    ".reshape(-1)[:num_samples]",
    ".reshape(-1)",
  ),
  Mutation(
    "missing: the chain is not corrected", "inference/missing", "if not corrected:", "if True:"
  ),
  Mutation(
    "missing: accepts what it should refuse",
    "inference/missing",
    "log_w(proposal) - log_w(z)",
    "log_w(z) - log_w(proposal)",
  ),
  Mutation(
    "missing: known pixels are drawn anew",
    "inference/missing",
    "jnp.where(mask, known, p.sample(key))",
    "p.sample(key)",
  ),
  Mutation(
    "flipped: errors and right pixels swapped",
    "inference/missing",
    "(right - wrong)",
    "(wrong - right)",
  ),
  Mutation(
    "block sums: pixels are not counted",
    "inference/missing",
    "return left - x, x.astype",
    "return left, x.astype",
  ),
  Mutation("block sums: the tilt is kept", "inference/missing", " - jnp.sum(tilt[0] * counts)", ""),
  Mutation(
    "block sums: none on, no tilt", "inference/missing", "above == jnp.inf, below + 8", "False, 0"
  ),
  Mutation(
    "block sums: the mean is that without them",
    "inference/missing",
    'p.mean + jax.grad(log_prob_of)(_logits(p, "sums of blocks"))',
    "p.mean",
  ),
]
