"""The plainest expert: one straight line, the same for all units, through what a network is given to read.

    logit = w_0 + w_1 logit(running rate) + w . (features of the unit, levels of the population)

It bends to nothing peculiar to the recording it was fitted on, and so goes over to another one where a network, which does, is
wrong. Fitted on training bins by logistic regression; the mixture decides what it is worth.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.linear_model import LogisticRegression

from jaxephys.dimensions import AnyArray
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.history import Filters, History, Reading, last_of, no_history, read, trace

WARM_UP_MS = 5000.0  # at the start of a recording there is too little past to learn from
WINDOW = 1000  # bins that stand in memory at once
BINS = 60_000  # that are looked at, evenly over the training bins
MOST = 200_000  # spikes, and as many silences, that the regression sees


def running_rate_line(filters: Filters) -> Float[np.ndarray, "weight"]:
    """What is said before anything is fitted."""
    line = np.zeros(2 + filters.features + filters.population_features, np.float32)
    line[1] = 1.0
    return line


def along(line: Float[AnyArray, "weight"], reading: Reading) -> Float[Array, "time unit"]:
    """Logits."""
    return _regressors(reading) @ line[1:] + line[0]


def fit_line(filters: Filters, recording: Recording, seed: int = 0) -> Float[np.ndarray, "weight"]:
    """On the training bins. Silences are drawn, and weigh for those that were not."""
    rng = np.random.default_rng(seed)
    start, stop = recording.span("train")
    length = min(WINDOW, stop - start - 1)
    stride = max(1, (stop - start) // BINS)
    spikes = int(recording.counts("train").sum())
    silences = (stop - start) * recording.units - spikes
    share = np.minimum(1.0, MOST * stride / np.maximum([silences, spikes], 1))
    warm = start + min(round(WARM_UP_MS / recording.bin_ms), (stop - start - 1) // 2)
    state, rows, told = no_history(filters, recording.units), [], []
    for first in range(start, stop - length, length):
        bins = recording.bits(first, first + length + 1).astype(np.float32)
        state, seen = _look(filters, stride, state, bins[:-1])
        after = bins[1::stride]
        drawn = rng.random(after.shape) < np.where(after > 0, share[1], share[0])
        if first + length > warm:
            rows.append(np.asarray(seen, np.float64)[drawn])
            told.append(after[drawn] > 0)
    spike = np.concatenate(told)
    if spike.all() or not spike.any():
        return running_rate_line(filters)
    found = LogisticRegression(solver="newton-cholesky").fit(
        np.concatenate(rows), spike, sample_weight=1 / np.where(spike, share[1], share[0])
    )
    return np.concatenate([found.intercept_, found.coef_[0]]).astype(np.float32)


@partial(jax.jit, static_argnums=(0, 1))
def _look(
    filters: Filters, stride: int, state: History, spikes: Float[AnyArray, "time unit"]
) -> tuple[History, Float[Array, "_ unit regressor"]]:
    states = trace(filters, state, spikes)
    some = jax.tree.map(lambda leaf: leaf[::stride], states)
    return last_of(states), _regressors(read(filters, some))


def _regressors(reading: Reading) -> Float[Array, "time unit regressor"]:
    shape = (*reading.offset.shape, reading.population.shape[-1])
    everyone = jnp.broadcast_to(reading.population[:, None], shape)
    return jnp.concatenate([reading.offset[..., None], reading.features, everyone], axis=-1)
