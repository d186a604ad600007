"""A bidirectional LSTM over projected inputs, with a backward pass written by hand.

Only what depends on the previous step remains in the loop over steps: one small product and the gates. The products with
the inputs, and the gradient of the recurrent kernel, are single large products over all steps. Automatic differentiation
would compute the latter inside the loop and would leave the memory layout of transposed operands to the compiler, which
takes twice the time on a CPU.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier
from jaxtyping import Array, Float


@jax.custom_vjp
def lstm(
    inputs: Float[Array, "direction family batch gate"], recurrent: Float[Array, "direction hidden gate"]
) -> Float[Array, "direction family batch hidden"]:
    """Return the hidden states of an LSTM that starts from zero states.

    Parameters
    ----------
    inputs : array of shape (direction, family, batch, 4 * hidden)
        Projected inputs with biases added. Each direction is in its own order of time: the backward direction comes
        reversed.
    recurrent : array of shape (direction, hidden, 4 * hidden)
        Recurrent kernel; gates in PyTorch's order i, f, g, o.

    Returns
    -------
    array of shape (direction, family, batch, hidden)
        Hidden state after each step, in the order of ``inputs``.

    Notes
    -----
    ``i, f, g, o = gates(inputs_t + h_{t-1} recurrent)``, ``c_t = f c_{t-1} + i g``, ``h_t = o tanh(c_t)``.
    """
    return _lstm_forward(inputs, recurrent)[0]


def _lstm_forward(inputs, recurrent):
    hidden, cell = None, 0.0
    gates, cells, states = [], [], []
    for t in range(inputs.shape[1]):
        z = inputs[:, t] if hidden is None else inputs[:, t] + jnp.matmul(hidden, recurrent)
        gates.append(gate_activations(z))
        i, f, g, o = jnp.split(gates[-1], 4, axis=-1)
        cell = f * cell + i * g
        hidden = o * jnp.tanh(cell)
        cells.append(cell)
        states.append(hidden)
    return jnp.stack(states, axis=1), (gates, cells, states, recurrent)


def _lstm_backward(saved, states_bar):
    gates, cells, states, recurrent = saved
    transposed = optimization_barrier(jnp.swapaxes(recurrent, 1, 2))
    steps = len(states)
    z_bar: list = [None] * steps
    hidden_bar, cell_bar = 0.0, 0.0
    for t in reversed(range(steps)):
        i, f, g, o = jnp.split(gates[t], 4, axis=-1)
        before = cells[t - 1] if t else jnp.zeros_like(cells[0])
        squashed = jnp.tanh(cells[t])
        hidden_bar = hidden_bar + states_bar[:, t]
        cell_bar = cell_bar + hidden_bar * o * (1 - squashed**2)
        slopes = (g * i * (1 - i), before * f * (1 - f), i * (1 - g**2))
        z_bar[t] = jnp.concatenate([*(cell_bar * s for s in slopes), hidden_bar * squashed * o * (1 - o)], axis=-1)
        cell_bar = cell_bar * f
        if t:
            hidden_bar = jnp.matmul(z_bar[t], transposed)
    if steps == 1:
        return jnp.stack(z_bar, axis=1), jnp.zeros_like(recurrent)
    earlier = jnp.concatenate(states[:-1], axis=1)  # all steps but the last, one after the other as rows
    later = jnp.concatenate(z_bar[1:], axis=1)
    recurrent_bar = jnp.matmul(optimization_barrier(jnp.swapaxes(earlier, 1, 2)), later)
    return jnp.stack(z_bar, axis=1), recurrent_bar


lstm.defvjp(_lstm_forward, _lstm_backward)


def gate_activations(z: Float[Array, "direction batch gate"]) -> Float[Array, "direction batch gate"]:
    """Apply the sigmoid to the input, forget and output gates and tanh to the candidate.

    Parameters
    ----------
    z : array of shape (direction, batch, 4 * hidden)
        Values before the activation, in PyTorch's order i, f, g, o.

    Returns
    -------
    array of the shape of ``z``
        The activations.

    Notes
    -----
    ``sigmoid(z) = tanh(z / 2) / 2 + 1 / 2``, so that a single tanh over the whole array is enough, the cheapest way.
    """
    hidden = z.shape[-1] // 4
    slope = jnp.repeat(jnp.array([0.5, 0.5, 1.0, 0.5], z.dtype), hidden)
    offset = jnp.repeat(jnp.array([0.5, 0.5, 0.0, 0.5], z.dtype), hidden)
    return jnp.tanh(z * slope) * slope + offset


@jax.custom_vjp
def matmul(
    x: Float[Array, "direction row in"], kernel: Float[Array, "direction in out"]
) -> Float[Array, "direction row out"]:
    """Multiply rows with a kernel, one product for each direction.

    The result is that of ``jnp.matmul``; the backward pass transposes ``x`` in memory before it multiplies.

    Parameters
    ----------
    x : array of shape (direction, row, in)
        Rows.
    kernel : array of shape (direction, in, out)
        Kernels.

    Returns
    -------
    array of shape (direction, row, out)
        ``x @ kernel``.
    """
    return jnp.matmul(x, kernel)


def _matmul_forward(x, kernel):
    return jnp.matmul(x, kernel), (x, kernel)


def _matmul_backward(saved, out_bar):
    x, kernel = saved
    # The barrier makes the compiler write the transpose to memory; a product with a transposed view takes twice as long.
    kernel_bar = jnp.matmul(optimization_barrier(jnp.swapaxes(x, 1, 2)), out_bar)
    return jnp.matmul(out_bar, jnp.swapaxes(kernel, 1, 2)), kernel_bar


matmul.defvjp(_matmul_forward, _matmul_backward)
