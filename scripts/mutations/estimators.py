"""Errors in the estimators: equations 6 and 7, importance weighting, score functions."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation(
    "samples: no gradient through z",
    "estimators/sgvb",
    "return draw(key, q, num_samples)",
    "return jax.lax.stop_gradient(draw(key, q, num_samples))",
  ),
  Mutation(
    "elbo_a: sum over samples",
    "estimators/sgvb",
    "return jnp.mean(log_weights(",
    "return jnp.sum(log_weights(",
  ),
  Mutation(
    "sticking the landing: the score kept",
    "estimators/sgvb",
    "log_weight(model, params, freeze(q), x, z)",
    "log_weight(model, params, q, x, z)",
  ),
  Mutation(
    "freeze: nothing",
    "estimators/surrogate",
    "q.at(jax.lax.stop_gradient(q.eta))",
    "q.at(q.eta)",
    "estimators/sgvb",
  ),
  Mutation(
    "replace_gradient: the surrogate reported",
    "estimators/surrogate",
    "  del surrogate\n  return value",
    "  return surrogate",
    "contracts/contract",
  ),
  Mutation(
    "replace_gradient: both gradients",
    "estimators/surrogate",
    "return primals[0], tangents[1]",
    "return primals[0], tangents[0] + tangents[1]",
    "estimators/score_functions",
  ),
  Mutation(
    "scale_gradient: nothing",
    "estimators/surrogate",
    "z, scale * tangents[0]",
    "z, tangents[0]",
    "estimators/importance",
  ),
  Mutation("log_mean_exp: a sum", "estimators/importance", " - math.log(len(log_w))", ""),
  Mutation(
    "renyi: alpha for 1 - alpha",
    "estimators/importance",
    "scaled = (1 - alpha) * log_w",
    "scaled = alpha * log_w",
  ),
  Mutation(
    "renyi: the limits swapped",
    "estimators/importance",
    "jnp.max if alpha < 0",
    "jnp.max if alpha > 0",
  ),
  Mutation(
    "renyi: inaccurate near 1",
    "estimators/importance",
    "jnp.log1p(jnp.mean(jnp.expm1(scaled - largest)))",
    "jnp.log(jnp.mean(jnp.exp(scaled - largest)))",
  ),
  Mutation(
    "miwae: sum over groups",
    "estimators/importance",
    "jnp.mean(jax.vmap(bound)",
    "jnp.sum(jax.vmap(bound)",
  ),
  Mutation(
    "ciwae: the wrong way round",
    "estimators/importance",
    "beta * first(log_w) + (1 - beta) * second(log_w)",
    "(1 - beta) * first(log_w) + beta * second(log_w)",
  ),
  Mutation(
    "piwae: phi follows both",
    "estimators/importance",
    "freeze(q), x, z))(stop(z))",
    "freeze(q), x, z))(z)",
  ),
  Mutation(
    "piwae: theta follows both",
    "estimators/importance",
    "stop(params), q, x, z",
    "params.theta, q, x, z",
  ),
  Mutation(
    "dreg: w for w²", "estimators/importance", "return w, w\n", "return w, jnp.ones_like(w)\n"
  ),
  Mutation(
    "doubly reparameterized: b for b - own",
    "estimators/importance",
    "1 - own / jnp.where(b == 0, 1, b)",
    "jnp.ones_like(b)",
  ),
  Mutation(
    "dreg: the score kept",
    "estimators/importance",
    "log_w_of = jax.vmap(lambda z: log_weight(model, params, freeze(q), x, z))",
    "log_w_of = jax.vmap(lambda z: log_weight(model, params, q, x, z))",
  ),
  Mutation(
    "dreg: the surrogate Σ w log w reported",
    "estimators/importance",
    "replace_gradient(bound(log_w), surrogate)",
    "surrogate",
  ),
  Mutation(
    "dreg: all second derivatives",
    "estimators/importance",
    "hessian * jnp.eye(len(log_w))",
    "hessian",
  ),
  Mutation("dreg_wake: sign", "estimators/importance", "return w, 1 - w", "return w, w - 1"),
  Mutation(
    "score function: gradient through z",
    "estimators/score_functions",
    "z = jax.lax.stop_gradient(draw(key, q, num_samples))",
    "z = draw(key, q, num_samples)",
  ),
  Mutation(
    "score function: sign",
    "estimators/score_functions",
    "+ signal * samples.log_q",
    "- signal * samples.log_q",
  ),
  Mutation(
    "score function: no log q in the signal",
    "estimators/score_functions",
    "signal = jax.lax.stop_gradient(f - b)",
    "signal = jax.lax.stop_gradient(samples.log_p - b)",
  ),
  Mutation(
    "baseline: flees the signal",
    "estimators/score_functions",
    "- 0.5 * (f - b) ** 2",
    "+ 0.5 * (f - b) ** 2",
  ),
  Mutation(
    "baseline: its gradient reaches the weights of the signal",
    "estimators/score_functions",
    "signal = jax.lax.stop_gradient(f - b)",
    "signal = f - b",
  ),
  Mutation(
    "leave one out: leaves the last out",
    "estimators/score_functions",
    "indices + (indices >= l)",
    "indices",
  ),
  Mutation("optimal scale: sign", "estimators/score_functions", "- scale) * h", "+ scale) * h"),
  Mutation(
    "optimal scale: from its own sample too",
    "estimators/score_functions",
    "(without_own @ (f[:, None] * h**2))",
    "jnp.sum(f[:, None] * h**2, axis=0)",
  ),
  Mutation(
    "vimco: the weights' gradient left out",
    "estimators/score_functions",
    "bound(log_w) + jnp.vdot(signal",
    "jnp.vdot(signal",
  ),
  Mutation(
    "vimco: no signal but the others'",
    "estimators/score_functions",
    "stop_gradient(bound(log_w) - without_each(bound, log_w))",
    "stop_gradient(-without_each(bound, log_w))",
  ),
  Mutation(
    "vimco: leaves none out",
    "estimators/score_functions",
    "log_w.at[k].set(mean)",
    "log_w.at[k].add(0 * mean)",
  ),
  Mutation(
    "wake-sleep: gradients through dreams",
    "estimators/wake_and_sleep",
    "frozen = jax.lax.stop_gradient(params)",
    "frozen = params",
  ),
  Mutation(
    "wake-sleep: gradients through z awake",
    "estimators/wake_and_sleep",
    "z = jax.lax.stop_gradient(draw(key, q, num_samples))\n"
    "  log_p = jax.vmap(lambda z: log_joint(model, params, x, z))(z)\n  value",
    "z = draw(key, q, num_samples)\n"
    "  log_p = jax.vmap(lambda z: log_joint(model, params, x, z))(z)\n  value",
  ),
  Mutation(
    "reweighted wake-sleep: equal weights",
    "estimators/wake_and_sleep",
    "jnp.vdot(jax.nn.softmax(log_w), log_p + wake * log_q)",
    "jnp.mean(log_p + wake * log_q)",
  ),
  Mutation(
    "reweighted wake-sleep: phi descends",
    "estimators/wake_and_sleep",
    "log_p + wake * log_q",
    "log_p - wake * log_q",
    "estimators/importance",
  ),
  Mutation("beta: sign", "estimators/objectives", "(1 - beta) * kl", "(beta - 1) * kl"),
  Mutation(
    "free bits: sign",
    "estimators/objectives",
    "bound + jnp.sum(kl(q, p)) - floored(q, p)",
    "bound - jnp.sum(kl(q, p)) + floored(q, p)",
  ),
  Mutation(
    "free bits: over the sum of latents",
    "estimators/objectives",
    "jnp.sum(jnp.maximum(nats, kl(q, p)))",
    "jnp.maximum(nats, jnp.sum(kl(q, p)))",
  ),
  Mutation(
    "free bits: a ceiling", "estimators/objectives", "jnp.maximum(nats, kl", "jnp.minimum(nats, kl"
  ),
  Mutation(
    "warm-up: never warm",
    "estimators/objectives",
    "jnp.minimum(step / num_steps, 1.0)",
    "jnp.maximum(step / num_steps, 1.0)",
  ),
  Mutation(
    "objectives: the encoder runs again",
    "estimators/objectives",
    "return q if phi is params.phi and other_x is x else",
    "return",
  ),
  Mutation("elbo_b: sign of the KL", "estimators/sgvb", "- kl(q, ", "+ kl(q, "),
  Mutation(
    "elbo_b: KL the wrong way round",
    "estimators/sgvb",
    "kl(q, model.prior(params))",
    "kl(model.prior(params), q)",
  ),
  Mutation("elbo_b: sum over samples", "estimators/sgvb", "jnp.mean(rec", "jnp.sum(rec"),
]
