"""Raster: spike times of one recording, or of its parts one after the other, in bins that hold 0 or 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from data_prep.spikes.spike_times import SpikesError, Trains

# A time such as 0.029 s is 28.999999999999996 ms: what is this much of a bin before an edge lies beyond it.
EDGE = 1e-6
Range = tuple[float, float]


@dataclass(frozen=True)
class Raster:
    """The bins in which each unit fires, ascending and each once."""

    unit: Sequence[str]
    spikes: Sequence[np.ndarray]  # int64, one array a unit
    bins: int
    bin_ms: float
    seams: tuple[int, ...] = ()  # the first bin of each part but the first
    about: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def counts(self, start: int, stop: int) -> np.ndarray:
        """How often each unit fires in [start, stop)."""
        return np.array([np.diff(np.searchsorted(own, (start, stop)))[0] for own in self.spikes], np.int64)

    def packed(self) -> np.ndarray:
        """uint8 [bin, ceil(units / 8)]: unit u is bit u % 8, the lowest first, of byte u // 8."""
        bits = np.zeros((self.bins, -(-len(self.unit) // 8)), np.uint8)
        for u, own in enumerate(self.spikes):
            bits[own, u // 8] |= np.uint8(1 << u % 8)
        return bits


def raster_of(parts: Sequence[Trains], bin_ms: float) -> Raster:
    """Bin each part and join them in time; they must be of the same units."""
    if not bin_ms > 0:
        raise SpikesError(f"a bin of {bin_ms:g} ms has no width: give --bin-ms above 0")
    first = parts[0]
    for part in parts[1:]:
        if list(part.unit) != list(first.unit):
            raise SpikesError(
                f"the parts have {len(first.unit)} and {len(part.unit)} units, or others: join files of the same units only"
            )
    notes = [note for part in parts for note in part.notes]
    binned = [in_bins(part, bin_ms, notes) for part in parts]
    starts = np.cumsum([0, *(bins for _, bins in binned)]).tolist()
    spikes = [
        np.concatenate([own + start for own, start in zip(unit, starts[:-1], strict=True)])
        for unit in zip(*(own for own, _ in binned), strict=True)
    ]
    return Raster(first.unit, spikes, starts[-1], bin_ms, tuple(starts[1:-1]), first.about, notes)


def in_bins(part: Trains, bin_ms: float, notes: list[str]) -> tuple[list[np.ndarray], int]:
    """The bins of each unit, and how many whole bins there are."""
    raw = [np.floor(own / bin_ms + EDGE).astype(np.int64) for own in part.times]
    if part.length is None:
        bins = 1 + max(int(own[-1]) for own in raw if own.size)
    else:
        bins = int(np.floor(part.length / bin_ms + EDGE))
    inside = [own[own < bins] for own in raw]
    single = [np.unique(own) for own in inside]
    total, late = sum(map(len, raw)), sum(map(len, raw)) - sum(map(len, inside))
    shared = sum(map(len, inside)) - sum(map(len, single))
    if late:
        notes.append(f"{late} spikes after the last whole bin left out")
    if shared:
        notes.append(
            f"{shared} of {total} spikes share a bin of {bin_ms:g} ms with another of their unit and count once"
        )
    return single, bins


def select(
    raster: Raster,
    train: tuple[int, int],
    *,
    skip: int = 0,
    take: int | None = None,
    depth: Range | None = None,
    rate: Range | None = None,
    quality: float | None = None,
) -> Raster:
    """Units within depth (um), with a rate (Hz) of the TRAINING bins in range and of this quality; of these skip some, take some.

    A choice by the rate of the whole recording would be made on test bins too.
    """
    kept = np.ones(len(raster.unit), bool)
    if depth is not None:
        kept &= between(known(raster, "depth"), depth)
    if quality is not None:
        kept &= known(raster, "quality") >= quality
    if rate is not None:
        seconds = (train[1] - train[0]) * raster.bin_ms / 1000
        kept &= between(raster.counts(*train) / seconds, rate)
    rows = np.flatnonzero(kept)
    asked = f"skip {skip}, take {take}" if take is not None else f"skip {skip}"
    if min(skip, 0 if take is None else take - 1) < 0:
        raise SpikesError(f"{asked} is no choice of units: skip 0 or more and take 1 or more")
    if skip + (take or 1) > len(rows):
        raise SpikesError(
            f"{asked} asks for {skip + (take or 1)} units and the recording has {len(rows)} to choose from: lower --skip or --take"
        )
    rows = rows[skip : None if take is None else skip + take]
    about = {name: values[rows] for name, values in raster.about.items()}
    return replace(raster, unit=[raster.unit[i] for i in rows], spikes=[raster.spikes[i] for i in rows], about=about)


def between(values: np.ndarray, limits: Range) -> np.ndarray:
    return (values >= limits[0]) & (values <= limits[1])


def known(raster: Raster, name: str) -> np.ndarray:
    if name not in raster.about:
        raise SpikesError(f"the recording does not say the {name} of its units: choose them without --{name}")
    return raster.about[name]
