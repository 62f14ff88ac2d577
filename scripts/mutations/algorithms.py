"""Errors in the algorithms: AEVB, Monte Carlo EM, full variational Bayes, optimizers."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation(
    "moving average: decay for 1 - decay",
    "algorithms/optimizers",
    "sgd(1 - decay)",
    "sgd(decay)",
    "estimators/score_functions",
  ),
  Mutation(
    "warm-up: the schedule stands still",
    "algorithms/auto_encoding",
    "estimator.at(state.step) if",
    "estimator.at(0) if",
    "estimators/objectives",
  ),
  Mutation(
    "full VB: KL not divided by N",
    "algorithms/full_variational_bayes",
    "kl_divergence(q, p) / num_data",
    "kl_divergence(q, p)",
  ),
  Mutation(
    "full VB: sign of the sampled KL",
    "algorithms/full_variational_bayes",
    "(p.log_prob(theta) - q.log_prob(theta)) / num_data",
    "(q.log_prob(theta) - p.log_prob(theta)) / num_data",
  ),
  Mutation(
    "full VB: local noise without biases",
    "algorithms/full_variational_bayes",
    'own["kernel"] + own.get("bias", 0.0)',
    'own["kernel"]',
  ),
  Mutation(
    "full VB: standard deviation for variance",
    "algorithms/full_variational_bayes",
    "unravel(model, jnp.exp(params.theta.log_var))",
    "unravel(model, jnp.exp(0.5 * params.theta.log_var))",
  ),
  Mutation(
    "full VB: the same noise in every layer",
    "algorithms/full_variational_bayes",
    "jax.random.fold_in(key, len(seen))",
    "jax.random.fold_in(key, 0)",
  ),
  Mutation(
    "aevb: descends",
    "algorithms/auto_encoding",
    "return -objective, bound",
    "return objective, bound",
  ),
  Mutation(
    "aevb: prior by M",
    "algorithms/auto_encoding",
    "/ num_data, bound",
    "/ len(batch), bound",
  ),
  Mutation(
    "aevb: prior not divided",
    "algorithms/auto_encoding",
    "log_prior(params) / num_data",
    "log_prior(params)",
  ),
  Mutation(
    "aevb: prior on baselines",
    "algorithms/auto_encoding",
    "jax.tree.leaves((params.theta, params.phi))",
    "jax.tree.leaves(params)",
  ),
  Mutation(
    "aevb: prior on biases",
    "algorithms/auto_encoding",
    "w.ndim >= 2",
    "w.ndim >= 1",
  ),
  Mutation(
    "aevb: same noise at every step",
    "algorithms/auto_encoding",
    "fold_in(state.key, state.step)",
    "fold_in(state.key, 0)",
  ),
  Mutation(
    "aevb: reports the objective",
    "algorithms/auto_encoding",
    '{"bound": bound}',
    '{"bound": bound + 1e-3}',
  ),
  Mutation(
    "stages: one update longer",
    "algorithms/optimizers",
    "step >= jnp",
    "step > jnp",
  ),
  Mutation(
    "adam: eps ignored",
    "algorithms/optimizers",
    "step_size, eps=eps)",
    "step_size)",
  ),
  Mutation(
    "adagrad: optax's accumulator",
    "algorithms/optimizers",
    "value=0.0",
    "value=0.1",
  ),
  Mutation(
    "adagrad: warm-up a step longer",
    "algorithms/optimizers",
    "step < warmup",
    "step <= warmup",
  ),
  Mutation(
    "mcem: chains do not persist",
    "algorithms/monte_carlo_em",
    "z=state.z.at[index].set(chains.position)",
    "z=state.z",
  ),
  Mutation(
    "mcem: rows of the minibatch",
    "algorithms/monte_carlo_em",
    "z=state.z.at[index].set",
    "z=state.z.at[jnp.arange(len(index))].set",
  ),
  Mutation(
    "mcem: step size the wrong way",
    "algorithms/monte_carlo_em",
    "(acceptance - target_acceptance)",
    "(target_acceptance - acceptance)",
  ),
  Mutation(
    "mcem: N for M in the prior",
    "algorithms/monte_carlo_em",
    "log_prior(params) / num_data",
    "log_prior(params) / len(batch)",
  ),
  Mutation(
    "mcem: the old z",
    "algorithms/monte_carlo_em",
    "(batch, chains.position)",
    "(batch, state.z[index])",
  ),
]
