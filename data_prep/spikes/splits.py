"""Splits: which bins are for training, validation and test. Contiguous, apart, never over a seam, and none a copy of another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from data_prep.spikes.spike_times import SpikesError

NAMES = ("train", "validation", "test")
CHUNK = 1000  # bins of a chunk that is looked for elsewhere
LEAST = 20  # bins with spikes that a chunk must have to be known again
ODD = 0x9E3779B97F4A7C15  # an odd multiplier, so that it has an inverse modulo 2**64


def by_minutes(bins: int, bin_ms: float, minutes: Sequence[float], gap: float) -> np.ndarray:
    """int64 [split, 2]: slots of these minutes from the start, the later two begun ``gap`` seconds late.

    The gap is part of the slot, so that 5, 2.5 and 2.5 minutes fit into a recording of ten.
    """
    if min(minutes) <= 0 or gap < 0:
        raise SpikesError(
            f"splits of {plain(minutes)} minutes with a gap of {gap:g} s: give minutes above 0, a gap of 0 or more"
        )
    edges = np.rint(np.cumsum([0.0, *minutes]) * 60_000 / bin_ms).astype(np.int64)
    if edges[-1] > bins:
        has = bins * bin_ms / 60_000
        fits = " ".join(f"{part * has / sum(minutes):.3g}" for part in minutes)
        raise SpikesError(
            f"the recording has {has:.3g} minutes and splits of {plain(minutes)} minutes need {sum(minutes):g}: give shorter ones "
            f"(--minutes {fits}), or --train, --validation and --test in bins"
        )
    starts = edges[:-1] + np.array([0, 1, 1]) * round(gap * 1000 / bin_ms)
    return np.stack([starts, edges[1:]], axis=1)


def plain(minutes: Sequence[float]) -> str:
    return " / ".join(f"{part:g}" for part in minutes)


def checked(splits: np.ndarray, bins: int, seams: Sequence[int] = ()) -> np.ndarray:
    """The same splits, if they lie in the recording, apart from one another and between its seams."""
    said = {name: f"{name} [{start}, {stop})" for name, (start, stop) in zip(NAMES, splits.tolist(), strict=True)}
    for name, (start, stop) in zip(NAMES, splits.tolist(), strict=True):
        if not 0 <= start < stop:
            raise SpikesError(f"{said[name]} holds no bins: give its start before its stop, and a shorter gap")
        if stop > bins:
            raise SpikesError(f"{said[name]} goes beyond the {bins} bins of the recording: end it there or before")
        for seam in seams:
            if start < seam < stop:
                raise SpikesError(
                    f"{said[name]} goes over the seam of two files at bin {seam}: end it there, or begin there"
                )
    order = np.argsort(splits[:, 0])
    for one, other in pairwise(order.tolist()):
        if splits[one, 1] > splits[other, 0]:
            raise SpikesError(f"{said[NAMES[one]]} and {said[NAMES[other]]} overlap: a bin belongs to one split only")
    return splits


def split_hash(splits: np.ndarray, packed: np.ndarray) -> str:
    """SHA-256 over the splits (int64, little-endian, by row), then over the packed bits of train, validation and test."""
    digest = hashlib.sha256(np.ascontiguousarray(splits, "<i8").tobytes())
    for start, stop in splits.tolist():
        digest.update(np.ascontiguousarray(packed[start:stop]).tobytes())
    return digest.hexdigest()


class Repeat(NamedTuple):
    """``bins`` bins of split ``second`` from ``at`` that stand in split ``first`` from ``earlier`` as well."""

    first: str
    earlier: int
    second: str
    at: int
    bins: int

    def __str__(self) -> str:
        return f"{self.bins} bins of {self.second} from {self.at} stand in {self.first} from {self.earlier} as well"


def repeats(packed: np.ndarray, splits: np.ndarray, *, within: bool = False) -> list[Repeat]:
    """Chunks that stand in two splits, wherever they begin and in whatever order their units; ``within`` also twice in one.

    Compared are the numbers of units that fire in each bin, which no order of units changes.
    """
    counts = np.bitwise_count(packed).sum(axis=1, dtype=np.uint64)
    size = min(CHUNK, int(np.diff(splits).min()))
    found = []
    for a, first in enumerate(NAMES):
        for b in range(a if within else a + 1, len(NAMES)):
            pairs = copies(counts[slice(*splits[a])], counts[slice(*splits[b])], size, same=a == b)
            found += [Repeat(first, int(splits[a, 0]) + i, NAMES[b], int(splits[b, 0]) + j, size) for i, j in pairs]
    return found


def copies(one: np.ndarray, other: np.ndarray, size: int, *, same: bool) -> list[tuple[int, int]]:
    """Places (in one, in other) of the chunks of ``other`` that some window of ``one`` equals.

    The hash of a window is sum_j c[i + j] r^j modulo 2^64, from differences of the running sum of c[i] r^i times r^-i.
    """
    hashed = window_hashes(one, size)
    order = np.argsort(hashed, kind="stable")
    starts = np.arange(0, len(other) - size + 1, size)
    chunks = window_hashes(other, size)[starts]
    left = np.searchsorted(hashed[order], chunks, side="left")
    right = np.searchsorted(hashed[order], chunks, side="right")
    found = []
    for start, low, high in zip(starts.tolist(), left.tolist(), right.tolist(), strict=True):
        chunk = other[start : start + size]
        if np.count_nonzero(chunk) < LEAST:
            continue  # silence is no copy of silence
        places = (int(i) for i in order[low:high] if not (same and i >= start))
        place = next((i for i in places if np.array_equal(one[i : i + size], chunk)), None)
        if place is not None:
            found.append((place, start))
    return found


def window_hashes(counts: np.ndarray, size: int) -> np.ndarray:
    """uint64: the hash of the window that begins at each place."""
    inverse = np.uint64(pow(ODD, -1, 2**64))
    power, back = (np.cumprod(np.full(len(counts), x, np.uint64)) for x in (np.uint64(ODD), inverse))
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(counts * power, dtype=np.uint64)])
    return (running[size:] - running[:-size]) * back[: len(counts) - size + 1]
