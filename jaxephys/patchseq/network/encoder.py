"""Encoders of a sequence of feature families: a BiLSTM over the families, and additive attention.

Start with ``FamilyEncoder`` (the published one) and ``TokenEncoder`` (ours, the default of ``PatchSeqClassifier``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import optimization_barrier
from jaxtyping import Array, Float

from jaxephys.patchseq.network import stacked
from jaxephys.patchseq.network.dropout import DEFAULT_RATES, Dropout, Rate
from jaxephys.patchseq.network.forms import ComputeForm
from jaxephys.patchseq.network.lstm import lstm, matmul
from jaxephys.patchseq.network.ragged_layout import RaggedLayout, Rectangle

# The states of an encoder: (batch, family, 2 * hidden), or (2, family, batch, hidden) where the form is stacked.
States = Float[Array, "batch family pooled"] | Float[Array, "direction family batch hidden"]
NORM_EPSILON = 1e-5  # PyTorch's


class FamilyEncoder(nn.Module):
    """The published encoder: layer normalization over the padded width, then a one-layer BiLSTM over the families.

    Parameters
    ----------
    layout : RaggedLayout
        Order of the features; its ``padded_width`` is the width that is normalized.
    hidden : int, default 128
        Hidden units of the LSTM in each direction.
    form : ComputeForm
        How the operations are computed.

    Notes
    -----
    Deviation: one bias per gate, where PyTorch has two that are always added.
    """

    layout: RaggedLayout
    hidden: int = 128
    form: ComputeForm = ComputeForm()

    @nn.compact
    def __call__(self, packed: Float[Array, "batch packed"]) -> States:
        width, gate = self.layout.padded_width, 4 * self.hidden
        initializer = uniform_initializer(self.hidden**-0.5)
        scale = self.param("norm_scale", nn.initializers.ones, (width,))
        shift = self.param("norm_shift", nn.initializers.zeros, (width,))
        kernel = self.param("kernel", initializer, (2, width, gate))
        bias = self.param("bias", initializer, (2, gate))
        recurrent = self.param("recurrent", initializer, (2, self.hidden, gate))
        if self.form.stacked:
            blocks, kernels = layer_norm_blocks(packed, self.layout, scale, shift, kernel, bias, self.form)
            families = tuple(rectangle.families for rectangle in self.layout.rectangles)
            return _aligned_bilstm(families, self.form.dtype, blocks, kernels, recurrent)
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
    form : ComputeForm
        How the operations are computed.

    Notes
    -----
    ``token_f = LayerNorm(silu(x_f W_f + missing_f M_f + b_f))``
    """

    layout: RaggedLayout
    hidden: int = 128
    token: int = 64
    form: ComputeForm = ComputeForm()

    @nn.compact
    def __call__(
        self,
        packed: Float[Array, "batch packed"],
        missing: Float[Array, "batch packed"],
        dropout: Rate = DEFAULT_RATES.inputs,
        *,
        train: bool,
    ) -> States:
        packed = Dropout(DEFAULT_RATES.inputs)(packed, dropout, train=train)
        projected = self._project_stacked(packed, missing) if self.form.stacked else self._project(packed, missing)
        steps = nn.LayerNorm(epsilon=NORM_EPSILON, name="norm")(projected)
        initializer, gate = uniform_initializer(self.hidden**-0.5), 4 * self.hidden
        kernel = self.param("kernel", initializer, (2, self.token, gate))
        bias = self.param("bias", initializer, (2, gate))
        recurrent = self.param("recurrent", initializer, (2, self.hidden, gate))
        if self.form.stacked:
            ones = jnp.ones((*steps.shape[:2], 1))  # the bias is one more row of the kernel
            block = jnp.concatenate([steps, ones], axis=-1)
            families = (tuple(range(len(steps))),)
            kernels = (jnp.concatenate([kernel, bias[:, None]], axis=1),)
            return _aligned_bilstm(families, self.form.dtype, (block,), kernels, recurrent)
        both_directions = jnp.stack([steps, steps[::-1]])
        projected = matmul(both_directions.reshape(2, -1, self.token), kernel) + bias[:, None]
        states = lstm(projected.reshape(*both_directions.shape[:3], gate), recurrent)
        return jnp.moveaxis(jnp.concatenate([states[0], states[1, ::-1]], axis=-1), 0, 1)

    def _project(self, packed: Array, missing: Array) -> Float[Array, "family batch _"]:
        """The tokens before the layer normalization, one product for each family."""
        tokens = []
        for number, columns in enumerate(self.layout.packed_columns):
            values_and_missing = jnp.concatenate([packed[:, columns], missing[:, columns]], axis=1)
            project = nn.Dense(self.token, kernel_init=nn.initializers.he_normal(), name=f"family_{number}")
            tokens.append(nn.silu(project(values_and_missing)))
        return jnp.stack(tokens)

    def _project_stacked(self, packed: Array, missing: Array) -> Float[Array, "family batch _"]:
        """The same by one product for each rectangle of the layout."""
        dtype, layout = self.form.dtype, self.layout
        parameters = [
            DenseParameters(2 * width, self.token, name=f"family_{number}")()
            for number, width in enumerate(layout.widths)
        ]
        parts = []
        blocks = (_split_rectangles(x, layout) for x in (packed, missing))
        for rectangle, values, flags in zip(layout.rectangles, *blocks, strict=True):
            kernels = [
                stacked.rows_of_kernel(parameters[family][0], rectangle.start, rectangle.stop)
                for family in rectangle.families
            ]
            x = stacked.align(jnp.concatenate([values, flags], axis=-1), 2).astype(dtype)
            parts.append(jnp.matmul(x, stacked.align(jnp.stack(kernels), 1).astype(dtype)).astype(jnp.float32))
        bias = jnp.stack([bias for _, bias in parameters])
        return nn.silu(_sum_by_family(parts, layout) + bias[:, None])


class DenseParameters(nn.Module):
    """The parameters of a dense layer, initialized as in `TokenEncoder`, without its product.

    Parameters
    ----------
    inputs, outputs : int
        Number of inputs and of outputs.
    """

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "in out"], Float[Array, "out"]]:
        kernel = self.param("kernel", nn.initializers.he_normal(), (self.inputs, self.outputs))
        return kernel, self.param("bias", nn.initializers.zeros, (self.outputs,))


class AdditiveAttention(nn.Module):
    """Weights of the families of each cell, ``softmax_f(v . tanh(W h_f + b))``; they sum to 1.

    Parameters
    ----------
    size : int, default 128
        Number of hidden units of the attention.
    form : ComputeForm
        How the operations are computed: that of the encoder.
    """

    size: int = 128
    form: ComputeForm = ComputeForm()

    @nn.compact
    def __call__(self, states: States) -> Float[Array, "batch family"]:
        pooled = 2 * states.shape[-1] if self.form.stacked else states.shape[-1]
        kernel = self.param("kernel", uniform_initializer(pooled**-0.5), (pooled, self.size))
        bias = self.param("bias", uniform_initializer(pooled**-0.5), (self.size,))
        score = self.param("score", uniform_initializer(self.size**-0.5), (self.size,))
        if self.form.stacked:
            return stacked.attention_weights(states, kernel, bias, score).T
        hidden = jnp.tanh(matmul(states.reshape(1, -1, pooled), kernel[None])[0] + bias)
        return nn.softmax((hidden @ score).reshape(states.shape[:2]), axis=-1)


def pool_states(
    states: States, weights: Float[Array, "batch family"], form: ComputeForm
) -> Float[Array, "batch pooled"]:
    """Return the mean of the states of all families of each cell.

    Parameters
    ----------
    states : array
        States of an encoder.
    weights : array of shape (batch, family)
        Weights of the families.
    form : ComputeForm
        The form of the encoder.

    Returns
    -------
    array of shape (batch, 2 * hidden)
        The weighted mean.
    """
    if form.stacked:
        return stacked.pool(states, weights.T)
    return jnp.einsum("bf,bfp->bp", weights, states)


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
    n_families, batch = len(layout.widths), packed.shape[0]
    projected = jnp.zeros(())
    blocks, kernels = layer_norm_blocks(packed, layout, scale, shift, kernel, bias, ComputeForm())
    for number, (rectangle, x, rows) in enumerate(zip(layout.rectangles, blocks, kernels, strict=True)):
        families = rectangle.families
        both_directions = jnp.stack([x, x[::-1]]).reshape(2, -1, x.shape[-1])
        out = matmul(both_directions, rows).reshape(2, len(families), batch, -1)
        if number == 0:
            projected = out
            continue
        for index, family in enumerate(families):
            projected = projected.at[0, family].add(out[0, index])
            projected = projected.at[1, n_families - 1 - family].add(out[1, len(families) - 1 - index])
    return projected


def layer_norm_blocks(
    packed: Float[Array, "batch packed"],
    layout: RaggedLayout,
    scale: Float[Array, "feature"],
    shift: Float[Array, "feature"],
    kernel: Float[Array, "direction feature gate"],
    bias: Float[Array, "direction gate"],
    form: ComputeForm,
) -> tuple[tuple[Float[Array, "_ batch _"], ...], tuple[Float[Array, "direction _ gate"], ...]]:
    """Return the factors of `layer_norm_projection` for each rectangle of the layout.

    Parameters
    ----------
    packed, layout, scale, shift, kernel, bias : see layer_norm_projection
        As in `layer_norm_projection`.
    form : ComputeForm
        How the sums over the kernel are computed.

    Returns
    -------
    blocks : tuple of arrays of shape (some, batch, width)
        Rows of the families of each rectangle.
    kernels : tuple of arrays of shape (2, width, gate)
        Kernel of each rectangle.
    """
    mean, inverse_sd = family_statistics(packed, layout)
    scaled_kernel = scale[:, None] * kernel
    if form.stacked:  # both sums in one pass over the kernel, which a compiler would otherwise repeat for each
        total, constant = optimization_barrier((scaled_kernel.sum(axis=1), (shift[:, None] * kernel).sum(axis=1)))
        extra_rows = jnp.stack([total, constant + bias], axis=1)
    else:
        constant = jnp.einsum("f,dfg->dg", shift, kernel) + bias
        extra_rows = jnp.stack([scaled_kernel.sum(axis=1), constant], axis=1)
    n_families, batch = len(layout.widths), packed.shape[0]
    blocks, kernels = [], []
    for number, (rectangle, x) in enumerate(zip(layout.rectangles, _split_rectangles(packed, layout), strict=True)):
        x = x * _take_families(inverse_sd, rectangle)[:, :, None]
        rows = scaled_kernel[:, rectangle.start : rectangle.stop]
        if number == 0:  # the first rectangle holds every family: it takes the two additional columns
            x = jnp.concatenate([x, (-mean * inverse_sd)[..., None], jnp.ones((n_families, batch, 1))], axis=-1)
            rows = jnp.concatenate([rows, extra_rows], axis=1)
        blocks.append(x)
        kernels.append(rows)
    return tuple(blocks), tuple(kernels)


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
    blocks = _split_rectangles(packed, layout)
    counted = np.zeros((len(layout.widths), 1), np.float32)
    for rectangle in layout.rectangles:
        counted[list(rectangle.families)] += rectangle.stop - rectangle.start
    mean = _sum_by_family([x.sum(axis=-1) for x in blocks], layout) / layout.padded_width
    deviations = [
        ((x - _take_families(mean, rectangle)[:, :, None]) ** 2).sum(axis=-1)
        for rectangle, x in zip(layout.rectangles, blocks, strict=True)
    ]
    square = _sum_by_family([(layout.padded_width - counted) * mean**2, *deviations], layout)
    return mean, jax.lax.rsqrt(square / layout.padded_width + NORM_EPSILON)


def _sum_by_family(parts: Sequence[Any], layout: RaggedLayout) -> Array:
    """Add the numbers of all rectangles, in order. Arrays before those of the rectangles have all families."""
    before = len(parts) - len(layout.rectangles)
    total = parts[0]
    for rectangle, part in zip(layout.rectangles[1 - before :], parts[1:], strict=True):
        rows = dict(zip(rectangle.families, part, strict=True))
        if len(rows) < len(layout.widths):  # a scatter would do as well, but is slow on a GPU
            part = jnp.stack([rows.get(family, jnp.zeros_like(part[0])) for family in range(len(layout.widths))])
        total = total + part
    return total


def _take_families(values: Float[Array, "family batch"], rectangle: Rectangle) -> Float[Array, "some batch"]:
    if len(rectangle.families) == len(values):
        return values
    return jnp.stack([values[family] for family in rectangle.families])


def _aligned_bilstm(
    families: stacked.Families,
    dtype: str,
    blocks: tuple[Array, ...],
    kernels: tuple[Array, ...],
    recurrent: Float[Array, "direction hidden gate"],
) -> Float[Array, "direction family batch hidden"]:
    """The LSTM over blocks that are widened to a multiple of the columns of a matrix unit."""
    blocks = tuple(stacked.align(block, 2) for block in blocks)
    return stacked.bilstm(families, dtype, blocks, tuple(stacked.align(kernel, 1) for kernel in kernels), recurrent)


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
