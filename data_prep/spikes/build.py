"""Build a recording with its splits from files of spike times. Start with :func:`build_recording` and :data:`RECIPES`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from data_prep.spikes.binning import bin_spikes, select_units
from data_prep.spikes.spike_files import READERS
from data_prep.spikes.spike_times import limit_duration
from data_prep.spikes.splits import find_repeats, splits_by_minutes
from jaxephys.schemas.recording import SPLITS, Recording, check_splits, split_hash
from jaxephys.schemas.storage import DataError


@dataclass(frozen=True)
class BuildSettings:
    """Settings with which a recording is built from spike times.

    Parameters
    ----------
    domain : str
        Where the cells were: "in vitro", "in vivo", or anything else.
    tick_ms : float, optional
        Unit of the spike times in the file (length of a clock tick), in ms. By default it is read from the file, which
        must then contain it.
    tick_hz : float, optional
        The same unit given as a number of ticks per second, for example 30000. Give one of the two.
    bin_ms : float
        Width of a bin in ms.
    interval : (float, float), optional
        START and STOP in s of the part of the recording to use. By default it is the whole recording or, for an IBL
        folder with passive periods, the interval of spontaneous activity.
    duration : float, optional
        Use only the first so many seconds of the interval.
    skip : int
        Number of units to skip, counted among those that satisfy the limits of depth, rate and quality.
    take : int, optional
        Number of units to take after the skipped ones. By default all of them are taken.
    depth : (float, float), optional
        Take only units at a depth of LOW to HIGH um.
    rate : (float, float), optional
        Take only units with a firing rate of LOW to HIGH Hz in the training bins.
    quality : float, optional
        Take only units of at least this quality (for IBL, the column "label", from 0 to 1).
    minutes : (float, float, float)
        Durations of the training, validation and test split in minutes, one after the other from the start.
    gap : float
        Seconds that are left out at the start of the validation and of the test split.
    train : (int, int), optional
        First training bin, and the bin after the last. It replaces --minutes, and requires --validation and --test.
    validation : (int, int), optional
        First validation bin, and the bin after the last.
    test : (int, int), optional
        First test bin, and the bin after the last.
    """

    domain: str = "unknown"
    tick_ms: float | None = None
    tick_hz: float | None = None
    bin_ms: float = 1.0
    interval: tuple[float, float] | None = None
    duration: float | None = None
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
        """Length of a clock tick in ms; None if it is to be read from the file."""
        if self.tick_ms is not None and self.tick_hz is not None:
            raise DataError(f"--tick-ms {self.tick_ms:g} and --tick-hz {self.tick_hz:g} given: give one of them")
        given = self.tick_ms if self.tick_hz is None else self.tick_hz
        if given is not None and not given > 0:
            raise DataError(f"a tick of {given:g} has no length: give --tick-ms or --tick-hz above 0")
        return self.tick_ms if self.tick_hz is None else 1000.0 / self.tick_hz

    def splits(self, bins: int) -> np.ndarray:
        """Return the splits of a recording.

        Parameters
        ----------
        bins : int
            Number of bins of the recording.

        Returns
        -------
        ndarray of int64 of shape (3, 2)
            First bin, and the bin after the last, of train, validation and test. Whether splits given in bins overlap
            or exceed the recording is not checked here.

        Raises
        ------
        DataError
            If one or two of the three splits are given in bins, or the recording is shorter than the minutes.
        """
        ranges = {"--train": self.train, "--validation": self.validation, "--test": self.test}
        given = [value for value in ranges.values() if value is not None]
        if not given:
            return splits_by_minutes(bins, self.bin_ms, self.minutes, self.gap)
        if len(given) < len(ranges):
            missing = " and ".join(name for name, value in ranges.items() if value is None)
            raise DataError(f"splits in bins lack {missing}: give all three, or none and --minutes")
        return np.array(given, np.int64)


# How the published study chooses time and units. A recipe leaves the length of a tick to the file or to the user, since the
# published files do not agree in it.
RECIPES = {
    # Ten minutes that begin half an hour after the start; the deposited files hold 128 units each.
    "in_vitro": BuildSettings("in vitro", interval=(1800.0, 2400.0), take=128),
    # The first five minutes of the spontaneous activity in the passive protocol of the IBL, divided as the ten minutes are.
    "ibl": BuildSettings("in vivo", duration=300.0, skip=100, take=128, minutes=(2.5, 1.25, 1.25)),
    # Ten minutes of it, where a session has as many.
    "ibl_ten_minutes": BuildSettings("in vivo", skip=100, take=128),
}


def apply_recipe(recipe: str, settings: BuildSettings) -> BuildSettings:
    """Combine the settings of a recipe with those that the user gives.

    Parameters
    ----------
    recipe : str
        A key of ``RECIPES``.
    settings : BuildSettings
        Settings; each that differs from its default takes precedence over that of the recipe.

    Returns
    -------
    BuildSettings
        The combined settings.

    Raises
    ------
    DataError
        If there is no such recipe.

    Examples
    --------
    >>> settings = apply_recipe("in_vitro", BuildSettings(take=64, tick_ms=1.0))
    >>> settings.interval, settings.take, settings.tick
    ((1800.0, 2400.0), 64, 1.0)
    """
    if recipe not in RECIPES:
        raise DataError(f"there is no recipe {recipe!r}: choose one of {', '.join(RECIPES)}")
    default = BuildSettings()
    given = {field.name: getattr(settings, field.name) for field in fields(BuildSettings)}
    return replace(
        RECIPES[recipe],
        **{name: value for name, value in given.items() if value != getattr(default, name)},
    )


def build_recording(name: str, reader: str, paths: Sequence[Path], settings: BuildSettings) -> Recording:
    """Read files, bin their spikes, select units and choose the splits.

    Parameters
    ----------
    name : str
        Name of the recording.
    reader : {"asdf", "alf", "npz", "nwb", "phy", "kilosort"}
        Format of the files, which determines the function that reads them.
    paths : sequence of Path
        Files or IBL folders of the same units, in chronological order. They are joined in time.
    settings : BuildSettings
        Bins, selection of units and splits.

    Returns
    -------
    Recording
        The recording. Its provenance holds the settings, the notes of the functions that read the files, the seams (first
        bins of joined files) and a hash of each split.

    Raises
    ------
    DataError
        If a file cannot be read, the splits overlap, exceed the recording or contain a seam, a split has no spike, or a
        chunk of 1,000 bins occurs in two splits.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "spikes.npy"
    >>> times = np.sort(np.random.default_rng(0).uniform(0, 10, 2000))
    >>> np.save(path, np.stack([np.arange(2000) % 9, times], axis=1))
    >>> settings = BuildSettings(train=(0, 5000), validation=(5000, 7000), test=(7000, 9900))
    >>> recording = build_recording("example", "npz", [path], settings)
    >>> recording.units, recording.span("test")
    (9, (7000, 9900))
    """
    parts = [READERS[reader](path, tick_ms=settings.tick, interval=settings.interval) for path in paths]
    if settings.duration is not None:
        if len(parts) > 1:
            raise DataError(f"a duration of {settings.duration:g} s of {len(parts)} joined files: give one file")
        parts = [limit_duration(parts[0], settings.duration)]
    binned = bin_spikes(parts, settings.bin_ms)
    splits = settings.splits(binned.bins)
    check_splits(splits, binned.bins, binned.seams)
    limits = {name: getattr(settings, name) for name in ("skip", "take", "depth", "rate", "quality")}
    selected = select_units(binned, (int(splits[0, 0]), int(splits[0, 1])), **limits)
    packed = selected.packed()
    for start, stop in splits.tolist():
        if not packed[start:stop].any():
            raise DataError(f"bins {start} to {stop} hold no spike of the selected units: choose other bins or units")
    repeats = find_repeats(packed, splits)
    if repeats:
        raise DataError(f"{repeats[0]} ({len(repeats)} such chunks): the same bins may not be in two splits")
    # One hash per split, of bins counted from its start, so that splits of two files can be compared with each other.
    hashes = {
        split: split_hash(splits[i : i + 1] - splits[i, 0], packed[slice(*splits[i])]) for i, split in enumerate(SPLITS)
    }
    provenance = {
        "source": reader,
        "files": [path.name for path in paths],
        "seams": list(binned.seams),
        "notes": list(binned.notes),
        "recipe": {name: value for name, value in asdict(settings).items() if value is not None},
        "sha256": hashes,
        **{column: np.asarray(values, float).tolist() for column, values in selected.about.items()},
    }
    unit_id = np.array(selected.unit, str)
    return Recording(name, settings.domain, packed, len(unit_id), unit_id, settings.bin_ms, splits, provenance)
