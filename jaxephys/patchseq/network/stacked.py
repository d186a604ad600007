"""Attention and pooling of the encoder in a form for many runs side by side on an accelerator, and the alignment of its products.

A stack of runs is limited by the bytes that it moves, and a few runs by the number of kernels. So the states of both directions stay in
the order in which the LSTM computes them, from the input to the pooled vector, and no array is transposed or joined that a product or
a sum can use as it is. Parameters are those of the other form, results are equal up to rounding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ALIGNMENT = 8  # columns of a product; fewer or other numbers leave the matrix units of a GPU unused


def rows_of_kernel(kernel: Float[Array, "in out"], start: int, stop: int) -> Float[Array, "_ out"]:
    """Return the rows of some values of a family and of their missing flags, from the kernel of the family.

    Parameters
    ----------
    kernel : array of shape (2 * width, out)
        Rows for the values of the family, then for the flags.
    start, stop : int
        First value, and the value after the last. Rows beyond the width of the family are 0.

    Returns
    -------
    array of shape (2 * (stop - start), out)
        The rows.
    """
    by_part = kernel.reshape(2, -1, kernel.shape[-1])[:, start:stop]
    padded = jnp.pad(by_part, ((0, 0), (0, stop - start - by_part.shape[1]), (0, 0)))
    return padded.reshape(-1, kernel.shape[-1])


def align(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Append zeros to an axis until its length is a multiple of `ALIGNMENT`.

    Parameters
    ----------
    x : array
        Rows or a kernel.
    axis : int
        The axis that a product sums over.

    Returns
    -------
    array
        The longer array.
    """
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % ALIGNMENT)
    return jnp.pad(x, widths)


def attention_weights(
    states: Float[Array, "direction family batch hidden"],
    kernel: Float[Array, "pooled _"],
    bias: Float[Array, "_"],
    score: Float[Array, "_"],
) -> Float[Array, "family batch"]:
    """Return the weights of additive attention from the states of `jaxephys.patchseq.network.lstm.lstm`.

    Parameters
    ----------
    states : array of shape (2, family, batch, hidden)
        States, those of the backward direction in its own order.
    kernel : array of shape (2 * hidden, size)
        Kernel of the hidden layer.
    bias, score : array of shape (size,)
        Bias of the hidden layer, and the weights of its units.

    Returns
    -------
    array of float32, shape (family, batch)
        Weights that sum to 1 over families.
    """
    _, families, batch, hidden = states.shape
    by_direction = kernel.reshape(2, hidden, -1).astype(states.dtype)
    products = jnp.matmul(states.reshape(2, -1, hidden), by_direction).reshape(2, families, batch, -1)
    units = jnp.tanh(products[0].astype(jnp.float32) + products[1, ::-1].astype(jnp.float32) + bias)
    return jax.nn.softmax((units * score).sum(axis=-1), axis=0)


def pool(
    states: Float[Array, "direction family batch hidden"], weights: Float[Array, "family batch"]
) -> Float[Array, "batch pooled"]:
    """Return the weighted mean of the states of both directions.

    Parameters
    ----------
    states : array of shape (2, family, batch, hidden)
        States, those of the backward direction in its own order.
    weights : array of shape (family, batch)
        Weights of the families.

    Returns
    -------
    array of float32, shape (batch, 2 * hidden)
        The forward direction, then the backward direction.
    """
    by_direction = jnp.stack([weights, weights[::-1]])
    pooled = (by_direction[..., None] * states.astype(jnp.float32)).sum(axis=1)
    return jnp.concatenate([pooled[0], pooled[1]], axis=-1)
