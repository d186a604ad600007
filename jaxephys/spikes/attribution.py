"""Attention maps, importance of bins by gradients, and networks whose attention is altered or removed.

Attention of a layer is summarised in arrays of the size of a window, never in one of time x time. With A the attention of a
layer, the mean over heads (A_ij: weight of key bin j for query bin i), n_j the number of spikes in bin j, and
``G_j = sum_u |dL / dx_ju|`` the importance of bin j by the gradient of the loss,

    lag_profile       mean over i of A_i,i-k, over the i >= k
    received          sum_i A_ij / number of i that may see j          (a number per key bin)
    attended_rate     sum_j A_ij n_j                                   (per query bin)
    entropy           - sum_j A_ij log A_ij / log(number of bins that i may see)
    awi_row           sum_j A_ij G_j                                   (attention weighted by importance, query side)
    awi_column        G_j sum_i A_ij                                   (the same, key side)

The rows of A sum to 1, so a plain sum on the query side carries no information: it is weighted by spikes or by G instead.
The column sums of a causal A fall with j because of the mask alone; divided by the number of bins that may see j they do not.

Start with :func:`summarize_attention`, and with :class:`AlteredAttention` to replace attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxephys.dimensions import AnyArray
from jaxephys.engine.task import Variables
from jaxephys.spikes.attention import MASKED_SCORE
from jaxephys.spikes.history import Filters
from jaxephys.spikes.network import SpikeNetwork
from jaxephys.spikes.network.layers import SelfAttention

ATTENTION_MODES = ("own bin", "uniform", "none")
QUERY_BLOCK = 128  # queries whose weights are in memory at once


class AttentionSummary(NamedTuple):
    """Attention of one layer in one window; the module docstring has the formulas.

    Parameters
    ----------
    lag_profile : float array of shape (lags,)
        Mean weight by lag between query and key.
    received : float array of shape (bins,)
        Mean weight that each key bin receives.
    attended_rate : float array of shape (bins,)
        Weighted number of spikes in the bins that each query bin attends to.
    entropy : float array of shape (bins,)
        Entropy of each query's weights, 1 if they are uniform.
    awi_row, awi_column : float array of shape (bins,)
        Attention weighted by importance, summed on the query side and on the key side.
    """

    lag_profile: Float[AnyArray, "lag"]
    received: Float[AnyArray, "time"]
    attended_rate: Float[AnyArray, "time"]
    entropy: Float[AnyArray, "time"]
    awi_row: Float[AnyArray, "time"]
    awi_column: Float[AnyArray, "time"]


class AlteredAttention(nn.Module):
    """A network whose attention weights are replaced.

    Parameters
    ----------
    network : SpikeNetwork
        The network.
    mode : {"own bin", "uniform", "none"}
        Attend to the own bin only; evenly to all visible bins; or leave the attention branch out, including the bias of its
        output projection. To train a network without attention, train this module with "none".

    Notes
    -----
    Variables of the network fit this module after `wrap_variables`.
    """

    network: SpikeNetwork
    mode: str

    @property
    def filters(self) -> Filters | None:
        """History filters of the network."""
        return self.network.filters

    @property
    def window(self) -> int | None:
        """Number of past bins that a layer attends to."""
        return self.network.window

    @property
    def dropout(self) -> float:
        """Dropout rate of the network in training."""
        return self.network.dropout

    @property
    def supports_entry_sampling(self) -> bool:
        """Whether the network computes the logits of given entries only."""
        return self.network.supports_entry_sampling

    @property
    def is_reconstruction(self) -> bool:
        """Whether the network sees the bin that it predicts."""
        return self.network.is_reconstruction

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network with altered attention.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the network.

        Returns
        -------
        logits, memory
            Output of the network.
        """
        if self.mode not in ATTENTION_MODES:
            raise ValueError(f"attention mode {self.mode!r} is unknown: choose one of {', '.join(ATTENTION_MODES)}")
        with nn.intercept_methods(_replace_attention(self.mode)):
            return self.network(*args, **kwargs)


def wrap_variables(variables: Variables) -> Variables:
    """Return the variables of a network in the form that `AlteredAttention` of this network takes.

    Parameters
    ----------
    variables : dict
        Variables of the network.

    Returns
    -------
    dict
        The same arrays; each collection has them under the key "network".
    """
    return {collection: {"network": leaves} for collection, leaves in variables.items()}


def summarize_attention(
    network: SpikeNetwork,
    variables: Variables,
    spikes: Float[AnyArray, "time unit"],
    loss: Callable[[Array], Array],
    n_lags: int = 256,
) -> tuple[list[AttentionSummary], Float[Array, "time"]]:
    """Summarise the attention of each layer in a window without a past, and the importance of its bins.

    Parameters
    ----------
    network : SpikeNetwork
        The network.
    variables : dict
        Variables of one run.
    spikes : float array of shape (bins, units)
        Zeros and ones.
    loss : callable
        Loss of logits of shape (bins, units), whose gradient gives the importance.
    n_lags : int
        Lags of the profile, at most the bins of the window.

    Returns
    -------
    layers : list of AttentionSummary
        One per layer.
    importance : float32 array of shape (bins,)
        G, the absolute gradient summed over units.
    """

    def loss_of_input(bins: Array) -> Array:
        return loss(network.apply(variables, bins)[0])

    spikes = jnp.asarray(spikes, jnp.float32)
    importance = jnp.abs(jax.grad(loss_of_input)(spikes)).sum(axis=1)
    layers = [
        _summarize_layer(network, query, key, spikes.sum(axis=1), importance, n_lags)
        for query, key in layer_queries_and_keys(network, variables, spikes)
    ]
    return layers, importance


def attention_map(
    network: SpikeNetwork, variables: Variables, spikes: Float[AnyArray, "time unit"]
) -> Float[Array, "time key"]:
    """Compute the whole attention matrix of the first layer, for a figure of a few bins.

    Parameters
    ----------
    network : SpikeNetwork
        The network. The matrix of a causal one does not depend on bins that follow.
    variables : dict
        Variables of one run.
    spikes : float array of shape (bins, units)
        Zeros and ones.

    Returns
    -------
    float32 array of shape (bins, bins)
        Mean over heads; rows are queries and sum to 1.
    """
    query, key = layer_queries_and_keys(network, variables, spikes)[0]
    visible = visible_keys(network, jnp.arange(len(spikes)), jnp.arange(len(spikes)))
    score = jnp.einsum("ihd,jhd->hij", query, key) * query.shape[-1] ** -0.5
    return nn.softmax(jnp.where(visible, score, MASKED_SCORE), axis=-1).mean(axis=0)


def layer_queries_and_keys(
    network: SpikeNetwork, variables: Variables, spikes: Float[AnyArray, "time unit"]
) -> list[tuple[Array, Array]]:
    """Compute the queries and keys of each layer in a window without a past.

    Parameters
    ----------
    network : SpikeNetwork
        The network.
    variables : dict
        Variables of one run.
    spikes : float array of shape (bins, units)
        Zeros and ones.

    Returns
    -------
    list of (query, key)
        For each layer two arrays of shape (bins, heads, width), rotated by their positions.
    """
    intermediates: Any = network.apply(variables, spikes, mutable="intermediates")[1]["intermediates"]
    return [layer["self_attn"]["query_key"][0] for _, layer in sorted(intermediates.items())]


def visible_keys(network: SpikeNetwork, query: Array, key: Array) -> Bool[Array, "query key"]:
    """Return which key bins each query bin can see in a network.

    Parameters
    ----------
    network : SpikeNetwork
        The network.
    query, key : int array of shape (queries,) and (keys,)
        Numbers of the bins.

    Returns
    -------
    bool array of shape (queries, keys)
        True where the query sees the key.
    """
    lag = query[:, None] - key[None, :]
    if network.is_reconstruction:
        return jnp.ones_like(lag, bool)
    return (lag >= 0) if network.window is None else (lag >= 0) & (lag <= network.window)


def _replace_attention(mode: str) -> Callable[..., Any]:
    """Return an interceptor for `flax.linen.intercept_methods` that changes the two projections around attention.

    Uniform attention has queries of 0. For the own bin only, the output projection is applied to the values themselves.
    """
    values: list[Array] = []  # of the attention that is being computed

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        is_projection = isinstance(context.module, nn.Dense) and isinstance(context.module.parent, SelfAttention)
        if not is_projection or context.method_name != "__call__":
            return call(*args, **kwargs)
        if context.module.name == "in_proj":
            projected = call(*args, **kwargs)
            query, key, value = jnp.split(projected, 3, axis=-1)
            values.append(value)
            return jnp.concatenate([jnp.zeros_like(query), key, value], axis=-1) if mode == "uniform" else projected
        value = values.pop()
        if mode == "none":
            return jnp.zeros_like(call(*args, **kwargs))
        return call(value, **kwargs) if mode == "own bin" else call(*args, **kwargs)

    return intercept


def _summarize_layer(
    network: SpikeNetwork, q: Array, k: Array, spike_counts: Array, importance: Array, n_lags: int
) -> AttentionSummary:
    """Summarize the attention of a layer block by block of queries, so that no array has the size time x time."""
    n_bins = len(q)
    n_blocks = -(-n_bins // QUERY_BLOCK)
    q = jnp.pad(q * q.shape[-1] ** -0.5, ((0, n_blocks * QUERY_BLOCK - n_bins), (0, 0), (0, 0)))
    n_lags, keys = min(n_lags, n_bins), jnp.arange(n_bins)

    def add_block(total: tuple[Array, Array, Array], first: Array) -> tuple[tuple[Array, Array, Array], Array]:
        query = first + jnp.arange(QUERY_BLOCK)
        real = (query < n_bins)[:, None]
        visible = visible_keys(network, query, keys) & real
        score = jnp.einsum("ihd,jhd->hij", lax.dynamic_slice_in_dim(q, first, QUERY_BLOCK), k)
        weight = nn.softmax(jnp.where(visible, score, MASKED_SCORE), axis=-1).mean(axis=0) * visible
        lagged = query[:, None] - jnp.arange(n_lags)
        by_lag = jnp.take_along_axis(weight, jnp.clip(lagged, 0, n_bins - 1), axis=1) * (lagged >= 0)
        entropy = -(weight * jnp.log(jnp.maximum(weight, 1e-30))).sum(axis=1)
        max_entropy = jnp.log(jnp.maximum(visible.sum(axis=1), 2))
        query_side = jnp.stack([weight @ spike_counts, entropy / max_entropy, weight @ importance])
        sums = total[0] + by_lag.sum(axis=0), total[1] + weight.sum(axis=0), total[2] + visible.sum(axis=0)
        return sums, query_side

    initial = jnp.zeros(n_lags), jnp.zeros(n_bins), jnp.zeros(n_bins)
    (by_lag, column, n_queries), rows = lax.scan(add_block, initial, jnp.arange(n_blocks) * QUERY_BLOCK)
    attended_rate, entropy, awi_row = jnp.moveaxis(rows, 1, 0).reshape(3, -1)[:, :n_bins]
    received = column / jnp.maximum(n_queries, 1)
    profile = by_lag / (n_bins - jnp.arange(n_lags))
    return AttentionSummary(profile, received, attended_rate, entropy, awi_row, importance * column)
