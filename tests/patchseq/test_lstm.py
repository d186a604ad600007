"""The LSTM with its written-out backward pass against automatic differentiation of the plain recurrence, and the size of its program."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxephys.engine.operations import count_operations
from jaxephys.patchseq.network.forms import MAX_UNROLLED, ComputeForm, choose_unroll
from jaxephys.patchseq.network.lstm import lstm, matmul

FORMS = (ComputeForm(), ComputeForm(stacked=True))


def plain_lstm(inputs, recurrent):
    """The textbook recurrence, a scan over time for each direction."""

    def direction(inputs, recurrent):
        def step(carry, z):
            hidden, cell = carry
            i, f, g, o = jnp.split(z + hidden @ recurrent, 4, axis=-1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), hidden

        zeros = jnp.zeros((inputs.shape[1], recurrent.shape[0]), inputs.dtype)
        return jax.lax.scan(step, (zeros, zeros), inputs)[1]

    return jax.vmap(direction)(inputs, recurrent)


def drawn(steps=5, batch=3, hidden=4, runs=()):
    rng = np.random.default_rng(steps)
    inputs = rng.normal(size=(*runs, 2, steps, batch, 4 * hidden)).astype(np.float32)
    recurrent = rng.normal(size=(*runs, 2, hidden, 4 * hidden)).astype(np.float32)
    return jnp.asarray(inputs), jnp.asarray(recurrent)


def value_and_gradients(function, inputs, recurrent):
    """The states, and the gradients of a sum that weighs every state differently."""

    def total(inputs, recurrent):
        states = function(inputs, recurrent)
        return jnp.sum(states * jnp.cos(jnp.arange(states.size).reshape(states.shape))), states

    (_, states), gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(inputs, recurrent)
    return states, *gradients


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(b).max() + 1e-9), rtol=1e-5)


@pytest.mark.parametrize("form", FORMS, ids=["one run", "stacked"])
@pytest.mark.parametrize("steps", [1, 2, 5, MAX_UNROLLED + 2])
def test_states_and_gradients_are_those_of_the_plain_recurrence(steps, form):
    """Unrolled, and as a loop whose last steps are fewer than those of an iteration."""
    ours = partial(lstm, form=form)
    assert_close(*(jax.jit(value_and_gradients, static_argnums=0)(f, *drawn(steps)) for f in (ours, plain_lstm)))


def lowered(steps):
    """The operations that JAX traces for the states and gradients, and the text that the compiler receives."""
    program = jax.jit(partial(value_and_gradients, lstm))
    inputs = drawn(steps)
    return count_operations(jax.make_jaxpr(program)(*inputs)).equations, program.lower(*inputs).as_text()


def test_the_program_does_not_grow_with_the_number_of_families():
    (few, unrolled), (most, longest), (many, loop) = (lowered(steps) for steps in (12, MAX_UNROLLED, 200))
    assert many < few < most, "a loop is one operation, however long"
    assert lowered(100)[0] == many
    assert unrolled.count("stablehlo.while") == longest.count("stablehlo.while") == 0, "all steps are unrolled"
    assert loop.count("stablehlo.while") == 2, "one loop forward and one backward"
    assert len(loop.splitlines()) < len(longest.splitlines()), "no longer than the largest program that is unrolled"


def test_the_families_of_the_paper_are_unrolled_and_many_are_not():
    assert [choose_unroll(steps) for steps in (1, 12, MAX_UNROLLED)] == [1, 12, MAX_UNROLLED]
    assert choose_unroll(MAX_UNROLLED + 1) == choose_unroll(200) < MAX_UNROLLED


def test_a_stack_of_runs_is_each_run_alone():
    inputs, recurrent = drawn(runs=(3,))
    stacked = jax.jit(jax.vmap(lambda *run: value_and_gradients(lstm, *run)))(inputs, recurrent)
    for run in range(3):
        assert_close([leaf[run] for leaf in stacked], value_and_gradients(plain_lstm, inputs[run], recurrent[run]))


def test_one_step_leaves_the_recurrent_kernel_without_gradient():
    _, _, recurrent_bar = value_and_gradients(lstm, *drawn(steps=1))
    assert not np.any(recurrent_bar)


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        args = tuple(leaf.astype(jnp.float64) for leaf in drawn(steps=3, batch=2, hidden=2))
        form = ComputeForm(dtype="float64")
        check_grads(
            lambda *args: lstm(*map(jnp.asarray, args), form), args, order=1, modes=["rev"], atol=1e-7, rtol=1e-7
        )


@pytest.mark.parametrize("t", range(5))
def test_a_state_depends_on_no_later_input(t):
    inputs, recurrent = drawn()
    gradient = jax.grad(lambda inputs: lstm(inputs, recurrent)[:, t].sum())(inputs)
    assert not np.any(gradient[:, t + 1 :]), "exactly zero, not nearly"
    assert np.abs(gradient[:, : t + 1]).max(axis=(0, 2, 3)).min() > 0


def test_the_two_directions_share_nothing():
    inputs, recurrent = drawn()
    by_inputs, by_kernel = jax.grad(lambda *args: lstm(*args)[0].sum(), argnums=(0, 1))(inputs, recurrent)
    assert not np.any(by_inputs[1]) and not np.any(by_kernel[1])
    assert np.any(by_inputs[0]) and np.any(by_kernel[0])


def test_gates_are_sigmoids_and_tanh_over_their_whole_range():
    """A single step, from a cell state of zero."""
    z = jnp.linspace(-30, 30, 2 * 3 * 16, dtype=jnp.float32)
    z = jax.random.permutation(jax.random.key(0), z).reshape(2, 1, 3, 16)
    i, _, g, o = jnp.split(z, 4, axis=-1)
    want = jax.nn.sigmoid(o) * jnp.tanh(jax.nn.sigmoid(i) * jnp.tanh(g))
    np.testing.assert_allclose(lstm(z, jnp.zeros((2, 4, 16))), want, atol=1e-6)


def test_the_product_has_the_gradient_of_a_product():
    rng = np.random.default_rng(0)
    x, kernel, weights = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in [(2, 7, 3), (2, 3, 5), (2, 7, 5)])
    ours, theirs = (
        jax.value_and_grad(lambda x, k, product=product: jnp.sum(weights * product(x, k) ** 2), argnums=(0, 1))(
            x, kernel
        )
        for product in (matmul, jnp.matmul)
    )
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
    assert_close(ours[1], theirs[1])
