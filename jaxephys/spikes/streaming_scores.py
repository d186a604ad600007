"""Scores of spike predictions from counts of fixed size, to which the logits of one time block after the other are added.

The counts are a histogram of the logits for each time block, unit and outcome; all scores are sums over it. Pooled scores
are high if a model predicts which units fire often, scores within a unit only if it predicts when the unit fires. Each time block
has its own histogram, so that a bootstrap can resample blocks, with the same draws for all models.

Start with :func:`empty_counts`, :func:`add_bins` and :func:`compute_scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int, Real
from scipy.special import expit

from jaxephys.dimensions import AnyArray
from jaxephys.evaluation.intervals import Interval

N_BLOCKS = 20  # time blocks that an interval resamples
HISTOGRAM_BINS = 2048  # on real recordings every area is then within 1e-4 of the exact one
CENTER_LOGIT = -4.0  # logit at which the histogram is finest: spikes are rare
HALF_DENSITY = 3.0  # distance from it, in logits, at which the histogram is half as fine
MIN_SPIKES = 10  # a unit with fewer spikes has no scores of its own
CALIBRATION_BINS = 15
MAX_LOSS = 1e30  # nats of a wrong infinite logit: finite, because a sum over blocks multiplies it by zeros
MAX_FALSE_POSITIVE_RATE = 0.005  # of a decision threshold
BLOCK_SCORES = ("roc_auc", "average_precision", "roc_auc_within_unit", "bits_per_spike")
TAILS = [(1 - 0.95) / 2, (1 + 0.95) / 2]  # quantiles that bound an interval


class StreamingCounts(NamedTuple):
    """Sums over bins from which all scores of a model on a recording follow. Counts of two stretches can be added.

    Parameters
    ----------
    histogram : int array of shape (..., blocks, units, histogram bins, 2)
        Number of time bins without (0) and with (1) a spike, by time block, unit and logit.
    loss : float array of shape (..., blocks, units)
        Sum of the negative log-likelihood, in nats.
    squared_error : float array of shape (..., blocks, units)
        Sum of ``(p - spike)^2``.
    """

    histogram: Real[AnyArray, "*run block unit histogram_bin 2"]
    loss: Float[AnyArray, "*run block unit"]
    squared_error: Float[AnyArray, "*run block unit"]


def empty_counts(n_blocks: int, n_units: int, n_histogram_bins: int = HISTOGRAM_BINS) -> StreamingCounts:
    """Return counts of no bins.

    Parameters
    ----------
    n_blocks, n_units : int
        Number of time blocks and of units.
    n_histogram_bins : int
        Resolution of the histogram of logits.

    Returns
    -------
    StreamingCounts
        Zeros, on the device.
    """
    zero = jnp.zeros((n_blocks, n_units))
    return StreamingCounts(jnp.zeros((n_blocks, n_units, n_histogram_bins, 2), jnp.int32), zero, zero)


def add_bins(
    counts: StreamingCounts,
    logits: Float[AnyArray, "time unit"],
    spikes: Int[AnyArray, "time unit"],
    block: Int[AnyArray, "time"],
) -> StreamingCounts:
    """Add bins to the counts. The function can be called inside ``jit``, ``scan`` and ``vmap``.

    Parameters
    ----------
    counts : StreamingCounts
        Counts so far.
    logits : float array of shape (bins, units)
        Logits of a spike.
    spikes : int array of shape (bins, units)
        Zeros and ones.
    block : int array of shape (bins,)
        Time block of each bin; bins of a negative block are padding and are not counted.

    Returns
    -------
    StreamingCounts
        Counts with these bins.
    """
    n_blocks, n_units, n_histogram_bins, _ = counts.histogram.shape
    real = (block >= 0)[:, None]
    logits = jnp.where(real, logits.astype(jnp.float32), 0.0)
    index = (block[:, None] * n_units + jnp.arange(n_units)) * n_histogram_bins + histogram_bin(
        logits, n_histogram_bins
    )
    dropped = jnp.isnan(logits) | ~real  # a NaN is in no bin of the histogram; the loss carries it into every score
    index = jnp.where(dropped, counts.histogram.size, 2 * index + spikes)
    histogram = counts.histogram.reshape(-1).at[index.reshape(-1)].add(1, mode="drop").reshape(counts.histogram.shape)
    # Sums over blocks are products with a one-hot matrix: unlike a scatter-add they sum in a fixed order.
    member = jax.nn.one_hot(block, n_blocks)
    loss = jnp.minimum(jax.nn.softplus(jnp.where(spikes == 1, -logits, logits)), MAX_LOSS)
    squared_error = (jax.nn.sigmoid(logits) - spikes) ** 2
    sums = [
        jnp.einsum("tb,tu->bu", member, jnp.where(real, value, 0.0), precision=jax.lax.Precision.HIGHEST)
        for value in (loss, squared_error)
    ]
    return StreamingCounts(histogram, counts.loss + sums[0], counts.squared_error + sums[1])


def split_past(counts: StreamingCounts) -> tuple[StreamingCounts, StreamingCounts]:
    """Separate the last time block, in which the bins before the scored ones were counted.

    Parameters
    ----------
    counts : StreamingCounts
        Counts without a run axis, of two or more time blocks.

    Returns
    -------
    scored, past : StreamingCounts
        All blocks but the last, and the last.
    """
    return StreamingCounts(*(part[:-1] for part in counts)), StreamingCounts(*(part[-1:] for part in counts))


def weighted_histogram(
    index: Int[AnyArray, "row some"], weights: Float[AnyArray, "row some"], size: int, *, scatter: bool
) -> Float[Array, "histogram_bin"]:
    """Add up weights by an index.

    Parameters
    ----------
    index : int array of shape (rows, entries)
        0 to ``size - 1``.
    weights : float array of shape (rows, entries)
        Weights.
    size : int
        Length of the result, a multiple of 64.
    scatter : bool
        Whether to add by a scatter. On a GPU that adds in an order that differs from call to call; the product of two one-hot matrices, one of
        ``index // 64`` and one of ``index % 64``, does not.

    Returns
    -------
    float32 array of shape (size,)
        Sums of the weights of all entries with each index.
    """
    index, weights = index.reshape(-1), weights.reshape(-1)
    if scatter:
        return jnp.zeros(size).at[index].add(weights)
    high, low = jax.nn.one_hot(index // 64, size // 64) * weights[:, None], jax.nn.one_hot(index % 64, 64)
    return jnp.einsum("eh,el->hl", high, low, precision=jax.lax.Precision.HIGHEST).reshape(size)


def count_indices(index: Int[AnyArray, "*row some"], size: int) -> Int[Array, "*row histogram_bin"]:
    """Count how often each index occurs, without a scatter: sort, and search the first of each index.

    Parameters
    ----------
    index : int array of shape (..., entries)
        0 to ``size - 1``.
    size : int
        Length of the result.

    Returns
    -------
    int32 array of shape (..., size)
        Counts along the last axis. Rows, and the batches of ``jax.vmap``, are sorted together: a few long sorts keep a GPU busy that
        many short ones do not.
    """
    n_rows = int(np.prod(index.shape[:-1]))
    shifted = index + size * jnp.arange(n_rows, dtype=jnp.int32).reshape(*index.shape[:-1], 1)
    return _counter(n_rows * size)(shifted.reshape(-1)).reshape(*index.shape[:-1], size)


def compute_scores(
    counts: StreamingCounts, rate: Float[np.ndarray, "unit"] | None = None, threshold: float | None = None
) -> dict[str, float]:
    """Compute all scores of one model.

    Parameters
    ----------
    counts : StreamingCounts
        Counts of one model, without a run axis; time blocks are added up.
    rate : float array of shape (units,), optional
        Mean spikes per bin of each unit in the training bins, for ``bits_per_spike_training``.
    threshold : float, optional
        Logit from which on a spike is predicted, for the accuracies.

    Returns
    -------
    dict of str to float
        ``roc_auc`` and ``average_precision`` pooled over units and as means ``_within_unit`` over units with `MIN_SPIKES`
        spikes or more; ``ap_over_prevalence``; ``bits_per_spike``, the log-likelihood gained over each unit's own mean rate
        in these very bins, which a forecast cannot use; ``brier``; ``ece``; ``prevalence``; ``units_scored``. With ``rate`` also
        ``bits_per_spike_training``, with ``threshold`` also ``accuracy``, ``accuracy_on_0`` and ``accuracy_on_1``.

    Raises
    ------
    ValueError
        If the logits hold a NaN.
    """
    histogram = np.asarray(counts.histogram).sum(0).astype(np.float64)
    loss, squared_error = (np.asarray(x, np.float64).sum() for x in (counts.loss, counts.squared_error))
    if np.isnan(loss):
        raise ValueError("The logits hold a NaN: the model has diverged and cannot be scored.")
    spikes, bins = histogram[..., 1].sum(1), histogram.sum((1, 2))
    enough = spikes >= MIN_SPIKES
    auc, ap = areas(histogram.sum(0))
    unit_auc, unit_ap = areas(histogram[enough])
    prevalence = spikes.sum() / bins.sum()
    scores = {
        "roc_auc": auc,
        "average_precision": ap,
        "ap_over_prevalence": ap / prevalence,
        "roc_auc_within_unit": _mean(unit_auc),
        "average_precision_within_unit": _mean(unit_ap),
        "ap_over_prevalence_within_unit": _mean(unit_ap / (spikes / bins)[enough]),
        "bits_per_spike": _bits_per_spike(loss, spikes, bins, spikes / bins),
        "brier": squared_error / bins.sum(),
        "ece": calibration_error(histogram.sum(0)),
        "prevalence": prevalence,
        "units_scored": enough.sum(),
    }
    if rate is not None:
        scores["bits_per_spike_training"] = _bits_per_spike(loss, spikes, bins, rate)
    if threshold is not None:
        scores |= accuracies(histogram.sum(0), threshold)
    return {name: float(value) for name, value in scores.items()}


def histogram_bin(logits: Float[AnyArray, "..."], n_histogram_bins: int) -> Int[AnyArray, "..."]:
    """Return the bin of the histogram that each logit falls into.

    Parameters
    ----------
    logits : float array
        Logits, infinite ones included.
    n_histogram_bins : int
        Number of bins.

    Returns
    -------
    int32 array of the same shape
        0 to ``n_histogram_bins - 1``.

    Notes
    -----
    With d the logit minus `CENTER_LOGIT`, ``d / (|d| + HALF_DENSITY)`` lies between -1 and 1 and is divided evenly.
    """
    distance = jnp.clip(logits - CENTER_LOGIT, -1e30, 1e30)
    bounded = distance / (jnp.abs(distance) + HALF_DENSITY)
    return jnp.clip(jnp.floor((bounded + 1) * (n_histogram_bins / 2)), 0, n_histogram_bins - 1).astype(jnp.int32)


def histogram_logit(
    index: Float[np.ndarray, "histogram_bin"], n_histogram_bins: int
) -> Float[np.ndarray, "histogram_bin"]:
    """Return the logit at which a bin of the histogram begins, the inverse of `histogram_bin`.

    Parameters
    ----------
    index : float array
        Bins; fractions are positions within a bin.
    n_histogram_bins : int
        Number of bins.

    Returns
    -------
    float array of the same shape
        Logits; minus infinity for 0.
    """
    bounded = 2 * index / n_histogram_bins - 1
    with np.errstate(divide="ignore"):
        return CENTER_LOGIT + HALF_DENSITY * bounded / (1 - np.abs(bounded))


def areas(
    histogram: Real[np.ndarray, "*unit histogram_bin 2"],
) -> tuple[Float[AnyArray, "*unit"], Float[AnyArray, "*unit"]]:
    """Compute ROC AUC and average precision from histograms, with the definitions of scikit-learn.

    Parameters
    ----------
    histogram : array of shape (..., histogram bins, 2)
        Number of negatives and positives by score; scores in one bin are ties.

    Returns
    -------
    roc_auc : float array of shape (...)
        P(positive above negative) + P(tie) / 2; nan without both outcomes.
    average_precision : float array of shape (...)
        Sum of (recall gained) x precision, from the highest bin down; nan without both outcomes.
    """
    negatives, positives = histogram[..., ::-1, 0], histogram[..., ::-1, 1]
    true_positives, false_positives = positives.cumsum(-1), negatives.cumsum(-1)
    defined = np.where((true_positives[..., -1] > 0) & (false_positives[..., -1] > 0), 1.0, np.nan)
    n_positives, n_negatives = np.maximum(true_positives[..., -1], 1), np.maximum(false_positives[..., -1], 1)
    auc = (negatives * (true_positives - positives / 2)).sum(-1) / n_positives / n_negatives
    ap = (positives * true_positives / np.maximum(true_positives + false_positives, 1)).sum(-1) / n_positives
    return auc * defined, ap * defined


def choose_threshold(counts: StreamingCounts) -> float:
    """Choose the logit from which on a spike is predicted, by Youden's J at a low false positive rate.

    Parameters
    ----------
    counts : StreamingCounts
        Counts of one model on validation bins.

    Returns
    -------
    float
        The logit with the highest recall minus false positive rate among those with a false positive rate of at most
        `MAX_FALSE_POSITIVE_RATE`. It is the lowest logit of a histogram bin, so that the histogram of the test bins
        separates exactly what is above it.
    """
    histogram = np.asarray(counts.histogram).sum((0, 1)).astype(np.float64)
    share_above = histogram[::-1].cumsum(0)[::-1] / histogram.sum(0)  # at or above each bin
    gain = np.where(share_above[:, 0] <= MAX_FALSE_POSITIVE_RATE, share_above[:, 1] - share_above[:, 0], -np.inf)
    return float(histogram_logit(np.array([float(gain.argmax())]), len(histogram))[0])


def match_rate(past: StreamingCounts) -> float:
    """Choose the logit at which as many spikes are predicted as a recording has, from earlier bins of this recording.

    Parameters
    ----------
    past : StreamingCounts
        Counts of one model on bins before those that the threshold is used on.

    Returns
    -------
    float
        The lowest logit of a histogram bin above which there are at most as many predictions as spikes.
    """
    histogram = np.asarray(past.histogram).sum((0, 1)).astype(np.float64)
    predicted = histogram.sum(1)[::-1].cumsum()[::-1]  # number at or above each bin
    lowest = int((predicted > histogram[:, 1].sum()).sum())
    return float(histogram_logit(np.array([float(lowest)]), len(histogram))[0]) if lowest < len(histogram) else np.inf


def accuracies(histogram: Float[np.ndarray, "histogram_bin 2"], threshold: float) -> dict[str, float]:
    """Compute the accuracy of thresholded predictions, on silent bins, on bins with a spike, and on all.

    Parameters
    ----------
    histogram : float array of shape (histogram bins, 2)
        Number of silent and spiking bins by logit.
    threshold : float
        Logit from which on a spike is predicted.

    Returns
    -------
    dict of str to float
        ``accuracy_on_0``, ``accuracy_on_1`` and ``accuracy``.
    """
    above = histogram_logit(np.arange(len(histogram)) * 1.0, len(histogram)) >= threshold
    zeros, ones = histogram[~above, 0].sum(), histogram[above, 1].sum()
    total = histogram.sum(0)
    return {
        "accuracy_on_0": zeros / total[0],
        "accuracy_on_1": ones / total[1],
        "accuracy": (zeros + ones) / total.sum(),
    }


def calibration_error(histogram: Float[np.ndarray, "histogram_bin 2"], n_groups: int = CALIBRATION_BINS) -> float:
    """Compute the expected calibration error over groups of equally many predictions.

    Groups of equal width would put nearly all predictions into the first: the probability of a spike is rarely above 1/15.

    Parameters
    ----------
    histogram : float array of shape (histogram bins, 2)
        Number of silent and spiking bins by logit; the prediction of a histogram bin is the probability at its middle.
    n_groups : int
        Number of groups.

    Returns
    -------
    float
        Mean absolute difference between the predicted and the observed share of spikes.
    """
    probability = expit(histogram_logit(np.arange(len(histogram)) + 0.5, len(histogram)))
    total = histogram.sum(1)
    group = np.minimum((total.cumsum() - total / 2) / total.sum() * n_groups, n_groups - 1).astype(int)
    expected, observed = (np.bincount(group, weights, n_groups) for weights in (total * probability, histogram[:, 1]))
    return float(np.abs(expected - observed).sum() / total.sum())


def bootstrap(
    models: Mapping[str, StreamingCounts], resamples: int = 200, *, all_scores: bool = True
) -> dict[tuple[str, str], Interval]:
    """Compute 95 % intervals of scores, and of their differences between models, by resampling time blocks.

    Parameters
    ----------
    models : mapping of str to StreamingCounts
        Counts of each model on the same two or more time blocks.
    resamples : int
        Number of resamples, which are the same for all models.
    all_scores : bool
        Whether to resample all scores of `compute_scores`, or those in `BLOCK_SCORES` only, which takes a hundredth of the time.

    Returns
    -------
    dict of (str, str) to Interval
        By (model, score), and by ("a - b", score) for each pair of models in the given order.

    Raises
    ------
    ValueError
        If the models have different numbers of blocks, or fewer than two.

    Notes
    -----
    The same draws for all models make the differences paired: what makes some seconds hard for all models does not widen
    their difference. A resample contains blocks more than once and therefore spans less of the slow changes: areas within
    units come out about .01 lower than from all blocks. This is a property of resampling and not of the model, so the
    quantiles are shifted by the difference between their mean and the estimate.
    """
    samples = resample_blocks(models, resamples, None if all_scores else BLOCK_SCORES)
    return {key: centered_interval(values[0], values[1:]) for key, values in samples.items()}


def resample_blocks(
    models: Mapping[str, StreamingCounts],
    resamples: int = 200,
    scores: Sequence[str] | None = BLOCK_SCORES,
    *,
    seed: int = 0,
) -> dict[tuple[str, str], Float[np.ndarray, "resample"]]:
    """Compute the scores of models, and their differences, on resampled time blocks.

    Parameters
    ----------
    models : mapping of str to StreamingCounts
        Counts of each model on the same two or more time blocks.
    resamples : int
        Number of resamples, which are the same for all models.
    scores : sequence of str or None
        Some of `BLOCK_SCORES`, or None for all scores of `compute_scores`, which takes a hundred times as long.
    seed : int
        Seed of the draws.

    Returns
    -------
    dict of (str, str) to float array of shape (1 + resamples,)
        By (model, score), and by ("a - b", score): the score of all blocks, then that of each resample.

    Raises
    ------
    ValueError
        If the models have different numbers of blocks, or fewer than two.
    """
    numbers = {len(counts.loss) for counts in models.values()}
    if len(numbers) != 1 or min(numbers) < 2:
        raise ValueError(f"Models are compared on the same 2 or more time blocks, not on {sorted(numbers)}.")
    n_blocks = numbers.pop()
    rng = np.random.default_rng(seed)
    measure = {
        name: _resample_all(counts) if scores is None else _BlockScores(counts, scores)
        for name, counts in models.items()
    }
    draws = [np.arange(n_blocks), *rng.integers(n_blocks, size=(resamples, n_blocks))]
    values: dict[tuple[str, str], list[float]] = {}
    for draw in draws:
        times_drawn = np.bincount(draw, minlength=n_blocks).astype(np.float32)
        for name, scores_of in measure.items():
            for key, value in scores_of(times_drawn).items():
                values.setdefault((name, key), []).append(value)
    samples = {key: np.array(column) for key, column in values.items()}
    metrics = dict.fromkeys(key for _, key in samples)
    for a, b in combinations(models, 2):
        samples |= {(f"{a} - {b}", key): samples[a, key] - samples[b, key] for key in metrics}
    return samples


def centered_interval(estimate: float, resampled: Float[np.ndarray, "resample"]) -> Interval:
    """Return the quantiles of resampled scores, shifted so that their mean is the estimate.

    Parameters
    ----------
    estimate : float
        Score of all blocks.
    resampled : float array of shape (resamples,)
        Scores of the resamples.

    Returns
    -------
    Interval
        The estimate with its 95 % interval.
    """
    low, high = np.nanquantile(resampled, TAILS) - np.nanmean(resampled) + estimate
    return Interval(float(estimate), float(low), float(high))


def _resample_all(counts: StreamingCounts) -> Callable[[np.ndarray], dict[str, float]]:
    """Return a function from the number of times that each time block was drawn to all scores."""
    parts = [np.asarray(part, np.float32) for part in counts]
    return lambda drawn: compute_scores(StreamingCounts(*(np.tensordot(drawn, part, 1)[None] for part in parts)))


class _BlockScores:
    """The function of `_resample_all` for the scores in `BLOCK_SCORES`.

    The numerator of the AUC of a unit is a sum over pairs of blocks: of the silent bins of one, and of the spikes of the other that have a
    higher logit. With these numbers, a resample needs no histogram of each unit. They are whole or half numbers, so the sums are exact.
    """

    def __init__(self, counts: StreamingCounts, scores: Sequence[str]) -> None:
        self.scores = scores
        histogram = np.asarray(counts.histogram)
        self.pooled = histogram.sum(1).astype(np.float64)
        self.silent, self.spiking = np.moveaxis(histogram.sum(2).astype(np.float64), -1, 0)
        self.loss = np.asarray(counts.loss, np.float32)
        self.pairs = self._pairs(histogram) if "roc_auc_within_unit" in scores else None

    def __call__(self, drawn: np.ndarray) -> dict[str, float]:
        spikes, silent = drawn @ self.spiking, drawn @ self.silent
        auc, ap = areas(np.tensordot(drawn, self.pooled, 1))
        loss = np.tensordot(drawn, self.loss, 1).astype(np.float64).sum()
        if np.isnan(loss):
            raise ValueError("The logits hold a NaN: the model has diverged and cannot be scored.")
        bits = _bits_per_spike(loss, spikes, spikes + silent, spikes / (spikes + silent))
        values = {"roc_auc": auc, "average_precision": ap, "bits_per_spike": bits}
        if self.pairs is not None:
            enough = spikes >= MIN_SPIKES
            numerator = np.einsum("b,ubc,c->u", drawn, self.pairs, drawn)
            unit_auc = (numerator / np.maximum(spikes, 1) / np.maximum(silent, 1))[enough]
            values["roc_auc_within_unit"] = _mean(np.where(silent[enough] > 0, unit_auc, np.nan))
        return {name: float(values[name]) for name in self.scores}

    @staticmethod
    def _pairs(histogram: np.ndarray) -> np.ndarray:
        """Return the numerators of the AUC of each unit for each pair of blocks."""
        used = histogram.any(axis=(0, 1, 3))
        histogram = histogram[:, :, used][:, :, ::-1].astype(np.float64)  # from the highest logit down
        silent, spiking = histogram[..., 0], histogram[..., 1]
        higher = spiking.cumsum(-1) - spiking / 2
        return np.moveaxis(silent, 1, 0) @ np.moveaxis(higher, 1, 0).swapaxes(1, 2)  # unit, block, block


def _counter(size: int) -> Callable[[Array], Array]:
    """Return a function that counts the indices 0 to size - 1 in a vector, or under ``jax.vmap`` in several vectors at once."""

    @custom_vmap
    def count(index: Array) -> Array:
        ordered = jax.lax.sort(index, is_stable=False)
        return jnp.diff(jnp.searchsorted(ordered, jnp.arange(size + 1, dtype=jnp.int32), method="scan_unrolled"))

    @count.def_vmap
    def count_batch(n: int, _: Any, index: Array) -> tuple[Array, bool]:
        return count_indices(index, size), True

    return count


def _bits_per_spike(
    loss: float, spikes: Float[np.ndarray, "unit"], bins: Float[np.ndarray, "unit"], rate: Float[np.ndarray, "unit"]
) -> float:
    """Bits per spike gained over the constant rate of each unit; a silent unit counts as one spike in 10^6 bins."""
    rate = np.clip(rate, 1e-6, 1 - 1e-6)
    baseline = -(spikes * np.log(rate) + (bins - spikes) * np.log1p(-rate)).sum()
    return (baseline - loss) / np.log(2) / spikes.sum()


def _mean(values: Float[np.ndarray, "unit"]) -> float:
    """Mean; nan without NumPy's warning if no unit has enough spikes."""
    return float(values.mean()) if len(values) else float("nan")
