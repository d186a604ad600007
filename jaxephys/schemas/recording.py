"""Recording: the spikes of some units in time bins, one bit each, with training, validation and test splits.

:meth:`Recording.read` reads what ``data_prep`` has built, :meth:`Recording.from_array` makes a recording from zeros and
ones, :meth:`Recording.from_times` from spike times in seconds, and :func:`as_recording` from whatever holds a recording, such as a
SpikeInterface sorting. :meth:`Recording.write` stores one. A stored recording is one file, NAME.npz::

    schema        "jaxephys spikes 1"
    name, domain  text; the domain is "in vitro", "in vivo" or anything else
    packed        uint8 [bin, ceil(units / 8)]: unit u is bit u % 8, the lowest first, of byte u // 8
    units         number of units; unit_id: text [unit]; bin_ms: width of a bin in ms
    splits        int64 [3, 2]: [start, stop) in bins of train, validation and test; they do not overlap
    split_sha256  hash of the splits and of their bits, see split_hash
    provenance    JSON: where the values come from, the seams of joined files and notes

The bits stay packed until they are on the device, which saves seven eighths of memory and transfer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt

from jaxephys.schemas.spike_bins import bin_trains, pack_bins
from jaxephys.schemas.spike_sources import (
    SpikeTrains,
    is_analyzer,
    is_sorting,
    is_ts_group,
    read_mapping,
    read_sorter_folder,
    read_sorting,
    read_spikes,
    read_ts_group,
)
from jaxephys.schemas.storage import DataError, check_rows, read_npz, write_npz

SCHEMA = "jaxephys spikes 1"
KEYS = ("name", "domain", "packed", "units", "unit_id", "bin_ms", "splits", "split_sha256")
SPLITS = ("train", "validation", "test")
DEFAULT_SHARES = (0.5, 0.25, 0.25)  # splits of an array that comes without them
DEFAULT_GAP = 0.01  # of the bins, between two of these splits
UNPACKED_BINS = 1 << 16  # bins that are unpacked at a time


@dataclass(frozen=True)
class Recording:
    """Spikes of a population in packed time bins, with three splits.

    Parameters
    ----------
    name : str
        Name of the recording and of its file.
    domain : str
        "in vitro", "in vivo" or anything else.
    packed : ndarray of uint8 of shape (n_bins, ceil(n_units / 8))
        Whether each unit fires in each bin, eight units per byte, the lowest bit first
        (``numpy.packbits(spikes, axis=1, bitorder="little")``). There is at least one spike.
    units : int
        Number of units.
    unit_id : ndarray of str of shape (n_units,)
        Identifiers; no two units have the same.
    bin_ms : float
        Width of a bin in ms.
    splits : ndarray of int of shape (3, 2)
        First bin and the bin after the last of train, validation and test, which do not overlap.
    provenance : mapping, optional
        Where the spikes come from; anything that JSON stores. ``"seams"`` lists the bins where joined files begin.

    Raises
    ------
    DataError
        If shapes do not agree, there is no spike, an identifier occurs twice, or splits overlap, leave the recording or
        contain a seam.

    Examples
    --------
    >>> import numpy as np
    >>> spikes = np.random.default_rng(0).random((1000, 10)) < 0.02
    >>> recording = Recording.from_array(spikes, name="slice", domain="in vitro")
    >>> recording
    Recording('slice', 10 units, 1000 bins of 1 ms, 1 s)
    >>> recording.packed.shape, recording.span("validation")
    ((1000, 2), (510, 750))
    """

    # Arrays may come from outside: the checks below report what is wrong, so the annotations name no dimensions.
    name: str
    domain: str
    packed: np.ndarray
    units: int
    unit_id: np.ndarray
    bin_ms: float
    splits: np.ndarray
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_bits(self)
        check_splits(self.splits, len(self.packed), self.seams, self.name)

    @classmethod
    def read(cls, path: str | Path) -> Recording:
        """Read a recording.

        Parameters
        ----------
        path : str or Path
            The NAME.npz that ``data_prep`` or :meth:`write` has written.

        Returns
        -------
        Recording
            The recording.

        Raises
        ------
        DataError
            If there is no such file, or it is damaged, has another schema or was changed after it was written.
        """
        stored = read_npz(path, "recording", SCHEMA, KEYS)
        recording = cls(
            name=str(stored["name"]),
            domain=str(stored["domain"]),
            packed=stored["packed"],
            units=int(stored["units"]),
            unit_id=stored["unit_id"],
            bin_ms=float(stored["bin_ms"]),
            splits=stored["splits"],
            provenance=json.loads(str(stored.get("provenance", "{}"))),
        )
        if recording.sha256 != str(stored["split_sha256"]):
            raise DataError(f"{path} was changed after it was written (the hash of its splits differs): build it again")
        return recording

    @classmethod
    def from_array(
        cls,
        spikes: np.ndarray,
        *,
        bin_ms: float = 1.0,
        name: str = "spikes",
        domain: str = "",
        unit_id: Sequence[str] | None = None,
        splits: np.ndarray | Sequence[Sequence[int]] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Recording:
        """Make a recording from an array.

        Parameters
        ----------
        spikes : array-like of shape (n_bins, n_units)
            1 where a unit fires in a bin, 0 elsewhere.
        bin_ms : float, default 1.0
            Width of a bin in ms.
        name : str, default "spikes"
            Name of the recording.
        domain : str, optional
            "in vitro", "in vivo" or anything else.
        unit_id : sequence of str of length n_units, optional
            Identifiers; "0", "1", ... by default.
        splits : array-like of int of shape (3, 2), optional
            [start, stop) in bins of train, validation and test. By default 50, 25 and 25 % of the bins in order of
            time; the first 1 % of the bins at the start of validation and of test is left out.
        provenance : mapping, optional
            Where the spikes come from.

        Returns
        -------
        Recording
            The recording.

        Raises
        ------
        DataError
            If the array is not two-dimensional, has more units than bins, which indicates units x bins, holds anything but 0
            and 1, or the splits are invalid.

        Examples
        --------
        >>> import numpy as np
        >>> recording = Recording.from_array(np.eye(200, 3), bin_ms=0.5, splits=[[0, 2], [2, 3], [3, 200]])
        >>> recording.counts("train").tolist()
        [1, 1, 0]
        """
        spikes = np.asarray(spikes)
        if spikes.ndim != 2 or not spikes.size:
            raise DataError(f"spikes have the shape {spikes.shape}: give bins x units, at least one of each")
        wrong = (spikes != 0) & (spikes != 1)
        if wrong.any():
            where = np.unravel_index(int(wrong.argmax()), spikes.shape)
            raise DataError(
                f"bin {where[0]} of unit {where[1]} holds {spikes[where]}: give 0 or 1, and a count above 1 as 1 or in narrower bins"
            )
        bins, units = spikes.shape
        if units > bins:
            raise DataError(
                f"spikes have {bins} bins of {units} units, fewer bins than units: give bins x units, here perhaps spikes.T"
            )
        names = np.array([str(unit) for unit in (range(units) if unit_id is None else unit_id)])
        bounds = _default_splits(bins) if splits is None else np.asarray(splits)
        packed = np.packbits(spikes.astype(bool), axis=1, bitorder="little")
        return cls(name, domain, packed, units, names, float(bin_ms), bounds, dict(provenance or {}))

    @classmethod
    def from_times(
        cls,
        times: Mapping[Any, Any] | SpikeTrains,
        *,
        duration: float | None = None,
        start: float | None = None,
        bin_ms: float = 1.0,
        outside: str = "raise",
        name: str | None = None,
        domain: str = "",
        splits: np.ndarray | Sequence[Sequence[int]] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Recording:
        """Make a recording from spike times in seconds.

        Parameters
        ----------
        times : mapping of unit to array-like of shape (n_spikes,)
            Spike times of each unit in seconds, in any order. Keys become the identifiers, as text; a unit without spikes is kept.
        duration : float, optional
            Length of the recording in seconds. By default it ends with the bin of the last spike.
        start : float, optional
            Start of the recording in seconds, on the clock of the times; 0 by default.
        bin_ms : float, default 1.0
            Width of a bin in ms. Spikes that share a bin with another of their unit count once.
        outside : {"raise", "drop"}, default "raise"
            Whether spikes before the start or after the end are an error, or are left out.
        name : str, optional
            Name of the recording; "spikes" by default.
        domain : str, optional
            "in vitro", "in vivo" or anything else.
        splits : array-like of int of shape (3, 2), optional
            [start, stop) in bins of train, validation and test; by default as in :meth:`from_array`.
        provenance : mapping, optional
            Where the spikes come from. ``"notes"`` is added: how many spikes were left out, and how many share a bin.

        Returns
        -------
        Recording
            The recording.

        Raises
        ------
        DataError
            If there is no spike, times are integers, not finite or outside of the recording, or it would last longer than three
            days, which indicates milliseconds or samples.

        Examples
        --------
        >>> recording = Recording.from_times({"a": [0.0102, 0.5], "b": [0.25]}, duration=2.0)
        >>> recording
        Recording('spikes', 2 units, 2000 bins of 1 ms, 2 s)
        >>> [indices.tolist() for indices in recording.events()], recording.unit_id.tolist()
        ([[10, 250, 500], [0, 1, 0]], ['a', 'b'])
        """
        trains = times if isinstance(times, SpikeTrains) else read_mapping(times)
        first = float(trains.start if start is None else start)
        stop = trains.stop if duration is None else first + float(duration)
        occupied, bins, notes = bin_trains(trains, first, stop, float(bin_ms), outside)
        bounds = _default_splits(bins) if splits is None else np.asarray(splits)
        origin = {"source": trains.source, **(provenance or {})}
        origin["notes"] = [*origin.get("notes", ()), *notes]
        names = np.array(list(trains.unit), str)
        packed = pack_bins(occupied, bins)
        return cls(name or trains.name, domain, packed, len(names), names, float(bin_ms), bounds, origin)

    @classmethod
    def from_spikeinterface(cls, sorting: Any, *, segment_index: int | None = None, **options: Any) -> Recording:
        """Make a recording from a SpikeInterface sorting.

        Parameters
        ----------
        sorting : BaseSorting or SortingAnalyzer
            The sorting. If a recording was registered with it, or for an analyzer, the duration is that of the recording. To take
            some units only: ``sorting.select_units(...)``.
        segment_index : int, optional
            The segment to read; it is needed if there are several.
        **options
            Further arguments of :meth:`from_times`, such as ``duration`` in seconds and ``bin_ms``.

        Returns
        -------
        Recording
            The recording; times count from the first sample of the segment.

        Raises
        ------
        DataError
            If there are several segments and none was chosen, or :meth:`from_times` refuses the times.
        """
        return cls.from_times(read_sorting(sorting, segment_index=segment_index), **options)

    @classmethod
    def from_pynapple(cls, group: Any, **options: Any) -> Recording:
        """Make a recording from a pynapple ``TsGroup``.

        Parameters
        ----------
        group : TsGroup
            Spike times by unit. Its time support is the recording, so that an interval is chosen with ``group.restrict(...)``.
        **options
            Further arguments of :meth:`from_times`, such as ``bin_ms``.

        Returns
        -------
        Recording
            The recording; its first bin begins at the start of the time support.

        Raises
        ------
        DataError
            If the time support has several intervals, or :meth:`from_times` refuses the times.
        """
        return cls.from_times(read_ts_group(group), **options)

    @classmethod
    def from_phy(cls, folder: str | Path, *, good_only: bool = True, **options: Any) -> Recording:
        """Make a recording from a folder that was curated in Phy.

        Parameters
        ----------
        folder : str or Path
            Folder with ``spike_times.npy``, ``spike_clusters.npy``, ``params.py`` and ``cluster_group.tsv``.
        good_only : bool, default True
            Take only clusters of the group "good"; otherwise all that have spikes.
        **options
            Further arguments of :meth:`from_times`. The duration is that of the raw data, if their file is where ``params.py``
            names it; otherwise give ``duration`` in seconds.

        Returns
        -------
        Recording
            The recording; units are named by their cluster.

        Raises
        ------
        DataError
            If a file is missing or damaged, no cluster is good, or :meth:`from_times` refuses the times.
        """
        return cls.from_times(read_sorter_folder(folder, good_only=good_only), **options)

    @classmethod
    def from_kilosort(cls, folder: str | Path, *, good_only: bool = True, **options: Any) -> Recording:
        """Make a recording from a folder that Kilosort has written.

        Parameters
        ----------
        folder : str or Path
            Folder with ``spike_times.npy``, ``spike_clusters.npy``, ``params.py`` and ``cluster_KSLabel.tsv``.
        good_only : bool, default True
            Take only clusters that Kilosort labels "good"; otherwise all that have spikes.
        **options
            Further arguments of :meth:`from_times`; for the duration see :meth:`from_phy`.

        Returns
        -------
        Recording
            The recording; units are named by their cluster.

        Raises
        ------
        DataError
            If a file is missing or damaged, no cluster is good, or :meth:`from_times` refuses the times.
        """
        return cls.from_times(read_sorter_folder(folder, good_only=good_only, kilosort=True), **options)

    def write(self, folder: str | Path) -> Path:
        """Write the recording into a folder, as NAME.npz.

        Parameters
        ----------
        folder : str or Path
            Folder to write into; it is made if it does not exist. A file of this name is replaced in one step, so that
            no reader sees half a file.

        Returns
        -------
        Path
            The path of the file.

        Examples
        --------
        >>> import numpy as np
        >>> from tempfile import mkdtemp
        >>> recording = Recording.from_array(np.eye(200, 3), name="slice", splits=[[0, 2], [2, 3], [3, 200]])
        >>> path = recording.write(mkdtemp())
        >>> path.name, Recording.read(path).sha256 == recording.sha256
        ('slice.npz', True)
        """
        arrays = {
            "schema": SCHEMA,
            "name": self.name,
            "domain": self.domain,
            "packed": self.packed,
            "units": self.units,
            "unit_id": self.unit_id,
            "bin_ms": self.bin_ms,
            "splits": np.asarray(self.splits, np.int64),
            "split_sha256": self.sha256,
            "provenance": json.dumps(dict(self.provenance)),
        }
        return write_npz(Path(folder) / f"{self.name}.npz", arrays)

    def __len__(self) -> int:
        return len(self.packed)

    def __repr__(self) -> str:
        seconds = len(self) * self.bin_ms / 1000
        return f"Recording({self.name!r}, {self.units} units, {len(self)} bins of {self.bin_ms:g} ms, {seconds:.0f} s)"

    @property
    def seams(self) -> tuple[int, ...]:
        """First bin of each joined file but the first."""
        return tuple(self.provenance.get("seams", ()))

    @property
    def sha256(self) -> str:
        """Hash of the splits and of their bits, see :func:`split_hash`."""
        return split_hash(self.splits, self.packed)

    def span(self, split: str) -> tuple[int, int]:
        """Return the bins of a split.

        Parameters
        ----------
        split : {"train", "validation", "test"}
            The split.

        Returns
        -------
        start, stop : int
            First bin, and the bin after the last.

        Raises
        ------
        DataError
            If there is no such split.
        """
        if split not in SPLITS:
            raise DataError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}")
        start, stop = self.splits[SPLITS.index(split)].tolist()
        return start, stop

    def bits(self, start: int, stop: int) -> UInt[np.ndarray, "time unit"]:
        """Unpack some bins on the host.

        Parameters
        ----------
        start, stop : int
            First bin, and the bin after the last.

        Returns
        -------
        ndarray of uint8 of shape (stop - start, n_units)
            1 where a unit fires, 0 elsewhere.
        """
        return np.unpackbits(self.packed[start:stop], axis=1, count=self.units, bitorder="little")

    def events(
        self, start: int = 0, stop: int | None = None
    ) -> tuple[Int[np.ndarray, "spike"], Int[np.ndarray, "spike"]]:
        """Return the bin and the unit of every spike.

        Parameters
        ----------
        start : int, default 0
            First bin.
        stop : int, optional
            Bin after the last; the end of the recording by default.

        Returns
        -------
        bins : ndarray of int64 of shape (n_spikes,)
            Bin of each spike, ascending.
        units : ndarray of int64 of shape (n_spikes,)
            Index of its unit, ascending within a bin.

        Examples
        --------
        >>> import numpy as np
        >>> recording = Recording.from_array(np.eye(200, 3), splits=[[0, 2], [2, 3], [3, 200]])
        >>> [indices.tolist() for indices in recording.events(1)]
        [[1, 2], [1, 2]]
        """
        stop = len(self) if stop is None else stop
        parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for first in range(start, stop, UNPACKED_BINS):
            bins, units = np.nonzero(self.bits(first, min(first + UNPACKED_BINS, stop)))
            parts.append((bins + first, units))
        return np.concatenate([bins for bins, _ in parts]), np.concatenate([units for _, units in parts])

    def counts(self, split: str) -> Int[np.ndarray, "unit"]:
        """Count the spikes of each unit in a split.

        Parameters
        ----------
        split : {"train", "validation", "test"}
            The split.

        Returns
        -------
        ndarray of int64 of shape (n_units,)
            Number of bins in which each unit fires.
        """
        return self.bits(*self.span(split)).sum(axis=0, dtype=np.int64)


def as_recording(source: Any, *, bin_ms: float = 1.0) -> Recording:
    """Return what holds a recording as a :class:`Recording`.

    Parameters
    ----------
    source : Recording, array-like, mapping, sorting, analyzer, TsGroup, str or Path
        One of

        - a recording, which is returned as it is;
        - an array or data frame of zeros and ones of shape (n_bins, n_units); columns of a data frame name the units;
        - a mapping of units to spike times in seconds, a SpikeInterface sorting or analyzer of one segment, or a pynapple ``TsGroup``;
        - the path of a stored recording (NAME.npz), or of a folder of Phy or Kilosort, of which the units that were curated
          as "good" are taken, or those that Kilosort labels so if there was no curation.
    bin_ms : float, default 1.0
        Width of the bins in ms, of all sources but a recording or its file.

    Returns
    -------
    Recording
        The recording.

    Raises
    ------
    DataError
        If nothing of this kind is given, or it is no valid recording.

    Examples
    --------
    >>> import numpy as np
    >>> as_recording(np.eye(200, 3), bin_ms=2.0)
    Recording('spikes', 3 units, 200 bins of 2 ms, 0 s)
    >>> as_recording({"a": [0.01, 0.6], "b": [0.25]}).unit_id.tolist()
    ['a', 'b']
    """
    if isinstance(source, Recording):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_dir():
            return Recording.read(path)
        curated = any((path / name).exists() for name in ("cluster_group.tsv", "cluster_groups.csv"))
        return Recording.from_times(read_sorter_folder(path, kilosort=not curated), bin_ms=bin_ms)
    if isinstance(source, Mapping) or is_sorting(source) or is_analyzer(source) or is_ts_group(source):
        return Recording.from_times(read_spikes(source), bin_ms=bin_ms)
    if hasattr(source, "columns") and hasattr(source, "to_numpy"):  # a data frame
        return Recording.from_array(source.to_numpy(), bin_ms=bin_ms, unit_id=[str(name) for name in source.columns])
    if isinstance(source, list | tuple) or hasattr(source, "__array__"):
        return Recording.from_array(np.asarray(source), bin_ms=bin_ms)
    raise DataError(
        f"a {type(source).__name__} holds no recording: give a Recording, an array of bins x units, a mapping of units to times in "
        "seconds, a SpikeInterface sorting, a pynapple TsGroup or a path"
    )


def split_hash(splits: np.ndarray, packed: np.ndarray) -> str:
    """Return the SHA-256 of splits and of their bits; bins outside of all splits do not enter.

    Parameters
    ----------
    splits : ndarray of int of shape (n_splits, 2)
        [start, stop) of each split in bins.
    packed : ndarray of uint8 of shape (n_bins, n_bytes)
        Packed bits of the recording.

    Returns
    -------
    str
        64 hexadecimal digits.

    Notes
    -----
    Hashed are the splits as little-endian int64, row by row, then the packed bits of each split in turn.
    """
    digest = hashlib.sha256(np.ascontiguousarray(splits, "<i8").tobytes())
    for start, stop in splits.tolist():
        digest.update(np.ascontiguousarray(packed[start:stop]).tobytes())
    return digest.hexdigest()


def check_splits(splits: np.ndarray, bins: int, seams: Sequence[int] = (), name: str = "the recording") -> None:
    """Check that splits are disjoint ranges of bins within a recording and contain no seam.

    Parameters
    ----------
    splits : ndarray of int of shape (3, 2)
        [start, stop) in bins of train, validation and test, in any order of time.
    bins : int
        Number of bins of the recording.
    seams : sequence of int, optional
        First bins of joined files. Bins before and after a seam are not neighbors in time.
    name : str, optional
        Name of the recording for error messages.

    Raises
    ------
    DataError
        If the splits are not of this kind.

    Examples
    --------
    >>> import numpy as np
    >>> check_splits(np.array([[0, 500], [400, 700], [700, 900]]), 1000, name="slice")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    jaxephys.schemas.storage.DataError: train [0, 500) and validation [400, 700) of slice overlap: ...
    """
    if splits.shape != (3, 2) or not np.issubdtype(splits.dtype, np.integer):
        raise DataError(
            f"{name} has splits of the shape {splits.shape} and type {splits.dtype}: "
            f"give a whole start and stop for each of {', '.join(SPLITS)}"
        )
    texts = [f"{split} [{start}, {stop})" for split, (start, stop) in zip(SPLITS, splits.tolist(), strict=True)]
    for text, (start, stop) in zip(texts, splits.tolist(), strict=True):
        if not 0 <= start < stop:
            raise DataError(f"{text} of {name} holds no bins: give 0 <= start < stop, or a shorter gap")
        if stop > bins:
            raise DataError(f"{text} of {name} goes beyond its {bins} bins: end it there or before")
        for seam in seams:
            if start < seam < stop:
                raise DataError(f"{text} of {name} contains the seam of two files at bin {seam}: end or begin it there")
    order = np.argsort(splits[:, 0])
    for one, other in pairwise(order.tolist()):
        if splits[one, 1] > splits[other, 0]:
            raise DataError(f"{texts[one]} and {texts[other]} of {name} overlap: a bin belongs to one split only")


def _default_splits(bins: int) -> Int[np.ndarray, "split 2"]:
    """Divide the bins in order of time; a gap at the start of the second and third split separates them."""
    edges = np.rint(np.cumsum([0.0, *DEFAULT_SHARES]) * bins).astype(np.int64)
    return np.stack([edges[:-1] + np.array([0, 1, 1]) * int(DEFAULT_GAP * bins), edges[1:]], axis=1)


def _check_bits(recording: Recording) -> None:
    packed, units, name = recording.packed, recording.units, recording.name
    if packed.ndim != 2 or packed.dtype != np.uint8 or units < 1 or packed.shape[1] != -(-units // 8):
        raise DataError(
            f"{name} has bits of the shape {packed.shape} and type {packed.dtype} for {units} units: "
            "give uint8 [bins, units / 8 rounded up], at least one unit"
        )
    spare = -units % 8
    if spare and (packed[:, -1] >> (8 - spare)).any():
        raise DataError(f"{name} has spikes of units beyond its {units}: pack the bits again, the lowest bit first")
    if not packed.any():
        raise DataError(f"{name} has no spike in {len(packed)} bins: give a recording that is not empty")
    if not (np.isfinite(recording.bin_ms) and recording.bin_ms > 0):
        raise DataError(f"{name} has bins of {recording.bin_ms} ms: give their width, above 0")
    if len(recording.unit_id) != units:
        raise DataError(f"{name} has {len(recording.unit_id)} identifiers for {units} units: give each unit its own")
    check_rows("unit", recording.unit_id, {})
