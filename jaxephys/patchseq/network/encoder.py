"""Encoders of a sequence of feature families: a BiLSTM over the families, and additive attention.

Start with ``FamilyEncoder`` (the published one) and ``TokenEncoder`` (ours, the default of ``PatchSeqClassifier``).
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.patchseq.network.lstm import lstm, matmul
from jaxephys.patchseq.network.ragged_layout import RaggedLayout

NORM_EPSILON = 1e-5  # PyTorch's


class FamilyEncoder(nn.Module):
    """The published encoder: layer normalization over the padded width, then a one-layer BiLSTM over the families.

    Parameters
    ----------
    layout : RaggedLayout
        Order of the features; its ``padded_width`` is the width that is normalized.
    hidden : int, default 128
        Hidden units of the LSTM in each direction.

    Notes
    -----
    Deviation: one bias per gate, where PyTorch has two that are always added.
    """

    layout: RaggedLayout
    hidden: int = 128

    @nn.compact
    def __call__(self, packed: Float[Array, "batch packed"]) -> Float[Array, "batch family pooled"]:
        width, gate = self.layout.padded_width, 4 * self.hidden
        initializer = uniform_initializer(self.hidden**-0.5)
        scale = self.param("norm_scale", nn.initializers.ones, (width,))
        shift = self.param("norm_shift", nn.initializers.zeros, (width,))
        kernel = self.param("kernel", initializer, (2, width, gate))
        bias = self.param("bias", initializer, (2, gate))
        recurrent = self.param("recurrent", initializer, (2, self.hidden, gate))
        states = lstm(layer_norm_projection(packed, self.layout, scale, shift, kernel, bias), recurrent)
        return jnp.moveaxis(jnp.concatenate([states[0], states[1, ::-1]], axis=-1), 0, 1)


class TokenEncoder(nn.Module):
    """Our encoder: each family is projected to a token, from its values and its missing values, then a BiLSTM follows.

    Families are not normalized one by one before the projection, because the magnitude of their features carries
    information. Some inputs are dropped in training, so that the network does not depend on any single feature and
    bears cells that lack a stimulus protocol.

    Parameters
    ----------
    layout : RaggedLayout
        Order of the features.
    hidden : int, default 128
        Hidden units of the LSTM in each direction.
    token : int, default 64
        Number of values that each family is projected to.
    input_dropout : float, default 0.1
        Probability with which an input is set to 0 in training.

    Notes
    -----
    ``token_f = LayerNorm(silu(x_f W_f + missing_f M_f + b_f))``
    """

    layout: RaggedLayout
    hidden: int = 128
    token: int = 64
    input_dropout: float = 0.1

    @nn.compact
    def __call__(
        self, packed: Float[Array, "batch packed"], missing: Float[Array, "batch packed"], *, train: bool
    ) -> Float[Array, "batch family pooled"]:
        packed = nn.Dropout(self.input_dropout, deterministic=not train)(packed)
        tokens = []
        for number, columns in enumerate(self.layout.packed_columns):
            values_and_missing = jnp.concatenate([packed[:, columns], missing[:, columns]], axis=1)
            project = nn.Dense(self.token, kernel_init=nn.initializers.he_normal(), name=f"family_{number}")
            tokens.append(nn.silu(project(values_and_missing)))
        steps = nn.LayerNorm(epsilon=NORM_EPSILON, name="norm")(jnp.stack(tokens))
        initializer, gate = uniform_initializer(self.hidden**-0.5), 4 * self.hidden
        kernel = self.param("kernel", initializer, (2, self.token, gate))
        bias = self.param("bias", initializer, (2, gate))
        recurrent = self.param("recurrent", initializer, (2, self.hidden, gate))
        both_directions = jnp.stack([steps, steps[::-1]])
        projected = matmul(both_directions.reshape(2, -1, self.token), kernel) + bias[:, None]
        states = lstm(projected.reshape(*both_directions.shape[:3], gate), recurrent)
        return jnp.moveaxis(jnp.concatenate([states[0], states[1, ::-1]], axis=-1), 0, 1)


class AdditiveAttention(nn.Module):
    """Weights of the families of each cell, ``softmax_f(v . tanh(W h_f + b))``; they sum to 1.

    Parameters
    ----------
    size : int, default 128
        Number of hidden units of the attention.
    """

    size: int = 128

    @nn.compact
    def __call__(self, states: Float[Array, "batch family pooled"]) -> Float[Array, "batch family"]:
        batch, families, pooled = states.shape
        kernel = self.param("kernel", uniform_initializer(pooled**-0.5), (pooled, self.size))
        bias = self.param("bias", uniform_initializer(pooled**-0.5), (self.size,))
        score = self.param("score", uniform_initializer(self.size**-0.5), (self.size,))
        hidden = jnp.tanh(matmul(states.reshape(1, -1, pooled), kernel[None])[0] + bias)
        return nn.softmax((hidden @ score).reshape(batch, families), axis=-1)


def layer_norm_projection(
    packed: Float[Array, "batch packed"],
    layout: RaggedLayout,
    scale: Float[Array, "feature"],
    shift: Float[Array, "feature"],
    kernel: Float[Array, "direction feature gate"],
    bias: Float[Array, "direction gate"],
) -> Float[Array, "direction family batch gate"]:
    """Return ``LayerNorm(x) W + bias`` of every family without forming the padded, normalized x.

    Parameters
    ----------
    packed : array of shape (batch, packed)
        Features in the order of ``layout``.
    layout : RaggedLayout
        The layout.
    scale, shift : array of shape (padded_width,)
        Parameters of the layer normalization, shared by the families.
    kernel : array of shape (2, padded_width, gate)
        Input kernel of each direction, shared by the families.
    bias : array of shape (2, gate)
        Bias of each direction.

    Returns
    -------
    array of shape (2, family, batch, gate)
        The projections; families are reversed in the backward direction.

    Notes
    -----
    With the mean mu and the standard deviation sigma of a family,

        LN(x) W + bias = (x / sigma) (scale W) + (-mu / sigma) sum(scale W) + (shift W + bias)

    holds exactly. The last two terms are two more columns of x and rows of the kernel, so that the whole is one product
    per rectangle of the layout, and each family multiplies only the columns that it has.
    """
    mean, inverse_sd = family_statistics(packed, layout)
    scaled_kernel = scale[:, None] * kernel
    constant = jnp.einsum("f,dfg->dg", shift, kernel) + bias
    extra_rows = jnp.stack([scaled_kernel.sum(axis=1), constant], axis=1)
    n_families, batch, gate = len(layout.widths), packed.shape[0], kernel.shape[-1]
    projected = jnp.zeros((2, n_families, batch, gate))
    for number, (rectangle, x) in enumerate(zip(layout.rectangles, _split_rectangles(packed, layout), strict=True)):
        families = rectangle.families
        indices = jnp.array(families)
        x = x * inverse_sd[indices, :, None]
        rows = scaled_kernel[:, rectangle.start : rectangle.stop]
        if number == 0:  # the first rectangle holds every family: it takes the two additional columns
            x = jnp.concatenate([x, (-mean * inverse_sd)[..., None], jnp.ones((n_families, batch, 1))], axis=-1)
            rows = jnp.concatenate([rows, extra_rows], axis=1)
        both_directions = jnp.stack([x, x[::-1]]).reshape(2, -1, x.shape[-1])
        out = matmul(both_directions, rows).reshape(2, len(families), batch, gate)
        if number == 0:
            projected = out
            continue
        for index, family in enumerate(families):
            projected = projected.at[0, family].add(out[0, index])
            projected = projected.at[1, n_families - 1 - family].add(out[1, len(families) - 1 - index])
    return projected


def family_statistics(
    packed: Float[Array, "batch packed"], layout: RaggedLayout
) -> tuple[Float[Array, "family batch"], Float[Array, "family batch"]]:
    """Return the mean and 1 / sd of each family of each cell over the padded width.

    Parameters
    ----------
    packed : array of shape (batch, packed)
        Features in the order of ``layout``.
    layout : RaggedLayout
        The layout. Behind the last feature of a family, up to ``padded_width``, zeros are counted.

    Returns
    -------
    mean, inverse_sd : arrays of shape (family, batch)
        The statistics of layer normalization, ``NORM_EPSILON`` added to the variance.
    """
    n_families, batch = len(layout.widths), packed.shape[0]
    blocks = _split_rectangles(packed, layout)
    total, counted = jnp.zeros((n_families, batch)), jnp.zeros((n_families, 1))
    for rectangle, x in zip(layout.rectangles, blocks, strict=True):
        total = total.at[jnp.array(rectangle.families)].add(x.sum(axis=-1))
        counted = counted.at[jnp.array(rectangle.families)].add(rectangle.stop - rectangle.start)
    mean = total / layout.padded_width
    square = (layout.padded_width - counted) * mean**2
    for rectangle, x in zip(layout.rectangles, blocks, strict=True):
        indices = jnp.array(rectangle.families)
        square = square.at[indices].add(((x - mean[indices, :, None]) ** 2).sum(axis=-1))
    return mean, jax.lax.rsqrt(square / layout.padded_width + NORM_EPSILON)


def _split_rectangles(
    packed: Float[Array, "batch packed"], layout: RaggedLayout
) -> list[Float[Array, "some batch feature"]]:
    """Return the rectangles of the layout, families first."""
    parts, offset = [], 0
    for rectangle in layout.rectangles:
        block = packed[:, offset : offset + rectangle.size]
        block = block.reshape(-1, len(rectangle.families), rectangle.stop - rectangle.start)
        parts.append(jnp.swapaxes(block, 0, 1))
        offset += rectangle.size
    return parts


def uniform_initializer(bound: float) -> Callable[..., Array]:
    """Return an initializer that draws from U(-bound, bound), PyTorch's default for recurrent and dense layers.

    An orthogonal initializer would need a QR decomposition, which hangs when it is stacked over runs on two CPU cores.

    Parameters
    ----------
    bound : float
        Largest absolute value.

    Returns
    -------
    callable
        ``initializer(key, shape, dtype)``.
    """
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)
