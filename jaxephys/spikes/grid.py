"""Grids of spike networks trained as one program, and their scores beside those of the baselines on the same bins.

The experiments on spikes share this module: their settings (:class:`SpikeSettings`, and :class:`DescribedSettings` where the described
layer is the default), training (:func:`train_grid`), and scoring on the same bins (:func:`score_grid`, :func:`metric_scores`, :func:`score_intervals`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.intervals import Interval
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.files import write_csv
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.baselines import (
    ADAPTIVE_NAMES,
    BASELINE_NAMES,
    SpikeBaselines,
    adapt_with_past,
    count_baseline_outcomes,
)
from jaxephys.spikes.estimator import SpikeTransformer
from jaxephys.spikes.forecaster import counts_of_run
from jaxephys.spikes.report.curves import RankedBins, RecordingPair, rank_bins, rank_by_training_rate
from jaxephys.spikes.streaming_scores import (
    BLOCK_SCORES,
    StreamingCounts,
    accuracies,
    centered_interval,
    choose_threshold,
    compute_scores,
    match_rate,
    resample_blocks,
    split_past,
)
from jaxephys.spikes.task import Objective
from jaxephys.spikes.windows import Windows, scored_windows, summarize_windows, write_windows

BITS = "bits_per_spike"
METRICS = ("roc_auc", "roc_auc_within_unit", "average_precision", BITS)
Intervals = dict[tuple[str, str, str, str], Interval]  # training recording, test recording, model or "a - b", metric
DESCRIBED = "published layer"  # name of the described network, made causal, in scores and reports
WITHOUT_NETWORK = (
    "experts without a network"  # the mixture of the other experts, the same for all networks of a recording
)
ALONE, ADAPTED = (
    " alone",
    ", adapted",
)  # suffixes: without the mixture; scale and shift refitted on the bins before the test
SOURCE_THRESHOLD, RATE_THRESHOLD = ", threshold of the source", ", threshold at the target's rate"
REFERENCES = (*BASELINE_NAMES, *ADAPTIVE_NAMES, WITHOUT_NETWORK)  # models that owe nothing to a network
Samples = dict[tuple[str, str], np.ndarray]  # result of resample_blocks
# Sizes of the paper: ten minutes of 128 units, windows of 3,125 bins, 200 epochs, ten seeds.
PAPER: dict[str, Any] = {"units": 128, "minutes": 10.0, "length": 3125, "max_epochs": 200, "seeds": 10}
# Training of our networks where the described layer is the default.
OURS: dict[str, Any] = {
    "optimizer": "adamw",
    "select_by": None,
    "length": 512,
    "batch_size": 8,
    "max_epochs": 8,
    "seeds": 1,
}


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
    optimizer: Literal["adamw", "published"] = "adamw"
    """adamw: AdamW with clipping and warm-up, windows shuffled; published: plain Adam, a rate that is multiplied by 0.9 every fifth
    epoch, windows in the order of time."""
    learning_rate: float | None = None
    """Learning rate; by default 3e-3 for adamw and 5e-3 for published."""
    select_by: str | None = None
    """Validation score that selects the epoch, such as accuracy (as described); last: the last epoch. By default bits per spike for the
    loss bce, and average precision for others or for several losses."""
    seeds: int = 1
    """Networks per recording."""
    warm_up: int = 10_000
    """Bins before the test bins that all models read first, at most."""
    resamples: int = 200
    """Resamples of time blocks for the intervals; 0 computes none."""

    added: ClassVar[tuple[str, ...]] = ("optimizer", "select_by")


@dataclass(frozen=True)
class DescribedSettings(SpikeSettings):
    """Settings of the experiments that train the described model by default: the causal layer, by plain Adam."""

    networks: tuple[Literal["population", "units", "published", "legacy"], ...] = ("published",)
    """published: the described layer, causal; legacy: as in the published script, where it sees the bin that it predicts; population:
    ours, takes any units; units: ours, has parameters for each unit."""
    length: int = 256
    """Bins of a training window."""
    batch_size: int = 16
    """Windows of an optimizer step."""
    max_epochs: int = 10
    """Passes over the training windows."""
    optimizer: Literal["adamw", "published"] = "published"
    """published: plain Adam, a rate that is multiplied by 0.9 every fifth epoch, windows in the order of time; adamw: AdamW with clipping
    and warm-up, windows shuffled."""
    select_by: str | None = "accuracy"
    """Validation score that selects the epoch; last: the last epoch; None: bits per spike for the loss bce, and average precision for
    others or for several losses."""
    seeds: int = 10
    """Networks per recording."""
    depth: int = 1
    """Number of layers."""
    heads: int | None = None
    """Heads of a layer; by default 16 for the published layer and 2 for ours."""
    attention_dropout: bool | None = None
    """Drop attention weights of the published layer in training, as PyTorch does; by default not, because no kernel of a GPU does."""

    added: ClassVar[tuple[str, ...]] = ()  # earlier versions trained with other defaults

    @property
    def network_parameters(self) -> dict[str, Any]:
        """Options of the network as parameters of the estimator."""
        return {f"network__{name}": getattr(self, name) for name in ("depth", "heads", "attention_dropout")}


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
    thresholds : array of float, shape (n_runs,), optional
        Logits from which on a spike is predicted in this form; by default those of the model.
    """

    name: str
    model: SpikeTransformer
    same_bin: bool = False
    thresholds: Float[np.ndarray, "run"] | None = None

    def in_form(self, name: str, same_bin: bool, recordings: Sequence[Recording]) -> TrainedGrid:
        """Return the same networks scored in another form, with thresholds that are chosen in this form.

        Parameters
        ----------
        name : str
            Name of the variant.
        same_bin : bool
            Score as a reconstruction.
        recordings : sequence of Recording
            Training recordings, whose validation bins choose the thresholds.

        Returns
        -------
        TrainedGrid
            The networks.
        """
        model = self.model
        if same_bin == (model.network_options.kind == "legacy"):  # the form in which the model was calibrated
            return self._replace(name=name, same_bin=same_bin)
        names = [recording.name for recording in recordings]
        sources = [names.index(train_on) for train_on in model.result_.grid.column("train_on")]
        options: dict[str, Any] = {"n_bins": model.calibration_bins, "same_bin": same_bin}
        counts = model.forecaster_.count_validation(recordings, sources, **options)
        thresholds = np.array([choose_threshold(run_counts) for run_counts in counts])
        return self._replace(name=name, same_bin=same_bin, thresholds=thresholds)


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
        Names of the losses. Unless the settings have a score that selects the epoch, it is selected as the loss requires; with several,
        by average precision, which needs no probabilities and treats all losses alike.
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
        optimizer=settings.optimizer,
        learning_rate=settings.learning_rate,
        select_by=settings.select_by,
    ).set_params(**parameters)
    task, data, inputs = model.make_training(recordings, sources, objectives)
    suffix = name or ("" if kind == settings.networks[0] else kind)
    template = model.run_template(recordings, sources, objectives)
    result = folder.fit(task, data, inputs, grid, model.train_config(), suffix, template=template)
    return TrainedGrid(name or kind, model.keep_runs(result, recordings, sources))


def training_notes(settings: SpikeSettings) -> list[str]:
    """Describe how the networks were trained, and where that deviates from the published script.

    Parameters
    ----------
    settings : SpikeSettings
        Settings of the experiment.

    Returns
    -------
    list of str
        Sentences for a report.
    """
    chosen = {"last": "the last epoch", None: "the best bits per spike (BCE) or average precision (other losses)"}
    epoch = chosen.get(settings.select_by, f"the best {(settings.select_by or '').replace('_', ' ')}")
    data = "" if settings.select_by == "last" else " on validation bins of the training recording"
    published = settings.optimizer == "published"
    optimizer = "Adam as published, windows in the order of time" if published else "AdamW, windows shuffled"
    dropped = getattr(settings, "attention_dropout", None)
    layer = set(settings.networks) & {"published", "legacy"}
    return [
        f"Training: {optimizer}; windows of {settings.length:,} bins, {settings.batch_size} a step, up to {settings.max_epochs} epochs.",
        f"Epoch: {epoch}{data}. Threshold: on validation bins, the best recall minus false positive rate with at most 5 false positives in "
        "1,000 silent bins. The published script chooses the epoch on the session that it tests on, and the threshold on each training batch.",
        *(["The published layer is trained without dropout of attention weights."] if layer and not dropped else []),
    ]


class RecordingScores(NamedTuple):
    """Scores of all models on one recording.

    Parameters
    ----------
    scores : list of Score
        Rows of the score table. The split "test" holds the test bins, "train" the last training bins, and "window" each window of
        :func:`jaxephys.spikes.windows.scored_windows`, with its number as ``fold``. In the latter, variants that name a threshold hold
        accuracies: at that of the training recording, and at the one that predicts as many spikes as the tested recording has in
        the bins before.
    intervals : dict
        Intervals of the first seed on the test bins, see `score_intervals`.
    windows : dict
        Summaries of the first seed over all windows; those of bits per spike have intervals and differences.
    ranked : list of RankedBins
        What the curves of the first seed are drawn from.
    """

    scores: list[Score]
    intervals: Intervals
    windows: Windows
    ranked: list[RankedBins]


def score_grid(
    experiment: str,
    folder: RunFolder,
    recordings: Sequence[Recording],
    networks: Sequence[TrainedGrid],
    baselines: Sequence[SpikeBaselines],
    settings: SpikeSettings,
    pairs: Sequence[RecordingPair] = (),
) -> RecordingScores:
    """Score all models on every recording, see `score_models`.

    Parameters
    ----------
    experiment : str
        Name of the experiment.
    folder : RunFolder
        Folder, for a progress bar, ``intervals.csv`` and ``windows.csv``.
    recordings : sequence of Recording
        Recordings to score on.
    networks : sequence of TrainedGrid
        Networks trained on all recordings.
    baselines : sequence of SpikeBaselines
        Baselines fitted on each recording.
    settings : SpikeSettings
        Settings of the experiment.
    pairs : sequence of RecordingPair, optional
        Pairs whose ROC and precision-recall curves are drawn.

    Returns
    -------
    RecordingScores
        Scores of all recordings.
    """
    total = RecordingScores([], {}, {}, [])
    for recording in folder.track(recordings, "scoring"):
        found = score_models(experiment, recording, networks, baselines, settings, pairs)
        total.scores.extend(found.scores)
        total.ranked.extend(found.ranked)
        total.intervals.update(found.intervals)
        total.windows.update(found.windows)
    if folder.is_first_host:
        write_intervals(folder.path / "intervals.csv", total.intervals)
        write_windows(folder.path / "windows.csv", total.windows)
    return total


def score_models(
    experiment: str,
    recording: Recording,
    networks: Sequence[TrainedGrid],
    baselines: Sequence[SpikeBaselines],
    settings: SpikeSettings,
    pairs: Sequence[RecordingPair] = (),
) -> RecordingScores:
    """Score all networks and baselines on all test windows of a recording, and its own networks on its training bins.

    A network that is mixed with experts has rows of the mixture, of the network alone and of the experts without it. Networks alone and
    baselines are scored as they are, and after the same adaptation to the bins before the test.

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
    pairs : sequence of RecordingPair, optional
        Pairs whose ROC and precision-recall curves are drawn.

    Returns
    -------
    RecordingScores
        Scores, intervals, summaries over windows, and what curves are drawn from.
    """
    scores = _training_scores(experiment, recording, networks, settings.warm_up)
    intervals, ranked, samples = {}, [], {}
    drawn = (*(network.name for network in networks), *BASELINE_NAMES)
    for index, span in enumerate(scored_windows(recording)):
        resampled_scores = (BITS,) if index else BLOCK_SCORES
        for train_on, models in _count_models(recording, span, networks, baselines, settings.warm_up):
            key = train_on, recording.name
            rows = _window_scores(experiment, key, models, networks, index)
            first_seed = {name: split_past(next(iter(seeds.values())))[0] for name, seeds in models.items()}
            resampled = _resample_models(first_seed, settings.resamples, resampled_scores, index)
            samples.setdefault(key, []).append(_first_seed_scores(rows, models) | resampled)
            scores += rows
            if index == 0:
                if settings.resamples:
                    intervals |= {(*key, *one): _interval(values) for one, values in resampled.items()}
                thresholds = {network.name: _thresholds(network, train_on)[0] for network in networks}
                ranked += rank_bins(pairs, *key, {name: first_seed[name] for name in drawn}, thresholds)
    windows = {
        (*key, *one): summary for key, some in samples.items() for one, summary in summarize_windows(some).items()
    }
    return RecordingScores(scores, intervals, windows, ranked)


def _first_seed_scores(rows: Sequence[Score], models: Mapping[str, Mapping[int, StreamingCounts]]) -> Samples:
    """Scores of the first seed of all models on one window, in the form of samples without resamples."""
    first = {name: next(iter(seeds)) for name, seeds in models.items()}
    selected = (row for row in rows if row.metric in METRICS and row.seed == first.get(row.variant))
    return {(row.variant, row.metric): np.array([row.value]) for row in selected}


def _training_scores(
    experiment: str, recording: Recording, networks: Sequence[TrainedGrid], warm_up: int
) -> list[Score]:
    """Scores of the networks of a recording on the last of its training bins."""
    scores, name, span = [], recording.name, scored_spans(recording)["train"]
    for network in networks:
        counts = network.model.forecaster_.count_outcomes(recording, span, warm_up=warm_up, same_bin=network.same_bin)
        for seed, run_counts in _by_seed(network, counts, name).items():
            scores += metric_scores(experiment, network.name, name, name, seed, run_counts, "train")
    return scores


def _count_models(
    recording: Recording,
    span: tuple[int, int],
    networks: Sequence[TrainedGrid],
    baselines: Sequence[SpikeBaselines],
    warm_up: int,
) -> Iterator[tuple[str, dict[str, dict[int, StreamingCounts]]]]:
    """For each training recording, the counts of all models by seed, with the bins before the span as the last time block."""
    parts = [
        network.model.forecaster_.count_parts(recording, span, warm_up=warm_up, same_bin=network.same_bin)
        for network in networks
    ]
    mixed = next((network for network in networks if network.model.forecaster_.config.mixes_experts), None)
    counted = count_baseline_outcomes(baselines, recording, span, warm_up=warm_up)
    for fitted, of_baselines in zip(baselines, counted, strict=True):
        models: dict[str, dict[int, StreamingCounts]] = {}
        for network, part in zip(networks, parts, strict=True):
            models[network.name] = _by_seed(network, part.forecast, fitted.source)
            if network.same_bin:
                continue
            alone = network.name
            if part.network is not part.forecast:
                alone += ALONE
                models[alone] = _by_seed(network, part.network, fitted.source)
            adapted = {seed: adapt_with_past(counts) for seed, counts in models[alone].items()}
            models[alone + ADAPTED] = adapted
        if mixed is not None:
            first_run = mixed.model.result_.grid.where(train_on=fitted.source).tolist()[:1]
            experts = mixed.model.forecaster_.without_network().keep_runs(first_run)
            counts = experts.count_parts(recording, span, warm_up=warm_up).forecast
            models[WITHOUT_NETWORK] = {0: counts_of_run(counts, 0)}
        yield (
            fitted.source,
            models | {name: {0: StreamingCounts(*map(np.asarray, counts))} for name, counts in of_baselines.items()},
        )


def _window_scores(
    experiment: str,
    key: tuple[str, str],
    models: Mapping[str, Mapping[int, StreamingCounts]],
    networks: Sequence[TrainedGrid],
    window: int,
) -> list[Score]:
    """Scores of all models on one window, the first of which is the test split, and accuracies at thresholds of source and target."""
    scores, by_name = [], {network.name: network for network in networks}
    for name, seeds in models.items():
        thresholds = _thresholds(by_name[name], key[0]) if name in by_name else []
        for index, (seed, counts) in enumerate(seeds.items()):
            scored, past = split_past(counts)
            rows = metric_scores(experiment, name, *key, seed, scored)
            scores += rows if window == 0 else []
            scores += [row._replace(split="window", fold=window) for row in rows]
            pooled = np.asarray(scored.histogram).sum((0, 1)).astype(np.float64)
            labelled = {SOURCE_THRESHOLD: thresholds[index]} if thresholds else {}
            for label, threshold in (labelled | {RATE_THRESHOLD: match_rate(past)}).items():
                of_window = experiment, name + label, *key, seed, window, "window"
                values = accuracies(pooled, threshold)
                scores += [Score(*of_window, metric, value, int(pooled.sum())) for metric, value in values.items()]
    return scores


def _by_seed(network: TrainedGrid, counts: StreamingCounts, train_on: str) -> dict[int, StreamingCounts]:
    """Counts of the networks of one training recording."""
    grid = network.model.result_.grid
    return {grid[run]["seed"]: counts_of_run(counts, run) for run in grid.where(train_on=train_on).tolist()}


def _thresholds(network: TrainedGrid, train_on: str) -> list[float]:
    """Thresholds of the networks of one training recording, in the order of seeds."""
    thresholds = network.model.thresholds_ if network.thresholds is None else network.thresholds
    return [float(thresholds[run]) for run in network.model.result_.grid.where(train_on=train_on)]


def score_losses(
    experiment: str,
    recording: Recording,
    model: SpikeTransformer,
    settings: SpikeSettings,
    pairs: Sequence[RecordingPair] = (),
) -> tuple[list[Score], Intervals, list[RankedBins]]:
    """Score each network on the test bins of its own recording, without the mixture of experts, which would hide differences.

    Parameters
    ----------
    experiment : str
        Name of the experiment.
    recording : Recording
        The recording.
    model : SpikeTransformer
        The networks, one per loss, recording and seed.
    settings : SpikeSettings
        Settings of the experiment.
    pairs : sequence of RecordingPair, optional
        Pairs whose ROC and precision-recall curves are drawn.

    Returns
    -------
    scores : list of Score
        Rows of the score table; the variant is the loss.
    intervals : dict
        Intervals of the first seed, and of the differences between losses.
    ranked : list of RankedBins
        What the curves of the first seed, and of the training rate, are drawn from.
    """
    network, grid = model.forecaster_.without_experts(), model.result_.grid
    counts = network.count_outcomes(recording, recording.span("test"), warm_up=settings.warm_up)
    scores, first_seed, thresholds = [], {}, {}
    for run in grid.where(train_on=recording.name).tolist():
        loss, seed, run_counts = grid[run]["loss"], grid[run]["seed"], counts_of_run(counts, run)
        scores += metric_scores(experiment, loss, recording.name, recording.name, seed, run_counts)
        if seed == 0:
            first_seed[loss] = run_counts
            if settings.networks[0] in ("published", "legacy"):  # the thresholds of others are those of mixtures
                thresholds[loss] = float(model.thresholds_[run])
    ranked = rank_bins(pairs, recording.name, recording.name, first_seed, thresholds)
    ranked += [rank_by_training_rate(pair, recording) for pair in pairs if pair.train_on == recording.name]
    return scores, score_intervals(first_seed, recording.name, recording.name, settings.resamples), ranked


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


def epoch_scores(
    experiment: str, variant: str, model: SpikeTransformer, recordings: Sequence[Recording], metrics: Sequence[str]
) -> list[Score]:
    """Return the validation scores of each run at the epoch that was selected, as rows of ``scores.csv``.

    Parameters
    ----------
    experiment, variant : str
        Names of the experiment and of the model.
    model : SpikeTransformer
        All runs of a grid.
    recordings : sequence of Recording
        Training recordings.
    metrics : sequence of str
        Validation scores, such as "roc_auc".

    Returns
    -------
    list of Score
        One row per run and metric, of the split "validation".
    """
    entries = {one.name: (one.span("validation")[1] - one.span("validation")[0]) * one.units for one in recordings}
    result, rows = model.result_, []
    for index, run in enumerate(result.grid):
        best, name = int(result.run_results.best_epoch[index]), run["train_on"]
        for metric in metrics if best else ():  # a diverged run may have no epoch
            value = float(result.history[f"valid_{metric}"][index, best - 1])
            rows.append(
                Score(experiment, variant, name, name, run["seed"], 0, "validation", metric, value, entries[name])
            )
    return rows


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
    resampled = _resample_models(models, resamples)
    return {(train_on, test_on, *key): _interval(values) for key, values in resampled.items() if resamples}


def _resample_models(
    models: Mapping[str, StreamingCounts], resamples: int, scores: Sequence[str] = BLOCK_SCORES, seed: int = 0
) -> Samples:
    """Scores of all models on resampled time blocks, and the differences of networks from other models."""
    (first, bins), *others = ((name, np.asarray(counts.histogram).sum(axis=2)) for name, counts in models.items())
    for name, other_bins in others:
        if not np.array_equal(bins, other_bins):
            raise RuntimeError(f"{name} was not scored on the bins of {first}")
    return {
        (name, metric): values
        for (name, metric), values in resample_blocks(models, resamples, scores, seed=seed).items()
        if name in models or name.split(" - ")[0] not in REFERENCES
    }


def _interval(values: Float[np.ndarray, "resample"]) -> Interval:
    return centered_interval(values[0], values[1:])


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
