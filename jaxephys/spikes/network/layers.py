"""Parts of the networks: causal self-attention with a cache, rotary positions, and dense layers as PyTorch draws them.

Names of submodules and parameters are those of PyTorch's ``TransformerEncoderLayer``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxephys.models.dropout import Dropout, Rate, drops_nothing
from jaxephys.spikes.attention import WeightDropout, attend
from jaxephys.spikes.network.form import ComputeForm
from jaxephys.spikes.network.interface import LayerCache, Memory

LAYER_NORM_EPSILON = 1e-5  # PyTorch's default
ROTARY_BASE = 10_000.0
# PyTorch's default of a Linear layer: kernel from U(-b, b) with b = fan_in^-1/2.
torch_kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class SelfAttention(nn.Module):
    """Multi-head self-attention over the bins of a window and of a cache.

    Parameters
    ----------
    heads : int
        Number of heads, a divisor of the width of the input; with rotary positions twice the number is one, too.
    window : int, optional
        Bin t does not see keys before bin ``t - window``. Only with a window is there a cache.
    causal : bool
        Whether bin t sees no later bin.
    rotary : bool
        Whether queries and keys are rotated by their position, so that scores depend on differences in time.
    form : ComputeForm
        Kernel of attention, and type of activations.
    drops_weights : bool
        Whether attention weights are dropped in training. Then no other kernel than that of blocks is used.

    Notes
    -----
    Queries and keys are sown as ``intermediates/query_key``, and kept only if a caller makes that collection mutable.
    """

    heads: int
    window: int | None = None
    causal: bool = True
    rotary: bool = True
    form: ComputeForm = ComputeForm()
    drops_weights: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "time model"], cache: LayerCache | None, dropout_rate: Rate = 0.0
    ) -> tuple[Float[Array, "time model"], LayerCache | None]:
        """Attend, and return the cache for the next window.

        Parameters
        ----------
        x : float array of shape (bins, model)
            Vectors of the window's bins.
        cache : LayerCache or None
            Keys and values of the bins before; None at the beginning.
        dropout_rate : float
            Part of the weights that is dropped if ``drops_weights``; 0.0 outside training.

        Returns
        -------
        y : float array of shape (bins, model)
            Output of the projection after the heads, in the type of activations.
        cache : LayerCache or None
            Cache after the window; None without a window of attention.
        """
        time, model = x.shape
        self._check_heads(model)
        kernel_init = nn.initializers.glorot_uniform()
        dtype = self.form.activations
        projected = nn.Dense(3 * model, dtype=dtype, kernel_init=kernel_init, name="in_proj")(x)
        q, k, v = jnp.moveaxis(projected.reshape(time, 3, self.heads, -1), 1, 0)
        start, next_cache = None, None
        if self.window is not None and self.causal:
            if cache is not None:
                k, v = jnp.concatenate([cache.key, k]), jnp.concatenate([cache.value, v])
                start = self.window - cache.n_valid
            next_cache = self._make_cache(k, v, time if cache is None else time + cache.n_valid)
        if self.rotary:
            q, k = rotate(q, len(k) - time), rotate(k, 0)
        self.sow("intermediates", "query_key", (q, k))
        options: dict[str, Any] = {"window": self.window, "causal": self.causal, "start": start}
        if self.drops_weights and not drops_nothing(dropout_rate):
            key = jax.random.key_data(self.make_rng("dropout"))
            options["dropout"] = WeightDropout(key, jnp.asarray(dropout_rate, jnp.float32))
        y = attend(q, k, v, kernel=self.form.attention, **options).reshape(time, model)
        return nn.Dense(model, dtype=dtype, kernel_init=torch_kernel_init, name="out_proj")(y), next_cache

    def _check_heads(self, model: int) -> None:
        if model % self.heads:
            raise ValueError(f"{self.heads} heads cannot divide a width of {model}: choose a divisor of {model}")
        if self.rotary and model % (2 * self.heads):
            raise ValueError(
                f"{self.heads} heads cannot divide a width of {model} into pairs of numbers: "
                f"choose a divisor of {model // 2}"
            )

    def _make_cache(self, k: Array, v: Array, n_valid: Int[Array, ""] | int) -> LayerCache:
        assert self.window is not None
        missing = max(self.window - len(k), 0)
        k, v = (jnp.pad(x, ((missing, 0), (0, 0), (0, 0)))[len(x) + missing - self.window :] for x in (k, v))
        return LayerCache(k, v, jnp.minimum(jnp.asarray(n_valid, jnp.int32), self.window))


class TransformerBlock(nn.Module):
    """A transformer layer: attention and feed-forward part, each with a residual connection and layer normalization.

    Parameters
    ----------
    heads : int
        Number of heads.
    window : int or None
        Number of past bins that a query attends to.
    hidden : int
        Width of the feed-forward part.
    causal : bool
        Whether a bin sees no later bin.
    published : bool
        If False, ``x + attention(norm1(x))`` and then ``x + linear2(gelu(linear1(norm2(x))))``, with rotary positions:
        normalization comes first, so that deep networks train. If True, ``norm1(x + attention(x))`` and then
        ``norm2(x + linear2(relu(linear1(x))))``, without positions and with the initial biases of PyTorch.
    form : ComputeForm
        How the layer is computed.
    drops_weights : bool
        Whether attention weights are dropped in training, too.
    """

    heads: int
    window: int | None
    hidden: int
    causal: bool = True
    published: bool = False
    form: ComputeForm = ComputeForm()
    drops_weights: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "time model"], cache: LayerCache | None, dropout_rate: Rate
    ) -> tuple[Float[Array, "time model"], LayerCache | None]:
        """Apply the layer.

        Parameters
        ----------
        x : float array of shape (bins, model)
            Vectors of the bins.
        cache : LayerCache or None
            Keys and values of the bins before.
        dropout_rate : float
            Rate of dropout; 0.0 outside training.

        Returns
        -------
        x : float array of shape (bins, model)
            Vectors after the layer.
        cache : LayerCache or None
            Cache for the next window.
        """

        def drop(y: Array) -> Array:
            return Dropout()(y, dropout_rate)

        model, dtype = x.shape[-1], self.form.activations
        options = {"rotary": not self.published, "form": self.form, "drops_weights": self.drops_weights}
        attention = SelfAttention(self.heads, self.window, self.causal, name="self_attn", **options)
        norm1, norm2 = (nn.LayerNorm(LAYER_NORM_EPSILON, dtype=dtype, name=name) for name in ("norm1", "norm2"))
        if self.published:
            linear1 = torch_dense(self.hidden, model, "linear1", dtype)
            linear2 = torch_dense(model, self.hidden, "linear2", dtype)
            y, next_cache = attention(x, cache, dropout_rate)
            x = norm1(x + drop(y))
            return norm2(x + drop(linear2(drop(nn.relu(linear1(x)))))), next_cache
        linear1 = nn.Dense(self.hidden, dtype=dtype, kernel_init=torch_kernel_init, name="linear1")
        linear2 = nn.Dense(model, dtype=dtype, kernel_init=torch_kernel_init, name="linear2")
        y, next_cache = attention(norm1(x), cache, dropout_rate)
        x = x + drop(y)
        return x + drop(linear2(drop(nn.gelu(linear1(norm2(x)))))), next_cache


def rotate(x: Float[Array, "time head width"], first: int) -> Float[Array, "time head width"]:
    """Apply rotary position embedding.

    Parameters
    ----------
    x : float array of shape (bins, heads, width)
        Queries or keys; ``width`` is even.
    first : int
        Position of the first bin.

    Returns
    -------
    float array of shape (bins, heads, width)
        Pair i of bin t is turned by ``(first + t) base^(-2 i / width)``: products of two bins depend on their distance only.
    """
    half = x.shape[-1] // 2
    angle = (first + jnp.arange(x.shape[0]))[:, None] * ROTARY_BASE ** (-jnp.arange(half) / half)
    cosine, sine = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cosine - b * sine, a * sine + b * cosine], axis=-1).astype(x.dtype)


def torch_dense(out: int, fan_in: int, name: str, dtype: Any = jnp.float32) -> nn.Dense:
    """Return a dense layer with the initial values of PyTorch's Linear: kernel and bias from U(-b, b), b = fan_in^-1/2.

    Parameters
    ----------
    out : int
        Width of the output.
    fan_in : int
        Width of the input.
    name : str
        Name of the submodule.
    dtype : dtype
        Type of the factors of the product and of the output.

    Returns
    -------
    flax.linen.Dense
        The layer.
    """

    def bias_init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return nn.Dense(out, dtype=dtype, kernel_init=torch_kernel_init, bias_init=bias_init, name=name)


def apply_blocks(
    blocks: Sequence[Callable[..., Any]], x: Float[Array, "time model"], memory: Memory | None, dropout_rate: Rate
) -> tuple[Float[Array, "time model"], tuple[LayerCache | None, ...]]:
    """Apply transformer blocks one after the other, each with its cache.

    Parameters
    ----------
    blocks : sequence of flax modules
        Called as ``block(x, cache, dropout_rate) -> (x, cache)``.
    x : float array of shape (bins, model)
        Vectors of the window's bins.
    memory : Memory or None
        Memory of the network; None at the beginning of a recording.
    dropout_rate : float
        Rate of dropout; 0.0 outside training.

    Returns
    -------
    x : float array of shape (bins, model)
        Vectors after the last block.
    caches : tuple of LayerCache or None
        One entry per block, for the next window.
    """
    caches = memory.layers if memory is not None and memory.layers else (None,) * len(blocks)
    next_caches = []
    for block, cache in zip(blocks, caches, strict=True):
        x, next_cache = block(x, cache, dropout_rate)
        next_caches.append(next_cache)
    return x, tuple(next_caches)


def take_rows(
    x: Float[Array, "row column"], index: Int[Array, "entry"], *, scatter: bool
) -> Float[Array, "entry column"]:
    """Return rows of an array.

    Parameters
    ----------
    x : float array of shape (rows, columns)
        Such as a vector for each bin.
    index : int array of shape (entries,)
        Rows to return.
    scatter : bool
        Whether the gradient is a scatter. Otherwise it is a product with a one-hot matrix, which sums in a fixed order.

    Returns
    -------
    float array of shape (entries, columns)
        ``x[index]``.
    """
    return x[index] if scatter else _take_rows(x, index)


@jax.custom_vjp
def _take_rows(x: Array, index: Array) -> Array:
    return x[index]


def _take_forward(x: Array, index: Array) -> tuple[Array, tuple[Array, Array]]:
    return x[index], (x[:, :0], index)  # the number of rows, and no values


def _take_backward(saved: tuple[Array, Array], taken_bar: Array) -> tuple[Array, None]:
    empty, index = saved
    return jnp.einsum("er,ec->rc", jax.nn.one_hot(index, len(empty), dtype=taken_bar.dtype), taken_bar), None


_take_rows.defvjp(_take_forward, _take_backward)


def check_units(spikes: Array, n_units: int) -> None:
    """Raise an error if a recording does not have the units that a network was built for.

    Parameters
    ----------
    spikes : array of shape (bins, units)
        Input of the network.
    n_units : int
        Units of the network.

    Raises
    ------
    ValueError
        If the numbers of units differ.
    """
    if spikes.shape[1] != n_units:
        raise ValueError(
            f"the recording has {spikes.shape[1]} units, and this network was built for {n_units}: give these units"
        )
