"""Heads: from the pooled vector of a cell to the logits of the classes, by softmax or by ArcFace."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.models.dropout import Dropout, Rate
from jaxephys.patchseq.network.dropout import DEFAULT_RATES
from jaxephys.patchseq.network.encoder import NORM_EPSILON, uniform_initializer
from jaxephys.patchseq.network.forms import ComputeForm

ARCFACE_SCALE, ARCFACE_MARGIN = 30.0, 0.35  # the margin in radians


class SoftmaxHead(nn.Module):
    """Layer normalization, dropout and a linear layer.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    """

    n_classes: int

    @nn.compact
    def __call__(
        self, pooled: Float[Array, "batch pooled"], dropout: Rate = DEFAULT_RATES.hidden, *, train: bool
    ) -> Float[Array, "batch class"]:
        x = nn.LayerNorm(epsilon=NORM_EPSILON, name="norm")(pooled)
        x = Dropout(enlarge_last=True)(x, dropout if train else 0.0)
        initializer = uniform_initializer(pooled.shape[-1] ** -0.5)
        return nn.Dense(self.n_classes, kernel_init=initializer, bias_init=initializer, name="dense")(x)


class CosineHead(nn.Module):
    """The cosine between a cell and the direction of each class: the ArcFace logits before margin and scale.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    form : ComputeForm
        How the operations are computed.
    """

    n_classes: int
    form: ComputeForm = ComputeForm()

    @nn.compact
    def __call__(self, pooled: Float[Array, "batch pooled"]) -> Float[Array, "batch class"]:
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (pooled.shape[-1], self.n_classes))
        kernel = self.form.separate(
            kernel
        )  # read again by the gradient: with a copy, the optimizer updates it in place
        return unit_vectors(pooled, axis=-1) @ unit_vectors(kernel, axis=0)


def unit_vectors(x: Float[AnyArray, "..."], axis: int) -> Float[AnyArray, "..."]:
    """Divide vectors by their length, with a finite gradient at 0.

    Parameters
    ----------
    x : array
        Vectors along ``axis``.
    axis : int
        The axis of the entries of a vector.

    Returns
    -------
    array of the shape of ``x``
        Vectors of length 1; a zero vector stays zero.
    """
    return x / jnp.sqrt(jnp.maximum(jnp.sum(x**2, axis=axis, keepdims=True), 1e-24))


def arcface_logits(
    cosine: Float[AnyArray, "batch class"],
    label: Int[AnyArray, "batch"],
    scale: float = ARCFACE_SCALE,
    margin: float = ARCFACE_MARGIN,
) -> Float[AnyArray, "batch class"]:
    """Return training logits of ArcFace (additive angular margin).

    Parameters
    ----------
    cosine : array of shape (batch, class)
        Cosine between each cell and each class.
    label : array of int, shape (batch,)
        True class of each cell.
    scale : float, default 30.0
        Factor s of all logits.
    margin : float, default 0.35
        Angle m in radians that is added for the true class.

    Returns
    -------
    array of shape (batch, class)
        ``s cos(theta + m)`` for the true class and ``s cos(theta)`` for the others.

    Notes
    -----
    Beyond ``theta + m = pi`` the cosine would rise again; there the published fallback ``cos(theta) - m sin(m)`` is used.
    Predictions, which have no label, use ``s cos(theta)`` for all classes.
    """
    sine = jnp.sqrt(jnp.clip(1 - cosine**2, 1e-12, 1.0))
    with_margin = cosine * jnp.cos(margin) - sine * jnp.sin(margin)
    fallback = cosine - margin * jnp.sin(jnp.pi - margin)
    with_margin = jnp.where(cosine > jnp.cos(jnp.pi - margin), with_margin, fallback)
    is_true = jnp.arange(cosine.shape[-1]) == label[:, None]
    return scale * jnp.where(is_true, with_margin, cosine)
