"""Encoders of a sequence of feature families: a BiLSTM over the families, and additive attention.

Start with ``FamilyEncoder`` (the published one) and ``TokenEncoder`` (ours, the default of ``PatchSeqClassifier``).
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.models.dropout import Dropout, Rate
from jaxephys.patchseq.network import stacked
from jaxephys.patchseq.network.dropout import DEFAULT_RATES
from jaxephys.patchseq.network.forms import ComputeForm
from jaxephys.patchseq.network.input_projection import (
    NORM_EPSILON,
    layer_norm_projection,
    project_directions,
    split_rectangles,
    sum_by_family,
)
from jaxephys.patchseq.network.lstm import lstm, matmul
from jaxephys.patchseq.network.ragged_layout import RaggedLayout

# The states of an encoder: (batch, family, 2 * hidden), or (2, family, batch, hidden) where the form is stacked.
States = Float[Array, "batch family pooled"] | Float[Array, "direction family batch hidden"]


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
        inputs = layer_norm_projection(packed, self.layout, scale, shift, kernel, bias, self.form)
        return _arrange_states(lstm(inputs, recurrent, self.form), self.form)


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
        packed = Dropout(enlarge_last=True)(packed, dropout if train else 0.0)
        projected = self._project_stacked(packed, missing) if self.form.stacked else self._project(packed, missing)
        steps = nn.LayerNorm(epsilon=NORM_EPSILON, name="norm")(projected)
        initializer, gate = uniform_initializer(self.hidden**-0.5), 4 * self.hidden
        kernel = self.param("kernel", initializer, (2, self.token, gate))
        bias = self.param("bias", initializer, (2, gate))
        recurrent = self.param("recurrent", initializer, (2, self.hidden, gate))
        inputs = project_directions(steps, kernel, self.form, bias)
        return _arrange_states(lstm(inputs, recurrent, self.form), self.form)

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
        blocks = (split_rectangles(x, layout) for x in (packed, missing))
        for rectangle, values, flags in zip(layout.rectangles, *blocks, strict=True):
            kernels = [
                stacked.rows_of_kernel(parameters[family][0], rectangle.start, rectangle.stop)
                for family in rectangle.families
            ]
            x = stacked.align(jnp.concatenate([values, flags], axis=-1), 2).astype(dtype)
            parts.append(jnp.matmul(x, stacked.align(jnp.stack(kernels), 1).astype(dtype)).astype(jnp.float32))
        bias = jnp.stack([bias for _, bias in parameters])
        return nn.silu(sum_by_family(parts, layout) + bias[:, None])


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
        product: Any = matmul(states.reshape(1, -1, pooled), kernel[None])
        hidden = jnp.tanh(product[0] + bias)
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


def _arrange_states(states: Float[Array, "direction family batch hidden"], form: ComputeForm) -> States:
    """The states as the attention of a form reads them."""
    if form.stacked:
        return states
    return jnp.moveaxis(jnp.concatenate([states[0], states[1, ::-1]], axis=-1), 0, 1)


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
