"""Recordings with a known dependence on the past, and the update of the history filters for a single bin.

In the recordings a unit that fired three bins ago fires again with probability 0.7.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxephys.schemas.recording import Recording
from jaxephys.spikes.history import NO_SPIKE, History
from jaxephys.spikes.network import NetworkOptions

LAG, AGAIN, RATE = 3, 0.7, 0.01
SMALL_NETWORK = NetworkOptions(width=8, heads=2, window=16)
SMALL: dict[str, Any] = dict(length=100, entries_per_window=128, max_epochs=4, batch_size=4, calibration_bins=1000)


def synthetic_recording(seed, bins=6000, units=6, name="synthetic"):
    rng = np.random.default_rng(seed)
    uniform, spikes = rng.random((bins, units)), np.zeros((bins, units), np.uint8)
    for t in range(bins):
        echo = AGAIN * spikes[t - LAG] if t >= LAG else 0.0
        spikes[t] = uniform[t] < np.maximum(RATE, echo)
    return Recording.from_array(spikes, name=f"{name} {seed}")


def advance_one_bin(filters, state, spikes):
    """Update the state of the history filters by one bin, ``e <- a e + (1 - a) s``."""
    decay, gain = jnp.asarray(filters.decay, jnp.float32), jnp.asarray(1 - filters.decay, jnp.float32)
    fired = spikes > 0.5
    since = jnp.minimum(state.since_spike + 1, NO_SPIKE)
    return History(
        unit_means=decay * state.unit_means + gain * spikes[:, None],
        population_means=decay * state.population_means + gain * spikes.sum() / len(spikes),
        since_spike=jnp.where(fired, 0, since),
        interval=jnp.where(fired, since, state.interval),
        n_bins=state.n_bins + 1,
    )
