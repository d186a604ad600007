"""Views: the curves of a unit seen in several ways, for classifiers that can weigh them, such as the kernel probe.

    wave   shape       as prepared, the spike (its greatest deviation) in the middle
           slope       differences of the shape, of length one
           spectrum    log amplitudes, blind to where the spike stands
    isi    intervals   as prepared
           density     roots of the shares of intervals, in bins that widen with the interval
           cumulative  share of intervals below each bin
    acg    lags        as prepared
           near        log of both sides together over their mean, in bins that widen with the lag
    all    numbers     widths, depths and ratios of the spike, moments and quantiles of log intervals, rates near and far

Curves alone, each on its own scale: neither amplitude nor the number of spikes is told, for these are of the recording as
much as of the cell. A view of a curve that a unit does not have is NaN. Nothing here is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxephys.hippie.preprocessing import prepare

Curves = Float[np.ndarray, "cell _"]

TONES = 20  # of the spectrum
BINS = 24  # that widen; where they would be narrower than those of the curve, fewer
SMALL = 1e-9
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def views_of(raw: Mapping[str, Curves]) -> dict[str, Curves]:
    """Of whatever curves there are. ``raw`` as in a UnitTable: a row a unit, NaN throughout where it has none."""
    prepared = prepare(raw)
    found, numbers = {}, []
    for place, (name, make) in enumerate(MAKERS.items()):
        at = np.flatnonzero(prepared.present[:, place])
        if not len(at):
            continue
        made, measured = make(prepared.curves[name][at].astype(float), raw[name][at].astype(float))
        whole = [_among(len(prepared.present), at, values) for values in (*made.values(), measured)]
        found |= dict(zip(made, whole, strict=False))
        numbers.append(whole[-1])
    if not numbers:
        raise ValueError("no unit has a curve that says anything: give waveforms, intervals or correlograms")
    return found | {"numbers": np.concatenate(numbers, axis=1)}


def _of_wave(prepared: Curves, raw: Curves) -> tuple[dict[str, Curves], Curves]:
    shape = _centred(prepared)
    slope = np.diff(shape, axis=1)
    tones = np.abs(np.fft.rfft(prepared - prepared.mean(axis=1, keepdims=True), axis=1))[:, 1 : TONES + 1]
    views = {"shape": shape, "slope": _unit(slope), "spectrum": np.log(_unit(tones) + 1e-3)}
    middle = shape.shape[1] // 2
    sign = np.sign(shape[:, middle] - np.median(shape, axis=1))
    upright = shape * sign[:, None]  # the spike points up: -1 is the other end of the range
    before, after = upright[:, : middle + 1], upright[:, middle:]
    width = _run(after > 0) + _run(before[:, ::-1] > 0)
    swing = np.log((np.ptp(after, axis=1) + 1e-3) / (np.ptp(before, axis=1) + 1e-3))
    numbers = (sign, after.argmin(axis=1), after.min(axis=1), before.min(axis=1), width, swing)
    return views, np.stack([*numbers, upright[:, 0], upright[:, -1]], axis=1)


def _of_isi(prepared: Curves, raw: Curves) -> tuple[dict[str, Curves], Curves]:
    share = raw / raw.sum(axis=1, keepdims=True)
    cumulative = share.cumsum(axis=1)
    views = {"intervals": prepared, "density": np.sqrt(_widening(share)), "cumulative": cumulative}
    interval = np.arange(share.shape[1]) + 0.5
    mean, log_mean, log_sd = share @ interval, share @ np.log(interval), _sd(share, np.log(interval))
    variation = np.log(_sd(share, interval) / mean + 1e-3)
    entropy = -(share * np.log(share + SMALL)).sum(axis=1)
    quantiles = [np.log((cumulative < part).sum(axis=1) + 0.5) for part in QUANTILES]
    return views, np.stack([log_mean, log_sd, variation, entropy, *quantiles], axis=1)


def _of_acg(prepared: Curves, raw: Curves) -> tuple[dict[str, Curves], Curves]:
    """Lag 0 stands in the middle; both sides are taken together, for in some files they differ."""
    middle = raw.shape[1] // 2
    width = raw.shape[1] - middle - 1
    sides = raw[:, middle + 1 :] + raw[:, middle - width : middle][:, ::-1]
    rate = sides / np.maximum(sides.mean(axis=1, keepdims=True), SMALL)
    views = {"lags": prepared, "near": np.log(_widening(rate) + 0.05)}
    far = rate[:, width // 2 :].mean(axis=1)
    first, then = max(1, width // 20), max(2, width // 5)
    shares = [part.mean(axis=1) / np.maximum(far, 1e-3) for part in (rate[:, :first], rate[:, first:then])]
    quiet = (rate.cumsum(axis=1) < 0.1 * rate.sum(axis=1, keepdims=True)).sum(axis=1)
    return views, np.stack([*(np.log(np.array([*shares, far]) + 0.01)), rate.argmax(axis=1), quiet], axis=1)


MAKERS = {"wave": _of_wave, "isi": _of_isi, "acg": _of_acg}  # in the order of the published modalities


def _centred(wave: Curves) -> Curves:
    """Moved so that the greatest deviation from the median stands in the middle; the ends are drawn out."""
    samples = wave.shape[1]
    peak = np.abs(wave - np.median(wave, axis=1, keepdims=True)).argmax(axis=1)
    place = np.arange(samples) + peak[:, None] - samples // 2
    return np.take_along_axis(wave, np.clip(place, 0, samples - 1), axis=1)


def _widening(histogram: Curves) -> Curves:
    """Means over bins whose edges grow geometrically."""
    edges = np.unique(np.geomspace(1, histogram.shape[1] + 1, BINS + 1).round().astype(int)) - 1
    return np.stack([histogram[:, a:b].mean(axis=1) for a, b in pairwise(edges.tolist())], axis=1)


def _sd(share: Curves, value: Float[np.ndarray, "_"]) -> Float[np.ndarray, "cell"]:
    mean = share @ value
    return np.sqrt((share * (value - mean[:, None]) ** 2).sum(axis=1))


def _run(above: Bool[np.ndarray, "cell _"]) -> Int[np.ndarray, "cell"]:
    """How long it stays true from the start."""
    return above.cumprod(axis=1).sum(axis=1)


def _unit(rows: Curves) -> Curves:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), SMALL)


def _among(units: int, at: Int[np.ndarray, "some"], values: Float[np.ndarray, "some _"]) -> Curves:
    """Rows of those units that have them, NaN for the others."""
    whole = np.full((units, values.shape[1]), np.nan)
    whole[at] = values
    return whole
