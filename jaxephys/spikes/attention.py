"""Self-attention over time bins without an array of size time x time.

    out_i = sum_j softmax_j(q_i . k_j / sqrt(width)) v_j,    j <= i, and j >= i - window if there is a window

Forward and backward pass loop over blocks of queries and, for each, over the blocks of keys that some query of the block can
see: future blocks and blocks before the window are never computed. The forward pass keeps a running maximum and sum of the
softmax; the backward pass keeps the logarithm of the sum for each query and recomputes each block of weights with one
exponential. On a CPU the run time depends on memory layout: products whose narrow side (a head of width 8) comes
second-to-last (``ndi,nij->ndj``) run four times as fast as the same products written the other way round.

Start with :func:`attend`, which chooses between the kernel of cuDNN and :func:`blocked_attention`.

Deviation: the published layer applies dropout to attention weights in training. Flash kernels do not, and neither does this.
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

# Score of a key that a query may not see; finite, so that a block without visible keys gives no NaN.
MASKED_SCORE = -1e30
BLOCK_SCORES = 2**19  # scores of one block over all heads: scores and weights then stay in the cache
MIN_BLOCK, MAX_BLOCK = 32, 512  # bins of a block


def attend(
    q: Float[AnyArray, "time head width"],
    k: Float[AnyArray, "key head width"],
    v: Float[AnyArray, "key head width"],
    *,
    window: int | None = None,
    causal: bool = True,
    start: Int[AnyArray, ""] | int | None = None,
) -> Float[Array, "time head width"]:
    """Compute multi-head attention, with the fastest kernel that the device has.

    On a GPU causal attention over the keys of the same window uses cuDNN in bfloat16 if the width of a head is a
    multiple of 8 up to 128; everything else uses `blocked_attention` in float32.

    Parameters
    ----------
    q : float array of shape (bins, heads, width)
        Queries, which belong to the last ``bins`` of the keys.
    k, v : float array of shape (keys, heads, width)
        Keys and values; ``keys >= bins``.
    window : int, optional
        A query sees its own bin and this many bins before it. By default it sees all bins before it.
    causal : bool
        Whether a query sees no later key. If False, it sees all keys, and ``window`` must be None.
    start : int, optional
        Index of the first valid key; earlier keys are masked.

    Returns
    -------
    float32 array of shape (bins, heads, width)
        Weighted means of the values.

    Raises
    ------
    ValueError
        If there are fewer keys than queries, or if attention in both directions has earlier keys or a window.
    """
    if k.shape[0] < q.shape[0] or (not causal and (window is not None or k.shape != q.shape)):
        raise ValueError(
            f"{q.shape[0]} queries and {k.shape[0]} keys, window {window}, causal {causal}: the queries must be the last "
            "keys, and attention in both directions can have neither earlier keys nor a window"
        )
    width = q.shape[-1]
    has_kernel = jax.default_backend() == "gpu" and width % 8 == 0 and width <= 128
    if has_kernel and causal and start is None and k.shape == q.shape:
        return _cudnn_attention(q, k, v, window)
    return blocked_attention(q, k, v, window=window, causal=causal, start=start)


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
    """Compute multi-head attention block by block, in float32 on any device.

    Parameters
    ----------
    q : float array of shape (bins, heads, width)
        Queries, which belong to the last ``bins`` of the keys.
    k, v : float array of shape (keys, heads, width)
        Keys and values; ``keys >= bins``.
    window : int, optional
        A query sees its own bin and this many bins before it. By default it sees all bins before it.
    causal : bool
        Whether a query sees no later key.
    start : int, optional
        Index of the first valid key; earlier keys are masked.
    block : int, optional
        Bins of a block, `block_size` by default. Results do not depend on it, except for rounding.

    Returns
    -------
    float32 array of shape (bins, heads, width)
        Weighted means of the values.
    """
    time, heads, _ = q.shape
    past = k.shape[0] - time
    block = block_size(time, heads, window) if block is None else block
    query_blocks, past_blocks = -(-time // block), -(-past // block)
    pad_before, pad_after = past_blocks * block - past, query_blocks * block - time  # aligns query with key blocks
    blocks = Blocks(block, query_blocks, past_blocks, pad_before + past + time, window, causal)
    first_key = jnp.asarray(pad_before if start is None else pad_before + start, jnp.int32)
    q = jnp.pad(jnp.moveaxis(q, 1, 0), ((0, 0), (0, pad_after), (0, 0)))
    k, v = (jnp.pad(jnp.moveaxis(x, 1, 0), ((0, 0), (pad_before, pad_after), (0, 0))) for x in (k, v))
    out: Any = _attention(blocks, q * q.shape[-1] ** -0.5, k, v, first_key)
    return jnp.moveaxis(out[:, :time], 0, 1)


def block_size(time: int, heads: int, window: int | None) -> int:
    """Choose the number of bins of a block: as large as the cache allows, with little padding in the last block.

    Parameters
    ----------
    time, heads : int
        Bins and heads of the queries.
    window : int or None
        Number of past bins that a query attends to. Larger blocks would be mostly masked.

    Returns
    -------
    int
        A multiple of 8.
    """
    largest = min(max(int((BLOCK_SCORES / heads) ** 0.5), MIN_BLOCK), MAX_BLOCK)
    if window is not None:
        largest = min(largest, max(window, MIN_BLOCK))
    count = -(-time // largest)
    return -(-time // (8 * count)) * 8


def lag_profile(
    q: Float[AnyArray, "time head width"], k: Float[AnyArray, "time head width"], window: int | None = None
) -> Float[Array, "head lag"]:
    """Compute the mean attention weight as a function of the lag between query and key.

    Parameters
    ----------
    q, k : float array of shape (bins, heads, width)
        Queries and keys of one window of causal attention.
    window : int, optional
        Number of past bins that a query attends to.

    Returns
    -------
    float32 array of shape (heads, lags)
        Mean weight of the key ``lag`` bins before the query, over the queries that have such a key. Lag 0 is the bin
        itself; there are ``window + 1`` lags, at most ``bins``.
    """
    time = len(q)
    bins = jnp.arange(time)

    def add_query(total: Array, t: Array) -> tuple[Array, None]:  # one row of weights per head in memory
        score = jnp.einsum("jnd,nd->nj", k, q[t]) * q.shape[-1] ** -0.5
        visible = (bins <= t) if window is None else (bins <= t) & (bins >= t - window)
        weight = jax.nn.softmax(jnp.where(visible, score, MASKED_SCORE), axis=-1)
        return total + jnp.roll(weight[:, ::-1], t + 1, axis=-1), None

    total, _ = lax.scan(add_query, jnp.zeros((q.shape[1], time)), bins)
    lags = time if window is None else min(time, window + 1)
    return (total / (time - bins))[:, :lags]


class Blocks(NamedTuple):
    """Division of queries and keys into blocks; query block i is aligned with key block ``past_blocks + i``.

    Parameters
    ----------
    size : int
        Bins of a block.
    query_blocks : int
        Number of blocks of queries.
    past_blocks : int
        Number of blocks of keys before the first query.
    keys_end : int
        Keys from here on are padding.
    window : int or None
        Number of past bins that a query attends to.
    causal : bool
        Whether a query sees no later key.
    """

    size: int
    query_blocks: int
    past_blocks: int
    keys_end: int
    window: int | None
    causal: bool

    def key_blocks(self, i: Int[AnyArray, ""]) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """Return the range of key blocks that some query of a block can see.

        Parameters
        ----------
        i : int
            Query block.

        Returns
        -------
        first, stop : int
            The key blocks ``first`` to ``stop - 1``.
        """
        if not self.causal:
            return jnp.int32(0), jnp.int32(self.query_blocks)
        aligned = self.past_blocks + i
        if self.window is None:
            return jnp.int32(0), aligned + 1
        return jnp.maximum(aligned * self.size - self.window, 0) // self.size, aligned + 1

    def mask(self, i: Array, j: Array, first_key: Array) -> Bool[Array, "query key"]:
        """Return which keys of a key block each query of a query block can see.

        Parameters
        ----------
        i, j : int
            Query block and key block.
        first_key : int
            Keys before this one are padding.

        Returns
        -------
        bool array of shape (size, size)
            True where the query (row) sees the key (column).
        """
        within = jnp.arange(self.size)
        query, key = ((self.past_blocks + i) * self.size + within)[:, None], (j * self.size + within)[None, :]
        if not self.causal:
            return jnp.broadcast_to(key < self.keys_end, (self.size, self.size))
        visible = (key <= query) & (key >= first_key)
        return visible if self.window is None else visible & (key >= query - self.window)

    def take(self, x: Array, block: Array, axis: int) -> Array:
        """Return one block of an array.

        Parameters
        ----------
        x : array
            Any array.
        block : int
            Number of the block.
        axis : int
            Axis of bins.

        Returns
        -------
        array
            ``size`` entries of ``x`` along ``axis``.
        """
        return lax.dynamic_slice_in_dim(x, block * self.size, self.size, axis)


def _cudnn_attention(q: Array, k: Array, v: Array, window: int | None) -> Array:
    time, padding = q.shape[0], -q.shape[0] % 8  # the padding lies in the future of every bin
    q, k, v = (jnp.pad(x.astype(jnp.bfloat16), ((0, padding), (0, 0), (0, 0))) for x in (q, k, v))
    local = None if window is None else (window, 0)
    out = jax.nn.dot_product_attention(q, k, v, is_causal=True, local_window_size=local, implementation="cudnn")
    return out[:time].astype(jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(blocks: Blocks, q: Array, k: Array, v: Array, first_key: Array) -> Array:
    """Attention of heads first: [head, time, width]."""
    return _forward(blocks, q, k, v, first_key)[0]


def _forward(blocks, q, k, v, first_key):
    # A batch is computed one window after the other: the blocks of several windows would not fit into the cache.
    out, log_sum = sequential_vmap(partial(_forward_window, blocks))(q, k, v, first_key)
    return out, (q, k, v, first_key, out, log_sum)


def _forward_window(blocks: Blocks, q: Array, k: Array, v: Array, first_key: Array) -> tuple[Array, Array]:
    k_columns = jnp.swapaxes(k, 1, 2)  # head, width, key

    def query_block(carry: None, i: Array) -> tuple[None, tuple[Array, Array]]:
        q_block = blocks.take(q, i, 1)

        def add_key_block(j: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            highest, total, out = state
            score = jnp.einsum("nid,ndj->nij", q_block, blocks.take(k_columns, j, 2))
            score = jnp.where(blocks.mask(i, j, first_key), score, MASKED_SCORE)
            new_highest = jnp.maximum(highest, score.max(axis=-1))
            weight, rescale = jnp.exp(score - new_highest[..., None]), jnp.exp(highest - new_highest)
            out = out * rescale[..., None] + jnp.einsum("nij,njd->nid", weight, blocks.take(v, j, 1))
            return new_highest, total * rescale + weight.sum(axis=-1), out

        initial = jnp.full(q_block.shape[:2], MASKED_SCORE), jnp.zeros(q_block.shape[:2]), jnp.zeros_like(q_block)
        highest, total, out = lax.fori_loop(*blocks.key_blocks(i), add_key_block, initial)
        return carry, (out / total[..., None], highest + jnp.log(total))

    _, parts = lax.scan(query_block, None, jnp.arange(blocks.query_blocks))
    out, log_sum = (jnp.moveaxis(part, 0, 1) for part in parts)
    return out.reshape(q.shape), log_sum.reshape(q.shape[:2])


def _backward(blocks, saved, out_bar):
    q, k, v, first_key, out, log_sum = saved
    gradients = sequential_vmap(partial(_backward_window, blocks))(q, k, v, first_key, out, log_sum, out_bar)
    return *gradients, None


def _backward_window(
    blocks: Blocks,
    q: Array,
    k: Array,
    v: Array,
    first_key: Array,
    out: Array,
    log_sum: Array,
    out_bar: Array,
) -> tuple[Array, Array, Array]:
    """With P the weights and D = sum_d out out_bar: dV = P' out_bar, dS = P (out_bar V' - D), dQ = dS K, dK = dS' Q."""
    q_columns, k_columns, v_columns, out_bar_columns = (jnp.swapaxes(x, 1, 2) for x in (q, k, v, out_bar))
    inner = jnp.sum(out * out_bar, axis=-1)

    def query_block(bars: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
        q_block, out_bar_block = blocks.take(q, i, 1), blocks.take(out_bar, i, 1)
        q_block_columns, out_bar_block_columns = blocks.take(q_columns, i, 2), blocks.take(out_bar_columns, i, 2)
        block_log_sum, block_inner = blocks.take(log_sum, i, 1)[..., None], blocks.take(inner, i, 1)[..., None]

        def add_key_block(j: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            q_bar, k_bar, v_bar = state
            score = jnp.einsum("nid,ndj->nij", q_block, blocks.take(k_columns, j, 2))
            score = jnp.where(blocks.mask(i, j, first_key), score, MASKED_SCORE)
            weight = jnp.exp(score - block_log_sum)
            score_bar = weight * (jnp.einsum("nid,ndj->nij", out_bar_block, blocks.take(v_columns, j, 2)) - block_inner)
            q_bar = q_bar + jnp.einsum("nij,njd->nid", score_bar, blocks.take(k, j, 1))

            def add_to_block(whole: Array, part: Array) -> Array:
                return lax.dynamic_update_slice_in_dim(whole, blocks.take(whole, j, 2) + part, j * blocks.size, 2)

            k_bar = add_to_block(k_bar, jnp.einsum("ndi,nij->ndj", q_block_columns, score_bar))
            v_bar = add_to_block(v_bar, jnp.einsum("ndi,nij->ndj", out_bar_block_columns, weight))
            return q_bar, k_bar, v_bar

        q_bar, k_bar, v_bar = lax.fori_loop(*blocks.key_blocks(i), add_key_block, (jnp.zeros_like(q_block), *bars))
        return (k_bar, v_bar), q_bar

    zeros = jnp.zeros_like(k_columns)
    (k_bar, v_bar), q_bar = lax.scan(query_block, (zeros, zeros), jnp.arange(blocks.query_blocks))
    q_bar = jnp.moveaxis(q_bar, 0, 1).reshape(q.shape)
    return q_bar, jnp.swapaxes(k_bar, 1, 2), jnp.swapaxes(v_bar, 1, 2)


_attention.defvjp(_forward, _backward)
