"""A bidirectional LSTM over projected inputs: a scan over the steps, with a backward pass written by hand.

Start with `lstm`. Only what depends on the step before is in the scan: one small product and the gates. The products with the inputs
are single large products over all steps (`matmul`), and so is the gradient of the recurrent kernel, which automatic differentiation
would add up inside the scan. `jaxephys.patchseq.network.forms` has the measurements.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.lax import optimization_barrier
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray
from jaxephys.patchseq.network.forms import DEFAULT_FORM, ComputeForm, choose_unroll


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def lstm(
    inputs: Float[Array, "direction family batch gate"],
    recurrent: Float[Array, "direction hidden gate"],
    form: ComputeForm = DEFAULT_FORM,
) -> Float[Array, "direction family batch hidden"]:
    """Return the hidden states of an LSTM that starts from zero states.

    Parameters
    ----------
    inputs : array of shape (direction, family, batch, 4 * hidden)
        Projected inputs with biases added, of the type of the form. Each direction is in its own order of time: the backward
        direction comes reversed.
    recurrent : array of shape (direction, hidden, 4 * hidden)
        Recurrent kernel; gates in PyTorch's order i, f, g, o.
    form : ComputeForm
        How the operations are computed. Gates and states have its ``dtype``, and the cell state is float32.

    Returns
    -------
    array of shape (direction, family, batch, hidden)
        Hidden state after each step, in the order of ``inputs``.

    Notes
    -----
    ``i, f, g, o = gates(inputs_t + h_{t-1} recurrent)``, ``c_t = f c_{t-1} + i g``, ``h_t = o tanh(c_t)``. The product with the
    recurrent kernel ends a step: that of the last step is not used, and the compiler leaves it out where the scan is unrolled.
    """
    return _lstm_forward(inputs, recurrent, form)[0]


def _lstm_forward(inputs, recurrent, form):
    kernel, wide = recurrent.astype(form.dtype), jnp.promote_types(form.dtype, jnp.float32)

    def step(carry, z):
        product, cell = carry
        gates = _activate_gates(z.astype(wide) + product, form)
        i, f, g, o = _split_gates(gates, wide)
        cell = f * cell + i * g
        hidden = (o * jnp.tanh(cell)).astype(form.dtype)
        gates, cell, hidden = form.separate((gates, cell, hidden))
        product = form.separate(jnp.matmul(hidden, kernel)).astype(wide)
        return (product, cell), (gates, cell, hidden)

    by_step = _take_steps(inputs)
    zeros = jnp.zeros(by_step.shape[1:], wide), jnp.zeros((*by_step.shape[1:3], recurrent.shape[1]), wide)
    _, (gates, cells, states) = lax.scan(step, zeros, by_step, unroll=choose_unroll(len(by_step)))
    return jnp.moveaxis(states, 0, 1), (gates, cells, states, recurrent)


def _take_steps(x: Float[AnyArray, "direction family batch _"]) -> Float[Array, "family direction batch _"]:
    """Move the axis of steps to the front, as a scan needs it.

    An unrolled scan takes slices of the result. As slices of a joined array the compiler finds them again, and does not transpose.
    """
    n_steps = x.shape[1]
    if choose_unroll(n_steps) < n_steps:
        return jnp.moveaxis(x, 1, 0)
    steps = lax.split(x, [1] * n_steps, axis=1)
    return jnp.concatenate([step.reshape(1, x.shape[0], *x.shape[2:]) for step in steps])


def _lstm_backward(form, saved, states_bar):
    gates, cells, states, recurrent = saved
    transposed = _transpose(recurrent.astype(form.dtype), form)

    def step(carry, of_step):
        product, cell_bar = carry
        gates, before, cell, state_bar = of_step
        i, f, g, o = _split_gates(gates, cell.dtype)
        squashed = jnp.tanh(cell)
        hidden_bar = product + state_bar.astype(cell.dtype)
        cell_bar = cell_bar + hidden_bar * o * (1 - squashed**2)
        slopes = (g * i * (1 - i), before * f * (1 - f), i * (1 - g**2))
        parts = (*(cell_bar * slope for slope in slopes), hidden_bar * squashed * o * (1 - o))
        z_bar = form.separate(jnp.concatenate([part.astype(form.dtype) for part in parts], axis=-1))
        product = form.separate(jnp.matmul(z_bar, transposed)).astype(cell.dtype)
        return (product, cell_bar * f), z_bar

    zeros = jnp.zeros_like(cells[0])
    before = jnp.concatenate([zeros[None], cells[:-1]])
    of_steps = (gates, before, cells, _take_steps(states_bar))
    _, z_bar = lax.scan(step, (zeros, zeros), of_steps, reverse=True, unroll=choose_unroll(len(cells)))
    z_bar = jnp.moveaxis(z_bar, 0, 1)
    earlier, later = jnp.moveaxis(states[:-1], 0, 1), z_bar[:, 1:]
    if form.stacked:  # a state of zero before the first step costs less than a copy of ``z_bar`` without this step
        earlier, later = jnp.pad(earlier, ((0, 0), (1, 0), (0, 0), (0, 0))), z_bar
    rows, rows_bar = (x.reshape(2, -1, x.shape[-1]) for x in (earlier, later))
    return z_bar, _kernel_gradient(rows, rows_bar, form)


lstm.defvjp(_lstm_forward, _lstm_backward)


def _activate_gates(z: Float[Array, "direction batch gate"], form: ComputeForm) -> tuple[Array, ...]:
    """The sigmoid of the input, forget and output gates and tanh of the candidate, by ``sigmoid(z) = tanh(z / 2) / 2 + 1 / 2``.

    A CPU is fastest with a single tanh over one array. A GPU computes four arrays in one kernel with the cell and the hidden state.
    """
    slopes, offsets = (0.5, 0.5, 1.0, 0.5), (0.5, 0.5, 0.0, 0.5)
    if form.stacked:
        parts = zip(jnp.split(z, 4, axis=-1), slopes, offsets, strict=True)
        return tuple((jnp.tanh(part * slope) * slope + offset).astype(form.dtype) for part, slope, offset in parts)
    slope, offset = (jnp.repeat(jnp.array(values, z.dtype), z.shape[-1] // 4) for values in (slopes, offsets))
    return ((jnp.tanh(z * slope) * slope + offset).astype(form.dtype),)


def _split_gates(gates: tuple[Array, ...], dtype: jnp.dtype) -> list[Array]:
    """The gates i, f, g and o."""
    parts = jnp.split(gates[0], 4, axis=-1) if len(gates) == 1 else gates
    return [part.astype(dtype) for part in parts]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(
    x: Float[Array, "direction row in"], kernel: Float[Array, "direction in out"], form: ComputeForm = DEFAULT_FORM
) -> Float[Array, "direction row out"]:
    """Multiply rows with a kernel, one product for each direction.

    Parameters
    ----------
    x : array of float32, shape (direction, row, in)
        Rows.
    kernel : array of float32, shape (direction, in, out)
        Kernels.
    form : ComputeForm
        How the product and its gradient are computed.

    Returns
    -------
    array of shape (direction, row, out)
        ``x @ kernel``, of the type of the form.
    """
    return _matmul_forward(x, kernel, form)[0]


def _matmul_forward(x, kernel, form):
    x, kernel = x.astype(form.dtype), kernel.astype(form.dtype)
    return jnp.matmul(x, kernel), (x, kernel)


def _matmul_backward(form, saved, out_bar):
    x, kernel = saved
    x_bar = jnp.matmul(out_bar, jnp.swapaxes(kernel, 1, 2)).astype(jnp.float32)
    return x_bar, _kernel_gradient(x, out_bar, form)


matmul.defvjp(_matmul_forward, _matmul_backward)


def _kernel_gradient(
    x: Float[Array, "direction row in"], out_bar: Float[Array, "direction row out"], form: ComputeForm
) -> Float[Array, "direction in out"]:
    """The gradient of a kernel, added up in float32."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.matmul(_transpose(x, form), out_bar, preferred_element_type=wide)


def _transpose(x: Float[Array, "direction in out"], form: ComputeForm) -> Float[Array, "direction out in"]:
    """Swap the last axes, on a CPU in memory: a product with a transposed operand takes twice the time there."""
    transposed = jnp.swapaxes(x, 1, 2)
    return transposed if form.stacked else optimization_barrier(transposed)
