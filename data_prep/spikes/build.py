"""Build: trains of one recording, and a recipe -> a recording with its splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.spikes.alf import read_alf
from data_prep.spikes.arrays import read_arrays
from data_prep.spikes.asdf import read_asdf
from data_prep.spikes.binning import raster_of, select
from data_prep.spikes.recording import Recording
from data_prep.spikes.spike_times import SpikesError, Trains
from data_prep.spikes.splits import NAMES, by_minutes, checked, repeats, split_hash

Reader = Callable[..., Trains]


@dataclass(frozen=True)
class Recipe:
    """How spike times become a recording.

    Args:
        domain: Where the cells were: "in vitro", "in vivo", or anything else.
        tick_ms: Length of a tick of the file in ms; without it the file must say.
        tick_hz: The same as ticks a second, for example 30000.
        bin_ms: Width of a bin in ms.
        interval: Only from START to STOP in s; an IBL folder with passive periods has its own.
        skip: Units to leave out first.
        take: Units to take after these; all of them without it.
        depth: Only units at LOW to HIGH um.
        rate: Only units that fire LOW to HIGH times a second in the training bins.
        quality: Only units of at least this quality (IBL: the label from 0 to 1).
        minutes: Minutes for training, validation and test, one after the other from the start.
        gap: Seconds left out at the start of the validation and of the test minutes.
        train: Training bins START STOP, in place of minutes; then --validation and --test as well.
        validation: Validation bins START STOP.
        test: Test bins START STOP.
    """

    domain: str = "unknown"
    tick_ms: float | None = None
    tick_hz: float | None = None
    bin_ms: float = 1.0
    interval: tuple[float, float] | None = None
    skip: int = 0
    take: int | None = None
    depth: tuple[float, float] | None = None
    rate: tuple[float, float] | None = None
    quality: float | None = None
    minutes: tuple[float, float, float] = (5.0, 2.5, 2.5)
    gap: float = 5.0
    train: tuple[int, int] | None = None
    validation: tuple[int, int] | None = None
    test: tuple[int, int] | None = None

    @property
    def tick(self) -> float | None:
        """ms, or None where the file must say."""
        if self.tick_ms is not None and self.tick_hz is not None:
            raise SpikesError(f"--tick-ms {self.tick_ms:g} and --tick-hz {self.tick_hz:g} given: give one of them")
        given = self.tick_ms if self.tick_hz is None else self.tick_hz
        if given is not None and not given > 0:
            raise SpikesError(f"a tick of {given:g} has no length: give --tick-ms or --tick-hz above 0")
        return self.tick_ms if self.tick_hz is None else 1000.0 / self.tick_hz

    def splits(self, bins: int) -> np.ndarray:
        """int64 [split, 2], in bins."""
        ranges = {"--train": self.train, "--validation": self.validation, "--test": self.test}
        given = [value for value in ranges.values() if value is not None]
        if not given:
            return by_minutes(bins, self.bin_ms, self.minutes, self.gap)
        if len(given) < len(ranges):
            missing = " and ".join(name for name, value in ranges.items() if value is None)
            raise SpikesError(f"splits in bins lack {missing}: give all three, or none and --minutes")
        return np.array(given, np.int64)


def reader_of(kind: str) -> Reader:
    """NWB needs the prep extra, which is imported only where it is asked for."""
    if kind == "nwb":
        from data_prep.spikes.nwb import read_nwb

        return read_nwb
    return {"asdf": read_asdf, "alf": read_alf, "npz": read_arrays}[kind]


def build_recording(name: str, kind: str, paths: Sequence[Path], recipe: Recipe) -> Recording:
    """Read the files, one after the other in time, choose units, and cut the splits."""
    read = reader_of(kind)
    parts = [read(path, tick_ms=recipe.tick, interval=recipe.interval) for path in paths]
    raster = raster_of(parts, recipe.bin_ms)
    splits = checked(recipe.splits(raster.bins), raster.bins, raster.seams)
    train = int(splits[0, 0]), int(splits[0, 1])
    chosen = select(
        raster, train, skip=recipe.skip, take=recipe.take, depth=recipe.depth, rate=recipe.rate, quality=recipe.quality
    )
    packed = chosen.packed()
    must_be_apart(packed, splits)
    provenance = {
        "source": kind,
        "files": [path.name for path in paths],
        "seams": list(raster.seams),
        "notes": list(raster.notes),
        "recipe": plain(asdict(recipe)),
        "sha256": sha_of_each(packed, splits),
        **{column: np.asarray(values, float).tolist() for column, values in chosen.about.items()},
    }
    return Recording(name, recipe.domain, packed, chosen.unit, recipe.bin_ms, splits, provenance)


def must_be_apart(packed: np.ndarray, splits: np.ndarray) -> None:
    for start, stop in splits.tolist():
        if not packed[start:stop].any():
            raise SpikesError(
                f"bins {start} to {stop} hold not one spike of the chosen units: choose other bins or units"
            )
    found = repeats(packed, splits)
    if found:
        raise SpikesError(f"{found[0]} ({len(found)} such chunks): the same bins may not stand in two splits")


def sha_of_each(packed: np.ndarray, splits: np.ndarray) -> dict[str, str]:
    """The hash of each split alone, so that two files can be compared split by split."""
    return {
        name: split_hash(splits[i : i + 1] - splits[i, 0], packed[slice(*splits[i])]) for i, name in enumerate(NAMES)
    }


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was left to the default of None."""
    return {name: value for name, value in values.items() if value is not None}
