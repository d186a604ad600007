"""BinnedSpikes: spike times in bins that hold 0 or 1. Start with :func:`bin_spikes` and :func:`select_units`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from data_prep.spikes.spike_times import SpikeTimes
from jaxephys.schemas.spike_bins import EDGE_TOLERANCE, bin_indices, pack_bins
from jaxephys.schemas.storage import DataError

Range = tuple[float, float]


@dataclass(frozen=True)
class BinnedSpikes:
    """The bins in which each unit fires.

    Parameters
    ----------
    unit : sequence of str of length n_units
        Identifiers.
    spikes : sequence of ndarray of int64 of shape (n_occupied_bins,)
        Bins in which each unit fires, ascending, each once.
    bins : int
        Number of bins.
    bin_ms : float
        Width of a bin in ms.
    seams : tuple of int, optional
        First bin of each joined part but the first.
    about : mapping of str to ndarray of shape (n_units,), optional
        Properties of the units: ``"depth"`` in um, ``"quality"``.
    notes : sequence of str, optional
        What was left out, and what may be wrong.
    """

    unit: Sequence[str]
    spikes: Sequence[np.ndarray]
    bins: int
    bin_ms: float
    seams: tuple[int, ...] = ()
    about: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def packed(self) -> np.ndarray:
        """Pack the spikes as :class:`jaxephys.schemas.recording.Recording` stores them.

        Returns
        -------
        ndarray of uint8 of shape (n_bins, ceil(n_units / 8))
            Unit u is bit u % 8, the lowest first, of byte u // 8.
        """
        return pack_bins(self.spikes, self.bins)


def bin_spikes(parts: Sequence[SpikeTimes], bin_ms: float) -> BinnedSpikes:
    """Bin the parts of a recording and join them in time.

    Parameters
    ----------
    parts : sequence of SpikeTimes
        Consecutive parts with the same units.
    bin_ms : float
        Width of a bin in ms.

    Returns
    -------
    BinnedSpikes
        The bins in which each unit fires. Spikes after the last whole bin of a part, and those that share a bin with
        another of their unit, are left out and counted in the notes.

    Raises
    ------
    DataError
        If the parts have different units, or the width is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> part = SpikeTimes(["0", "1"], [np.array([0.5, 7.0]), np.array([3.0, 3.5])], length=10.0)
    >>> binned = bin_spikes([part, part], bin_ms=2.0)
    >>> [bins.tolist() for bins in binned.spikes], binned.seams
    ([[0, 3, 5, 8], [1, 6]], (5,))
    """
    if not bin_ms > 0:
        raise DataError(f"a bin of {bin_ms:g} ms has no width: give --bin-ms above 0")
    first = parts[0]
    for part in parts[1:]:
        if list(part.unit) != list(first.unit):
            raise DataError(
                f"the parts have {len(first.unit)} and {len(part.unit)} units, or others: join files of the same units only"
            )
    notes = [note for part in parts for note in part.notes]
    binned = [_bin_part(part, bin_ms, notes) for part in parts]
    starts = np.cumsum([0, *(bins for _, bins in binned)]).tolist()
    spikes = [
        np.concatenate([occupied + start for occupied, start in zip(unit, starts[:-1], strict=True)])
        for unit in zip(*(occupied for occupied, _ in binned), strict=True)
    ]
    return BinnedSpikes(first.unit, spikes, starts[-1], bin_ms, tuple(starts[1:-1]), first.about, notes)


def select_units(
    binned: BinnedSpikes,
    train: tuple[int, int],
    *,
    skip: int = 0,
    take: int | None = None,
    depth: Range | None = None,
    rate: Range | None = None,
    quality: float | None = None,
) -> BinnedSpikes:
    """Select units by depth, firing rate, quality and position.

    Parameters
    ----------
    binned : BinnedSpikes
        All units.
    train : (int, int)
        [start, stop) of the training bins. Only these determine the rate: a choice by the rate of the whole recording
        would depend on test bins.
    skip : int, default 0
        Units to leave out first, among those within the limits.
    take : int, optional
        Units to take after these; all by default.
    depth : (float, float), optional
        Lowest and highest depth in um.
    rate : (float, float), optional
        Lowest and highest rate in Hz.
    quality : float, optional
        Lowest quality.

    Returns
    -------
    BinnedSpikes
        The selected units.

    Raises
    ------
    DataError
        If fewer units are left than requested, or depth or quality are not known.
    """
    kept = np.ones(len(binned.unit), bool)
    if depth is not None:
        kept &= _is_within(_known_column(binned, "depth"), depth)
    if quality is not None:
        kept &= _known_column(binned, "quality") >= quality
    if rate is not None:
        seconds = (train[1] - train[0]) * binned.bin_ms / 1000
        counts = [np.diff(np.searchsorted(occupied, train))[0] for occupied in binned.spikes]
        kept &= _is_within(np.array(counts, np.int64) / seconds, rate)
    rows = np.flatnonzero(kept)
    request = f"skip {skip}, take {take}" if take is not None else f"skip {skip}"
    if min(skip, 0 if take is None else take - 1) < 0:
        raise DataError(f"{request} selects no units: skip 0 or more and take 1 or more")
    if skip + (take or 1) > len(rows):
        raise DataError(
            f"{request} needs {skip + (take or 1)} units and the recording has {len(rows)} to choose from: lower --skip or --take"
        )
    rows = rows[skip : None if take is None else skip + take]
    about = {name: values[rows] for name, values in binned.about.items()}
    return replace(binned, unit=[binned.unit[i] for i in rows], spikes=[binned.spikes[i] for i in rows], about=about)


def _bin_part(part: SpikeTimes, bin_ms: float, notes: list[str]) -> tuple[list[np.ndarray], int]:
    """Return the bins of each unit and the number of whole bins; append to ``notes`` what was left out."""
    all_bins = [bin_indices(times, bin_ms) for times in part.times]
    if part.length is None:
        count = 1 + max(int(bins[-1]) for bins in all_bins if bins.size)
    else:
        count = int(np.floor(part.length / bin_ms + EDGE_TOLERANCE))
    inside = [bins[bins < count] for bins in all_bins]
    occupied = [np.unique(bins) for bins in inside]
    n_all, n_inside, n_occupied = (sum(map(len, units)) for units in (all_bins, inside, occupied))
    if n_all > n_inside:
        notes.append(f"{n_all - n_inside} spikes after the last whole bin left out")
    if n_inside > n_occupied:
        notes.append(
            f"{n_inside - n_occupied} of {n_all} spikes share a bin of {bin_ms:g} ms with another of their unit and count once"
        )
    return occupied, count


def _is_within(values: np.ndarray, limits: Range) -> np.ndarray:
    return (values >= limits[0]) & (values <= limits[1])


def _known_column(binned: BinnedSpikes, name: str) -> np.ndarray:
    if name not in binned.about:
        raise DataError(f"the recording does not contain the {name} of its units: select them without --{name}")
    return binned.about[name]
