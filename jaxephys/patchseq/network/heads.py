"""Heads: from a pooled vector to the logits of the classes."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.patchseq.network.encoder import NORM_EPSILON, uniform_init

ARC_SCALE, ARC_MARGIN = 30.0, 0.35


class SoftmaxHead(nn.Module):
    """LayerNorm, dropout, linear."""

    classes: int
    dropout: float = 0.2

    @nn.compact
    def __call__(self, pooled: Float[Array, "batch pooled"], *, train: bool) -> Float[Array, "batch class"]:
        x = nn.LayerNorm(epsilon=NORM_EPSILON, name="norm")(pooled)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        bound = uniform_init(pooled.shape[-1] ** -0.5)
        return nn.Dense(self.classes, kernel_init=bound, bias_init=bound, name="dense")(x)


class CosineHead(nn.Module):
    """The cosine between a cell and the direction of each class: the ArcFace logits before margin and scale."""

    classes: int

    @nn.compact
    def __call__(self, pooled: Float[Array, "batch pooled"]) -> Float[Array, "batch class"]:
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (pooled.shape[-1], self.classes))
        return unit(pooled, axis=-1) @ unit(kernel, axis=0)


def unit(x: Float[AnyArray, "..."], axis: int) -> Float[AnyArray, "..."]:
    """x over its length, with a finite gradient at 0."""
    return x / jnp.sqrt(jnp.maximum(jnp.sum(x**2, axis=axis, keepdims=True), 1e-24))


def arcface_logits(
    cosine: Float[AnyArray, "batch class"],
    label: Int[AnyArray, "batch"],
    scale: float = ARC_SCALE,
    margin: float = ARC_MARGIN,
) -> Float[AnyArray, "batch class"]:
    """ArcFace (additive angular margin): ``s cos(theta + m)`` for the true class, ``s cos(theta)`` for the others.

    Beyond theta + m = pi the cosine would turn upwards again; there the published fallback ``cos(theta) - m sin(m)`` is
    used. Without labels, when scoring, the logits are ``s cos(theta)``.
    """
    sine = jnp.sqrt(jnp.clip(1 - cosine**2, 1e-12, 1.0))
    margined = cosine * jnp.cos(margin) - sine * jnp.sin(margin)
    margined = jnp.where(cosine > jnp.cos(jnp.pi - margin), margined, cosine - margin * jnp.sin(jnp.pi - margin))
    true = jnp.arange(cosine.shape[-1]) == label[:, None]
    return scale * jnp.where(true, margined, cosine)
