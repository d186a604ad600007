"""What the spike experiments share: recordings from wherever they are, networks and baselines scored on the same bins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int
from rich.progress import track

from data_prep.spikes.recording import Recording as Prepared
from data_prep.spikes.registry import ENTRIES, build_entry
from data_prep.spikes.simulate import scores as best_scores
from data_prep.spikes.simulate import simulate_one
from data_prep.spikes.simulated_populations import KINDS
from data_prep.spikes.spike_times import SpikesError
from jaxephys.engine.fit import FitResult
from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.intervals import Interval
from jaxephys.reporting.run_folder import RunFolder, Settings
from jaxephys.reporting.score_table import Score, write_csv
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.baselines import BY_CHANNEL, NAMES, Baselines, fit_baselines, gather, tally_baselines
from jaxephys.spikes.estimator import SpikeTransformer
from jaxephys.spikes.streaming_scores import Tally, bootstrap, scores
from jaxephys.spikes.task import Objective, make_data, make_runs, make_task

BLOCKS = 20  # of time, that an interval resamples
METRICS = ("roc_auc", "roc_auc_within_unit", "average_precision", "bits_per_spike")
TRUE = ("auc", "within_auc", "average_precision", "bits_per_spike")  # the same in the words of data_prep


@dataclass(frozen=True)
class SpikeSettings(Settings):
    """What the spike experiments have in common."""

    data: Path | None = None
    """Folder with recordings that data_prep has built (NAME.npz), or with the files of its registry; without it
    populations are simulated."""
    populations: int = 12
    """Of the simulated ones so many, in vitro and in vivo in turn."""
    minutes: float = 1.0
    """Length of each of them; half is for training."""
    units: int = 32
    """Units of each of them."""
    networks: tuple[Literal["population", "units", "published", "legacy"], ...] = ("population",)
    """Population takes any units, units knows its own. Published: that layer, causal; legacy: the same, shown what it tells."""
    length: int = 512
    """Bins of a window in training."""
    batch_size: int = 8
    """Windows of an optimiser step."""
    max_epochs: int = 8
    """Passes over the training windows."""
    learning_rate: float = 3e-3
    """Of AdamW."""
    seeds: int = 1
    """Initial weights of each network."""
    warm_up: int = 10_000
    """Bins before the test bins that all models read first, at most."""
    resamples: int = 200
    """Of blocks of time, for intervals; 0 gives none."""


Truth = Mapping[str, Mapping[str, float]]  # recording -> score -> what the generator's own probability reaches


def read_recordings(settings: SpikeSettings, folder: RunFolder) -> tuple[list[Recording], Truth]:
    """Recordings of a folder, or those of the registry whose files it holds, built now; or simulated ones, whose truth is known."""
    if settings.data is None:
        return simulated(settings)
    return read_folder(settings.data, folder), {}


def read_folder(data: Path, folder: RunFolder) -> list[Recording]:
    if not data.is_dir():
        raise ValueError(f"there is no folder {data}: give one with recordings, or none to simulate")
    built = [path for path in sorted(data.glob("*.npz")) if is_recording(path)]
    if built:
        return [Recording.read(path) for path in built]
    found = [entry for entry in ENTRIES if entry.reader == "asdf" and has_files(entry, data)]
    if not found:
        raise ValueError(
            f"{data} holds no recording: build one with `python -m data_prep spikes build NAME --data FOLDER "
            f"--out {data}`, or leave out --data to simulate"
        )
    recordings = []
    for entry in found:
        folder.say(f"building {entry.name} from its files in {data}")
        recordings.append(adopt(build_entry(entry, data)))
    return recordings


def is_recording(path: Path) -> bool:
    with np.load(path, allow_pickle=False) as file:
        return "schema" in file.files and str(file["schema"]).startswith("jaxephys spikes")


def has_files(entry, folder: Path) -> bool:
    try:
        entry.paths(folder)
    except SpikesError:
        return False
    return True


def simulated(settings: SpikeSettings) -> tuple[list[Recording], Truth]:
    half = len(KINDS) // 2
    in_turn = [kind for pair in zip(KINDS[:half], KINDS[half:], strict=True) for kind in pair]
    recordings, truth = [], {}
    for kind in track(sorted(in_turn[: settings.populations], key=KINDS.index), "simulating", transient=True):
        prepared, rate = simulate_one(kind.name, settings.minutes, settings.units, seed=0)
        recordings.append(adopt(prepared))
        found = best_scores(prepared.bits(*prepared.range("test")), rate)
        truth[kind.name] = {ours: found[theirs] for ours, theirs in zip(METRICS, TRUE, strict=True)}
    return recordings, truth


def adopt(prepared: Prepared) -> Recording:
    """From the memory of data_prep, as if written and read."""
    names = np.array([str(unit) for unit in prepared.unit])
    splits = np.asarray(prepared.splits, np.int64)
    return Recording(prepared.name, prepared.domain, prepared.packed, len(names), names, float(prepared.bin_ms), splits)


def train_networks(
    folder: RunFolder,
    recordings: Sequence[Recording],
    settings: SpikeSettings,
    network: str,
    losses: Sequence[str],
    name: str | None = None,
    **fields: Any,
) -> tuple[SpikeTransformer, FitResult]:
    """One kind of network on each recording, under each loss, with each seed: all as one program.

    The epoch is selected by validation bins: by likelihood where that alone is trained, else by average precision, which
    needs no probabilities and treats all losses alike. ``fields`` of the estimator stand before those of the settings; a
    grid that has some needs a ``name``.
    """
    names = [recording.name for recording in recordings]
    units = recordings[0].units
    own: dict[str, Any] = {
        "loss": losses[0] if len(losses) == 1 else "dice",  # of several, select as for one that only ranks
        "seeds": settings.seeds,
        "length": settings.length,
        "batch_size": settings.batch_size,
        "max_epochs": settings.max_epochs,
        "learning_rate": settings.learning_rate,
    }
    model = SpikeTransformer(network, **own | fields)
    axis = RunGrid.cross(loss=losses, train_on=names, seed=range(settings.seeds))
    sources = [names.index(name) for name in axis.column("train_on")]
    objectives = [Objective(loss) for loss in axis.column("loss")]
    layers = model.build(units, recordings[0].bin_ms)
    data = make_data(recordings, layers, model.length)
    runs = make_runs(recordings, sources, objectives, model.length, batch_size=settings.batch_size)
    task = make_task(layers, units, objectives, model.length)
    tag = name or ("" if network == settings.networks[0] else network)
    result = folder.fit(name or network, task, data, runs, axis, model.plan(), tag)
    return model.adopt(result, layers, recordings, sources), result


class Bins(NamedTuple):
    """Which bins are scored, [start, stop), and how many before them are read first."""

    start: int
    stop: int
    warm_up: int

    @property
    def span(self) -> tuple[int, int]:
        return self.start - self.warm_up, self.stop

    def block_of(self, bins: int) -> Int[np.ndarray, "all"]:
        """The block of time of each bin of a recording, -1 for those that are not scored."""
        found = np.full(bins, -1, np.int32)
        found[self.start : self.stop] = np.arange(self.stop - self.start) * BLOCKS // (self.stop - self.start)
        return found


def scored_bins(recording: Recording, warm_up: int) -> Bins:
    """All of the test split. What lies before it may be read, not scored."""
    start, stop = recording.span("test")
    return Bins(start, stop, min(warm_up, start))


def training_bins(recording: Recording, warm_up: int) -> Bins:
    """As many of the training split as there are test bins, the last."""
    start, stop = recording.span("train")
    test = recording.span("test")
    start = max(start, stop - (test[1] - test[0]))
    return Bins(start, stop, min(warm_up, start))


def fit_all(recordings: Sequence[Recording]) -> list[Baselines]:
    return [fit_baselines(recording) for recording in track(recordings, "baselines", transient=True)]


def tally_all(fitted: Sequence[Baselines], recording: Recording, bins: Bins) -> Iterator[dict[str, Tally]]:
    """Of the baselines of each source, on the same bins. One at a time: many tallies do not fit into memory."""
    known = list(gather(recording, bins.start, bins.stop, bins.span[0]))
    for baselines in fitted:
        yield tally_baselines(baselines, recording, bins.block_of(len(recording)), known)


def check_same_bins(tallies: Mapping[str, Tally]) -> None:
    """All have seen as many bins and spikes of each unit in each block of time."""
    first, *others = (np.asarray(tally.count).sum(axis=2) for tally in tallies.values())
    for name, other in zip(list(tallies)[1:], others, strict=True):
        if not np.array_equal(first, other):
            raise RuntimeError(f"{name} was not scored on the bins of {next(iter(tallies))}")


def rows_of(
    experiment: str, variant: str, train_on: str, test_on: str, seed: int, tally: Tally, split: str = "test"
) -> list[Score]:
    """Every score of a tally as rows of scores.csv; n counts bins of single units."""
    n = int(np.asarray(tally.count).sum())
    return [
        Score(experiment, variant, train_on, test_on, seed, 0, split, metric, value, n)
        for metric, value in scores(tally).items()
    ]


Intervals = dict[tuple[str, str, str, str], Interval]  # train_on, test_on, model or "a - b", metric


def intervals_of(tallies: Mapping[str, Tally], train_on: str, test_on: str, resamples: int) -> Intervals:
    """Of each model and of what networks are ahead of others, over resampled blocks of time."""
    found = bootstrap(dict(tallies), resamples) if resamples else {}
    return {
        (train_on, test_on, name, metric): interval
        for (name, metric), interval in found.items()
        if metric in METRICS and (name in tallies or name.split(" - ")[0] not in NAMES)
    }


def write_intervals(path: Path, found: Intervals) -> None:
    columns = ("train_on", "test_on", "model", "metric", "estimate", "low", "high")
    write_csv(path, columns, [(*key, *interval) for key, interval in found.items()])


def label(variant: str, train_on: str, test_on: str) -> str:
    """Marks what is carried over by channel number, which pairs cells that have nothing to do with one another."""
    by_channel = variant in (*BY_CHANNEL, "units", "published", "legacy", "reconstruction")
    return f"{variant} (by channel)" if by_channel and train_on != test_on else variant
