"""Plants errors in a copy of the package, one at a time: some test must fail for each.

  python scripts/mutate.py          # all of them, about an hour on two cores
  python scripts/mutate.py elbo     # those whose name contains a word

Every line is one error that an implementation of the paper has made or could
make. A survivor is an error that the suite would let through.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]


class Mutation(NamedTuple):
  name: str
  module: str  # of aevb_jax, or "experiments/..."
  old: str  # stands exactly once in the module
  new: str
  tests: str  # the file of tests that must notice


MUTATIONS = [
  Mutation(
    "log-weight: sign of log q",
    "model",
    "log_joint(model, params, x, z) - q.log_prob(z)",
    "log_joint(model, params, x, z) + q.log_prob(z)",
    "estimators",
  ),
  Mutation(
    "log-weight: no log q",
    "model",
    "log_joint(model, params, x, z) - q.log_prob(z)",
    "log_joint(model, params, x, z)",
    "estimators",
  ),
  Mutation(
    "samples: no gradient through z",
    "estimators",
    "return draw(key, q, num_samples)",
    "return jax.lax.stop_gradient(draw(key, q, num_samples))",
    "estimators",
  ),
  Mutation(
    "elbo_a: sum over samples",
    "estimators",
    "return jnp.mean(log_weights(",
    "return jnp.sum(log_weights(",
    "estimators",
  ),
  Mutation(
    "sticking the landing: the score kept",
    "estimators",
    "log_weight(model, params, freeze(q), x, z)",
    "log_weight(model, params, q, x, z)",
    "estimators",
  ),
  Mutation(
    "freeze: nothing",
    "surrogate",
    "q.at(jax.lax.stop_gradient(q.eta))",
    "q.at(q.eta)",
    "estimators",
  ),
  Mutation(
    "replace_gradient: the surrogate reported",
    "surrogate",
    "  del surrogate\n  return value",
    "  return surrogate",
    "contract",
  ),
  Mutation(
    "replace_gradient: both gradients",
    "surrogate",
    "return primals[0], tangents[1]",
    "return primals[0], tangents[0] + tangents[1]",
    "score_function",
  ),
  Mutation(
    "scale_gradient: nothing", "surrogate", "z, scale * tangents[0]", "z, tangents[0]", "importance"
  ),
  Mutation("log_mean_exp: a sum", "importance", " - math.log(len(log_w))", "", "importance"),
  Mutation(
    "renyi: alpha for 1 - alpha",
    "importance",
    "scaled = (1 - alpha) * log_w",
    "scaled = alpha * log_w",
    "importance",
  ),
  Mutation(
    "renyi: the limits swapped",
    "importance",
    "jnp.max if alpha < 0",
    "jnp.max if alpha > 0",
    "importance",
  ),
  Mutation(
    "renyi: inaccurate near 1",
    "importance",
    "jnp.log1p(jnp.mean(jnp.expm1(scaled - largest)))",
    "jnp.log(jnp.mean(jnp.exp(scaled - largest)))",
    "importance",
  ),
  Mutation(
    "miwae: sum over groups",
    "importance",
    "jnp.mean(jax.vmap(bound)",
    "jnp.sum(jax.vmap(bound)",
    "importance",
  ),
  Mutation(
    "ciwae: the wrong way round",
    "importance",
    "beta * first(log_w) + (1 - beta) * second(log_w)",
    "(1 - beta) * first(log_w) + beta * second(log_w)",
    "importance",
  ),
  Mutation(
    "piwae: phi follows both",
    "importance",
    "freeze(q), x, z))(stop(z))",
    "freeze(q), x, z))(z)",
    "importance",
  ),
  Mutation(
    "piwae: theta follows both",
    "importance",
    "stop(params), q, x, z",
    "params.theta, q, x, z",
    "importance",
  ),
  Mutation(
    "dreg: w for w²", "importance", "return w, w\n", "return w, jnp.ones_like(w)\n", "importance"
  ),
  Mutation(
    "doubly reparameterized: b for b - own",
    "importance",
    "1 - own / jnp.where(b == 0, 1, b)",
    "jnp.ones_like(b)",
    "importance",
  ),
  Mutation(
    "dreg: the score kept",
    "importance",
    "log_w_of = jax.vmap(lambda z: log_weight(model, params, freeze(q), x, z))",
    "log_w_of = jax.vmap(lambda z: log_weight(model, params, q, x, z))",
    "importance",
  ),
  Mutation(
    "dreg: the surrogate Σ w log w reported",
    "importance",
    "replace_gradient(bound(log_w), surrogate)",
    "surrogate",
    "importance",
  ),
  Mutation(
    "dreg: all second derivatives",
    "importance",
    "hessian * jnp.eye(len(log_w))",
    "hessian",
    "importance",
  ),
  Mutation("dreg_wake: sign", "importance", "return w, 1 - w", "return w, w - 1", "importance"),
  Mutation(
    "score function: gradient through z",
    "score_function",
    "z = jax.lax.stop_gradient(draw(key, q, num_samples))",
    "z = draw(key, q, num_samples)",
    "score_function",
  ),
  Mutation(
    "score function: sign",
    "score_function",
    "+ signal * samples.log_q",
    "- signal * samples.log_q",
    "score_function",
  ),
  Mutation(
    "score function: no log q in the signal",
    "score_function",
    "signal = jax.lax.stop_gradient(f - b)",
    "signal = jax.lax.stop_gradient(samples.log_p - b)",
    "score_function",
  ),
  Mutation(
    "baseline: flees the signal",
    "score_function",
    "- 0.5 * (f - b) ** 2",
    "+ 0.5 * (f - b) ** 2",
    "score_function",
  ),
  Mutation(
    "baseline: its gradient reaches the weights of the signal",
    "score_function",
    "signal = jax.lax.stop_gradient(f - b)",
    "signal = f - b",
    "score_function",
  ),
  Mutation(
    "leave one out: leaves the last out",
    "score_function",
    "indices + (indices >= l)",
    "indices",
    "score_function",
  ),
  Mutation(
    "optimal scale: sign", "score_function", "- scale) * h", "+ scale) * h", "score_function"
  ),
  Mutation(
    "optimal scale: from its own sample too",
    "score_function",
    "(without_own @ (f[:, None] * h**2))",
    "jnp.sum(f[:, None] * h**2, axis=0)",
    "score_function",
  ),
  Mutation(
    "vimco: the weights' gradient left out",
    "score_function",
    "bound(log_w) + jnp.vdot(signal",
    "jnp.vdot(signal",
    "score_function",
  ),
  Mutation(
    "vimco: no signal but the others'",
    "score_function",
    "stop_gradient(bound(log_w) - without_each(bound, log_w))",
    "stop_gradient(-without_each(bound, log_w))",
    "score_function",
  ),
  Mutation(
    "vimco: leaves none out",
    "score_function",
    "log_w.at[k].set(mean)",
    "log_w.at[k].add(0 * mean)",
    "score_function",
  ),
  Mutation(
    "moving average: decay for 1 - decay",
    "optimizers",
    "sgd(1 - decay)",
    "sgd(decay)",
    "score_function",
  ),
  Mutation(
    "wake-sleep: dreams are means",
    "model",
    "return z, model.decoder.given(params.theta, z).sample(x_key)",
    "return z, model.decoder.given(params.theta, z).mean",
    "wake_sleep",
  ),
  Mutation(
    "wake-sleep: gradients through dreams",
    "wake_sleep",
    "frozen = jax.lax.stop_gradient(params)",
    "frozen = params",
    "wake_sleep",
  ),
  Mutation(
    "wake-sleep: gradients through z awake",
    "wake_sleep",
    "z = jax.lax.stop_gradient(draw(key, q, num_samples))\n"
    "  log_p = jax.vmap(lambda z: log_joint(model, params, x, z))(z)\n  value",
    "z = draw(key, q, num_samples)\n"
    "  log_p = jax.vmap(lambda z: log_joint(model, params, x, z))(z)\n  value",
    "wake_sleep",
  ),
  Mutation(
    "reweighted wake-sleep: equal weights",
    "wake_sleep",
    "jnp.vdot(jax.nn.softmax(log_w), log_p + wake * log_q)",
    "jnp.mean(log_p + wake * log_q)",
    "wake_sleep",
  ),
  Mutation(
    "reweighted wake-sleep: phi descends",
    "wake_sleep",
    "log_p + wake * log_q",
    "log_p - wake * log_q",
    "importance",
  ),
  Mutation("beta: sign", "objectives", "(1 - beta) * kl", "(beta - 1) * kl", "objectives"),
  Mutation(
    "free bits: sign",
    "objectives",
    "bound + jnp.sum(kl(q, p)) - floored(q, p)",
    "bound - jnp.sum(kl(q, p)) + floored(q, p)",
    "objectives",
  ),
  Mutation(
    "free bits: over the sum of latents",
    "objectives",
    "jnp.sum(jnp.maximum(nats, kl(q, p)))",
    "jnp.maximum(nats, jnp.sum(kl(q, p)))",
    "objectives",
  ),
  Mutation(
    "free bits: a ceiling",
    "objectives",
    "jnp.maximum(nats, kl",
    "jnp.minimum(nats, kl",
    "objectives",
  ),
  Mutation(
    "warm-up: never warm",
    "objectives",
    "jnp.minimum(step / num_steps, 1.0)",
    "jnp.maximum(step / num_steps, 1.0)",
    "objectives",
  ),
  Mutation(
    "warm-up: the schedule stands still",
    "aevb",
    "estimator.at(state.step) if",
    "estimator.at(0) if",
    "objectives",
  ),
  Mutation(
    "objectives: the encoder runs again",
    "objectives",
    "return q if phi is params.phi and other_x is x else",
    "return",
    "objectives",
  ),
  Mutation(
    "full VB: KL not divided by N",
    "full_vb",
    "kl_divergence(q, p) / num_data",
    "kl_divergence(q, p)",
    "full_vb",
  ),
  Mutation(
    "full VB: sign of the sampled KL",
    "full_vb",
    "(p.log_prob(theta) - q.log_prob(theta)) / num_data",
    "(q.log_prob(theta) - p.log_prob(theta)) / num_data",
    "full_vb",
  ),
  Mutation(
    "full VB: local noise without biases",
    "full_vb",
    'own["kernel"] + own.get("bias", 0.0)',
    'own["kernel"]',
    "full_vb",
  ),
  Mutation(
    "full VB: standard deviation for variance",
    "full_vb",
    "unravel(model, jnp.exp(params.theta.log_var))",
    "unravel(model, jnp.exp(0.5 * params.theta.log_var))",
    "full_vb",
  ),
  Mutation(
    "full VB: the same noise in every layer",
    "full_vb",
    "jax.random.fold_in(key, len(seen))",
    "jax.random.fold_in(key, 0)",
    "full_vb",
  ),
  Mutation(
    "instrument: products of a batch with itself",
    "gradient_noise",
    "(products.sum() - np.trace(products))",
    "products.sum()",
    "gradient_noise",
  ),
  Mutation(
    "instrument: biased variance",
    "gradient_noise",
    "/ num_repeats) / (num_repeats - 1)",
    "/ num_repeats) / num_repeats",
    "gradient_noise",
  ),
  Mutation("elbo_b: sign of the KL", "estimators", "- kl(q, ", "+ kl(q, ", "estimators"),
  Mutation(
    "elbo_b: KL the wrong way round",
    "estimators",
    "kl(q, model.prior(params))",
    "kl(model.prior(params), q)",
    "estimators",
  ),
  Mutation("elbo_b: sum over samples", "estimators", "jnp.mean(rec", "jnp.sum(rec", "estimators"),
  Mutation(
    "gaussian: log-variance as log-std in samples",
    "families",
    "jnp.exp(0.5 * eta.log_var) * noise",
    "jnp.exp(eta.log_var) * noise",
    "families",
  ),
  Mutation(
    "gaussian: log-variance as log-std in the density",
    "families",
    "LOG_2PI + eta.log_var + ",
    "LOG_2PI + 2 * eta.log_var + ",
    "families",
  ),
  Mutation(
    "bernoulli: KL without its second class",
    "divergences",
    "jax.nn.sigmoid(-q.logits) * off",
    "jax.nn.sigmoid(q.logits) * off",
    "families",
  ),
  Mutation(
    "bernoulli: derivative of softplus",
    "families",
    "jax.nn.sigmoid(logits) * tangent",
    "jax.nn.sigmoid(-logits) * tangent",
    "float32",
  ),
  Mutation(
    "gaussian: KL constant", "divergences", "squared_distance - 1", "squared_distance", "families"
  ),
  Mutation(
    "gaussian: floor in std, not variance",
    "families",
    "2 * math.log(min",
    "math.log(min",
    "families",
  ),
  Mutation(
    "bernoulli: classes swapped",
    "families",
    "x * logits - _softplus",
    "(1 - x) * logits - _softplus",
    "families",
  ),
  Mutation(
    "bernoulli: mean over pixels",
    "families",
    "jnp.sum(x * logits",
    "jnp.mean(x * logits",
    "families",
  ),
  Mutation(
    "decoder and encoder: same key",
    "model",
    "phi=model.encoder.init(phi_key)",
    "phi=model.encoder.init(theta_key)",
    "networks",
  ),
  Mutation("networks: another activation", "networks", "= nn.tanh", "= nn.relu", "networks"),
  Mutation("aevb: descends", "aevb", "return -objective, bound", "return objective, bound", "aevb"),
  Mutation("aevb: prior by M", "aevb", "/ num_data, bound", "/ len(batch), bound", "aevb"),
  Mutation(
    "aevb: prior not divided", "aevb", "log_prior(params) / num_data", "log_prior(params)", "aevb"
  ),
  Mutation(
    "aevb: prior on baselines",
    "aevb",
    "jax.tree.leaves((params.theta, params.phi))",
    "jax.tree.leaves(params)",
    "aevb",
  ),
  Mutation("aevb: prior on biases", "aevb", "w.ndim >= 2", "w.ndim >= 1", "aevb"),
  Mutation(
    "aevb: same noise at every step",
    "aevb",
    "fold_in(state.key, state.step)",
    "fold_in(state.key, 0)",
    "aevb",
  ),
  Mutation(
    "aevb: reports the objective", "aevb", '{"bound": bound}', '{"bound": bound + 1e-3}', "aevb"
  ),
  Mutation("stages: one update longer", "optimizers", "step >= jnp", "step > jnp", "optimizers"),
  Mutation("adam: eps ignored", "optimizers", "step_size, eps=eps)", "step_size)", "optimizers"),
  Mutation("adagrad: optax's accumulator", "optimizers", "value=0.0", "value=0.1", "optimizers"),
  Mutation(
    "adagrad: warm-up a step longer", "optimizers", "step < warmup", "step <= warmup", "optimizers"
  ),
  Mutation(
    "importance: same noise in every chunk",
    "marginal",
    "jax.random.fold_in(key, i)",
    "jax.random.fold_in(key, 0)",
    "marginal",
  ),
  Mutation("binarize: half the probability", "preprocess", "<< 16", "<< 15", "preprocess"),
  Mutation(
    "binarize: same bits for neighbours",
    "preprocess",
    "(size + 1) // 2, jnp.uint32)",
    "(size + 1) // 2, jnp.uint32) & 0xFFFF0000",
    "preprocess",
  ),
  Mutation("threshold: not above a half", "preprocess", "> 0.5)", ">= 0.5)", "preprocess"),
  Mutation(
    "dequantize: by 255", "preprocess", "dtype) + u) / 256", "dtype) + u) / 255", "preprocess"
  ),
  Mutation(
    "bits per dim: sign", "preprocess", "return -log_p / (", "return log_p / (", "preprocess"
  ),
  Mutation(
    "order: same in every epoch",
    "minibatches",
    "jax.random.fold_in(key, epoch)",
    "jax.random.fold_in(key, 0)",
    "minibatches",
  ),
  Mutation("order: always swaps", "minibatches", "swap == 1", "swap >= 0", "minibatches"),
  Mutation("order: off by one", "minibatches", "index > offset", "index >= offset", "minibatches"),
  Mutation(
    "order: partners do not agree",
    "minibatches",
    "jnp.maximum(index, partner)",
    "index",
    "minibatches",
  ),
  Mutation("stream: starts anew", "minibatches", "int(start) + np", "0 + np", "minibatches"),
  Mutation(
    "stream: all processes read the same",
    "minibatches",
    "slice(process_index * share, (process_index + 1) * share)",
    "slice(0, share)",
    "minibatches",
  ),
  Mutation(
    "fit: same pixels' noise at every step",
    "train",
    "fold_in(pixel_key, state.step)",
    "fold_in(pixel_key, 0)",
    "train",
  ),
  Mutation("fit: static draws are fresh", "train", "if static_key is None:", "if True:", "train"),
  Mutation(
    "evaluate: same noise for every example",
    "train",
    "fold_in(key, index)",
    "fold_in(key, 0)",
    "train",
  ),
  Mutation("evaluate: every block is the first", "train", "first=first", "first=0", "train"),
  Mutation(
    "download: not checked",
    "downloads",
    "if wrong := mismatch(file, partial):",
    "if wrong := None:",
    "downloads",
  ),
  Mutation(
    "cache: not checked",
    "array_cache",
    '_sha256(path) != expected["sha256"]',
    "False",
    "array_cache",
  ),
  Mutation(
    "cache: of another source", "array_cache", 'or index["source"] != source', "", "array_cache"
  ),
  Mutation(
    "cache: altered index", "array_cache", 'index.pop("checksum") != ', "'' == ", "array_cache"
  ),
  Mutation(
    "flags: static is dynamic",
    "experiments/data_options",
    'train_draw if FLAGS.binarization == "static" else None',
    "None",
    "data_options",
  ),
  Mutation(
    "flags: always by 255",
    "experiments/data_options",
    "levels = pixel_scale(images)\n",
    "levels = 255\n",
    "data_options",
  ),
  Mutation(
    "hmc: a leapfrog more",
    "hmc",
    "unit_mass, num_leapfrogs)",
    "unit_mass, num_leapfrogs + 1)",
    "hmc",
  ),
  Mutation(
    "hmc: to infinite densities",
    "hmc",
    "jnp.where(value == jnp.inf, jnp.nan, value)",
    "value",
    "hmc",
  ),
  Mutation(
    "hmc: tuned for 65 %",
    "hmc",
    "TARGET_ACCEPTANCE = 0.9 ",
    "TARGET_ACCEPTANCE = 0.65 ",
    "hmc",
  ),
  Mutation(
    "mcem: chains do not persist",
    "mcem",
    "z=state.z.at[index].set(chains.position)",
    "z=state.z",
    "mcem",
  ),
  Mutation(
    "mcem: rows of the minibatch",
    "mcem",
    "z=state.z.at[index].set",
    "z=state.z.at[jnp.arange(len(index))].set",
    "mcem",
  ),
  Mutation(
    "mcem: step size the wrong way",
    "mcem",
    "(acceptance - target_acceptance)",
    "(target_acceptance - acceptance)",
    "mcem",
  ),
  Mutation(
    "mcem: N for M in the prior",
    "mcem",
    "log_prior(params) / num_data",
    "log_prior(params) / len(batch)",
    "mcem",
  ),
  Mutation(
    "mcem: the old z",
    "mcem",
    "(batch, chains.position)",
    "(batch, state.z[index])",
    "mcem",
  ),
  Mutation(
    "importance: error of K - 1 weights squared",
    "marginal",
    "/ jnp.sqrt(len(w)) / jnp.mean(w)",
    "/ len(w) / jnp.mean(w)",
    "marginal",
  ),
  Mutation(
    "importance: effective samples over K",
    "marginal",
    "jnp.sum(w) ** 2 / jnp.sum(w**2)",
    "jnp.sum(w) ** 2 / jnp.sum(w**2) / len(w)",
    "marginal",
  ),
  Mutation(
    "importance: k of the smallest weights",
    "marginal",
    "psis_weights(log_w)",
    "psis_weights(-log_w)",
    "marginal",
  ),
  Mutation(
    "reciprocal: not the reciprocal",
    "reciprocal",
    "value=-largest - jnp.log(",
    "value=largest + jnp.log(",
    "reciprocal",
  ),
  Mutation(
    "reciprocal: on the samples that fitted",
    "reciprocal",
    "z = draws.z[num_chains:]",
    "z = draws.z[:num_chains]",
    "reciprocal",
  ),
  Mutation(
    "reciprocal: draws as if independent",
    "reciprocal",
    "jnp.std(of_chains, ddof=1) / math.sqrt(num_chains)",
    "jnp.std(terms, ddof=1) / math.sqrt(num_chains * num_samples)",
    "reciprocal",
  ),
  Mutation(
    "reciprocal: kernels not normalized",
    "reciprocal",
    " - math.log(num_samples) - log_volume",
    " - log_volume",
    "reciprocal",
  ),
  Mutation(
    "reciprocal: modes not by weight",
    "reciprocal",
    "jax.nn.softmax(log_w)",
    "jax.nn.softmax(jnp.zeros_like(log_w))",
    "reciprocal",
  ),
  Mutation(
    "annealing: the posterior at every temperature",
    "annealing",
    "self.start.log_prob(z) + beta * self.log_w(z)",
    "self.start.log_prob(z) + self.log_w(z)",
    "annealing",
  ),
  Mutation(
    "annealing: moved at the temperature before",
    "annealing",
    "target = path.at(betas[t])",
    "target = path.at(betas[t - 1])",
    "annealing",
  ),
  Mutation(
    "annealing: the weights of the next temperature",
    "annealing",
    "log_w += (betas[t] - betas[t - 1])",
    "log_w += (betas[t] - betas[0]) / t",
    "annealing",
  ),
  Mutation(
    "annealing: reverse from the start",
    "annealing",
    "chains.position, betas[::-1]",
    "jnp.zeros_like(chains.position), betas[::-1]",
    "annealing",
  ),
  Mutation(
    "annealing: upper not turned",
    "annealing",
    "inverse._replace(value=-inverse.value)",
    "inverse",
    "annealing",
  ),
  Mutation(
    "importance: counts the padding",
    "marginal",
    ".reshape(-1)[:num_samples]",
    ".reshape(-1)",
    "marginal",
  ),
  Mutation(
    "mcem: index not passed",
    "train",
    "algorithm.update(state, batch, minibatch.index)",
    "algorithm.update(state, batch, jnp.arange(len(batch)))",
    "mcem",
  ),
  Mutation(
    "linear-Gaussian: no spread of z",
    "linear_gaussian",
    " - spread - kl",
    " - kl",
    "linear_gaussian",
  ),
  Mutation(
    "linear-Gaussian: the posterior's variances",
    "linear_gaussian",
    '"log_var": -jnp.log(jnp.sum(root**2, axis=0))',
    '"log_var": -2 * jnp.log(jnp.abs(jnp.diagonal(root)))',
    "linear_gaussian",
  ),
  Mutation(
    "linear-Gaussian: log det of Σ twice",
    "linear_gaussian",
    "jnp.vdot(z, z) - _half_log_det_precision(root)",
    "jnp.vdot(z, z) - 2 * _half_log_det_precision(root)",
    "linear_gaussian",
  ),
  Mutation(
    "devices: the padding is evaluated too",
    "train",
    "v.reshape(-1, *v.shape[2:])[: len(pixels)]",
    "v.reshape(-1, *v.shape[2:])",
    "sharding",
  ),
  Mutation(
    "devices: a minibatch that is not shared",
    "train",
    "    minibatch = constrain(minibatch, sharding)\n",
    "    minibatch = constrain(minibatch, replicated_on(sharding))\n",
    "sharding",
  ),
  Mutation(
    "sweep: members see the data of the first",
    "sweep",
    "return fit(algorithm, state, key, pixels,",
    "return fit(algorithm, state, keys[0], pixels,",
    "sweep",
  ),
  Mutation(
    "sweep: the step size of the algorithm",
    "sweep",
    "return states if step_sizes is None else with_step_size(states, step_sizes)",
    "return states",
    "sweep",
  ),
  Mutation(
    "sweep: the worst step size goes on",
    "experiments/sweeps",
    "best = max(means, key=means.get)",
    "best = min(means, key=means.get)",
    "sweep_command",
  ),
  Mutation(
    "resume: the data from the start",
    "experiments/program",
    "        start=start,\n",
    "        start=0,\n",
    "sweep_command",
  ),
  Mutation(
    "convolution: the kernel flipped",
    "convolutions",
    "jnp.flip(kernel, (0, 1))",
    "kernel",
    "convolutions",
  ),
  Mutation(
    "convolution: the odd pixel of the padding first",
    "convolutions",
    "max((small - 1) * stride + taps - large, 0) // 2",
    "(max((small - 1) * stride + taps - large, 0) + 1) // 2",
    "convolutions",
  ),
  Mutation(
    "convolution: the wrong edge cut off",
    "convolutions",
    "Axis(taps, stride, max(taps - stride, 0) // 2, stride * small, small)",
    "Axis(taps, stride, (max(taps - stride, 0) + 1) // 2, stride * small, small)",
    "convolutions",
  ),
  Mutation(
    "convolutional decoder: cropped at the wrong side",
    "networks",
    "h[:height, :width]",
    "h[-height:, -width:]",
    "networks",
  ),
  Mutation(
    "precision: sums are rounded too",
    "products",
    "preferred_element_type=left.dtype",
    "preferred_element_type=dtype",
    "precision",
  ),
  Mutation(
    "precision: gradients are not rounded",
    "products",
    "lambda g, rows, matrix, *, dtype: _sum_over_rows(rows, g, dtype)",
    "lambda g, rows, matrix, *, dtype: _sum_over_rows(rows, g, rows.dtype)",
    "precision",
  ),
  Mutation("prepare: no lock", "locks", "fcntl.LOCK_EX", "fcntl.LOCK_SH", "builders"),
  Mutation("cache: no lock", "locks", "fcntl.LOCK_EX", "fcntl.LOCK_SH", "array_cache"),
  Mutation("omniglot: rows for columns", "builders", ".transpose(0, 2, 1)", "", "builders"),
  Mutation(
    "frey face: columns for rows", "builders", "frames.T.reshape", "frames.reshape", "builders"
  ),
  Mutation(
    "standard error of one, not of the mean", "train", " / np.sqrt(len(values)))", ")", "train"
  ),
  Mutation(
    "non-finite: the value alone is looked at",
    "nonfinite",
    "all_finite((metrics[objective], following))",
    "all_finite(metrics[objective])",
    "nonfinite",
  ),
  Mutation(
    "non-finite: the state alone is looked at",
    "nonfinite",
    "all_finite((metrics[objective], following))",
    "all_finite(following)",
    "nonfinite",
  ),
  Mutation(
    "non-finite: the same minibatch for ever",
    "nonfinite",
    "s._replace(step=following.step, key=())",
    "s._replace(key=())",
    "nonfinite",
  ),
  Mutation(
    "non-finite: explained by another z",
    "nonfinite",
    "z = draw(key, q, num_samples)",
    "z = draw(jax.random.fold_in(key, 1), q, num_samples)",
    "nonfinite",
  ),
  Mutation(
    "non-finite: the place in the minibatch for that in the data",
    "nonfinite",
    "index[~finite].min()",
    "np.flatnonzero(~finite).min()",
    "nonfinite",
  ),
  Mutation(
    "checkpoint: arrays are not compared with their checksums",
    "checkpoint",
    "    if saved != found:",
    "    if saved and found and saved[:3] != found[:3]:",
    "checkpoint",
  ),
  Mutation(
    "checkpoint: a checksum that does not see the order",
    "checkpoint",
    "weights * words",
    "words",
    "checkpoint",
  ),
  Mutation(
    "checkpoint: another model is damage",
    "checkpoint",
    'raise CheckpointError(f"the checkpoint',
    'raise DamagedError(f"the checkpoint',
    "checkpoint",
  ),
  Mutation(
    "resume: what the next row sums up begins anew",
    "experiments/runs",
    'sums = {name: np.asarray(values) for name, values in record["sums"].items()}',
    "sums = {}",
    "training",
  ),
  Mutation(
    "resume: without the rows so far",
    "experiments/runs",
    '**record["runs"].get(run.name, {})',
    "**{}",
    "training",
  ),
  Mutation(
    "stop: the row of that step left out",
    "experiments/training",
    "  if is_due(training, end):  # it",
    "  if False:  # it",
    "training",
  ),
  Mutation(
    "non-finite: the state after the fault is saved",
    "experiments/faults",
    "    if not going_on.any():",
    "    if False:",
    "training",
  ),
  Mutation(
    "best: the lowest validation bound",
    "experiments/saving",
    "now.bound > saved.best.bound",
    "now.bound < saved.best.bound",
    "training",
  ),
  Mutation(
    "a second run of a directory is let in",
    "experiments/rundir",
    "LOCKS_HELD.append(locks.hold(directory / LOCK))",
    "pass",
    "survival",
  ),
  Mutation("manifold: upside down", "figures", "quantiles[::-1]", "quantiles", "figures"),
  Mutation(
    "missing: the chain is not corrected", "missing", "if not corrected:", "if True:", "missing"
  ),
  Mutation(
    "missing: accepts what it should refuse",
    "missing",
    "log_w(proposal) - log_w(z)",
    "log_w(z) - log_w(proposal)",
    "missing",
  ),
  Mutation(
    "missing: known pixels are drawn anew",
    "missing",
    "jnp.where(mask, known, p.sample(key))",
    "p.sample(key)",
    "missing",
  ),
  Mutation(
    "flipped: errors and right pixels swapped",
    "missing",
    "(right - wrong)",
    "(wrong - right)",
    "missing",
  ),
  Mutation(
    "block sums: pixels are not counted",
    "missing",
    "return left - x, x.astype",
    "return left, x.astype",
    "missing",
  ),
  Mutation(
    "block sums: the tilt is kept", "missing", " - jnp.sum(tilt[0] * counts)", "", "missing"
  ),
  Mutation(
    "block sums: none on, no tilt", "missing", "above == jnp.inf, below + 8", "False, 0", "missing"
  ),
  Mutation(
    "block sums: the mean is that without them",
    "missing",
    'p.mean + jax.grad(log_prob_of)(_logits(p, "sums of blocks"))',
    "p.mean",
    "missing",
  ),
  Mutation(
    "weibull: shape and its inverse",
    "inverse_cdf",
    "_exponential_noise(u) ** (1 / eta.shape)",
    "_exponential_noise(u) ** eta.shape",
    "reparameterizable",
  ),
  Mutation(
    "gumbel: the other tail",
    "inverse_cdf",
    "eta.location - eta.scale * jnp.log(-jnp.log(u))",
    "eta.location + eta.scale * jnp.log(-jnp.log(u))",
    "reparameterizable",
  ),
  Mutation(
    "uniform noise: 0 is drawn",
    "univariate",
    "return noise + jnp.finfo(noise.dtype).eps / 2",
    "return noise",
    "float32",
  ),
  Mutation(
    "densities: outside as inside",
    "univariate",
    "_within(low, high))), -jnp.inf)",
    "_within(low, high))), 0.0)",
    "reparameterizable",
  ),
  Mutation(
    "gamma: rate as scale in samples",
    "composition",
    "_log_gamma_variables(noise, eta.shape)[0] - jnp.log(eta.rate)",
    "_log_gamma_variables(noise, eta.shape)[0] + jnp.log(eta.rate)",
    "reparameterizable",
  ),
  Mutation(
    "beta: one noise for both variables",
    "composition",
    "keys = jax.random.split(key, len(shapes))",
    "keys = [jax.random.clone(key) for _ in shapes]",
    "reparameterizable",
  ),
  Mutation(
    "KL of Gammas: the wrong way round",
    "divergences",
    "ratio = p.rate / q.rate",
    "ratio = q.rate / p.rate",
    "divergences",
  ),
  Mutation(
    "KL of Gaussians: no dimensions taken off",
    "divergences",
    "0.5 * (squares - len(q.mean))",
    "0.5 * squares",
    "divergences",
  ),
  Mutation(
    "autoregression: a number sees itself",
    "flows",
    "of_hidden[None] >= degrees[:, None]",
    "of_hidden[None] + 1 >= degrees[:, None]",
    "flows",
  ),
  Mutation(
    "flow: the sign of the volume",
    "flows",
    "return base.log_prob(eta.base, z_0) - log_det",
    "return base.log_prob(eta.base, z_0) + log_det",
    "flows",
  ),
  Mutation(
    "spline: slope of the bin left out",
    "flows",
    "return 2 * jnp.log(slope) + jnp.log(above)",
    "return jnp.log(above)",
    "flows",
  ),
  Mutation(
    "mixture: no implicit gradient",
    "mixtures",
    "return z - solve_triangular(slopes, change, lower=True)",
    "return z",
    "mixtures",
  ),
  Mutation(
    "strata: not weighed",
    "mixtures",
    "return jnp.exp(log_pi) @ jnp.mean(log_w, axis=1)",
    "return jnp.mean(log_w)",
    "mixtures",
  ),
  Mutation(
    "VampPrior: the sum, not the mean",
    "mixtures",
    "jax.nn.logsumexp(of_each) - math.log(k)",
    "jax.nn.logsumexp(of_each)",
    "mixtures",
  ),
  Mutation(
    "continuous Bernoulli: no normalizer",
    "likelihoods",
    "jax.nn.softplus(l) + _log_normalizer(l)",
    "jax.nn.softplus(l)",
    "likelihoods",
  ),
  Mutation(
    "discretized: ends closed",
    "likelihoods",
    "return jnp.where(inner, log_mass(a, b), ends)",
    "return log_mass(a, b)",
    "likelihoods",
  ),
]


def main() -> None:
  chosen = [m for m in MUTATIONS if all(word in m.name for word in sys.argv[1:])]
  survivors = [mutation for mutation in chosen if not is_killed(mutation)]
  print(f"{len(chosen) - len(survivors)} of {len(chosen)} planted errors were noticed")
  if survivors:
    sys.exit("survived: " + "; ".join(mutation.name for mutation in survivors))


def is_killed(mutation: Mutation) -> bool:
  with tempfile.TemporaryDirectory() as directory:
    copy = pathlib.Path(directory)
    for name in ("aevb_jax", "experiments", "tests"):
      shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    folder = "" if "/" in mutation.module else "aevb_jax"
    module = copy / folder / f"{mutation.module}.py"
    text = module.read_text()
    if text.count(mutation.old) != 1:
      sys.exit(f"{mutation.name}: {mutation.old!r} must stand once in {mutation.module}.py")
    module.write_text(text.replace(mutation.old, mutation.new))
    test = f"tests/test_{mutation.tests}.py"
    command = [sys.executable, "-m", "pytest", "-x", "--numprocesses=0", "-p", "no:cacheprovider"]
    result = subprocess.run([*command, test], cwd=copy, capture_output=True, text=True)
  failed = [line for line in result.stdout.splitlines() if line.startswith("FAILED")]
  killed = result.returncode == 1 and bool(failed)
  verdict = failed[0].split(" - ")[0].removeprefix("FAILED ") if killed else "SURVIVED"
  print(f"{mutation.name:45} {verdict}", flush=True)
  return killed


if __name__ == "__main__":
  main()
