"""Networks trained with and without attention, and their scores with altered attention and shuffled units.

Start with :func:`train_with_and_without_attention`, :func:`score_altered` and :func:`analyze_runs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxephys.engine.fit import FitResult
from jaxephys.engine.task import Variables
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.attention_analysis import (
    TRAINED,
    AttentionAnalysis,
    analyze_attention,
    compared_models,
    count_window_outcomes,
    cut_windows,
    mean_correlation,
)
from jaxephys.spikes.attribution import AlteredAttention
from jaxephys.spikes.estimator import SpikeTransformer
from jaxephys.spikes.grid import DescribedSettings, Intervals, metric_scores, score_intervals, train_grid
from jaxephys.spikes.network import SpikeNetwork
from jaxephys.spikes.report.transfer import pair_groups
from jaxephys.spikes.streaming_scores import StreamingCounts
from jaxephys.spikes.task import Objective

EXPERIMENT = "spikes_attention"


class AttentionRuns(NamedTuple):
    """The same layer trained with and without attention, once per loss, recording and seed.

    Parameters
    ----------
    model : SpikeTransformer
        Networks with attention. The grid of its ``result_`` has the factors ``loss``, ``train_on`` and ``seed``.
    network_without : SpikeNetwork
        The network without attention.
    result_without : FitResult
        Its runs, in the same order.
    """

    model: SpikeTransformer
    network_without: SpikeNetwork
    result_without: FitResult

    def variables(self, run: int) -> tuple[Variables, Variables]:
        """Return the variables of a run with and without attention.

        Parameters
        ----------
        run : int
            Index of the run.

        Returns
        -------
        with_attention, without : dict
            Variables without a run axis.
        """
        with_attention, without = (
            jax.tree.map(lambda leaf: leaf[run], trained.best) for trained in (self.model.result_, self.result_without)
        )
        return with_attention, without

    def threshold(self, run: int) -> float:
        """Return the threshold of a run, chosen on validation bins, for the logits of the network before calibration.

        Parameters
        ----------
        run : int
            Index of the run.

        Returns
        -------
        float
            Logit from which on a spike is predicted.
        """
        parameters = self.model.forecaster_.parameters
        return float((self.model.thresholds_[run] - parameters.shift[run]) / parameters.scale[run])


def variant_name(model: str, loss: str) -> str:
    """Return the name of a compared network in scores.

    Parameters
    ----------
    model : str
        Name of the compared model, such as "trained".
    loss : str
        Loss that it was trained with.

    Returns
    -------
    str
        Such as "trained (dice)".
    """
    return f"{model} ({loss})"


def altered_groups(recordings: Sequence[Recording]) -> dict[str, list[tuple[str, str]]]:
    """Group the pairs of recordings on which altered networks are scored.

    Parameters
    ----------
    recordings : sequence of Recording
        All recordings.

    Returns
    -------
    dict of str to list of (str, str)
        Pairs (trained on, tested on): each recording with itself, and recordings of two domains.
    """
    groups = pair_groups(recordings)
    return {group: pairs for group, pairs in groups.items() if group.endswith("self") or " -> " in group}


def train_with_and_without_attention(
    folder: RunFolder, recordings: Sequence[Recording], settings: DescribedSettings, losses: Sequence[str]
) -> AttentionRuns:
    """Train the published layer, made causal, on each recording with each loss, and once more without attention.

    Parameters
    ----------
    folder : RunFolder
        Folder for checkpoints and history.
    recordings : sequence of Recording
        Training recordings of equally many units.
    settings : DescribedSettings
        Settings of the experiment.
    losses : sequence of str
        Names of the losses.

    Returns
    -------
    AttentionRuns
        Both trainings.
    """
    model = train_grid(folder, recordings, settings, "published", losses, **settings.network_parameters).model
    grid = model.result_.grid
    names = [recording.name for recording in recordings]
    sources = [names.index(train_on) for train_on in grid.column("train_on")]
    objectives = [Objective(loss) for loss in grid.column("loss")]
    network_without = AlteredAttention(model.forecaster_.config.network, "none")
    task, data, inputs = model.make_training(recordings, sources, objectives, network_without)
    result_without = folder.fit(task, data, inputs, grid, model.train_config(), "blind")
    return AttentionRuns(model, network_without, result_without)


def score_altered(
    runs: AttentionRuns,
    recordings: Sequence[Recording],
    target: Recording,
    *,
    length: int,
    n_windows: int,
    shares: Sequence[float],
    resamples: int = 0,
) -> tuple[list[Score], Intervals]:
    """Score altered networks in test windows of a recording: those trained on it, and those of other domains.

    Parameters
    ----------
    runs : AttentionRuns
        Trained networks.
    recordings : sequence of Recording
        Training recordings.
    target : Recording
        Recording to score on.
    length : int
        Bins of a window.
    n_windows : int
        Number of windows.
    shares : sequence of float
        Fractions of a window: in the last part of this length, the units are shuffled.
    resamples : int, default 0
        Resamples of windows for intervals of the first seed, where a group of pairs consists of one; 0 computes none.

    Returns
    -------
    scores : list of Score
        The variant is that of `variant_name`, or the name of a running rate.
    intervals : dict
        See :func:`jaxephys.spikes.grid.score_intervals`.
    """
    domains = {recording.name: recording.domain for recording in recordings}
    windows = cut_windows(target, length, n_windows)
    single = [pairs[0] for pairs in altered_groups(recordings).values() if len(pairs) == 1 and resamples]
    grid, network = runs.model.result_.grid, runs.model.forecaster_.config.network
    scores: list[Score] = []
    first_seed: dict[str, dict[str, StreamingCounts]] = {}
    for index, run in enumerate(grid):
        train_on = run["train_on"]
        if train_on != target.name and domains[train_on] == target.domain:
            continue
        variables, variables_without = runs.variables(index)
        models = compared_models(network, variables, runs.network_without, variables_without, shares)
        for name, model in models.items():
            if model.network is None and run["loss"] != grid[0]["loss"]:
                continue  # the running rate is the same for all losses
            variant = name if model.network is None else variant_name(name, run["loss"])
            counts = count_window_outcomes(model, windows)
            scores += metric_scores(EXPERIMENT, variant, train_on, target.name, run["seed"], counts)
            if (train_on, target.name) in single:
                first_seed.setdefault(train_on, {}).setdefault(variant, counts)
    intervals: Intervals = {}
    if len(windows) > 1:
        for train_on, counts_of_models in first_seed.items():
            intervals |= score_intervals(counts_of_models, train_on, target.name, resamples)
    return scores, intervals


def analyze_runs(
    runs: AttentionRuns, recording: Recording, *, length: int, n_windows: int
) -> tuple[dict[str, list[AttentionAnalysis]], list[Score]]:
    """Analyze the attention of the networks that were trained on a recording.

    Parameters
    ----------
    runs : AttentionRuns
        Trained networks.
    recording : Recording
        The recording.
    length : int
        Bins of a window.
    n_windows : int
        Number of windows of the training and of the test bins.

    Returns
    -------
    analyses : dict of str to list of AttentionAnalysis
        By loss, one per seed.
    scores : list of Score
        Mean correlation of each measure with each rate; the variant is that of `variant_name` of "measure, trained" or "measure,
        uniform", the metric is "r with RATE".
    """
    grid, network = runs.model.result_.grid, runs.model.forecaster_.config.network
    windows, training_windows = (cut_windows(recording, length, n_windows, split) for split in ("test", "train"))
    analyses: dict[str, list[AttentionAnalysis]] = {}
    scores = []
    for index in grid.where(train_on=recording.name).tolist():
        loss, seed = grid[index]["loss"], grid[index]["seed"]
        variables, threshold = runs.variables(index)[0], runs.threshold(index)
        analysis = analyze_attention(network, variables, windows, training_windows, loss, threshold)
        analyses.setdefault(loss, []).append(analysis)
        for (measure, rate), of_windows in analysis.correlations.items():
            for attention, r in zip((TRAINED, "uniform"), of_windows, strict=True):
                variant = variant_name(f"{measure}, {attention}", loss)
                key = EXPERIMENT, variant, recording.name, recording.name, seed, 0, "test", f"r with {rate}"
                scores.append(Score(*key, mean_correlation(np.asarray(r)), len(r)))
    return analyses, scores
