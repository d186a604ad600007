"""Blocked attention against plain attention with its array of size time x time: values, gradients, memory, unused blocks."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes import attention
from jaxephys.spikes.attention import WeightDropout, attend, block_size, blocked_attention, pallas_attention

RNG = np.random.default_rng(0)


def plain(q, k, v, window=None, causal=True, start=0):
    """softmax(q k') v with everything in memory."""
    query, key = jnp.arange(len(q))[:, None] + len(k) - len(q), jnp.arange(len(k))[None]
    visible = jnp.ones((len(q), len(k)), bool)
    if causal:
        visible = (key <= query) & (key >= start)
    if window is not None:
        visible &= key >= query - window
    score = jnp.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
    return jnp.einsum("hij,jhd->ihd", jax.nn.softmax(jnp.where(visible, score, -jnp.inf), axis=-1), v)


def arrays(*lengths, heads=2, width=8, scale=1.0):
    return [jnp.asarray(scale * RNG.normal(size=(length, heads, width)), jnp.float32) for length in lengths]


CASES = {
    "causal": (70, 70, {}),
    "window": (70, 70, {"window": 13}),
    "own bin only": (40, 40, {"window": 0}),
    "a past": (50, 83, {"window": 33}),
    "a past that begins late": (50, 83, {"window": 33, "start": 21}),
    "one bin": (1, 34, {"window": 33, "start": 30}),
    "both directions": (70, 70, {"causal": False}),
}


@pytest.mark.parametrize("block", [16, 40])
@pytest.mark.parametrize("time, keys, options", CASES.values(), ids=CASES)
def test_values_and_gradients_are_those_of_the_plain_softmax(time, keys, options, block):
    q, k, v, bar = arrays(time, keys, keys, time)
    wanted, pull = jax.vjp(lambda q, k, v: plain(q, k, v, **options), q, k, v)
    got, pull_blocked = jax.vjp(jax.jit(lambda q, k, v: blocked_attention(q, k, v, block=block, **options)), q, k, v)
    np.testing.assert_allclose(got, wanted, atol=3e-6)
    for one, other in zip(pull_blocked(bar), pull(bar), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def dropout_of(seed, rate=0.3):
    return WeightDropout(jax.random.key_data(jax.random.key(seed)), jnp.float32(rate))


@pytest.mark.parametrize(
    "time, keys, options",
    [CASES[name] for name in ("causal", "a past", "both directions")],
    ids=["causal", "a past", "both directions"],
)
def test_dropped_weights_are_those_of_the_plain_softmax(time, keys, options):
    """All factors in memory, put together from those of the blocks."""
    q, k, v, bar = arrays(time, keys, keys, time)
    block, dropout = 16, dropout_of(3)
    before = -(-(keys - time) // block)
    rows = [
        jnp.concatenate([dropout.factors(i, j, (2, block, block)) for j in range(-(-time // block) + before)], axis=2)
        for i in range(-(-time // block))
    ]
    first = before * block - (keys - time)
    factors = jnp.concatenate(rows, axis=1)[:, :time, first : first + keys]
    np.testing.assert_allclose(np.unique(factors), [0, 1 / 0.7], rtol=1e-6)
    assert np.mean(factors == 0) == pytest.approx(0.3, abs=0.02)

    def wanted_of(q, k, v):
        eye = jnp.broadcast_to(jnp.eye(keys)[:, None], (keys, 2, keys))
        weights = jnp.moveaxis(plain(q, k, eye, **options), 1, 0)
        return jnp.einsum("hij,jhd->ihd", weights * factors, v)

    def found_of(q, k, v):
        return blocked_attention(q, k, v, block=block, dropout=dropout, **options)

    wanted, pull = jax.vjp(wanted_of, q, k, v)
    found, pull_blocked = jax.vjp(jax.jit(found_of), q, k, v)
    np.testing.assert_allclose(found, wanted, atol=3e-6)
    for one, other in zip(pull_blocked(bar), pull(bar), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("kernel", ["sequential", "blocked"])
def test_windows_of_a_batch_drop_different_weights(kernel):
    q, k, v = arrays(30, 30, 30)
    keys = jnp.stack([dropout_of(seed).key for seed in range(3)])

    def loss(key, rate):
        return jnp.sum(attend(q, k, v, kernel=kernel, dropout=WeightDropout(key, rate)) ** 3)

    values = jax.jit(jax.vmap(loss))(keys, jnp.array([0.3, 0.3, 0.0]))
    for key, rate, value in zip(keys, (0.3, 0.3, 0.0), values, strict=True):
        np.testing.assert_allclose(loss(key, jnp.float32(rate)), value, rtol=1e-5)
    assert len(np.unique(values)) == 3
    np.testing.assert_allclose(values[2], jnp.sum(attend(q, k, v) ** 3), rtol=1e-5)


def test_large_scores_neither_overflow_nor_vanish():
    q, k, v, bar = arrays(60, 60, 60, 60, scale=12.0)  # scores to +-2000: float32 holds exp up to 88
    wanted, pull = jax.vjp(jax.jit(plain), q, k, v)
    got, pull_blocked = jax.vjp(jax.jit(partial(blocked_attention, block=16)), q, k, v)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)
    assert all(np.isfinite(part).all() for part in pull_blocked(bar))
    np.testing.assert_allclose(pull_blocked(bar)[2], pull(bar)[2], rtol=1e-3, atol=1e-2)


def test_a_batch_equals_its_members():
    q, k, v = (jnp.stack(arrays(30, 30, 30)) for _ in range(3))
    loss = jax.jit(jax.value_and_grad(lambda q, k, v: jnp.sum(attend(q, k, v, window=9) ** 3), argnums=(0, 1, 2)))
    together = jax.jit(jax.vmap(loss))(q, k, v)
    for index in range(3):
        for one, other in zip(
            jax.tree.leaves(together), jax.tree.leaves(loss(q[index], k[index], v[index])), strict=True
        ):
            np.testing.assert_allclose(one[index], other, rtol=1e-5, atol=1e-6)


def test_members_of_a_batch_may_have_different_starts():
    q, k, v = arrays(8, 20, 20)
    starts = jnp.array([0, 5, 12])
    together = jax.vmap(lambda start: attend(q, k, v, window=12, start=start))(starts)
    for start, got in zip(starts, together, strict=True):
        np.testing.assert_allclose(got, plain(q, k, v, 12, start=start), atol=3e-6)


@pytest.mark.parametrize("options", [{}, {"window": 20}], ids=["causal", "window"])
def test_outputs_do_not_change_when_invisible_keys_change(options):
    q, k, v = arrays(90, 90, 90)
    attention_of = jax.jit(lambda k, v: blocked_attention(q, k, v, block=32, **options))
    before = attention_of(k, v)
    for t in (0, 17, 31, 32, 60, 88):
        later = attention_of(k.at[t + 1 :].multiply(-7), v.at[t + 1 :].add(3))
        np.testing.assert_array_equal(later[: t + 1], before[: t + 1])
        if options:
            earlier = attention_of(k.at[:t].multiply(-7), v.at[:t].add(3))
            np.testing.assert_allclose(earlier[t + 20 :], before[t + 20 :], atol=1e-6)


def test_blocks_before_the_window_and_in_the_future_are_not_computed():
    """A NaN in a computed block spreads even with a weight of 0."""
    q, k, v = arrays(128, 128, 128)
    with_nan = v.at[:32].set(jnp.nan).at[96:].set(jnp.nan)
    out = np.asarray(blocked_attention(q, k, with_nan, window=16, block=16))
    assert np.isfinite(out[64:96]).all() and np.isnan(out[:32]).all() and np.isnan(out[96:]).all()


def temporary_bytes(time, options):
    shapes = [jax.ShapeDtypeStruct((time, 4, 16), jnp.float32)] * 3
    step = jax.jit(jax.grad(lambda q, k, v: blocked_attention(q, k, v, **options).sum(), argnums=(0, 1, 2)))
    planned: Any = step.lower(*shapes).compile().memory_analysis()
    return planned.temp_size_in_bytes


@pytest.mark.parametrize(
    "options", [{}, {"window": 256}, {"causal": False}], ids=["causal", "window", "both directions"]
)
def test_memory_grows_with_time_and_not_with_its_square(options):
    short, long = temporary_bytes(2048, options), temporary_bytes(8192, options)
    assert long < 5 * short and long < 4 * 8192**2 / 4, "one array of time x time alone is 256 MiB a head"


def test_the_size_of_blocks_follows_heads_and_window():
    assert block_size(3125, 16, None) == 176 and 18 * 176 - 3125 < 50
    assert block_size(3125, 2, None) > 400 and block_size(3125, 2, 64) <= 64
    assert block_size(1, 2, 128) == 8


def test_the_gpu_kernel_is_used_where_it_applies(monkeypatch):
    """The kernel of cuDNN is replaced by JAX's plain form of the same function."""
    calls: dict[str, Any] = {}
    plain_form = jax.nn.dot_product_attention

    def kernel(q, k, v, *, implementation, **options):
        calls.update(options, implementation=implementation, type=q.dtype, shape=q.shape)
        return plain_form(q, k, v, implementation="xla", **options)

    monkeypatch.setattr(attention.jax.nn, "dot_product_attention", kernel)
    for time, keys, options in CASES.values():
        calls.clear()
        q, k, v = arrays(time, keys, keys)
        out = attend(q, k, v, kernel="cudnn", **options)
        np.testing.assert_allclose(out, plain(q, k, v, **options), atol=0.04)
        assert out.dtype == jnp.float32 and calls["is_causal"] == options.get("causal", True)
    q, k, v = arrays(27, 27, 27)
    attend(q, k, v, window=5, kernel="cudnn")
    assert calls["implementation"] == "cudnn" and calls["local_window_size"] == (5, 0)
    assert calls["type"] == jnp.bfloat16 and calls["shape"] == (32, 2, 8) and calls["scale"] == 8**-0.5
    for width, filled in ((1, 8), (3, 8), (6, 8), (12, 16)):
        narrow = arrays(9, 9, 9, width=width)
        np.testing.assert_allclose(attend(*narrow, kernel="cudnn"), plain(*narrow), atol=0.04)
        assert calls["shape"] == (16, 2, filled) and calls["scale"] == width**-0.5
    calls.clear()
    attend(*arrays(9, 9, 9, width=121), kernel="cudnn")
    attend(q, k, v)
    attend(q, k, v, kernel="cudnn", dropout=dropout_of(0))
    assert not calls, "it has neither heads of 121 nor dropout, and no other kernel uses it"


def test_the_kernel_in_pallas_is_that_of_the_plain_softmax():
    q, k, v, bar = arrays(70, 70, 70, 70)
    wanted, pull = jax.vjp(plain, q, k, v)
    got, pull_kernel = jax.vjp(jax.jit(partial(pallas_attention, interpret=True)), q, k, v)
    np.testing.assert_allclose(got, wanted, atol=0.03)
    for one, other in zip(pull_kernel(bar), pull(bar), strict=True):
        np.testing.assert_allclose(one, other, atol=0.06)


def test_invalid_shapes_are_refused():
    q, k, v = arrays(10, 5, 5)
    with pytest.raises(ValueError, match="10 queries and 5 keys"):
        attend(q, k, v)
    with pytest.raises(ValueError, match="neither earlier keys nor a window"):
        attend(q, q, q, window=3, causal=False)
