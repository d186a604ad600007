"""Packed states: the same arrays as before, the same training, and frozen modules apart from the rest."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxephys.engine.packing import StatePacking, join_arrays, split_vectors
from jaxephys.engine.rows import pad_rows
from jaxephys.engine.step import init_run, run_epoch
from jaxephys.engine.task import RunInputs
from tests.engine.linear_task import BATCH, DATA, TASK, TRAIN_CONFIG, train_table, valid_table

INPUTS = jax.tree.map(
    jnp.asarray, RunInputs(pad_rows(train_table(0), 4 * BATCH), valid_table(0), {"scale": jnp.float32(1.3)})
)
ON_DEVICE = jax.tree.map(jnp.asarray, DATA)


def test_vectors_are_joined_by_dtype_and_split_into_the_same_arrays():
    rng = np.random.default_rng(0)
    tree = {"a": rng.normal(size=(3, 2, 5)), "b": rng.integers(9, size=(3,)), "c": [rng.normal(size=(3, 1))]}
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)
    vectors = join_arrays(tree, 1, np)
    assert {dtype: vector.shape for dtype, vector in vectors.items()} == {"float64": (3, 11), "int64": (3, 1)}
    jax.tree.map(np.testing.assert_array_equal, split_vectors(vectors, shapes, np), tree)


@pytest.mark.parametrize("freeze", [(), ("body",), ("body", "head")])
def test_an_epoch_of_a_packed_state_is_that_of_the_state(freeze):
    config = replace(TRAIN_CONFIG, freeze=freeze)
    state = init_run(TASK, config, jnp.int32(0), {})
    packing = StatePacking(jax.eval_shape(lambda: state), config)
    packed = packing.pack(state)
    jax.tree.map(np.testing.assert_array_equal, packing.unpack(packed), state)
    after, record = jax.jit(lambda packed: run_epoch(packing.task(TASK), config, ON_DEVICE, INPUTS, packed))(packed)
    after = packing.unpack(jax.tree.map(np.asarray, after))
    for name in freeze:
        jax.tree.map(np.testing.assert_array_equal, after.params[name], state.params[name])
    if not freeze:
        plain, plain_record = jax.jit(lambda state: run_epoch(TASK, config, ON_DEVICE, INPUTS, state))(state)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after, plain)
        np.testing.assert_allclose(record.measured["train_loss"], plain_record.measured["train_loss"], rtol=1e-5)
    moments = after.opt_state[1][0] if isinstance(after.opt_state, tuple) else after.opt_state
    assert isinstance(moments, optax.ScaleByAdamState) and set(moments.mu) == set(state.params) - set(freeze)


def test_a_stack_is_packed_on_the_host_as_on_the_device():
    states = [init_run(TASK, TRAIN_CONFIG, jnp.int32(seed), {}) for seed in (0, 1)]
    packing = StatePacking(jax.eval_shape(lambda: states[0]), TRAIN_CONFIG)
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    on_host = packing.pack(stack, 1, np)
    jax.tree.map(np.testing.assert_array_equal, on_host, jax.vmap(packing.pack)(stack))
    jax.tree.map(np.testing.assert_array_equal, packing.unpack(on_host), stack)
