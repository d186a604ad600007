"""Grids of spike networks trained as one program, and their scores beside those of the baselines on the same bins.

The experiments on spikes share this module: their settings (:class:`SpikeSettings`), training (:func:`train_grid`), and scoring
on the same bins (:func:`score_models`, :func:`metric_scores`, :func:`score_intervals`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.intervals import Interval
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.files import write_csv
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.baselines import BASELINE_NAMES, SpikeBaselines, count_baseline_outcomes
from jaxephys.spikes.estimator import SpikeTransformer
from jaxephys.spikes.forecaster import counts_of_run
from jaxephys.spikes.streaming_scores import StreamingCounts, bootstrap, compute_scores
from jaxephys.spikes.task import Objective

METRICS = ("roc_auc", "roc_auc_within_unit", "average_precision", "bits_per_spike")
Intervals = dict[tuple[str, str, str, str], Interval]  # training recording, test recording, model or "a - b", metric


@dataclass(frozen=True)
class SpikeSettings(Settings):
    """Settings that all experiments on spikes share."""

    data: Path | None = None
    """Folder with recordings that data_prep has built (NAME.npz), or with the files of its registry. By default populations
    are simulated."""
    populations: int = 12
    """Number of simulated populations, alternately in vitro and in vivo."""
    minutes: float = 1.0
    """Length of each simulated recording; half of it is for training."""
    units: int = 32
    """Units of each simulated recording."""
    networks: tuple[Literal["population", "units", "published", "legacy"], ...] = ("population",)
    """population: takes any units; units: has parameters for each unit; published: the published layer, causal; legacy: the
    published layer as published, which sees the bin that it predicts."""
    length: int = 512
    """Bins of a training window."""
    batch_size: int = 8
    """Windows of an optimizer step."""
    max_epochs: int = 8
    """Passes over the training windows."""
    learning_rate: float = 3e-3
    """Learning rate of AdamW."""
    seeds: int = 1
    """Networks per recording."""
    warm_up: int = 10_000
    """Bins before the test bins that all models read first, at most."""
    resamples: int = 200
    """Resamples of time blocks for the intervals; 0 computes none."""


class TrainedGrid(NamedTuple):
    """The trained networks of a grid, under the name and in the form in which they are scored.

    Parameters
    ----------
    name : str
        Name of the variant.
    model : SpikeTransformer
        All runs, calibrated. The grid of its ``result_`` has the factors ``loss``, ``train_on`` and ``seed``.
    same_bin : bool, default False
        Score as a reconstruction of the bin that the network sees, rather than as a forecast.
    """

    name: str
    model: SpikeTransformer
    same_bin: bool = False


def train_grid(
    folder: RunFolder,
    recordings: Sequence[Recording],
    settings: SpikeSettings,
    kind: str,
    losses: Sequence[str],
    name: str | None = None,
    **parameters: Any,
) -> TrainedGrid:
    """Train one kind of network on each recording, with each loss and seed, as one program.

    Parameters
    ----------
    folder : RunFolder
        Folder for checkpoints and history.
    recordings : sequence of Recording
        Training recordings of equally many units.
    settings : SpikeSettings
        Settings of the experiment.
    kind : {"population", "units", "published", "legacy"}
        Kind of the network.
    losses : sequence of str
        Names of the losses. With one loss the epoch is selected as that loss requires; with several, by average precision,
        which needs no probabilities and treats all losses alike.
    name : str, optional
        Name of the grid in the folder; required for a second grid of the same kind.
    **parameters
        Parameters of the estimator that replace those of the settings, also nested ones such as ``network__depth``.

    Returns
    -------
    TrainedGrid
        The calibrated networks.
    """
    names = [recording.name for recording in recordings]
    grid = RunGrid.cross(loss=losses, train_on=names, seed=range(settings.seeds))
    sources = [names.index(train_on) for train_on in grid.column("train_on")]
    objectives = [Objective(loss) for loss in grid.column("loss")]
    model = SpikeTransformer(
        kind,
        objective=losses[0] if len(losses) == 1 else "dice",  # with several, select as for a loss that only ranks
        seeds=settings.seeds,
        length=settings.length,
        batch_size=settings.batch_size,
        max_epochs=settings.max_epochs,
        learning_rate=settings.learning_rate,
    ).set_params(**parameters)
    task, data, inputs = model.make_training(recordings, sources, objectives)
    suffix = name or ("" if kind == settings.networks[0] else kind)
    result = folder.fit(task, data, inputs, grid, model.train_config(), suffix)
    return TrainedGrid(name or kind, model.keep_runs(result, recordings, sources))


def score_models(
    experiment: str,
    recording: Recording,
    networks: Sequence[TrainedGrid],
    baselines: Sequence[SpikeBaselines],
    settings: SpikeSettings,
) -> tuple[list[Score], Intervals]:
    """Score all networks and baselines on the test bins of a recording, and its own networks on its training bins.

    Parameters
    ----------
    experiment : str
        Name of the experiment.
    recording : Recording
        Recording to score on.
    networks : sequence of TrainedGrid
        Networks trained on all recordings.
    baselines : sequence of SpikeBaselines
        Baselines fitted on each recording.
    settings : SpikeSettings
        Settings of the experiment.

    Returns
    -------
    scores : list of Score
        Rows of the score table.
    intervals : dict
        Intervals of the first seed, see `score_intervals`.
    """

    def counts_by_seed(network: TrainedGrid, counts: StreamingCounts, train_on: str) -> dict[int, StreamingCounts]:
        grid = network.model.result_.grid
        return {grid[run]["seed"]: counts_of_run(counts, run) for run in grid.where(train_on=train_on).tolist()}

    scores, intervals, warm_up = [], {}, settings.warm_up
    for split, span in scored_spans(recording).items():
        network_counts = [
            network.model.forecaster_.count_outcomes(recording, span, warm_up=warm_up, same_bin=network.same_bin)
            for network in networks
        ]
        sources, of_baselines = [recording.name], [{}]
        if split == "test":
            sources = [fitted.source for fitted in baselines]
            of_baselines = count_baseline_outcomes(baselines, recording, span, warm_up=warm_up)
        for train_on, baseline_counts in zip(sources, of_baselines, strict=True):
            models = {
                network.name: counts_by_seed(network, counts, train_on)
                for network, counts in zip(networks, network_counts, strict=True)
            }
            models |= {name: {0: counts} for name, counts in baseline_counts.items()}
            for name, seeds in models.items():
                for seed, counts in seeds.items():
                    scores += metric_scores(experiment, name, train_on, recording.name, seed, counts, split)
            if split == "test":
                first_seed = {name: next(iter(seeds.values())) for name, seeds in models.items()}
                intervals |= score_intervals(first_seed, train_on, recording.name, settings.resamples)
    return scores, intervals


def scored_spans(recording: Recording) -> dict[str, tuple[int, int]]:
    """Return the bins that are scored: the test bins, and the last training bins, at most as many.

    Parameters
    ----------
    recording : Recording
        The recording.

    Returns
    -------
    dict of str to (int, int)
        First bin, and bin after the last, of "test" and "train".
    """
    (start, stop), test = recording.span("train"), recording.span("test")
    return {"test": test, "train": (max(start, stop - (test[1] - test[0])), stop)}


def metric_scores(
    experiment: str,
    variant: str,
    train_on: str,
    test_on: str,
    seed: int,
    counts: StreamingCounts,
    split: str = "test",
) -> list[Score]:
    """Compute every score of a model as rows of ``scores.csv``.

    Parameters
    ----------
    experiment, variant : str
        Names of the experiment and of the model.
    train_on, test_on : str
        Names of the recordings.
    seed : int
        Seed of the model.
    counts : StreamingCounts
        Counts of the model.
    split : str
        Split that was scored.

    Returns
    -------
    list of Score
        One row per score; ``n`` is the number of (bin, unit) entries.
    """
    n = int(np.asarray(counts.histogram).sum())
    return [
        Score(experiment, variant, train_on, test_on, seed, 0, split, metric, value, n)
        for metric, value in compute_scores(counts).items()
    ]


def score_intervals(models: Mapping[str, StreamingCounts], train_on: str, test_on: str, resamples: int) -> Intervals:
    """Compute 95 % intervals of the scores of each model, and of the differences of networks from other models.

    Parameters
    ----------
    models : mapping of str to StreamingCounts
        Counts of networks and baselines, networks first.
    train_on, test_on : str
        Names of the recordings.
    resamples : int
        Resamples of time blocks; 0 returns no intervals.

    Returns
    -------
    dict of (train_on, test_on, model, metric) to Interval
        Intervals of the scores in `METRICS`; the model of a difference is "a - b". Differences between baselines are left
        out.

    Raises
    ------
    RuntimeError
        If two models were not scored on the same number of bins and spikes of each unit and time block.
    """
    (first, bins), *others = ((name, np.asarray(counts.histogram).sum(axis=2)) for name, counts in models.items())
    for name, other_bins in others:
        if not np.array_equal(bins, other_bins):
            raise RuntimeError(f"{name} was not scored on the bins of {first}")
    intervals = bootstrap(models, resamples, all_scores=False) if resamples else {}
    return {
        (train_on, test_on, name, metric): interval
        for (name, metric), interval in intervals.items()
        if name in models or name.split(" - ")[0] not in BASELINE_NAMES
    }


def write_intervals(path: Path, intervals: Intervals) -> None:
    """Write intervals to a CSV file.

    Parameters
    ----------
    path : Path
        File to write.
    intervals : dict
        Result of `score_intervals`.
    """
    columns = ("train_on", "test_on", "model", "metric", "estimate", "low", "high")
    write_csv(path, columns, [(*key, *interval) for key, interval in intervals.items()])
