"""Choosing training, validation and test bins, and finding bins that are copies of bins of another split.

What valid splits are is checked by :func:`jaxephys.schemas.recording.check_splits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxephys.schemas.recording import SPLITS
from jaxephys.schemas.storage import DataError

CHUNK = 1000  # bins of a chunk whose copies are searched for
MIN_ACTIVE_BINS = 20  # bins with spikes that a chunk must have: silence is not a copy of silence
MULTIPLIER = 0x9E3779B97F4A7C15  # of the window hash; odd, so that it has an inverse modulo 2**64


def splits_by_minutes(bins: int, bin_ms: float, minutes: Sequence[float], gap: float) -> np.ndarray:
    """Choose consecutive splits from the start of a recording.

    Parameters
    ----------
    bins : int
        Number of bins of the recording.
    bin_ms : float
        Width of a bin in ms.
    minutes : sequence of 3 float
        Durations of train, validation and test in minutes.
    gap : float
        Seconds left out at the start of validation and of test. They are part of the durations, so that 5, 2.5 and 2.5
        minutes fit into a recording of ten.

    Returns
    -------
    ndarray of int64 of shape (3, 2)
        [start, stop) in bins of train, validation and test.

    Raises
    ------
    DataError
        If a duration is not positive, or the recording is shorter than all of them.

    Examples
    --------
    >>> splits_by_minutes(600_000, 1.0, (5, 2.5, 2.5), gap=5.0).tolist()
    [[0, 300000], [305000, 450000], [455000, 600000]]
    """
    if min(minutes) <= 0 or gap < 0:
        raise DataError(
            f"splits of {_list_minutes(minutes)} minutes with a gap of {gap:g} s: give minutes above 0, a gap of 0 or more"
        )
    edges = np.rint(np.cumsum([0.0, *minutes]) * 60_000 / bin_ms).astype(np.int64)
    if edges[-1] > bins:
        available = bins * bin_ms / 60_000
        fitting = " ".join(f"{part * available / sum(minutes):.3g}" for part in minutes)
        raise DataError(
            f"the recording has {available:.3g} minutes and splits of {_list_minutes(minutes)} minutes need {sum(minutes):g}: give "
            f"shorter ones (--minutes {fitting}), or --train, --validation and --test in bins"
        )
    starts = edges[:-1] + np.array([0, 1, 1]) * round(gap * 1000 / bin_ms)
    return np.stack([starts, edges[1:]], axis=1)


class Repeat(NamedTuple):
    """A chunk of bins that occurs in two splits, or twice in one.

    Parameters
    ----------
    first : str
        Split of the first occurrence.
    first_bin : int
        Bin where it begins.
    second : str
        Split of the second occurrence.
    second_bin : int
        Bin where that begins.
    bins : int
        Number of bins.
    """

    first: str
    first_bin: int
    second: str
    second_bin: int
    bins: int

    def __str__(self) -> str:
        return f"{self.bins} bins of {self.second} from {self.second_bin} occur in {self.first} from {self.first_bin} as well"


def find_repeats(packed: np.ndarray, splits: np.ndarray, *, within: bool = False) -> list[Repeat]:
    """Find chunks of bins that occur in two splits.

    Parameters
    ----------
    packed : ndarray of uint8 of shape (n_bins, n_bytes)
        Packed spikes.
    splits : ndarray of int of shape (3, 2)
        [start, stop) in bins of train, validation and test.
    within : bool, default False
        Whether to search for chunks that occur twice in one split, too.

    Returns
    -------
    list of Repeat
        One entry per chunk of 1,000 bins (or of the shortest split) with enough spikes.

    Notes
    -----
    Compared are the numbers of units that fire in each bin, so that a copy is found at any bin and in any
    order of its units. Windows are compared by a rolling hash, sum_j c[i + j] r^j modulo 2^64, and then bin by bin.
    """
    counts = np.bitwise_count(packed).sum(axis=1, dtype=np.uint64)
    size = min(CHUNK, int(np.diff(splits).min()))
    found = []
    for a, first in enumerate(SPLITS):
        for b in range(a if within else a + 1, len(SPLITS)):
            pairs = _find_copies(counts[slice(*splits[a])], counts[slice(*splits[b])], size, same=a == b)
            found += [Repeat(first, int(splits[a, 0]) + i, SPLITS[b], int(splits[b, 0]) + j, size) for i, j in pairs]
    return found


def _list_minutes(minutes: Sequence[float]) -> str:
    return " / ".join(f"{part:g}" for part in minutes)


def _find_copies(one: np.ndarray, other: np.ndarray, size: int, *, same: bool) -> list[tuple[int, int]]:
    """Return (index in one, index in other) of the chunks of ``other`` that equal a window of ``one``."""
    hashes = _window_hashes(one, size)
    order = np.argsort(hashes, kind="stable")
    starts = np.arange(0, len(other) - size + 1, size)
    chunks = _window_hashes(other, size)[starts]
    left = np.searchsorted(hashes[order], chunks, side="left")
    right = np.searchsorted(hashes[order], chunks, side="right")
    found = []
    for start, low, high in zip(starts.tolist(), left.tolist(), right.tolist(), strict=True):
        chunk = other[start : start + size]
        if np.count_nonzero(chunk) < MIN_ACTIVE_BINS:
            continue
        candidates = (int(i) for i in order[low:high] if not (same and i >= start))
        index = next((i for i in candidates if np.array_equal(one[i : i + size], chunk)), None)
        if index is not None:
            found.append((index, start))
    return found


def _window_hashes(counts: np.ndarray, size: int) -> np.ndarray:
    """Return the uint64 hash of the window that begins at each bin.

    It is computed from differences of the running sum of c[i] r^i, times r^-i.
    """
    inverse = np.uint64(pow(MULTIPLIER, -1, 2**64))
    power, inverse_power = (np.cumprod(np.full(len(counts), x, np.uint64)) for x in (np.uint64(MULTIPLIER), inverse))
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(counts * power, dtype=np.uint64)])
    return (running[size:] - running[:-size]) * inverse_power[: len(counts) - size + 1]
