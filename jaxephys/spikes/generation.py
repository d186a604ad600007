"""Free-running generation: each bin is drawn from what the network says after the bins before it, and given back to it.

The memory of the network is the cache: a bin costs one step of fixed size, however long the past. Given the past, units
are drawn by themselves: a network says nothing of spikes that share a bin.

What a network says of states that no recording has shown is extrapolation, and a free run finds such states: in a slice, units
that had fired a hundred times a second fell silent for good, or doubled their rate, within seconds. So the means that the
network reads are kept to the range that they had in the second half of the past, the running rates to what the past has
left; a past of less than two windows shows no range. The spikes are still drawn from what the network says.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped, UInt

from jaxephys.engine.task import Key
from jaxephys.spikes.forecaster import Fitted, Forecaster, Manner, State, begin, forecast
from jaxephys.spikes.history import Filters, History, Range, keep, range_after, range_of, settle, trace
from jaxephys.spikes.network import PopulationTransformer

PAST = 30_000  # bins before the first that is drawn: the time constant of the running rate


def generate(
    forecaster: Forecaster,
    past: Shaped[np.ndarray, "key unit"],
    bins: int,
    seed: int = 0,
    *,
    kept: bool = True,
) -> UInt[np.ndarray, "run time unit"]:
    """``bins`` bins that follow ``past``, by every run, each with its own draws. ``kept`` False: wherever the draws lead."""
    if forecaster.manner.same_bin:
        raise ValueError("a network that is shown the bin it tells cannot generate: give one that tells the next bin")
    if bins < 1 or not len(past):
        raise ValueError(f"{bins} bins after {len(past)} bins of past: give at least one of each")
    drawn = []
    for run in range(len(forecaster)):
        fitted = jax.tree.map(lambda leaf, run=run: jnp.asarray(leaf[run]), forecaster.fitted)
        key = jax.random.fold_in(jax.random.key(seed), run)
        drawn.append(np.asarray(_draw(forecaster.manner, bins, kept, fitted, jnp.asarray(past, jnp.float32), key)))
    return np.stack(drawn).astype(np.uint8)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(manner: Manner, bins: int, kept: bool, fitted: Fitted, past: Array, key: Key) -> Array:
    network, shows = manner.network, len(past) >= 2 * manner.length
    filters = network.filters if kept and shows and isinstance(network, PopulationTransformer) else None
    logits, state, within = _look(manner, filters, fitted, past)

    def one(carry: tuple[Array, State], key: Key) -> tuple[tuple[Array, State], Array]:
        spikes = jax.random.bernoulli(key, jax.nn.sigmoid(carry[0])).astype(jnp.float32)
        after, state = forecast(manner, fitted, spikes[None], carry[1])
        if within is not None:
            state = _with(state, keep(_history(state), within))
        return (after[0], state), spikes.astype(jnp.uint8)

    return lax.scan(one, (logits, state), jax.random.split(key, bins))[1]


def _look(manner: Manner, filters: Filters | None, fitted: Fitted, past: Array) -> tuple[Array, State, Range | None]:
    """The logits of the first bin after the past, the state there, and between what bounds the second half has lain."""

    def read(state: State, spikes: Array) -> tuple[State, tuple[Array, Range | None]]:
        shown = filters and range_of(settle(filters, trace(filters, _history(state), spikes)))
        logits, state = forecast(manner, fitted, spikes, state)
        return state, (logits[-1], shown)

    size = min(manner.length, len(past))  # what does not fill a window is the oldest, and left out
    windows = past[len(past) % size :].reshape(-1, size, past.shape[1])
    state, (logits, shown) = lax.scan(read, begin(manner, fitted.variables, past.shape[1]), windows)
    if filters is None or shown is None:
        return logits[-1], state, None
    last = settle(filters, _history(state))
    late = jax.tree.map(lambda leaf: leaf[len(windows) // 2 :], shown)
    return logits[-1], _with(state, last), range_after(late, last)


def _history(state: State) -> History:
    assert state.memory.history is not None
    return state.memory.history


def _with(state: State, history: History) -> State:
    return state._replace(memory=state.memory._replace(history=history))
