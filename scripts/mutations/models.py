"""Errors in the models: p(z), p(x given z), q(z given x)."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation(
    "hierarchical: variances add in place of precisions",
    "models/hierarchical",
    "log_var = -jnp.logaddexp(-above.log_var, -eta.log_var)",
    "log_var = jnp.logaddexp(above.log_var, eta.log_var)",
    "models/hierarchical",
  ),
  Mutation(
    "hierarchical: q of a layer from the wrong layer",
    "models/hierarchical",
    "_of_parent(above[s], s - 1, phi[s])",
    "_of_parent(above[s], s - 1, jax.tree.map(jnp.zeros_like, phi[s]))",
    "models/hierarchical",
  ),
  Mutation(
    "log-weight: sign of log q",
    "models/joint",
    "log_joint(model, params, x, z) - q.log_prob(z)",
    "log_joint(model, params, x, z) + q.log_prob(z)",
    "estimators/sgvb",
  ),
  Mutation(
    "log-weight: no log q",
    "models/joint",
    "log_joint(model, params, x, z) - q.log_prob(z)",
    "log_joint(model, params, x, z)",
    "estimators/sgvb",
  ),
  Mutation(
    "wake-sleep: dreams are means",
    "models/joint",
    "return z, model.decoder.given(params.theta, z).sample(x_key)",
    "return z, model.decoder.given(params.theta, z).mean",
    "estimators/wake_and_sleep",
  ),
  Mutation(
    "decoder and encoder: same key",
    "models/vae",
    "phi=model.encoder.init(phi_key)",
    "phi=model.encoder.init(theta_key)",
    "models/networks",
  ),
  Mutation(
    "networks: another activation",
    "models/networks",
    "= nn.tanh",
    "= nn.relu",
  ),
  Mutation(
    "linear-Gaussian: no spread of z",
    "models/linear_gaussian",
    " - spread - kl",
    " - kl",
  ),
  Mutation(
    "linear-Gaussian: the posterior's variances",
    "models/linear_gaussian",
    '"log_var": -jnp.log(jnp.sum(root**2, axis=0))',
    '"log_var": -2 * jnp.log(jnp.abs(jnp.diagonal(root)))',
  ),
  Mutation(
    "linear-Gaussian: log det of Σ twice",
    "models/linear_gaussian",
    "jnp.vdot(z, z) - _half_log_det_precision(root)",
    "jnp.vdot(z, z) - 2 * _half_log_det_precision(root)",
  ),
  Mutation(
    "convolutional decoder: cropped at the wrong side",
    "models/networks",
    "h[:height, :width]",
    "h[-height:, -width:]",
  ),
  Mutation(
    "networks of other libraries: parameters by their order",
    "models/adapters",
    "return jax.tree_util.tree_map_with_path(find, like)",
    "return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(params))",
  ),
  Mutation(
    "networks of other libraries: state of NNX is taken",
    "models/adapters",
    "if isinstance(value, nnx.Variable | jax.Array) and not isinstance(value, nnx.Param)",
    "if isinstance(value, nnx.BatchStat)",
  ),
  Mutation(
    "networks of one's own: heads of low precision",
    "models/networks",
    "tuple(head.astype(dtype) for head in network.apply(params, x))",
    "network.apply(params, x)",
    "models/adapters",
  ),
  Mutation(
    "heads: an image of another size by pixel",
    "models/heads",
    "len(features) == 3 and features[:2] == tuple(image_shape[:2])",
    "len(features) == 3",
  ),
  Mutation(
    "network_vae: the encoder is given a flat x",
    "models/heads",
    "of_image.apply(params, x.reshape(image_shape))",
    "of_image.apply(params, x)",
  ),
  Mutation(
    "own models: flags that they do not take are ignored",
    "models/own",
    "if not names.accepts(function, keyword):",
    "if False:",
    "commands/own",
  ),
  Mutation(
    "conditional: the decoder does not see the condition",
    "models/conditions",
    "model._replace(decoder=at(model.decoder), encoder",
    "model._replace(decoder=at(model.decoder)._replace(given=lambda params, z: "
    "model.decoder.given(params, (z, 0 * c))), encoder",
  ),
  Mutation(
    "few labels: drawn from all classes alike",
    "models/semi_supervised",
    "np.flatnonzero(y[:, k])",
    "len(y)",
  ),
  Mutation(
    "features: all latents, whichever are asked for",
    "models/semi_supervised",
    "return z if latents is None else z[jnp.array(latents)]",
    "return z",
  ),
  Mutation(
    "state space: a frame's latent is inferred from its neighbours",
    "models/state_space",
    'nn.tanh(*linear(self, frames, {"hidden": self.size}))',
    'nn.tanh(*linear(self, 0.5 * (frames + frames[::-1]), {"hidden": self.size}))',
  ),
]
