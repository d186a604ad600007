"""Feature views: several representations of the curves of a unit, as blocks of columns for the kernel probe.

    wave   shape       the preprocessed waveform, shifted so that the spike (its largest deviation) is in the middle
           slope       differences of the shape, scaled to length one
           spectrum    log amplitudes, which do not depend on the position of the spike
    isi    intervals   the preprocessed histogram
           density     square roots of the shares of intervals, in bins that widen with the interval
           cumulative  share of intervals below each bin
    acg    lags        the preprocessed autocorrelogram
           near        log of both sides together over their mean, in bins that widen with the lag
    all    numbers     widths, depths and ratios of the spike; moments and quantiles of log intervals; rates near and far from lag 0

Each view depends on the shape of a curve only. Amplitude and number of spikes are not represented, because they depend on the
recording as much as on the cell. The view of a curve that a unit lacks is NaN. Nothing here is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxephys.hippie.preprocessing import prepare

Curves = Float[np.ndarray, "cell _"]

N_FREQUENCIES = 20  # of the spectrum
N_BINS = 24  # of widening bins; fewer where they would be narrower than the bins of the curve
EPSILON = 1e-9
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def compute_feature_views(raw: Mapping[str, Curves]) -> dict[str, Curves]:
    """Compute all views of the curves of units.

    Parameters
    ----------
    raw : mapping of str to array (n_units, n_columns)
        Raw curves by modality (``UnitTable.raw``): "wave", "isi" and "acg". A unit without a curve has a row of NaN.

    Returns
    -------
    dict of arrays (n_units, width)
        Views by name. Views of a modality that no unit has are left out.

    Raises
    ------
    ValueError
        If no unit has any curve.

    Examples
    --------
    >>> from jaxephys.hippie.synthetic import make_synthetic_units
    >>> views = compute_feature_views(make_synthetic_units(20).raw)
    >>> {name: view.shape[1] for name, view in views.items() if name in ("shape", "numbers")}
    {'shape': 50, 'numbers': 22}
    """
    prepared = prepare(raw)
    views, numbers = {}, []
    for index, (name, compute) in enumerate(VIEWS.items()):
        rows = np.flatnonzero(prepared.present[:, index])
        if not len(rows):
            continue
        found, measured = compute(prepared.curves[name][rows].astype(float), raw[name][rows].astype(float))
        for view, values in found.items():
            views[view] = _spread_rows(len(prepared.present), rows, values)
        numbers.append(_spread_rows(len(prepared.present), rows, measured))
    if not numbers:
        raise ValueError("no unit has a curve with information: give waveforms, intervals or autocorrelograms")
    return views | {"numbers": np.concatenate(numbers, axis=1)}


def spike_positions(wave: Curves) -> Int[np.ndarray, "cell"]:
    """Return the sample of each waveform that deviates most from its median. Juxtacellular spikes point upward.

    Parameters
    ----------
    wave : array (n_units, n_samples)
        Waveforms without NaN.

    Returns
    -------
    int array (n_units,)
        Position of the spike.
    """
    return np.abs(wave - np.median(wave, axis=1, keepdims=True)).argmax(axis=1)


def _wave_views(prepared: Curves, raw: Curves) -> tuple[dict[str, Curves], Curves]:
    shape = _centered(prepared)
    slope = np.diff(shape, axis=1)
    spectrum = np.abs(np.fft.rfft(prepared - prepared.mean(axis=1, keepdims=True), axis=1))[:, 1 : N_FREQUENCIES + 1]
    views = {"shape": shape, "slope": _unit_length(slope), "spectrum": np.log(_unit_length(spectrum) + 1e-3)}
    middle = shape.shape[1] // 2
    sign = np.sign(shape[:, middle] - np.median(shape, axis=1))
    upright = shape * sign[:, None]  # the spike points up: -1 is the other end of the range
    before, after = upright[:, : middle + 1], upright[:, middle:]
    width = _initial_run(after > 0) + _initial_run(before[:, ::-1] > 0)
    asymmetry = np.log((np.ptp(after, axis=1) + 1e-3) / (np.ptp(before, axis=1) + 1e-3))
    numbers = (sign, after.argmin(axis=1), after.min(axis=1), before.min(axis=1), width, asymmetry)
    return views, np.stack([*numbers, upright[:, 0], upright[:, -1]], axis=1)


def _isi_views(prepared: Curves, raw: Curves) -> tuple[dict[str, Curves], Curves]:
    share = raw / raw.sum(axis=1, keepdims=True)
    cumulative = share.cumsum(axis=1)
    views = {"intervals": prepared, "density": np.sqrt(_widening_bins(share)), "cumulative": cumulative}
    interval = np.arange(share.shape[1]) + 0.5
    mean, log_mean, log_sd = share @ interval, share @ np.log(interval), _sd(share, np.log(interval))
    variation = np.log(_sd(share, interval) / mean + 1e-3)
    entropy = -(share * np.log(share + EPSILON)).sum(axis=1)
    quantiles = [np.log((cumulative < quantile).sum(axis=1) + 0.5) for quantile in QUANTILES]
    return views, np.stack([log_mean, log_sd, variation, entropy, *quantiles], axis=1)


def _acg_views(prepared: Curves, raw: Curves) -> tuple[dict[str, Curves], Curves]:
    """Lag 0 is in the middle. Both sides are added, because they differ in some files."""
    middle = raw.shape[1] // 2
    width = raw.shape[1] - middle - 1
    sides = raw[:, middle + 1 :] + raw[:, middle - width : middle][:, ::-1]
    rate = sides / np.maximum(sides.mean(axis=1, keepdims=True), EPSILON)
    views = {"lags": prepared, "near": np.log(_widening_bins(rate) + 0.05)}
    far = rate[:, width // 2 :].mean(axis=1)
    first, second = max(1, width // 20), max(2, width // 5)
    ratios = [part.mean(axis=1) / np.maximum(far, 1e-3) for part in (rate[:, :first], rate[:, first:second])]
    quiet = (rate.cumsum(axis=1) < 0.1 * rate.sum(axis=1, keepdims=True)).sum(axis=1)
    return views, np.stack([*(np.log(np.array([*ratios, far]) + 0.01)), rate.argmax(axis=1), quiet], axis=1)


VIEWS = {"wave": _wave_views, "isi": _isi_views, "acg": _acg_views}  # in the order of the published modalities


def _centered(wave: Curves) -> Curves:
    """Shift waveforms so that the largest deviation from the median is in the middle; the ends are continued as constants."""
    samples = wave.shape[1]
    index = np.arange(samples) + spike_positions(wave)[:, None] - samples // 2
    return np.take_along_axis(wave, np.clip(index, 0, samples - 1), axis=1)


def _widening_bins(histogram: Curves) -> Curves:
    """Average a histogram over bins whose edges grow geometrically."""
    edges = np.unique(np.geomspace(1, histogram.shape[1] + 1, N_BINS + 1).round().astype(int)) - 1
    return np.stack([histogram[:, a:b].mean(axis=1) for a, b in pairwise(edges.tolist())], axis=1)


def _sd(share: Curves, value: Float[np.ndarray, "_"]) -> Float[np.ndarray, "cell"]:
    mean = share @ value
    return np.sqrt((share * (value - mean[:, None]) ** 2).sum(axis=1))


def _initial_run(above: Bool[np.ndarray, "cell _"]) -> Int[np.ndarray, "cell"]:
    """Count the True values at the beginning of each row."""
    return above.cumprod(axis=1).sum(axis=1)


def _unit_length(rows: Curves) -> Curves:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), EPSILON)


def _spread_rows(n_units: int, rows: Int[np.ndarray, "some"], values: Float[np.ndarray, "some _"]) -> Curves:
    """Return values of some units as an array of all units, NaN for the others."""
    spread = np.full((n_units, values.shape[1]), np.nan)
    spread[rows] = values
    return spread
