"""A linear expert: logistic regression on the features of the spike history, with weights that all units share.

    logit = w_0 + w_1 logit(running rate) + w . (features of the unit, levels of the population)

A linear model cannot fit what is peculiar to its training recording and therefore transfers to other recordings where a
network is wrong. It is fitted on training bins; :mod:`~jaxephys.spikes.expert_mixture` weighs it against the network.
Start with :func:`fit_linear_expert`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.linear_model import LogisticRegression

from jaxephys.dimensions import AnyArray
from jaxephys.engine.devices import jit_local
from jaxephys.schemas.recording import Recording
from jaxephys.spikes import history
from jaxephys.spikes.history import Filters, History, HistoryFeatures

WARM_UP_MS = 5000.0  # the start of a recording is skipped: it has too little past
WINDOW = 1000  # bins that are processed at once
MAX_BINS = 60_000  # bins that features are computed for, evenly spread over the training bins
MAX_ROWS = 200_000  # rows of each outcome that the regression is fitted on


def fit_linear_expert(filters: Filters, recording: Recording, seed: int = 0) -> Float[np.ndarray, "weight"]:
    """Fit the shared weights on the training bins of a recording.

    Parameters
    ----------
    filters : Filters
        Filters of the spike history.
    recording : Recording
        Recording with a training split.
    seed : int
        Seed of the sample of bins; sampled bins are weighted by the inverse of their probability.

    Returns
    -------
    float32 array of shape (2 + features,)
        Constant, weight of the running rate, weights of the features of unit and population; `running_rate_weights` if the
        sample does not hold both outcomes.
    """
    rng = np.random.default_rng(seed)
    start, stop = recording.span("train")
    length = min(WINDOW, stop - start - 1)
    stride = max(1, (stop - start) // MAX_BINS)
    n_spikes = int(recording.counts("train").sum())
    n_silent = (stop - start) * recording.units - n_spikes
    share = np.minimum(1.0, MAX_ROWS * stride / np.maximum([n_silent, n_spikes], 1))
    warm = start + min(round(WARM_UP_MS / recording.bin_ms), (stop - start - 1) // 2)
    state, rows, outcomes = history.initial_history(filters, recording.units), [], []
    for first in range(start, stop - length, length):
        bins = recording.bits(first, first + length + 1).astype(np.float32)
        state, regressors = _window_regressors(filters, stride, state, bins[:-1])
        next_bins = bins[1::stride]
        drawn = rng.random(next_bins.shape) < np.where(next_bins > 0, share[1], share[0])
        if first + length > warm:
            rows.append(np.asarray(regressors, np.float64)[drawn])
            outcomes.append(next_bins[drawn] > 0)
    spike = np.concatenate(outcomes)
    if spike.all() or not spike.any():
        return running_rate_weights(filters)
    model = LogisticRegression(solver="newton-cholesky").fit(
        np.concatenate(rows), spike, sample_weight=1 / np.where(spike, share[1], share[0])
    )
    return np.concatenate([model.intercept_, model.coef_[0]]).astype(np.float32)


def running_rate_weights(filters: Filters) -> Float[np.ndarray, "weight"]:
    """Return the weights with which the expert predicts the running rate, its value before anything is fitted.

    Parameters
    ----------
    filters : Filters
        Filters of the spike history.

    Returns
    -------
    float32 array of shape (2 + features,)
        Zeros but a 1 for the logit of the running rate.
    """
    weights = np.zeros(2 + filters.n_features + filters.n_population_features, np.float32)
    weights[1] = 1.0
    return weights


def linear_logits(weights: Float[AnyArray, "weight"], features: HistoryFeatures) -> Float[Array, "time unit"]:
    """Compute the logits of the expert.

    Parameters
    ----------
    weights : float array of shape (2 + features,)
        Result of `fit_linear_expert`.
    features : HistoryFeatures
        Features of a window.

    Returns
    -------
    float32 array of shape (bins, units)
        Row t belongs to bin t + 1.
    """
    return _regressors(features) @ weights[1:] + weights[0]


@partial(jit_local, static_argnums=(0, 1))
def _window_regressors(
    filters: Filters, stride: int, state: History, spikes: Float[AnyArray, "time unit"]
) -> tuple[History, Float[Array, "_ unit regressor"]]:
    states = history.trace_history(filters, state, spikes)
    strided = jax.tree.map(lambda leaf: leaf[::stride], states)
    return history.last_state(states), _regressors(history.compute_features(filters, strided))


def _regressors(features: HistoryFeatures) -> Float[Array, "time unit regressor"]:
    shape = (*features.rate_logit.shape, features.population.shape[-1])
    population = jnp.broadcast_to(features.population[:, None], shape)
    return jnp.concatenate([features.rate_logit[..., None], features.unit, population], axis=-1)
