"""Free-running generation: each bin is drawn from what the network says after the bins before it, and given back to it.

The memory of the network is the cache: a bin costs one step of fixed size, however long the past. Given the past, units
are drawn by themselves: a network says nothing of spikes that share a bin.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped, UInt

from jaxephys.engine.types import Key
from jaxephys.spikes.forecast import Fitted, Forecaster, Manner, State, begin, forecast


def generate(
    forecaster: Forecaster, past: Shaped[np.ndarray, "key unit"], bins: int, seed: int = 0
) -> UInt[np.ndarray, "run time unit"]:
    """``bins`` bins that follow ``past``, by every run, each with its own draws."""
    if forecaster.manner.same_bin:
        raise ValueError("a network that is shown the bin it tells cannot generate: give one that tells the next bin")
    if bins < 1 or not len(past):
        raise ValueError(f"{bins} bins after {len(past)} bins of past: give at least one of each")
    drawn = []
    for run in range(len(forecaster)):
        fitted = jax.tree.map(lambda leaf, run=run: jnp.asarray(leaf[run]), forecaster.fitted)
        key = jax.random.fold_in(jax.random.key(seed), run)
        drawn.append(np.asarray(_draw(forecaster.manner, bins, fitted, jnp.asarray(past, jnp.float32), key)))
    return np.stack(drawn).astype(np.uint8)


@partial(jax.jit, static_argnums=(0, 1))
def _draw(manner: Manner, bins: int, fitted: Fitted, past: Array, key: Key) -> Array:
    def read(state: State, spikes: Array) -> tuple[State, Array]:
        logits, state = forecast(manner, fitted, spikes, state)
        return state, logits[-1]

    units = past.shape[1]
    size = min(manner.length, len(past))  # what does not fill a window is the oldest, and left out
    windows = past[len(past) % size :].reshape(-1, size, units)
    state, logits = lax.scan(read, begin(manner, fitted.variables, units), windows)

    def one(carry: tuple[Array, State], key: Key) -> tuple[tuple[Array, State], Array]:
        spikes = jax.random.bernoulli(key, jax.nn.sigmoid(carry[0])).astype(jnp.float32)
        after, state = forecast(manner, fitted, spikes[None], carry[1])
        return (after[0], state), spikes.astype(jnp.uint8)

    return lax.scan(one, (logits[-1], state), jax.random.split(key, bins))[1]
