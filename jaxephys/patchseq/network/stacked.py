"""The operations of the encoder in a form for many runs side by side on an accelerator.

A stack of runs is limited by the bytes that it moves, and a few runs by the number of kernels. So the states of both directions stay in
the order in which the LSTM computes them, from the input to the pooled vector, and no array is transposed or joined that a product or
a sum can use as it is. Parameters are those of the other form, results are equal up to rounding.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier
from jaxtyping import Array, Float

ALIGNMENT = 8  # columns of a product; fewer or other numbers leave the matrix units of a GPU unused
Families = tuple[tuple[int, ...], ...]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def bilstm(
    families: Families,
    dtype: str,
    blocks: tuple[Float[Array, "_ batch _"], ...],
    kernels: tuple[Float[Array, "direction _ gate"], ...],
    recurrent: Float[Array, "direction hidden gate"],
) -> Float[Array, "direction family batch hidden"]:
    """Return the states of a bidirectional LSTM over families, from its inputs before the projection.

    Parameters
    ----------
    families : tuple of tuple of int
        The families of each block. The first block has all families in order.
    dtype : str
        Type of the products, of the gates and of the states, such as ``"bfloat16"``. The cell state is float32.
    blocks : tuple of arrays of shape (some, batch, width)
        Inputs, each block with a width of its own. The inputs of a family are all of its rows in the blocks side by side.
    kernels : tuple of arrays of shape (2, width, 4 * hidden)
        Input kernel of each block, for both directions; gates in the order i, f, g, o.
    recurrent : array of shape (2, hidden, 4 * hidden)
        Recurrent kernel.

    Returns
    -------
    array of shape (2, family, batch, hidden)
        The states. Those of the backward direction are in its own order of time: the last family comes first.
    """
    return _forward(families, dtype, blocks, kernels, recurrent)[0]


def _forward(families, dtype, blocks, kernels, recurrent):
    steps = len(families[0])
    rows = [jnp.stack([block, block[::-1]]).astype(dtype) for block in blocks]  # each direction in its own order
    products = [
        jnp.matmul(x.reshape(2, -1, x.shape[-1]), kernel.astype(dtype)).reshape(*x.shape[:3], -1)
        for x, kernel in zip(rows, kernels, strict=True)
    ]
    first, additional = products[0], _by_step(families, products[1:])
    kernel = recurrent.astype(dtype)
    hidden, cell = None, jnp.float32(0.0)
    gates, cells, states = [], [], []
    for t in range(steps):
        z = first[:, t].astype(jnp.float32)
        for part in additional.get(t, []):
            z = z + part.astype(jnp.float32)
        if hidden is not None:
            z = z + optimization_barrier(jnp.matmul(hidden, kernel)).astype(jnp.float32)
        i, f, g, o = jnp.split(z, 4, axis=-1)
        activated = tuple(gate.astype(dtype) for gate in (_sigmoid(i), _sigmoid(f), jnp.tanh(g), _sigmoid(o)))
        i, f, g, o = (gate.astype(jnp.float32) for gate in activated)
        cell = f * cell + i * g
        hidden = (o * jnp.tanh(cell)).astype(dtype)
        activated, cell, hidden = optimization_barrier((activated, cell, hidden))
        gates.append(activated)
        cells.append(cell)
        states.append(hidden)
    return jnp.stack(states, axis=1), (gates, cells, states, rows, kernels, recurrent)


def _backward(families, dtype, saved, states_bar):
    gates, cells, states, rows, kernels, recurrent = saved
    steps = len(states)
    kernel = recurrent.astype(dtype)
    z_bar: list = [None] * steps
    hidden_bar, cell_bar = None, jnp.float32(0.0)
    for t in reversed(range(steps)):
        i, f, g, o = (gate.astype(jnp.float32) for gate in gates[t])
        before = cells[t - 1] if t else jnp.float32(0.0)
        squashed = jnp.tanh(cells[t])
        total = states_bar[:, t].astype(jnp.float32)
        if hidden_bar is not None:
            total = total + hidden_bar.astype(jnp.float32)
        cell_bar = cell_bar + total * o * (1 - squashed**2)
        parts = (
            cell_bar * g * i * (1 - i),
            cell_bar * before * f * (1 - f),
            cell_bar * i * (1 - g**2),
            total * squashed * o * (1 - o),
        )
        z_bar[t] = optimization_barrier(jnp.concatenate([part.astype(dtype) for part in parts], axis=-1))
        cell_bar = cell_bar * f
        if t:
            hidden_bar = optimization_barrier(jnp.matmul(z_bar[t], jnp.swapaxes(kernel, 1, 2)))
    all_steps = jnp.stack(z_bar, axis=1)
    flat = all_steps.reshape(2, -1, all_steps.shape[-1])
    earlier = jnp.stack([jnp.zeros_like(states[0]), *states[:-1]], axis=1).reshape(2, -1, states[0].shape[-1])
    recurrent_bar = _kernel_gradient(earlier, flat)
    blocks_bar, kernels_bar = [], []
    for number, (members, x, kernel) in enumerate(zip(families, rows, kernels, strict=True)):
        if number == 0:
            out_bar = flat
        else:
            forward = [z_bar[family][0] for family in members]
            backward = [z_bar[steps - 1 - family][1] for family in reversed(members)]
            out_bar = jnp.stack([jnp.concatenate(forward), jnp.concatenate(backward)])
        kernels_bar.append(_kernel_gradient(x.reshape(2, -1, x.shape[-1]), out_bar))
        x_bar = jnp.matmul(out_bar, jnp.swapaxes(kernel.astype(dtype), 1, 2)).reshape(x.shape).astype(jnp.float32)
        blocks_bar.append(x_bar[0] + x_bar[1, ::-1])
    return tuple(blocks_bar), tuple(kernels_bar), recurrent_bar


bilstm.defvjp(_forward, _backward)


def _by_step(families: Families, products: list) -> dict[int, list]:
    """The products of all blocks but the first, by the step that they belong to: zeros for a direction without one."""
    steps, parts = len(families[0]), {}
    for members, product in zip(families[1:], products, strict=True):
        nothing = jnp.zeros_like(product[0, 0])
        for index, family in enumerate(members):
            parts.setdefault(family, []).append(jnp.stack([product[0, index], nothing]))
            parts.setdefault(steps - 1 - family, []).append(jnp.stack([nothing, product[1, len(members) - 1 - index]]))
    return parts


def _kernel_gradient(rows: Array, out_bar: Array) -> Array:
    return jnp.matmul(jnp.swapaxes(rows, 1, 2), out_bar, preferred_element_type=jnp.float32)


def _sigmoid(x: Array) -> Array:
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


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
    """Return the weights of additive attention from the states of `bilstm`.

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
