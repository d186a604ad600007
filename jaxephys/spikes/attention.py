"""Self-attention over time bins without an array of size time x time.

    out_i = sum_j softmax_j(q_i . k_j / sqrt(width)) v_j,    j <= i, and j >= i - window if there is a window

Forward and backward pass loop over blocks of queries and, for each, over the blocks of keys that some query of the block can
see: future blocks and blocks before the window are never computed. The forward pass keeps a running maximum and sum of the
softmax; the backward pass keeps the logarithm of the sum for each query and recomputes each block of weights with one
exponential. On a CPU the run time depends on memory layout: products whose narrow side (a head of width 8) comes
second-to-last (``ndi,nij->ndj``) run four times as fast as the same products written the other way round.

Start with :func:`attend`.

The published layer drops attention weights in training. Flash kernels do not, so that this is an option (`WeightDropout`), computed in
blocks on every device.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Bool, Float, Int, UInt

from jaxephys.dimensions import AnyArray

# Score of a key that a query may not see; finite, so that a block without visible keys gives no NaN.
MASKED_SCORE = -1e30
MASKED_COORDINATE = -(2.0**16)  # the same for cuDNN, times the scale of scores; exact in bfloat16
PALLAS_BLOCK = 64  # bins of a block of `pallas_attention`
MAX_CUDNN_WIDTH = 120  # of a head: 8 below the limit of cuDNN on older GPUs, for one more coordinate
BLOCK_SCORES = 2**19  # scores of one block over all heads: scores and weights then stay in the cache
MIN_BLOCK, MAX_BLOCK = 32, 512  # bins of a block


class WeightDropout(NamedTuple):
    """Dropout of attention weights in training.

    Parameters
    ----------
    key : uint32 array of shape (2,)
        Data of a random key. Weights of the same key are dropped alike.
    rate : float
        Part of the weights that is set to 0, below 1; the others are divided by their share.
    """

    key: UInt[AnyArray, "*run key_word"]
    rate: Float[AnyArray, "*run"]

    def factors(
        self, i: Int[AnyArray, ""] | int, j: Int[AnyArray, ""] | int, shape: tuple[int, ...]
    ) -> Float[Array, "head query key"]:
        """Return what the weights of a block are multiplied by, the same numbers in every call.

        Parameters
        ----------
        i, j : int
            Query block and key block.
        shape : tuple of int
            Shape of the block: (heads, size, size).

        Returns
        -------
        float32 array of this shape
            0, or 1 / (1 - rate).
        """
        key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(self.key), i), j)
        kept = 1 - self.rate
        is_kept = jax.random.bits(key, shape, jnp.uint16) < kept * 2.0**16
        return jnp.where(is_kept, 1 / kept, 0.0)


def attend(
    q: Float[AnyArray, "time head width"],
    k: Float[AnyArray, "key head width"],
    v: Float[AnyArray, "key head width"],
    *,
    window: int | None = None,
    causal: bool = True,
    start: Int[AnyArray, ""] | int | None = None,
    kernel: str = "sequential",
    dropout: WeightDropout | None = None,
) -> Float[Array, "time head width"]:
    """Compute multi-head attention.

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
    kernel : {"sequential", "blocked", "cudnn", "pallas"}
        ``"sequential"`` and ``"blocked"`` compute blocks in float32 by `blocked_attention`; of a batch of windows, the former computes one window
        after the other, and the latter all together. ``"cudnn"`` is the flash attention of cuDNN on a GPU, with products of
        bfloat16 and a softmax of float32; ``"blocked"`` is used instead where it does not apply: to heads wider than 120. ``"pallas"`` is `pallas_attention` where it applies, that is
        without a window, a past and a first valid key, and ``"cudnn"`` elsewhere.
    dropout : WeightDropout, optional
        Dropout of the weights. No other kernel than that of blocks has it.

    Returns
    -------
    array of shape (bins, heads, width)
        Weighted means of the values, in the type of the queries.

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
    has_kernel = dropout is None and q.shape[-1] <= MAX_CUDNN_WIDTH
    if kernel == "pallas" and has_kernel and causal and window is None and start is None and k.shape == q.shape:
        return pallas_attention(q, k, v)
    if kernel in ("cudnn", "pallas") and has_kernel:
        return cudnn_attention(q, k, v, window=window, causal=causal, start=start)
    options: dict[str, Any] = {"window": window, "causal": causal, "start": start, "dropout": dropout}
    return blocked_attention(q, k, v, sequential=kernel == "sequential", **options)


def blocked_attention(
    q: Float[AnyArray, "time head width"],
    k: Float[AnyArray, "key head width"],
    v: Float[AnyArray, "key head width"],
    *,
    window: int | None = None,
    causal: bool = True,
    start: Int[AnyArray, ""] | int | None = None,
    block: int | None = None,
    sequential: bool = True,
    dropout: WeightDropout | None = None,
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
    sequential : bool
        Whether the windows of a batch (of ``jax.vmap``) are computed one after the other.
    dropout : WeightDropout, optional
        Dropout of the weights, which depends on the blocks.

    Returns
    -------
    array of shape (bins, heads, width)
        Weighted means of the values, in the type of the queries.
    """
    time, heads, _ = q.shape
    dtype, past = q.dtype, k.shape[0] - time
    q, k, v = (jnp.asarray(x, jnp.float32) for x in (q, k, v))
    block = block_size(time, heads, window) if block is None else block
    query_blocks, past_blocks = -(-time // block), -(-past // block)
    pad_before, pad_after = past_blocks * block - past, query_blocks * block - time  # aligns query with key blocks
    blocks = Blocks(block, query_blocks, past_blocks, pad_before + past + time, window, causal, sequential)
    first_key = jnp.asarray(pad_before if start is None else pad_before + start, jnp.int32)
    q = jnp.pad(jnp.moveaxis(q, 1, 0), ((0, 0), (0, pad_after), (0, 0)))
    k, v = (jnp.pad(jnp.moveaxis(x, 1, 0), ((0, 0), (pad_before, pad_after), (0, 0))) for x in (k, v))
    out: Any = _attention(blocks, q * q.shape[-1] ** -0.5, k, v, first_key, dropout)
    return jnp.moveaxis(out[:, :time], 0, 1).astype(dtype)


def cudnn_attention(
    q: Float[AnyArray, "time head width"],
    k: Float[AnyArray, "key head width"],
    v: Float[AnyArray, "key head width"],
    *,
    window: int | None = None,
    causal: bool = True,
    start: Int[AnyArray, ""] | int | None = None,
) -> Float[Array, "time head width"]:
    """Compute multi-head attention by the flash attention of cuDNN, on an NVIDIA GPU.

    Parameters
    ----------
    q : float array of shape (bins, heads, width)
        Queries, which belong to the last ``bins`` of the keys. The width is at most `MAX_CUDNN_WIDTH`; the kernel has multiples of 8, and
        heads are filled with zeros to the next one.
    k, v : float array of shape (keys, heads, width)
        Keys and values.
    window : int, optional
        A query sees its own bin and this many bins before it. By default it sees all bins before it.
    causal : bool
        Whether a query sees no later key.
    start : int, optional
        Index of the first valid key; earlier keys are masked.

    Returns
    -------
    array of shape (bins, heads, width)
        Weighted means of the values, in the type of the queries.

    Notes
    -----
    The kernel has neither a past nor a first valid key, and numbers of keys and widths of heads that are multiples of 8, to which both are
    filled up. For a past, queries of 0 are added to it, whose results are dropped. Keys that are not valid get one more coordinate, whose
    product with that of a query is `MASKED_COORDINATE`, and hence a weight of 0.
    """
    dtype, time, width, n_keys = q.dtype, q.shape[0], q.shape[-1], k.shape[0]
    past, padding = n_keys - time, -n_keys % 8
    q = jnp.pad(q, ((past, 0), (0, 0), (0, 0)))
    q, k, v = (jnp.pad(x, ((0, padding), (0, 0), (0, 0))) for x in (q, k, v))
    if start is not None or (padding and not causal):  # for causal attention, padding is in the future of every bin
        bins = jnp.arange(len(k))
        hidden = (bins >= n_keys) if start is None else (bins < start)
        coordinates = jnp.ones(len(k)), jnp.where(hidden, MASKED_COORDINATE, 0.0), jnp.zeros(len(k))
        q, k, v = (_add_coordinate(x, values) for x, values in zip((q, k, v), coordinates, strict=True))
    q, k, v = (jnp.pad(x.astype(jnp.bfloat16), ((0, 0), (0, 0), (0, -x.shape[-1] % 8))) for x in (q, k, v))
    local = None if window is None else (window, 0)
    options = {"scale": width**-0.5, "is_causal": causal, "local_window_size": local}
    out = jax.nn.dot_product_attention(q, k, v, implementation="cudnn", **options)
    return out[past : past + time, :, :width].astype(dtype)


def pallas_attention(
    q: Float[AnyArray, "time head width"],
    k: Float[AnyArray, "time head width"],
    v: Float[AnyArray, "time head width"],
    *,
    interpret: bool = False,
) -> Float[Array, "time head width"]:
    """Compute causal multi-head attention by JAX's flash attention in Pallas, on a GPU.

    Its products are as wide as a head, but at least 16, and its backward pass adds in a fixed order.

    Parameters
    ----------
    q, k, v : float array of shape (bins, heads, width)
        Queries, keys and values of the same bins.
    interpret : bool
        Compute by an interpreter on any device, for tests.

    Returns
    -------
    array of shape (bins, heads, width)
        Weighted means of the values, in the type of the queries. Products are bfloat16, the softmax is float32.
    """
    from jax.experimental.pallas.ops.gpu import attention as kernels  # imports Triton, so only where it is used

    time, _, width = q.shape
    sizes = (0, -time % PALLAS_BLOCK), (0, 0), (0, max(16 - width, 0))
    padded = (jnp.pad(x.astype(jnp.bfloat16), sizes)[None] for x in (q, k, v))
    blocks = kernels.BlockSizes(*[PALLAS_BLOCK] * 6)
    out: Any = kernels.mha(*padded, None, width**-0.5, True, blocks, interpret=interpret)
    return out[0, :time, :, :width].astype(q.dtype)


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
    sequential : bool
        Whether the windows of a batch are computed one after the other.
    """

    size: int
    query_blocks: int
    past_blocks: int
    keys_end: int
    window: int | None
    causal: bool
    sequential: bool

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


def _add_coordinate(x: Array, values: Array) -> Array:
    """Append a coordinate that all heads share, and zeros up to the next multiple of 8."""
    column = values.astype(x.dtype)[:, None, None]
    return jnp.concatenate([x, jnp.broadcast_to(jnp.pad(column, ((0, 0), (0, 0), (0, 7))), (*x.shape[:2], 8))], axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(blocks: Blocks, q: Array, k: Array, v: Array, first_key: Array, dropout: WeightDropout | None) -> Array:
    """Attention of heads first: [head, time, width]."""
    return _forward(blocks, q, k, v, first_key, dropout)[0]


def _forward(blocks, q, k, v, first_key, dropout):
    # On a CPU a batch is computed one window after the other: the blocks of several windows would not fit into the cache.
    mapped = sequential_vmap if blocks.sequential else lambda function: function
    given = () if dropout is None else (dropout,)
    out, log_sum = mapped(partial(_forward_window, blocks))(q, k, v, first_key, *given)
    return out, (q, k, v, first_key, dropout, out, log_sum)


def _forward_window(
    blocks: Blocks, q: Array, k: Array, v: Array, first_key: Array, dropout: WeightDropout | None = None
) -> tuple[Array, Array]:
    k_columns = jnp.swapaxes(k, 1, 2)  # head, width, key

    def query_block(carry: None, i: Array) -> tuple[None, tuple[Array, Array]]:
        q_block = blocks.take(q, i, 1)

        def add_key_block(j: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            highest, total, out = state
            score = jnp.einsum("nid,ndj->nij", q_block, blocks.take(k_columns, j, 2))
            score = jnp.where(blocks.mask(i, j, first_key), score, MASKED_SCORE)
            new_highest = jnp.maximum(highest, score.max(axis=-1))
            weight, rescale = jnp.exp(score - new_highest[..., None]), jnp.exp(highest - new_highest)
            used = weight if dropout is None else weight * dropout.factors(i, j, weight.shape)
            out = out * rescale[..., None] + jnp.einsum("nij,njd->nid", used, blocks.take(v, j, 1))
            return new_highest, total * rescale + weight.sum(axis=-1), out

        initial = jnp.full(q_block.shape[:2], MASKED_SCORE), jnp.zeros(q_block.shape[:2]), jnp.zeros_like(q_block)
        highest, total, out = lax.fori_loop(*blocks.key_blocks(i), add_key_block, initial)
        return carry, (out / total[..., None], highest + jnp.log(total))

    _, parts = lax.scan(query_block, None, jnp.arange(blocks.query_blocks))
    out, log_sum = (jnp.moveaxis(part, 0, 1) for part in parts)
    return out.reshape(q.shape), log_sum.reshape(q.shape[:2])


def _backward(blocks, saved, out_bar):
    q, k, v, first_key, dropout, out, log_sum = saved
    mapped = sequential_vmap if blocks.sequential else lambda function: function
    given = () if dropout is None else (dropout,)
    gradients = mapped(partial(_backward_window, blocks))(q, k, v, first_key, out, log_sum, out_bar, *given)
    return *gradients, None, None


def _backward_window(
    blocks: Blocks,
    q: Array,
    k: Array,
    v: Array,
    first_key: Array,
    out: Array,
    log_sum: Array,
    out_bar: Array,
    dropout: WeightDropout | None = None,
) -> tuple[Array, Array, Array]:
    """With P the weights and D = sum_d out out_bar: dV = P' out_bar, dS = P (out_bar V' - D), dQ = dS K, dK = dS' Q.

    With factors F of dropout: dV = (F P)' out_bar and dS = P (F out_bar V' - D).
    """
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
            used, weight_bar = weight, jnp.einsum("nid,ndj->nij", out_bar_block, blocks.take(v_columns, j, 2))
            if dropout is not None:
                factors = dropout.factors(i, j, weight.shape)
                used, weight_bar = factors * weight, factors * weight_bar
            score_bar = weight * (weight_bar - block_inner)
            q_bar = q_bar + jnp.einsum("nij,njd->nid", score_bar, blocks.take(k, j, 1))

            def add_to_block(whole: Array, part: Array) -> Array:
                return lax.dynamic_update_slice_in_dim(whole, blocks.take(whole, j, 2) + part, j * blocks.size, 2)

            k_bar = add_to_block(k_bar, jnp.einsum("ndi,nij->ndj", q_block_columns, score_bar))
            v_bar = add_to_block(v_bar, jnp.einsum("ndi,nij->ndj", out_bar_block_columns, used))
            return q_bar, k_bar, v_bar

        q_bar, k_bar, v_bar = lax.fori_loop(*blocks.key_blocks(i), add_key_block, (jnp.zeros_like(q_block), *bars))
        return (k_bar, v_bar), q_bar

    zeros = jnp.zeros_like(k_columns)
    (k_bar, v_bar), q_bar = lax.scan(query_block, (zeros, zeros), jnp.arange(blocks.query_blocks))
    q_bar = jnp.moveaxis(q_bar, 0, 1).reshape(q.shape)
    return q_bar, jnp.swapaxes(k_bar, 1, 2), jnp.swapaxes(v_bar, 1, 2)


_attention.defvjp(_forward, _backward)
