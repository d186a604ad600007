"""Analysis of attention in windows of a recording: correlations with the population rate, and altered or shuffled inputs.

Start with :func:`analyze_attention` and, for scores of altered networks, :func:`count_window_outcomes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from scipy.stats import ttest_1samp

from jaxephys.dimensions import AnyArray
from jaxephys.engine.devices import jit_local
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
from jaxephys.spikes.losses import LOSSES
from jaxephys.spikes.network import SpikeNetwork
from jaxephys.spikes.streaming_scores import StreamingCounts, add_bins, empty_counts

MEASURES = {  # of an AttentionSummary, and the side that they belong to
    "attended_rate": "query",
    "entropy": "query",
    "awi_row": "query",
    "received": "key",
    "awi_column": "key",
}
# Rates that measures are correlated with: spikes of training windows; and of test windows the spikes, the expected number of spikes
# one step ahead, and the number of spikes that are predicted one step ahead by a threshold, which the paper calls generated.
RATES = ("training spikes", "spikes", "forecast", "generated")
SIGNIFICANCE = 0.01  # level of the published t tests
MIN_SAMPLES = 3  # correlations that a t test needs
SMALLEST_VARIATION = 1e-6  # of a series that varies, relative to its values: what is less is rounding
MAX_CORRELATION = 1 - 1e-6  # the Fisher transform of 1 is infinite
MAP_BINS = 200  # bins of an attention map
EARLY_BINS = 64  # bins at the start of a window that are left out of correlations: they attend to few keys
PRIOR_BINS, PRIOR_RATE = 100.0, 0.01  # prior of the running rate: this number of bins at this rate before a window
# Names of the compared models: as trained, trained without attention, and a forecast from running rates.
TRAINED, WITHOUT_ATTENTION, RUNNING_RATE = "trained", "trained without attention", "running rate"


class AttentionAnalysis(NamedTuple):
    """Measures of the attention of one network in the windows of a recording.

    Parameters
    ----------
    n_bins : int
        Bins of a window.
    lag_profile : float array of shape (lags,)
        Mean weight by lag, over windows.
    map : float array of shape (bins, bins)
        Attention matrix of the first bins of the first test window.
    awi_map : float array of shape (bins, bins)
        The same, weighted by the importance of each key bin.
    first_window : dict of str to float array of shape (bins,)
        Of the first test window: "spikes" of the population, "awi_row" and "awi_column".
    correlations : dict of (str, str) to (array, array)
        By measure and rate (one of `RATES`): Pearson's r in each window of the rate with the measure of this network, and with the
        measure that uniform attention would have. Both have shape (windows,).
    """

    n_bins: int
    lag_profile: Float[np.ndarray, "lag"]
    map: Float[np.ndarray, "time key"]
    awi_map: Float[np.ndarray, "time key"]
    first_window: dict[str, Float[np.ndarray, "_"]]
    correlations: dict[tuple[str, str], tuple[Float[np.ndarray, "window"], Float[np.ndarray, "window"]]]


class ComparedModel(NamedTuple):
    """A forecast of the next bin, and what part of its input is shuffled.

    Parameters
    ----------
    network : SpikeNetwork or None
        The network; None for the running rate.
    variables : dict
        Variables of one run; empty for the running rate.
    shuffled_share : float
        Fraction of the input, at its end, in which units are shuffled.
    """

    network: SpikeNetwork | None
    variables: Variables
    shuffled_share: float = 0.0


def cut_windows(
    recording: Recording, length: int, count: int, split: str = "test"
) -> Float[np.ndarray, "window time unit"]:
    """Cut windows out of a split, evenly spaced.

    Parameters
    ----------
    recording : Recording
        The recording.
    length : int
        Bins of a window; one more is cut, the last to be predicted.
    count : int
        Number of windows, at most as many as fit without overlap.
    split : {"train", "validation", "test"}, default "test"
        The split.

    Returns
    -------
    float32 array of shape (windows, length + 1, units)
        Zeros and ones.
    """
    start, stop = recording.span(split)
    starts = np.linspace(start, stop - length - 1, min(count, (stop - start) // (length + 1))).astype(int).tolist()
    return np.stack([recording.bits(first, first + length + 1) for first in starts]).astype(np.float32)


def analyze_attention(
    network: SpikeNetwork,
    variables: Variables,
    windows: Float[np.ndarray, "window time unit"],
    training_windows: Float[np.ndarray, "some time unit"],
    loss: str = "bce",
    threshold: float = 0.0,
) -> AttentionAnalysis:
    """Summarize the attention of the first layer of a network, and correlate it with the population's rate.

    Parameters
    ----------
    network : SpikeNetwork
        A causal network.
    variables : dict
        Variables of one run.
    windows : float array of shape (windows, length + 1, units)
        Test windows, from `cut_windows`.
    training_windows : float array of shape (some windows, length + 1, units)
        Windows of the bins that the network was trained on.
    loss : str, default "bce"
        Name of the loss that the network was trained with, whose gradient is the importance of a bin.
    threshold : float, default 0.0
        Logit of the network, before calibration, from which on a spike is predicted.

    Returns
    -------
    AttentionAnalysis
        Of the test windows; correlations with training spikes are of the training windows.
    """
    network = local_network(network)
    training, test = (
        _summarize_windows(network, loss, variables, jnp.asarray(some), jnp.float32(threshold))
        for some in (training_windows, windows)
    )
    rates = zip(RATES, (training.spikes, test.spikes, test.forecast, test.generated), strict=True)
    correlations = {}
    for name, rate in rates:
        measured = training if name == RATES[0] else test
        uniform = uniform_summary(measured.spikes, measured.summary)
        for measure in MEASURES:
            r, of_uniform = (window_correlations(getattr(of, measure), rate) for of in (measured.summary, uniform))
            correlations[measure, name] = r, of_uniform
    n_bins = windows.shape[1] - 1
    shown = min(MAP_BINS, n_bins)
    matrix = np.asarray(attention_map(network, variables, jnp.asarray(windows[0, :shown])))
    weighted = matrix * test.importance[0, :shown]
    summary = test.summary
    first = {"spikes": test.spikes[0], "awi_row": summary.awi_row[0], "awi_column": summary.awi_column[0]}
    return AttentionAnalysis(n_bins, summary.lag_profile.mean(axis=0), matrix, weighted, first, correlations)


def compared_models(
    network: SpikeNetwork,
    variables: Variables,
    without: SpikeNetwork,
    variables_without: Variables,
    shares: Sequence[float],
) -> dict[str, ComparedModel]:
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
    dict of str to ComparedModel
        By name: the network as trained, with each mode of altered attention, and trained without attention; the running rate;
        network and running rate with shuffled units.
    """
    models = {TRAINED: ComparedModel(network, variables)}
    for mode in ATTENTION_MODES:
        models[f"attention: {mode}"] = ComparedModel(AlteredAttention(network, mode), wrap_variables(variables))
    models[WITHOUT_ATTENTION] = ComparedModel(without, variables_without)
    models[RUNNING_RATE] = ComparedModel(None, {})
    for share in shares:
        models[shuffled_name(TRAINED, share)] = ComparedModel(network, variables, share)
        models[shuffled_name(RUNNING_RATE, share)] = ComparedModel(None, {}, share)
    return models


def shuffled_name(model: str, share: float) -> str:
    """Return the name of a model whose input has shuffled units.

    Parameters
    ----------
    model : str
        Name of the model.
    share : float
        Fraction of the window in which units are shuffled.

    Returns
    -------
    str
        Such as "trained, 95% shuffled".
    """
    return f"{model}, {share:.0%} shuffled"


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


def window_correlations(
    values: Float[np.ndarray, "window time"], rate: Float[np.ndarray, "window time"]
) -> Float[np.ndarray, "window"]:
    """Compute Pearson's correlation of two series over the bins of each window.

    Parameters
    ----------
    values, rate : float array of shape (windows, bins)
        Two series; the first 64 bins of a window are left out.

    Returns
    -------
    float array of shape (windows,)
        Correlations; nan where one of the series does not vary.
    """
    series = [np.asarray(x[:, EARLY_BINS:], np.float64) for x in (values, rate)]
    a, b = (x - x.mean(axis=1, keepdims=True) for x in series)
    size_a, size_b = (np.sqrt((x**2).sum(axis=1)) for x in (a, b))
    varies = np.ones(len(a), bool)
    for deviation, x in zip((size_a, size_b), series, strict=True):  # relative: gradients of some losses are tiny
        varies &= deviation > SMALLEST_VARIATION * np.sqrt((x**2).sum(axis=1))
    return np.where(varies, (a * b).sum(axis=1) / np.where(varies, size_a * size_b, 1.0), np.nan)


def mean_correlation(correlations: Float[np.ndarray, "some"]) -> float:
    """Average correlations.

    Parameters
    ----------
    correlations : float array of shape (some,)
        Correlations, for example one per window.

    Returns
    -------
    float
        Mean of those that are not nan; nan if there is none.
    """
    finite = correlations[np.isfinite(correlations)]
    return float(finite.mean()) if len(finite) else float("nan")


def t_test_correlations(
    correlations: Float[np.ndarray, "some"], control: Float[np.ndarray, "some"] | None = None
) -> float:
    """Test whether correlations differ from 0, or from paired other correlations, by a t test of their Fisher transforms.

    Parameters
    ----------
    correlations : float array of shape (some,)
        Independent correlations, one per window or per recording.
    control : float array of shape (some,), optional
        Correlations of the same windows or recordings to compare with; by default 0.

    Returns
    -------
    float
        Two-sided p value; nan with fewer than three values, or if all differ from the control by the same amount.

    Examples
    --------
    >>> import numpy as np
    >>> round(t_test_correlations(np.array([0.2, 0.3, 0.25, 0.22])), 4)
    0.0018
    """
    difference = np.arctanh(np.clip(correlations, -MAX_CORRELATION, MAX_CORRELATION))
    if control is not None:
        difference = difference - np.arctanh(np.clip(control, -MAX_CORRELATION, MAX_CORRELATION))
    difference = difference[np.isfinite(difference)]
    if len(difference) < MIN_SAMPLES or np.ptp(difference) == 0:
        return float("nan")
    return float(ttest_1samp(difference, 0.0).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


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


def count_window_outcomes(model: ComparedModel, windows: Float[np.ndarray, "window time unit"]) -> StreamingCounts:
    """Count predictions and outcomes in the second half of each window, with the units of the input shuffled or not.

    Parameters
    ----------
    model : ComparedModel
        The forecast.
    windows : float array of shape (windows, length + 1, units)
        Result of `cut_windows`. Each window is a time block. Targets are not shuffled.

    Returns
    -------
    StreamingCounts
        Counts, on the host.
    """
    inputs = shuffle_units(windows[:, :-1], model.shuffled_share)
    network = None if model.network is None else local_network(model.network)
    return jax.device_get(_count_windows(network, model.variables, jnp.asarray(inputs), jnp.asarray(windows[:, 1:])))


class _Measured(NamedTuple):
    """What is measured in windows, each array with a leading window axis, on the host."""

    summary: AttentionSummary
    importance: Float[np.ndarray, "window time"]
    spikes: Float[np.ndarray, "window time"]  # of the population
    forecast: Float[np.ndarray, "window time"]  # expected number of spikes one bin ahead
    generated: Float[np.ndarray, "window time"]  # number of logits at or above the threshold


def _summarize_windows(
    network: SpikeNetwork, loss: str, variables: Variables, windows: Array, threshold: Array
) -> _Measured:
    return _Measured(*jax.device_get(_measure_windows(network, loss, variables, windows, threshold)))


@partial(jit_local, static_argnums=(0, 1))
def _measure_windows(
    network: SpikeNetwork, loss: str, variables: Variables, windows: Array, threshold: Array
) -> tuple[AttentionSummary, Array, Array, Array, Array]:
    def one_window(window: Array) -> tuple[AttentionSummary, Array, Array, Array, Array]:
        loss_of_logits = partial(LOSSES[loss], spikes=window[1:])
        (summary, *_), importance = summarize_attention(network, variables, window[:-1], loss_of_logits)
        logits = network.apply(variables, window[:-1])[0]
        generated = (logits >= threshold).sum(axis=1).astype(jnp.float32)
        return summary, importance, window[:-1].sum(axis=1), jax.nn.sigmoid(logits).sum(axis=1), generated

    return lax.map(one_window, windows)


@partial(jit_local, static_argnums=(0,))
def _count_windows(
    network: SpikeNetwork | None, variables: Variables, inputs: Array, targets: Array
) -> StreamingCounts:
    n_windows, n_bins, n_units = inputs.shape
    scored = jnp.arange(n_bins) >= n_bins // 2

    def add_window(counts: StreamingCounts, window: tuple[Array, Array, Array]) -> tuple[StreamingCounts, None]:
        bins, target, block = window
        logits = running_rate_logits(bins) if network is None else network.apply(variables, bins)[0]
        return add_bins(counts, logits, target.astype(jnp.int32), jnp.where(scored, block, -1)), None

    initial = empty_counts(n_windows, n_units)
    return lax.scan(add_window, initial, (inputs, targets, jnp.arange(n_windows)))[0]
