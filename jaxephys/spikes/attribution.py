"""What a network looks at, and what it does without: attention in numbers of the size of a window, never time x time.

With A the attention of a layer, the mean over heads (A_ij: how much bin i takes from bin j), and G_j = sum_u |dL / dx_ju| the
importance of bin j by the gradient of the loss,

    lag profile     mean over i of A_i,i-k, of those i that have a bin k before them
    looked          sum_i A_ij / number of i that may see j     key side: how much bin j is looked at
    rated           sum_j A_ij n_j                              query side: spikes n of the bins that bin i looks at
    entropy         - sum_j A_ij log A_ij / log(bins it may see)
    AWI             A_ij G_j: row sums sum_j A_ij G_j, column sums G_j sum_i A_ij

Rows of A sum to 1, so that a plain sum over the query side says nothing: that is why it is weighed with spikes, or with G.
The column sums of a causal A fall with j for no reason but the mask; divided by the bins that may see j they do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray
from jaxephys.engine.task import Variables
from jaxephys.spikes.network import Network, SelfAttention

WAYS = ("itself", "evenly", "nowhere")
BLOCK = 128  # queries whose weights stand in memory at once


class Look(NamedTuple):
    """Of one layer in one window."""

    lag: Float[AnyArray, "lag"]
    looked: Float[AnyArray, "time"]
    rated: Float[AnyArray, "time"]
    entropy: Float[AnyArray, "time"]
    awi_row: Float[AnyArray, "time"]
    awi_column: Float[AnyArray, "time"]


class Altered(nn.Module):
    """A network whose attention looks elsewhere: each bin at ``itself``, ``evenly`` at all that it may see, or ``nowhere``.

    Nowhere leaves the bias of the output projection out too: the branch adds nothing. To train without attention, train this.
    """

    network: nn.Module
    way: str

    @nn.compact
    def __call__(self, *inputs: Any, **how: Any) -> Any:
        if self.way not in WAYS:
            raise ValueError(f"attention cannot look {self.way!r}: choose one of {', '.join(WAYS)}")
        with nn.intercept_methods(_look_elsewhere(self.way)):
            return self.network(*inputs, **how)


def altered(variables: Variables) -> Variables:
    """Variables of a network, for the same network altered."""
    return {collection: {"network": leaves} for collection, leaves in variables.items()}


def _look_elsewhere(way: str) -> Callable[..., Any]:
    values: list[Array] = []  # of the attention that is being computed

    def intercept(call: Callable[..., Any], inputs: Any, how: Any, context: Any) -> Any:
        inside = isinstance(context.module, nn.Dense) and isinstance(context.module.parent, SelfAttention)
        if not inside or context.method_name != "__call__":
            return call(*inputs, **how)
        if context.module.name == "in_proj":
            projected = call(*inputs, **how)
            query, key, value = jnp.split(projected, 3, axis=-1)
            values.append(value)
            return jnp.concatenate([jnp.zeros_like(query), key, value], axis=-1) if way == "evenly" else projected
        value = values.pop()
        if way == "nowhere":
            return jnp.zeros_like(call(*inputs, **how))
        return call(value, **how) if way == "itself" else call(*inputs, **how)

    return intercept


def look(
    network: Network,
    variables: Variables,
    spikes: Float[AnyArray, "time unit"],
    loss: Callable[[Array], Array],
    lags: int = 256,
) -> tuple[list[Look], Float[Array, "time"]]:
    """Each layer's look at a window that begins with no past, and G. ``loss``: of the logits [time, unit]."""

    def cost(bins: Array) -> Array:
        return loss(network.apply(variables, bins)[0])  # pyright: ignore[reportArgumentType, reportIndexIssue]

    spikes = jnp.asarray(spikes, jnp.float32)
    importance = jnp.abs(jax.grad(cost)(spikes)).sum(axis=1)
    kept: Any = network.apply(variables, spikes, mutable="intermediates")[1]
    layers = []
    for _, layer in sorted(kept["intermediates"].items()):
        query, key = layer["self_attn"]["seen"][0]
        layers.append(_look_of(network, query, key, spikes.sum(axis=1), importance, lags))
    return layers, importance


def attention_map(
    network: Network, variables: Variables, spikes: Float[AnyArray, "time unit"]
) -> Float[Array, "time key"]:
    """A of the first layer, whole: for a picture of few bins. A causal one is the same whatever follows them."""
    kept: Any = network.apply(variables, spikes, mutable="intermediates")[1]
    query, key = sorted(kept["intermediates"].items())[0][1]["self_attn"]["seen"][0]
    seen = may_see(network, jnp.arange(len(spikes)), jnp.arange(len(spikes)))
    score = jnp.einsum("ihd,jhd->hij", query, key) * query.shape[-1] ** -0.5
    return nn.softmax(jnp.where(seen, score, -1e30), axis=-1).mean(axis=0)


def _look_of(network: Network, q: Array, k: Array, count: Array, importance: Array, lags: int) -> Look:
    """Block after block of queries, each over all keys of the window."""
    bins = len(q)
    blocks = -(-bins // BLOCK)
    q = jnp.pad(q * q.shape[-1] ** -0.5, ((0, blocks * BLOCK - bins), (0, 0), (0, 0)))
    lags, place = min(lags, bins), jnp.arange(bins)

    def of_block(total: tuple[Array, Array, Array], first: Array) -> tuple[tuple[Array, Array, Array], Array]:
        query = first + jnp.arange(BLOCK)
        real = (query < bins)[:, None]
        seen = may_see(network, query, place) & real
        score = jnp.einsum("ihd,jhd->hij", lax.dynamic_slice_in_dim(q, first, BLOCK), k)
        weight = nn.softmax(jnp.where(seen, score, -1e30), axis=-1).mean(axis=0) * seen
        back = query[:, None] - jnp.arange(lags)
        behind = jnp.take_along_axis(weight, jnp.clip(back, 0, bins - 1), axis=1) * (back >= 0)
        entropy = -(weight * jnp.log(jnp.maximum(weight, 1e-30))).sum(axis=1)
        own = jnp.stack([weight @ count, entropy / jnp.log(jnp.maximum(seen.sum(axis=1), 2)), weight @ importance])
        return (total[0] + behind.sum(axis=0), total[1] + weight.sum(axis=0), total[2] + seen.sum(axis=0)), own

    nothing = jnp.zeros(lags), jnp.zeros(bins), jnp.zeros(bins)
    (behind, column, seers), rows = lax.scan(of_block, nothing, jnp.arange(blocks) * BLOCK)
    rated, entropy, awi_row = jnp.moveaxis(rows, 1, 0).reshape(3, -1)[:, :bins]
    looked = column / jnp.maximum(seers, 1)
    return Look(behind / (bins - jnp.arange(lags)), looked, rated, entropy, awi_row, importance * column)


def may_see(network: Network, query: Array, key: Array) -> Array:
    """[query, key]: as the attention of this network has it."""
    apart = query[:, None] - key[None, :]
    if getattr(network, "legacy", False):
        return jnp.ones_like(apart, bool)
    return (apart >= 0) if network.window is None else (apart >= 0) & (apart <= network.window)
