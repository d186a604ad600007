"""The counted operations of a function are those that it computes."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxephys.engine.operations import Work, count_operations

A = jnp.ones((4, 6))


def counts(function, *arguments):
    return count_operations(jax.make_jaxpr(function)(*arguments))


@pytest.mark.parametrize(
    "function, arguments, flops",
    [
        (lambda a: a @ a.T, (A,), 2 * 4 * 4 * 6),
        (lambda a: jnp.einsum("bij,bkj->bik", a, a), (jnp.ones((3, 4, 6)),), 2 * 3 * 4 * 4 * 6),
        (lambda a: jax.jit(lambda b: b @ b.T)(a), (A,), 2 * 4 * 4 * 6),
        (lambda a: a + a, (A,), 0),
        # 8 results of 3 channels, each the sum of 5 taps of 2 channels.
        (
            lambda x: lax.conv_general_dilated(x, jnp.ones((3, 2, 5)), (1,), "SAME"),
            (jnp.ones((1, 2, 8)),),
            2 * 8 * 3 * 5 * 2,
        ),
    ],
)
def test_flops_are_those_of_products(function, arguments, flops):
    assert counts(function, *arguments).once.flops == flops


def test_written_bytes_and_functions():
    work = counts(lambda a: jnp.tanh(a) * 2.0, A).once
    assert work == Work(flops=0, bytes=2 * 24 * 4, functions=24, operations=2)


def test_loops_of_known_length_are_multiplied_out():
    def scan(a):
        return lax.scan(lambda carry, _: (carry @ carry, None), a, None, length=7)[0]

    found = counts(scan, jnp.ones((3, 3)))
    assert found.once.flops == 7 * 2 * 27 and found.loop == Work()


def test_loops_of_unknown_length_are_counted_apart():
    def loop(a, n):
        def body(_, b):
            return lax.scan(lambda carry, _: (carry @ carry, None), b, None, length=2)[0]

        return lax.fori_loop(0, n, body, a) @ a

    found = counts(loop, jnp.ones((3, 3)), 5)
    assert found.loop.flops == 2 * 2 * 27 and found.once.flops == 2 * 27


def test_the_larger_branch_counts():
    def branches(a, which):
        return lax.cond(which, lambda b: b @ b, lambda b: b, a)

    found = counts(branches, jnp.ones((3, 3)), True)
    assert found.once.flops == 2 * 27
    assert found.equations > found.once.operations


def test_random_keys_have_a_size():
    assert counts(lambda seed: jax.random.normal(jax.random.fold_in(jax.random.key(seed), 1), (5,)), 0).once.bytes > 20
