"""Attention of the published layer, made causal: the bins that it attends to, and how its scores depend on attention.

Reproduces Figure 5 of Shimono (2026):

- attention maps, and the mean attention weight as a function of the lag;
- correlations of the population rate with measures of attention per query bin and per key bin. One measure is attention weighted by
  importance (AWI), where the importance of a bin is the gradient of the loss with respect to its spikes;
- scores without attention, and with the units shuffled in the last 50 % or 95 % of each window.

The published layer sees the bin that it predicts. It can copy this bin, so neither a diagonal in its attention map nor a high AUC
without attention shows that it uses the past. Here the layer is causal and predicts the next bin. Correlations are compared with those
of uniform attention, and scores with those of a forecast from the running rate alone.

    python -m experiments.spikes_attention                                   4 simulated populations
    python -m experiments.spikes_attention --data ../shared/data/spikes      one in vitro and one in vivo recording

Published: the correlation with the rate is positive for query bins and negative for key bins; disabling attention reduces the AUC
only slightly. Expected on one in vitro and one in vivo recording (3 epochs): weights are almost uniform, correlations hardly exceed
those of uniform attention, and the layer trained without attention has the same ROC AUC (0.916 in vitro, 0.793 in vivo).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax

from data_prep.spikes.load import read_or_simulate
from experiments.command_line import main
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.tables import model_table
from jaxephys.spikes.attention_analysis import (
    TRAINED,
    AttentionAnalysis,
    analyze_attention,
    compared_models,
    count_window_outcomes,
    cut_test_windows,
)
from jaxephys.spikes.attribution import AlteredAttention
from jaxephys.spikes.grid import METRICS, SpikeSettings, metric_scores, train_grid
from jaxephys.spikes.report.attention import NOTES, correlation_table, draw_attention_analysis
from jaxephys.spikes.task import Objective


@dataclass(frozen=True)
class SpikeAttention(SpikeSettings):
    """Settings of the analysis of attention."""

    populations: int = 4
    """Number of simulated populations, alternately in vitro and in vivo."""
    networks: tuple[Literal["published"], ...] = ("published",)
    """Only the published layer, made causal, can be analyzed."""
    windows: int = 16
    """Number of evenly spaced windows of the test bins that are analyzed."""
    shares: tuple[float, ...] = (0.5, 0.95)
    """Fractions of a window: in the last part of this length, the units are shuffled."""


PRESETS = {
    "default": SpikeAttention(),
    "smoke": SpikeAttention(populations=2, minutes=0.2, max_epochs=1, length=128, windows=4),
}
INTRODUCTION = """The published layer, causal and predicting the next bin, is trained on each recording and analyzed in its test
windows."""


def run(settings: SpikeAttention, folder: RunFolder) -> None:
    """Train the layer with and without attention, analyze and report.

    Parameters
    ----------
    settings : SpikeAttention
        Settings of the experiment.
    folder : RunFolder
        Folder that receives the results.
    """
    recordings, _ = read_or_simulate(settings.data, settings.populations, settings.minutes, settings.units)
    n_runs = 2 * len(recordings) * settings.seeds  # with and without attention
    folder.announce_run(n_runs, recordings=[recording.packed for recording in recordings])
    model = train_grid(folder, recordings, settings, "published", ("bce",)).model
    result = model.result_
    network = model.forecaster_.config.network
    network_without = AlteredAttention(network, "none")
    names = [recording.name for recording in recordings]
    sources = [names.index(train_on) for train_on in model.sources_]
    training = model.make_training(recordings, sources, [Objective("bce")] * len(sources), network_without)
    result_without = folder.fit(*training, result.grid, model.train_config(), "blind")
    scores: list[Score] = []
    correlations: list[Score] = []
    analyses: dict[str, AttentionAnalysis] = {}  # of the first seed of each recording, for the figures
    for recording in folder.track(recordings, "analyzing"):
        windows = cut_test_windows(recording, settings.length, settings.windows)
        for index in result.grid.where(train_on=recording.name).tolist():
            seed = result.grid[index]["seed"]
            variables, variables_without = (
                jax.tree.map(lambda leaf, i=index: leaf[i], trained.best) for trained in (result, result_without)
            )
            key = recording.name, recording.name, seed
            models = compared_models(network, variables, network_without, variables_without, settings.shares)
            for name, (compute_logits, share) in models.items():
                counts = count_window_outcomes(compute_logits, windows, share)
                scores += metric_scores("spikes_attention", name, *key, counts)
            analysis = analyze_attention(network, variables, windows)
            analyses.setdefault(recording.name, analysis)
            for (measure, rate), values in analysis.correlations.items():
                for attention, r in zip((TRAINED, "uniform"), values, strict=True):
                    variant = "spikes_attention", f"{measure}, {attention}"
                    correlations.append(Score(*variant, *key, 0, "test", f"r with {rate}", r, len(windows)))
    if not folder.is_first_host:
        return
    model.save(folder.path / "model", overwrite=True)
    tables, figures = {}, {}
    for name, analysis in analyses.items():
        correlated = correlation_table(correlations, name, (TRAINED, "uniform"))
        scored = model_table([score for score in scores if score.test_on == name], METRICS, ranked=False)
        tables[f"{name}: correlation with the population"] = correlated
        tables[f"{name}: altered attention and shuffled units"] = scored
        figures[f"{name}: attention"] = draw_attention_analysis(folder.path, name, analysis)
    notes = [f"{model.causality_}.", *NOTES]
    scores += correlations
    folder.write_report(scores, "Attention of the published layer", INTRODUCTION, tables, figures, notes)


if __name__ == "__main__":
    main("spikes_attention", __doc__, PRESETS, run)
