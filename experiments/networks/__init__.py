"""Networks to copy: the same residual convolutional encoder and decoder in three libraries.

Each module has a function `residual(image_shape, latent_dim, width)`, which returns the encoder and
the decoder that `aevb_jax.models.network_vae` takes.
"""
