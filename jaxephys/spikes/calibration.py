"""Platt scaling of counted logits: scale and shift that make them probabilities, fitted on one stretch of time and applied to another.

Both work on histograms of logits (:class:`jaxephys.spikes.streaming_scores.StreamingCounts`), so that a model is adapted to a recording
without computing its logits again. Start with :func:`adapt_counts`; :func:`fit_scale_and_shift` is the fit.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Real
from scipy.optimize import minimize
from scipy.special import expit

from jaxephys.spikes.streaming_scores import StreamingCounts, histogram_bin, histogram_logit


def adapt_counts(counts: StreamingCounts, past: StreamingCounts) -> StreamingCounts:
    """Return the counts that a model would have after its logits were calibrated on earlier bins of the same recording.

    Parameters
    ----------
    counts : StreamingCounts
        Counts of one model, without a run axis.
    past : StreamingCounts
        Counts of the same model on the bins before.

    Returns
    -------
    StreamingCounts
        Counts of ``scale * logit + shift``, see `fit_scale_and_shift`. One scale and one shift are fitted for all units.
    """
    return rescale_counts(counts, *fit_scale_and_shift(np.asarray(past.histogram).sum((0, 1))))


def rescale_counts(counts: StreamingCounts, scale: float, shift: float) -> StreamingCounts:
    """Return the counts of ``scale * logit + shift`` from those of the logits.

    Parameters
    ----------
    counts : StreamingCounts
        Counts of one model, without a run axis.
    scale : float
        Factor above 0.
    shift : float
        Constant in nats.

    Returns
    -------
    StreamingCounts
        NumPy arrays. Losses are those of the middle of each histogram bin, which is within 1e-4 bits per spike of the exact ones.

    Raises
    ------
    ValueError
        If the scale is not above 0.
    """
    if scale <= 0:
        raise ValueError(f"logits are scaled by {scale}: give a factor above 0, which keeps their order")
    histogram = np.asarray(counts.histogram)
    size = histogram.shape[-2]
    logit = scale * histogram_logit(np.arange(size) + 0.5, size) + shift
    bin_loss = np.stack([np.logaddexp(0, logit), np.logaddexp(0, -logit)], axis=1)
    bin_error = np.stack([expit(logit) ** 2, expit(-logit) ** 2], axis=1)
    loss, squared_error = (np.einsum("bkho,ho->bk", histogram, value) for value in (bin_loss, bin_error))
    moved = _move_bins(histogram, np.asarray(histogram_bin(logit, size)))
    return StreamingCounts(moved, loss.astype(np.float32), squared_error.astype(np.float32))


def fit_scale_and_shift(histogram: Real[np.ndarray, "histogram_bin 2"]) -> tuple[float, float]:
    """Fit Platt scaling of logits: the a > 0 and b of the least log loss of ``a logit + b``.

    Parameters
    ----------
    histogram : array of shape (histogram bins, 2)
        Number of silent and spiking bins by logit.

    Returns
    -------
    scale, shift : float
        1 and 0 if there is no spike.
    """
    used = histogram.sum(axis=1) > 0
    logit = histogram_logit(np.arange(len(histogram)) + 0.5, len(histogram))[used]
    silent, spiking = histogram[used, 0].astype(float), histogram[used, 1].astype(float)
    if spiking.sum() == 0:
        return 1.0, 0.0
    total = silent.sum() + spiking.sum()

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = np.exp(x[0]), x[1]
        z = a * logit + b
        error = (expit(z) * (silent + spiking) - spiking) / total
        value = (np.logaddexp(0, z) @ silent + np.logaddexp(0, -z) @ spiking) / total
        return float(value), np.array([error @ logit * a, error.sum()])

    optimum = minimize(loss, np.zeros(2), jac=True, method="BFGS")
    return float(np.exp(optimum.x[0])), float(optimum.x[1])


def _move_bins(
    histogram: Real[np.ndarray, "block unit histogram_bin 2"], new_bin: Int[np.ndarray, "histogram_bin"]
) -> Float[np.ndarray, "block unit histogram_bin 2"] | Int[np.ndarray, "block unit histogram_bin 2"]:
    """Add up the bins of a histogram that fall into the same new bin; new bins ascend."""
    total = np.concatenate(
        [np.zeros_like(histogram[:, :, :1]), histogram.cumsum(axis=2, dtype=histogram.dtype)], axis=2
    )
    ends = np.searchsorted(new_bin, np.arange(histogram.shape[2] + 1))
    return np.diff(total[:, :, ends], axis=2)
