"""Recording: the spikes of some units in bins, one bit each, and which bins are for what. Checked once, here, at the border.

Read from the NAME.npz that data_prep writes, or made from a plain array of zeros and ones. The bits go to the device as
they are, an eighth of the bytes; windows are cut along time and unpacked there.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt

from jaxephys.dimensions import AnyArray
from jaxephys.spikes.history import Filters, History, last_of, no_history, trace

SCHEMA = "jaxephys spikes 1"
KEYS = ("name", "domain", "packed", "units", "unit_id", "bin_ms", "splits", "split_sha256")
SPLITS = ("train", "validation", "test")
SHARES = (0.5, 0.25, 0.25)  # of a plain array that comes without splits
GAP = 0.01  # of the bins, between two of these


@dataclass(frozen=True)
class Recording:
    """Packed bins, little bit first. ``splits`` are [start, stop) in bins of train, validation and test."""

    # The arrays come from outside and are checked below, in words: plain annotations.
    name: str
    domain: str
    packed: np.ndarray
    units: int
    unit_id: np.ndarray
    bin_ms: float
    splits: np.ndarray

    def __post_init__(self) -> None:
        _check_bits(self)
        _check_splits(self)

    @classmethod
    def read(cls, path: str | Path) -> Recording:
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"there is no recording {path}: give a NAME.npz that data_prep has built")
        try:
            with np.load(path, allow_pickle=False) as file:
                stored = {name: file[name] for name in file.files}
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):  # TypeError: one bare array
            raise ValueError(f"{path} is not a readable .npz: build the recording again with data_prep") from None
        if str(stored.get("schema")) != SCHEMA:
            raise ValueError(f"{path} has the schema {stored.get('schema')}, not {SCHEMA!r}: build it with data_prep")
        missing = [key for key in KEYS if key not in stored]
        if missing:
            raise ValueError(f"{path} has no {missing[0]}: build the recording again with data_prep")
        recording = cls(
            name=str(stored["name"]),
            domain=str(stored["domain"]),
            packed=stored["packed"],
            units=int(stored["units"]),
            unit_id=stored["unit_id"],
            bin_ms=float(stored["bin_ms"]),
            splits=stored["splits"],
        )
        if recording.sha256 != str(stored["split_sha256"]):
            raise ValueError(f"{path} is not what was written (the hash of its splits differs): build it again")
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
    ) -> Recording:
        """From zeros and ones [bin, unit]. Without ``splits`` 50, 25 and 25 % of the bins, in order of time, with gaps."""
        spikes = np.asarray(spikes)
        if spikes.ndim != 2 or not spikes.size:
            raise ValueError(f"spikes have the shape {spikes.shape}: give bins x units, at least one of each")
        wrong = (spikes != 0) & (spikes != 1)
        if wrong.any():
            where = np.unravel_index(int(wrong.argmax()), spikes.shape)
            raise ValueError(
                f"bin {where[0]} of unit {where[1]} holds {spikes[where]}: give 0 or 1, and a count above 1 as 1 or in finer bins"
            )
        bins, units = spikes.shape
        names = np.array([str(unit) for unit in (range(units) if unit_id is None else unit_id)])
        bounds = default_splits(bins) if splits is None else np.asarray(splits)
        packed = np.packbits(spikes.astype(bool), axis=1, bitorder="little")
        return cls(name, domain, packed, units, names, float(bin_ms), bounds)

    def __len__(self) -> int:
        return len(self.packed)

    def __repr__(self) -> str:
        seconds = len(self) * self.bin_ms / 1000
        return f"Recording({self.name!r}, {self.units} units, {len(self)} bins of {self.bin_ms:g} ms, {seconds:.0f} s)"

    def span(self, split: str) -> tuple[int, int]:
        """[start, stop) of ``train``, ``validation`` or ``test``."""
        if split not in SPLITS:
            raise ValueError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}")
        start, stop = self.splits[SPLITS.index(split)].tolist()
        return start, stop

    def bits(self, start: int, stop: int) -> UInt[np.ndarray, "time unit"]:
        """Zeros and ones of [start, stop), on the host."""
        return np.unpackbits(self.packed[start:stop], axis=1, count=self.units, bitorder="little")

    def counts(self, split: str) -> Int[np.ndarray, "unit"]:
        """Spikes of each unit in a split."""
        return self.bits(*self.span(split)).sum(axis=0, dtype=np.int64)

    @property
    def sha256(self) -> str:
        """Over the splits (int64, little-endian), then over the packed bits of each: as data_prep has it."""
        digest = hashlib.sha256(np.ascontiguousarray(self.splits, "<i8").tobytes())
        for start, stop in self.splits.tolist():
            digest.update(np.ascontiguousarray(self.packed[start:stop]).tobytes())
        return digest.hexdigest()

    def windows(self, split: str, length: int, stride: int | None = None) -> Int[np.ndarray, "some"]:
        """Where windows begin whose last ``length`` bins are predicted, each from what lies before it.

        A window has length + 1 bins. Its first is input only, and for the first window of a split it is the bin before the
        split, of which there is one unless the split begins the recording. Windows are ``stride`` bins apart, ``length``
        unless told, so that every bin is predicted once; what is left at the end is shorter than a window, and left out.
        """
        start, stop = self.span(split)
        first = max(start - 1, 0)
        if not 1 <= length < stop - first:
            raise ValueError(
                f"a window of {length} bins does not fit into {split} of {self.name}, [{start}, {stop}): "
                f"choose a length from 1 to {stop - first - 1}"
            )
        return np.arange(first, stop - length, length if stride is None else stride, dtype=np.int32)


def default_splits(bins: int) -> Int[np.ndarray, "split 2"]:
    """Shares of the bins in order of time; a gap, taken from what follows it, parts them."""
    edges = np.rint(np.cumsum([0.0, *SHARES]) * bins).astype(np.int64)
    return np.stack([edges[:-1] + np.array([0, 1, 1]) * int(GAP * bins), edges[1:]], axis=1)


def unpack(packed: UInt[AnyArray, "*run time byte"], units: int) -> Float[Array, "*run time unit"]:
    """Bits to float32 zeros and ones, on the device."""
    return jnp.unpackbits(packed, axis=-1, count=units, bitorder="little").astype(jnp.float32)


def cut(
    packed: UInt[AnyArray, "all byte"], start: Int[AnyArray, ""], bins: int, units: int
) -> Float[Array, "time unit"]:
    """``bins`` bins from ``start``, unpacked. A start too late for that is moved back by JAX: take those of ``windows``."""
    return unpack(lax.dynamic_slice_in_dim(packed, start, bins), units)


def checkpoints(filters: Filters, packed: UInt[AnyArray, "all byte"], units: int, every: int) -> History:
    """The history before bins 0, every, 2 every, ... of a recording, so that a window begins with all of its true past."""
    if not 1 <= every <= len(packed):
        raise ValueError(f"a history every {every} bins of {len(packed)} bins: give from 1 to {len(packed)}")

    def advance(history: History, start: Array) -> tuple[History, History]:
        return last_of(trace(filters, history, cut(packed, start, every, units))), history

    starts = jnp.arange(0, len(packed) - every + 1, every, dtype=jnp.int32)
    return lax.scan(advance, no_history(filters, units), starts)[1]


def _check_bits(recording: Recording) -> None:
    packed, units, name = recording.packed, recording.units, recording.name
    if packed.ndim != 2 or packed.dtype != np.uint8 or units < 1 or packed.shape[1] != -(-units // 8):
        raise ValueError(
            f"{name} has bits of the shape {packed.shape} and type {packed.dtype} for {units} units: "
            "give uint8 [bins, units / 8 rounded up], at least one unit"
        )
    spare = -units % 8
    if spare and (packed[:, -1] >> (8 - spare)).any():
        raise ValueError(f"{name} has spikes of units beyond its {units}: pack the bits again, little bit first")
    if not packed.any():
        raise ValueError(f"{name} holds not one spike in {len(packed)} bins: give a recording that is not empty")
    if not (np.isfinite(recording.bin_ms) and recording.bin_ms > 0):
        raise ValueError(f"{name} has bins of {recording.bin_ms} ms: give their width, above 0")
    if recording.unit_id.shape != (units,) or len(np.unique(recording.unit_id)) < units:
        told = len(np.unique(recording.unit_id))
        raise ValueError(f"{name} names {told} different units and has {units}: give each unit its own id")


def _check_splits(recording: Recording) -> None:
    splits, bins, name = recording.splits, len(recording.packed), recording.name
    if splits.shape != (3, 2) or not np.issubdtype(splits.dtype, np.integer):
        raise ValueError(
            f"{name} has splits of the shape {splits.shape} and type {splits.dtype}: "
            f"give a whole start and stop for each of {', '.join(SPLITS)}"
        )
    said = [f"{split} [{start}, {stop})" for split, (start, stop) in zip(SPLITS, splits.tolist(), strict=True)]
    for text, (start, stop) in zip(said, splits.tolist(), strict=True):
        if not 0 <= start < stop <= bins:
            raise ValueError(f"{text} of {name} is no part of its {bins} bins: give 0 <= start < stop <= {bins}")
    order = np.argsort(splits[:, 0])
    for one, other in pairwise(order):
        if splits[one, 1] > splits[other, 0]:
            raise ValueError(f"{said[one]} and {said[other]} of {name} overlap: a bin belongs to one split only")
