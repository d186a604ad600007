"""Analysis of attention in windows of a recording: correlations with the population rate, and altered or shuffled inputs.

Start with :func:`analyze_attention` and, for scores of altered networks, :func:`count_window_outcomes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray
from jaxephys.engine.task import Variables
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.attribution import (
    ATTENTION_MODES,
    AlteredAttention,
    AttentionSummary,
    attention_map,
    summarize_attention,
    wrap_variables,
)
from jaxephys.spikes.backend import local_network
from jaxephys.spikes.losses import bce
from jaxephys.spikes.network import SpikeNetwork
from jaxephys.spikes.streaming_scores import StreamingCounts, add_bins, empty_counts

MEASURES = {  # of an AttentionSummary, and the side that they belong to
    "attended_rate": "query",
    "entropy": "query",
    "awi_row": "query",
    "received": "key",
    "awi_column": "key",
}
MAP_BINS = 200  # bins of an attention map
EARLY_BINS = 64  # bins at the start of a window that are left out of correlations: they attend to few keys
PRIOR_BINS, PRIOR_RATE = 100.0, 0.01  # prior of the running rate: this number of bins at this rate before a window
# Names of the compared models: as trained, trained without attention, and a forecast from running rates.
TRAINED, WITHOUT_ATTENTION, RUNNING_RATE = "trained", "trained without attention", "running rate"
Apply = Callable[[Array], Array]  # bins (bins, units) -> logits of the next bins


class AttentionAnalysis(NamedTuple):
    """Measures of the attention of one network in the windows of a recording.

    Parameters
    ----------
    n_bins : int
        Bins of a window.
    lag_profile : float array of shape (lags,)
        Mean weight by lag, over windows.
    map : float array of shape (bins, bins)
        Attention matrix of the first bins of the first window.
    correlations : dict of (str, str) to (float, float)
        By measure and rate ("spikes" or "forecast"): Pearson's r of the rate with the measure of this network, and with
        the measure that uniform attention would have.
    """

    n_bins: int
    lag_profile: Float[np.ndarray, "lag"]
    map: Float[np.ndarray, "time key"]
    correlations: dict[tuple[str, str], tuple[float, ...]]


def cut_test_windows(recording: Recording, length: int, count: int) -> Float[np.ndarray, "window time unit"]:
    """Cut windows out of the test split, evenly spaced.

    Parameters
    ----------
    recording : Recording
        The recording.
    length : int
        Bins of a window; one more is cut, the last to be predicted.
    count : int
        Number of windows, at most as many as fit without overlap.

    Returns
    -------
    float32 array of shape (windows, length + 1, units)
        Zeros and ones.
    """
    start, stop = recording.span("test")
    starts = np.linspace(start, stop - length - 1, min(count, (stop - start) // (length + 1))).astype(int).tolist()
    return np.stack([recording.bits(first, first + length + 1) for first in starts]).astype(np.float32)


def analyze_attention(
    network: SpikeNetwork, variables: Variables, windows: Float[np.ndarray, "window time unit"]
) -> AttentionAnalysis:
    """Summarize the attention of a network of one layer, and correlate it with the population's rate.

    Parameters
    ----------
    network : SpikeNetwork
        A causal network of one layer.
    variables : dict
        Variables of one run.
    windows : float array of shape (windows, length + 1, units)
        Result of `cut_test_windows`.

    Returns
    -------
    AttentionAnalysis
        Means over windows.
    """
    network = local_network(network)

    @jax.jit
    def summarize(variables: Variables, windows: Array) -> tuple[AttentionSummary, Array]:
        def one_window(window: Array) -> tuple[AttentionSummary, Array]:
            (summary,), _ = summarize_attention(network, variables, window[:-1], lambda logits: bce(logits, window[1:]))
            return summary, jax.nn.sigmoid(network.apply(variables, window[:-1])[0]).sum(axis=1)

        return lax.map(one_window, windows)

    summary, forecast = jax.device_get(summarize(variables, jnp.asarray(windows)))
    spike_counts = windows[:, :-1].sum(axis=2)
    uniform = uniform_summary(spike_counts, summary)
    correlations = {
        (measure, name): tuple(correlate_within_windows(getattr(of, measure), rate) for of in (summary, uniform))
        for measure in MEASURES
        for name, rate in (("spikes", spike_counts), ("forecast", forecast))
    }
    n_bins = windows.shape[1] - 1
    matrix = np.asarray(attention_map(network, variables, jnp.asarray(windows[0, : min(MAP_BINS, n_bins)])))
    return AttentionAnalysis(n_bins, summary.lag_profile.mean(axis=0), matrix, correlations)


def compared_models(
    network: SpikeNetwork,
    variables: Variables,
    without: SpikeNetwork,
    variables_without: Variables,
    shares: Sequence[float],
) -> dict[str, tuple[Apply, float]]:
    """Return the forecasts that are compared: with attention, with altered attention, and with shuffled units.

    Parameters
    ----------
    network : SpikeNetwork
        The network.
    variables : dict
        Its variables.
    without : SpikeNetwork
        The network without attention.
    variables_without : dict
        Variables of a network that was trained without attention.
    shares : sequence of float
        Fractions of a window: in the last part of this length, the units are shuffled.

    Returns
    -------
    dict of str to (callable, float)
        By name: the forecast, and the fraction of the window in which units are shuffled. The network as trained, with each mode of
        altered attention, and trained without attention; the running rate; network and running rate with shuffled units.
    """
    network, without = local_network(network), local_network(without)
    trained = partial(_network_logits, network, variables)
    models: dict[str, tuple[Apply, float]] = {TRAINED: (trained, 0.0)}
    for mode in ATTENTION_MODES:
        altered = partial(_network_logits, AlteredAttention(network, mode), wrap_variables(variables))
        models[f"attention: {mode}"] = altered, 0.0
    models[WITHOUT_ATTENTION] = partial(_network_logits, without, variables_without), 0.0
    models[RUNNING_RATE] = running_rate_logits, 0.0
    for share in shares:
        models[f"{TRAINED}, {share:.0%} shuffled"] = trained, share
        models[f"{RUNNING_RATE}, {share:.0%} shuffled"] = running_rate_logits, share
    return models


def uniform_summary(spike_counts: Float[np.ndarray, "window time"], summary: AttentionSummary) -> AttentionSummary:
    """Compute the measures that uniform causal attention would have, with the same importance of each bin.

    Parameters
    ----------
    spike_counts : float array of shape (windows, bins)
        Spikes of the population.
    summary : AttentionSummary
        Summary with a leading window axis.

    Returns
    -------
    AttentionSummary
        With a leading window axis; its lag profile is that of ``summary``.
    """
    n_bins = spike_counts.shape[1]
    weight = np.tril(np.ones((n_bins, n_bins))) / np.arange(1, n_bins + 1)[:, None]
    importance = summary.awi_column / np.maximum(summary.received * np.arange(n_bins, 0, -1), 1e-30)
    column = np.broadcast_to(weight.sum(axis=0), spike_counts.shape)
    return AttentionSummary(
        summary.lag_profile,
        column / np.arange(n_bins, 0, -1),
        spike_counts @ weight.T,
        np.ones_like(spike_counts),
        importance @ weight.T,
        importance * column,
    )


def uniform_lag_profile(n_bins: int, n_lags: int) -> Float[np.ndarray, "lag"]:
    """Compute the lag profile of uniform causal attention, in which bin i gives 1 / (i + 1) to each bin up to it.

    Parameters
    ----------
    n_bins, n_lags : int
        Bins of the window, and lags of the profile.

    Returns
    -------
    float array of shape (n_lags,)
        Mean weight by lag.
    """
    share = 1 / np.arange(1, n_bins + 1)
    return np.array([share[lag:].mean() for lag in range(n_lags)])


def correlate_within_windows(values: Float[np.ndarray, "window time"], rate: Float[np.ndarray, "window time"]) -> float:
    """Compute Pearson's correlation over the bins of each window, and average it over windows.

    Parameters
    ----------
    values, rate : float array of shape (windows, bins)
        Two series; the first 64 bins of a window are left out.

    Returns
    -------
    float
        Mean over the windows in which both series vary; nan if there is none.
    """
    a, b = (x[:, EARLY_BINS:] - x[:, EARLY_BINS:].mean(axis=1, keepdims=True) for x in (values, rate))
    spread = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    varies = spread > 1e-9
    return float(((a * b).sum(axis=1)[varies] / spread[varies]).mean()) if varies.any() else float("nan")


def running_rate_logits(bins: Float[AnyArray, "time unit"]) -> Float[Array, "time unit"]:
    """Predict each unit by its own rate in the window so far.

    Parameters
    ----------
    bins : float array of shape (bins, units)
        Zeros and ones.

    Returns
    -------
    float32 array of shape (bins, units)
        Logits; row t belongs to bin t + 1. The prior is 100 bins at a rate of 0.01.
    """
    n_bins = jnp.arange(1, len(bins) + 1)[:, None] + PRIOR_BINS
    rate = (jnp.cumsum(bins, axis=0) + PRIOR_BINS * PRIOR_RATE) / n_bins
    return jnp.log(rate) - jnp.log1p(-rate)


def shuffle_units(
    windows: Float[np.ndarray, "window time unit"], share: float
) -> Float[np.ndarray, "window time unit"]:
    """Permute the units in the last part of each window.

    Parameters
    ----------
    windows : float array of shape (windows, bins, units)
        Zeros and ones.
    share : float
        Length of this part as a fraction of the window, 0 to 1.

    Returns
    -------
    float array of shape (windows, bins, units)
        Changed copies. Each window has its own permutation, which is the same in every call.
    """
    rng = np.random.default_rng(0)
    first = round(windows.shape[1] * (1 - share))
    shuffled = windows.copy()
    for index in range(len(windows)):
        shuffled[index, first:] = windows[index][first:, rng.permutation(windows.shape[2])]
    return shuffled


def count_window_outcomes(
    apply: Apply, windows: Float[np.ndarray, "window time unit"], shuffled_share: float = 0.0
) -> StreamingCounts:
    """Count predictions and outcomes in the second half of each window, with the units of the input shuffled or not.

    Parameters
    ----------
    apply : callable
        Maps the bins of a window to logits of the next bins.
    windows : float array of shape (windows, length + 1, units)
        Result of `cut_test_windows`. Each window is a time block.
    shuffled_share : float
        Fraction of the input, at its end, in which units are shuffled. Targets are not shuffled.

    Returns
    -------
    StreamingCounts
        Counts, on the host.
    """
    inputs = shuffle_units(windows[:, :-1], shuffled_share)
    n_bins = inputs.shape[1]
    scored = np.arange(n_bins) >= n_bins // 2

    def add_window(counts: StreamingCounts, window: tuple[Array, Array, Array]) -> tuple[StreamingCounts, None]:
        bins, target, block = window
        return add_bins(counts, apply(bins), target.astype(jnp.int32), jnp.where(scored, block, -1)), None

    count = jax.jit(partial(lax.scan, add_window))
    initial = empty_counts(len(windows), windows.shape[2])
    return jax.device_get(count(initial, (inputs, windows[:, 1:], np.arange(len(windows))))[0])


def _network_logits(network: SpikeNetwork, variables: Variables, bins: Array) -> Array:
    return network.apply(variables, bins)[0]
