"""Attention of each bin over the bins up to it, without an array of time x time.

    out_i = sum_j softmax_j(q_i . k_j / sqrt(width)) v_j,    j <= i, and j >= i - window where there is a window

Both passes go over blocks of queries and, of the keys, only over the blocks that some query of the block may see: future
blocks and blocks before the window are never touched. The forward pass keeps the running maximum and sum of the softmax;
the backward pass keeps of it one number a query, the logarithm of the sum, and forms each block of weights again with one
exponential. What it costs on CPU is decided by layouts: products whose narrow side (a head of 8) comes second-to-last
(`ndi,nij->ndj`) run four times as fast there as the same products written the other way round.

Deviation: the published layer drops attention weights in training; no flash kernel does, and neither does this one.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray

LOW = -1e30  # a score that no weight survives; finite, so that a block without any key a query may see gives no NaN
BLOCK_SCORES = 2**19  # scores of one block over all heads: they and their weights stay in the cache
SMALLEST, LARGEST = 32, 512  # bins of a block


def attend(
    q: Float[AnyArray, "time head width"],
    k: Float[AnyArray, "key head width"],
    v: Float[AnyArray, "key head width"],
    *,
    window: int | None = None,
    causal: bool = True,
    start: Int[AnyArray, ""] | int | None = None,
) -> Float[Array, "time head width"]:
    """The queries are the last ``time`` of the keys; keys before number ``start`` do not exist.

    On an accelerator causal attention over the window's own keys is cuDNN's, in bfloat16; elsewhere it is the blocked one.
    """
    if k.shape[0] < q.shape[0] or (not causal and (window is not None or k.shape != q.shape)):
        raise ValueError(
            f"{q.shape[0]} queries and {k.shape[0]} keys, window {window}, causal {causal}: the queries are the last "
            "keys, and attention in both directions has neither earlier keys nor a window"
        )
    if causal and start is None and k.shape == q.shape and cudnn_takes(q.shape[-1]):
        return _cudnn(q, k, v, window)
    return blocked_attention(q, k, v, window=window, causal=causal, start=start)


def cudnn_takes(width: int) -> bool:
    """Whether cuDNN's kernel is there and takes heads so wide."""
    return jax.default_backend() == "gpu" and width % 8 == 0 and width <= 128


def _cudnn(q: Array, k: Array, v: Array, window: int | None) -> Array:
    time, behind = q.shape[0], -q.shape[0] % 8  # the padding lies in the future of every bin
    q, k, v = (jnp.pad(x.astype(jnp.bfloat16), ((0, behind), (0, 0), (0, 0))) for x in (q, k, v))
    local = None if window is None else (window, 0)
    out = jax.nn.dot_product_attention(q, k, v, is_causal=True, local_window_size=local, implementation="cudnn")
    return out[:time].astype(jnp.float32)


class Blocks(NamedTuple):
    """How queries and keys are cut. Query block i stands at key block ``offset + i``."""

    size: int
    queries: int  # number of blocks of queries
    offset: int
    window: int | None
    causal: bool

    def seen(self, i: Int[AnyArray, ""]) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """The key blocks [first, last) that some query of block i may see."""
        if not self.causal:
            return jnp.int32(0), jnp.int32(self.queries)
        own = self.offset + i
        first = jnp.int32(0) if self.window is None else jnp.maximum(own * self.size - self.window, 0) // self.size
        return first, own + 1

    def allowed(self, i: Array, j: Array, keys: tuple[Array, int]) -> Bool[Array, "some others"]:
        """Which of the keys of block j each query of block i may see; ``keys`` exist from the first to before the second."""
        place = jnp.arange(self.size)
        query, key = ((self.offset + i) * self.size + place)[:, None], (j * self.size + place)[None, :]
        if not self.causal:
            return jnp.broadcast_to(key < keys[1], (self.size, self.size))
        allowed = (key <= query) & (key >= keys[0])
        return allowed if self.window is None else allowed & (key >= query - self.window)

    def cut(self, x: Array, block: Array, axis: int) -> Array:
        return lax.dynamic_slice_in_dim(x, block * self.size, self.size, axis)


def blocked_attention(
    q: Float[AnyArray, "time head width"],
    k: Float[AnyArray, "key head width"],
    v: Float[AnyArray, "key head width"],
    *,
    window: int | None = None,
    causal: bool = True,
    start: Int[AnyArray, ""] | int | None = None,
    block: int | None = None,
) -> Float[Array, "time head width"]:
    """In blocks of ``block`` bins, the same numbers whatever it is (up to rounding)."""
    time, heads, _ = q.shape
    past = k.shape[0] - time
    block = block_size(time, heads, window) if block is None else block
    count, before = -(-time // block), -(-past // block)
    lead, behind = before * block - past, count * block - time  # so that a block of queries lies on a block of keys
    blocks = Blocks(block, count, before, window, causal)
    front = jnp.asarray(lead if start is None else lead + start, jnp.int32)
    q = jnp.pad(jnp.moveaxis(q, 1, 0), ((0, 0), (0, behind), (0, 0)))
    k, v = (jnp.pad(jnp.moveaxis(x, 1, 0), ((0, 0), (lead, behind), (0, 0))) for x in (k, v))
    keys = lead + past + time
    out: Any = _attention((blocks, keys), q * q.shape[-1] ** -0.5, k, v, front)
    return jnp.moveaxis(out[:, :time], 0, 1)


def block_size(time: int, heads: int, window: int | None) -> int:
    """As large as the cache and the window make sense of, and such that little of the last block is padding."""
    most = min(max(int((BLOCK_SCORES / heads) ** 0.5), SMALLEST), LARGEST)
    if window is not None:
        most = min(most, max(window, SMALLEST))
    count = -(-time // most)
    return -(-time // (8 * count)) * 8


def lag_profile(
    q: Float[AnyArray, "time head width"], k: Float[AnyArray, "time head width"], window: int | None = None
) -> Float[Array, "head lag"]:
    """The mean weight that a bin gives to the bin ``lag`` before it, over the bins that have one, up to the window.

    Query after query: what is in memory is one row of weights a head.
    """
    time = len(q)
    bins = jnp.arange(time)

    def add(total: Array, t: Array) -> tuple[Array, None]:
        score = jnp.einsum("jnd,nd->nj", k, q[t]) * q.shape[-1] ** -0.5
        seen = (bins <= t) if window is None else (bins <= t) & (bins >= t - window)
        weight = jax.nn.softmax(jnp.where(seen, score, LOW), axis=-1)
        return total + jnp.roll(weight[:, ::-1], t + 1, axis=-1), None

    total, _ = lax.scan(add, jnp.zeros((q.shape[1], time)), bins)
    lags = time if window is None else min(time, window + 1)
    return (total / (time - bins))[:, :lags]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(cut: tuple[Blocks, int], q: Array, k: Array, v: Array, front: Array) -> Array:
    return _forward(cut, q, k, v, front)[0]


def _forward(cut, q, k, v, front):
    # A batch goes one window after the other: together their blocks would not stay in the cache.
    out, log_sum = sequential_vmap(partial(_forward_one, *cut))(q, k, v, front)
    return out, (q, k, v, front, out, log_sum)


def _forward_one(blocks: Blocks, keys: int, q: Array, k: Array, v: Array, front: Array) -> tuple[Array, Array]:
    columns = jnp.swapaxes(k, 1, 2)  # head, width, key

    def of_queries(carry: None, i: Array) -> tuple[None, tuple[Array, Array]]:
        own = blocks.cut(q, i, 1)

        def add_keys(j: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            top, total, out = state
            score = jnp.einsum("nid,ndj->nij", own, blocks.cut(columns, j, 2))
            score = jnp.where(blocks.allowed(i, j, (front, keys)), score, LOW)
            higher = jnp.maximum(top, score.max(axis=-1))
            weight, old = jnp.exp(score - higher[..., None]), jnp.exp(top - higher)
            out = out * old[..., None] + jnp.einsum("nij,njd->nid", weight, blocks.cut(v, j, 1))
            return higher, total * old + weight.sum(axis=-1), out

        nothing = jnp.full(own.shape[:2], LOW), jnp.zeros(own.shape[:2]), jnp.zeros_like(own)
        top, total, out = lax.fori_loop(*blocks.seen(i), add_keys, nothing)
        return carry, (out / total[..., None], top + jnp.log(total))

    _, parts = lax.scan(of_queries, None, jnp.arange(blocks.queries))
    out, log_sum = (jnp.moveaxis(part, 0, 1) for part in parts)
    return out.reshape(q.shape), log_sum.reshape(q.shape[:2])


def _backward(cut, saved, out_bar):
    q, k, v, front, out, log_sum = saved
    gradients = sequential_vmap(partial(_backward_one, *cut))(q, k, v, front, out, log_sum, out_bar)
    return *gradients, None


def _backward_one(
    blocks: Blocks, keys: int, q: Array, k: Array, v: Array, front: Array, out: Array, log_sum: Array, out_bar: Array
) -> tuple[Array, Array, Array]:
    """With P the weights and D = sum_d out out_bar: dV = P' out_bar, dS = P (out_bar V' - D), dQ = dS K, dK = dS' Q."""
    q_columns, k_columns, v_columns, out_columns = (jnp.swapaxes(x, 1, 2) for x in (q, k, v, out_bar))
    inner = jnp.sum(out * out_bar, axis=-1)

    def of_queries(bars: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
        own, own_bar = blocks.cut(q, i, 1), blocks.cut(out_bar, i, 1)
        own_columns, bar_columns = blocks.cut(q_columns, i, 2), blocks.cut(out_columns, i, 2)
        own_sum, own_inner = blocks.cut(log_sum, i, 1)[..., None], blocks.cut(inner, i, 1)[..., None]

        def add_keys(j: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            q_bar, k_bar, v_bar = state
            score = jnp.einsum("nid,ndj->nij", own, blocks.cut(k_columns, j, 2))
            score = jnp.where(blocks.allowed(i, j, (front, keys)), score, LOW)
            weight = jnp.exp(score - own_sum)
            score_bar = weight * (jnp.einsum("nid,ndj->nij", own_bar, blocks.cut(v_columns, j, 2)) - own_inner)
            q_bar = q_bar + jnp.einsum("nij,njd->nid", score_bar, blocks.cut(k, j, 1))

            def more(whole: Array, part: Array) -> Array:
                return lax.dynamic_update_slice_in_dim(whole, blocks.cut(whole, j, 2) + part, j * blocks.size, 2)

            k_bar = more(k_bar, jnp.einsum("ndi,nij->ndj", own_columns, score_bar))
            v_bar = more(v_bar, jnp.einsum("ndi,nij->ndj", bar_columns, weight))
            return q_bar, k_bar, v_bar

        q_bar, *bars_after = lax.fori_loop(*blocks.seen(i), add_keys, (jnp.zeros_like(own), *bars))
        return (bars_after[0], bars_after[1]), q_bar

    zeros = jnp.zeros_like(k_columns)
    (k_bar, v_bar), q_bar = lax.scan(of_queries, (zeros, zeros), jnp.arange(blocks.queries))
    q_bar = jnp.moveaxis(q_bar, 0, 1).reshape(q.shape)
    return q_bar, jnp.swapaxes(k_bar, 1, 2), jnp.swapaxes(v_bar, 1, 2)


_attention.defvjp(_forward, _backward)
