"""Free-running generation: every bin is drawn from the forecast of the bins before it, and becomes part of the input.

The memory of the network makes a bin one step of fixed cost, however long the past. Given the past, units are drawn
independently: the network does not model spikes that share a bin.

Forecasts for states that no recording has shown are extrapolation, and a free run reaches such states: in the in vitro
recording, units that had fired a hundred times a second fell silent for good, or doubled their rate, within seconds. The means
that the network reads are therefore clipped to the range that they had in the second half of the past, and the running rates
are fixed to their values at its end; a past shorter than two windows gives no range. Spikes are still drawn from the forecast.

`predict_next_bins` is the opposite, and what the paper calls generation: every bin is predicted from the real bins before it, and
thresholded. It never leaves the recording, so that it shows how well single bins are predicted and not what a network does by itself.

Start with :func:`generate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped, UInt

from jaxephys.engine.devices import jit_local
from jaxephys.engine.task import Key
from jaxephys.schemas.recording import Recording
from jaxephys.spikes import history
from jaxephys.spikes.forecaster import (
    ForecastConfig,
    Forecaster,
    ForecastParameters,
    ForecastState,
    forecast,
    initial_state,
)
from jaxephys.spikes.history import Filters, History, HistoryRange

PAST_BINS = 30_000  # bins that are read before the first generated bin: the time constant of the running rate


def generate(
    forecaster: Forecaster,
    past: Shaped[np.ndarray, "key unit"],
    n_bins: int,
    seed: int = 0,
    *,
    run: int = 0,
    bounded: bool = True,
) -> UInt[np.ndarray, "time unit"]:
    """Draw spikes that continue a recording.

    Parameters
    ----------
    forecaster : Forecaster
        Calibrated networks.
    past : array of shape (past bins, units)
        Zeros and ones that come before the generated bins.
    n_bins : int
        Bins to generate.
    seed : int
        Seed of the draws.
    run : int
        Index of the network.
    bounded : bool
        Clip what the network reads to the range that the past has shown. Without it, units may fall silent for good.

    Returns
    -------
    uint8 array of shape (n_bins, units)
        Zeros and ones.

    Raises
    ------
    ValueError
        If the network is a reconstruction, or if there is no past or nothing to generate.
    """
    if forecaster.config.network.is_reconstruction:
        raise ValueError(
            "a network that sees the bin that it predicts cannot generate: use one that predicts the next bin"
        )
    if n_bins < 1 or not len(past):
        raise ValueError(f"{n_bins} bins after {len(past)} bins of past: give at least one of each")
    parameters, past_bins = forecaster.run_parameters(run), jnp.asarray(past, jnp.float32)
    key = jax.random.fold_in(jax.random.key(seed), 0)
    return np.asarray(_generate(forecaster.config.local(), n_bins, bounded, parameters, past_bins, key))


def predict_next_bins(
    forecaster: Forecaster,
    recording: Recording,
    span: tuple[int, int],
    thresholds: Float[np.ndarray, "run"],
    runs: Sequence[int],
) -> UInt[np.ndarray, "some time unit"]:
    """Predict every bin from the real bins before it, and set a spike where the logit reaches the threshold.

    Parameters
    ----------
    forecaster : Forecaster
        Calibrated networks.
    recording : Recording
        Recording of as many units as the networks take.
    span : (int, int)
        First bin, and bin after the last. Earlier bins are read.
    thresholds : float array of shape (networks,)
        Logit from which on a spike is predicted, by network: ``thresholds_`` of the estimator, chosen on validation bins.
    runs : sequence of int
        Indices of the networks to use.

    Returns
    -------
    uint8 array of shape (runs, bins, units)
        Zeros and ones.
    """
    chosen = np.asarray(runs)
    parameters = jax.tree.map(lambda leaf: leaf[chosen], forecaster.parameters)
    logits = replace(forecaster, parameters=parameters).compute_logits(recording, *span)
    return (logits >= thresholds[chosen][:, None, None]).astype(np.uint8)


@partial(jit_local, static_argnums=(0, 1, 2))
def _generate(
    config: ForecastConfig, n_bins: int, bounded: bool, parameters: ForecastParameters, past: Array, key: Key
) -> Array:
    filters = config.network.filters if bounded and len(past) >= 2 * config.length else None
    logits, state, bounds = _read_past(config, filters, parameters, past)

    def next_bin(carry: tuple[Array, ForecastState], key: Key) -> tuple[tuple[Array, ForecastState], Array]:
        logits, state = carry
        spikes = jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(jnp.float32)
        next_logits, state = forecast(config, parameters, spikes[None], state)
        if bounds is not None:
            state = _replace_history(state, history.clip_history(_history_of(state), bounds))
        return (next_logits[0], state), spikes.astype(jnp.uint8)

    return lax.scan(next_bin, (logits, state), jax.random.split(key, n_bins))[1]


def _read_past(
    config: ForecastConfig, filters: Filters | None, parameters: ForecastParameters, past: Array
) -> tuple[Array, ForecastState, HistoryRange | None]:
    """Return the logits of the first bin after the past, the state there, and the range of states in its second half."""

    def read_window(state: ForecastState, spikes: Array) -> tuple[ForecastState, tuple[Array, HistoryRange | None]]:
        bounds = None
        if filters is not None:
            states = history.trace_history(filters, _history_of(state), spikes)
            bounds = history.history_range(history.absorb_prior(filters, states))
        logits, state = forecast(config, parameters, spikes, state)
        return state, (logits[-1], bounds)

    size = min(config.length, len(past))
    windows = past[len(past) % size :].reshape(-1, size, past.shape[1])  # without the oldest bins, which fill no window
    initial = initial_state(config, parameters.variables, past.shape[1])
    state, (logits, bounds) = lax.scan(read_window, initial, windows)
    if filters is None or bounds is None:
        return logits[-1], state, None
    last = history.absorb_prior(filters, _history_of(state))
    second_half = jax.tree.map(lambda leaf: leaf[len(windows) // 2 :], bounds)
    return logits[-1], _replace_history(state, last), history.merge_ranges(second_half, last)


def _history_of(state: ForecastState) -> History:
    assert state.memory.history is not None
    return state.memory.history


def _replace_history(state: ForecastState, history: History) -> ForecastState:
    return state._replace(memory=state.memory._replace(history=history))
