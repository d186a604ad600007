"""Spike times in bins that hold 0 or 1, and their packing into bits, for recordings and for ``data_prep``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxephys.schemas.spike_sources import SpikeTrains
from jaxephys.schemas.storage import DataError

# A time such as 0.029 s is 28.999999999999996 ms: times this much of a bin before an edge are counted as after it.
EDGE_TOLERANCE = 1e-6
MAX_SECONDS = 3 * 86_400.0  # longer than any recording in bins of 1 ms: such times are milliseconds or samples


def bin_trains(
    trains: SpikeTrains, start: float, stop: float | None, bin_ms: float, outside: str
) -> tuple[list[np.ndarray], int, list[str]]:
    """Bin the spikes of a recording.

    Parameters
    ----------
    trains : SpikeTrains
        Spike times in seconds.
    start : float
        Start of the first bin in seconds, on the clock of the times.
    stop : float or None
        End of the recording in seconds, on the same clock; ``None`` for the end of the bin of the last spike.
    bin_ms : float
        Width of a bin in ms.
    outside : {"raise", "drop"}
        Whether spikes before the start or after the end are an error, or are left out.

    Returns
    -------
    occupied : list of n_units ndarrays of int64 of shape (n_occupied,)
        Bins in which each unit fires, ascending, each once.
    bins : int
        Number of whole bins.
    notes : list of str
        How many spikes were left out, and how many share a bin with another of their unit.

    Raises
    ------
    DataError
        If a time is not finite or outside of the recording, a bin has no width, or the recording is empty or would last longer than
        three days.
    """
    if outside not in ("raise", "drop"):
        raise DataError(f"outside is {outside!r}: give 'raise' or 'drop'")
    if not (np.isfinite(bin_ms) and bin_ms > 0):
        raise DataError(f"a bin of {bin_ms:g} ms has no width: give bin_ms above 0")
    times = [np.asarray(some, np.float64) - start for some in trains.times]
    for unit, some in zip(trains.unit, times, strict=True):
        if not np.isfinite(some).all():
            raise DataError(f"unit {unit} has a spike time that is not finite: remove it")
    last = max((float(some.max()) for some in times if some.size), default=0.0)
    length = last if stop is None else stop - start
    if length > MAX_SECONDS:
        raise DataError(
            f"the recording would last {length / 86_400:.1f} days: give times in seconds, not in ms or samples"
        )
    if stop is not None and not length > 0:
        raise DataError(f"the recording ends at {stop:g} s and starts at {start:g} s: give an end after its start")
    width = bin_ms / 1000
    count = int(bin_indices(np.array(length), width)) + (stop is None)
    notes, occupied, left_out, after, shared = [], [], 0, 0, 0
    for unit, some in zip(trains.unit, times, strict=True):
        bins = bin_indices(some, width)
        wrong = (bins < 0) | (some > length + width * 1e-6)
        if wrong.any() and outside == "raise":
            raise DataError(
                f"unit {unit} has a spike at {start + some[wrong.argmax()]:g} s, outside of the recording from {start:g} to "
                f"{start + length:g} s: correct start and duration, or leave such spikes out with outside='drop'"
            )
        inside = bins[~wrong & (bins < count)]
        occupied.append(np.unique(inside))
        left_out += int(wrong.sum())
        after += int((~wrong & (bins >= count)).sum())
        shared += inside.size - occupied[-1].size
    for number, text in (
        (left_out, "outside of the recording left out"),
        (after, "after the last whole bin left out"),
        (shared, f"share a bin of {bin_ms:g} ms with another of their unit and count once"),
    ):
        notes += [f"{number} spikes {text}"] if number else []
    return occupied, count, notes


def bin_indices(times: np.ndarray, width: float) -> np.ndarray:
    """Return the bin of each time.

    Parameters
    ----------
    times : ndarray of float of any shape
        Times from the start of the first bin.
    width : float
        Width of a bin in the unit of the times.

    Returns
    -------
    ndarray of int64 of the same shape
        Bin k holds the times from ``k * width`` to less than ``(k + 1) * width``. A time within a millionth of a bin before
        an edge counts as on the edge, since rounding must not decide.

    Examples
    --------
    >>> import numpy as np
    >>> bin_indices(np.array([0.0, 0.0009, 0.029]), 0.001).tolist()
    [0, 0, 29]
    """
    return np.asarray(np.floor(times / width + EDGE_TOLERANCE), np.int64)


def pack_bins(occupied: Sequence[np.ndarray], bins: int) -> np.ndarray:
    """Pack the bins in which units fire as :class:`jaxephys.schemas.recording.Recording` stores them.

    Parameters
    ----------
    occupied : sequence of n_units ndarrays of int64 of shape (n_occupied,)
        Bins in which each unit fires, each at least 0 and below ``bins``.
    bins : int
        Number of bins.

    Returns
    -------
    ndarray of uint8 of shape (bins, ceil(n_units / 8))
        Unit u is bit u % 8, the lowest first, of byte u // 8.

    Examples
    --------
    >>> import numpy as np
    >>> pack_bins([np.array([0, 2]), np.array([2])], 3).ravel().tolist()
    [1, 0, 3]
    """
    bits = np.zeros((bins, -(-len(occupied) // 8)), np.uint8)
    for unit, indices in enumerate(occupied):
        bits[indices, unit // 8] |= np.uint8(1 << unit % 8)
    return bits
