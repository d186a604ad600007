"""Attention of the published layer, made causal: which bins it attends to, and its scores with altered attention.

Reproduces Figure 5 of Shimono (2026): attention maps, their profile over lags, gradient importance, and attention weighted by it
(AWI), each correlated with the population's rate on the query and on the key side; attention disabled; units shuffled over the last
50 and 95 % of a window. The published layer sees the bin that it predicts, so that a diagonal in the map and an intact AUC without
attention are no evidence about time. Here the layer is causal and predicts the next bin, and every number is compared with that of
uniform attention or of a rate alone.

    python -m experiments.spikes_attention                                   4 simulated populations
    python -m experiments.spikes_attention --data ../shared/data/spikes      one in vitro and one in vivo recording

Published: correlation with the rate positive on the query side, negative on the key side; disabling attention costs little AUC.
Expected on one in vitro and one in vivo recording (3 epochs): weights are almost uniform, correlations hardly exceed those of uniform
attention, and the layer trained without attention has the same scores (ROC AUC 0.916 and 0.793).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
from rich.progress import track

from data_prep.spikes.load import read_or_simulate
from experiments.command_line import main
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.spikes.attention_analysis import (
    TRAINED,
    WITHOUT,
    analyze_attention,
    compared_models,
    count_window_outcomes,
    cut_test_windows,
)
from jaxephys.spikes.attribution import AlteredAttention
from jaxephys.spikes.grid import SpikeSettings, score_rows, train_grid, train_networks
from jaxephys.spikes.report.attention import (
    NOTES,
    attention_score_table,
    correlation_table,
    draw_attention_analysis,
)


@dataclass(frozen=True)
class SpikeAttention(SpikeSettings):
    """Settings of the analysis of attention."""

    populations: int = 4
    """Number of simulated populations, in vitro and in vivo in turn."""
    networks: tuple[Literal["published"], ...] = ("published",)
    """The published layer, causal."""
    windows: int = 16
    """Test windows that are analyzed, evenly spaced."""
    shares: tuple[float, ...] = (0.5, 0.95)
    """Parts of a window, counted from its end, in which units are shuffled."""


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
    folder.announce_run(2 * len(recordings) * settings.seeds, recordings=[one.packed for one in recordings])
    model, result = train_networks(folder, recordings, settings, "published", ("bce",))
    network = model.forecaster_.config.network
    without = AlteredAttention(network, "none")
    control = train_grid(folder, recordings, model, without, result.grid, WITHOUT, "blind")
    scores: list[Score] = []
    analyses, variants = {}, []
    for recording in track(recordings, "analyzing", transient=True):
        windows = cut_test_windows(recording, settings.length, settings.windows)
        for index in result.grid.where(train_on=recording.name).tolist():
            seed = result.grid[index]["seed"]
            variables, of_control = (jax.tree.map(lambda leaf, i=index: leaf[i], one.best) for one in (result, control))
            key = recording.name, recording.name, seed
            models = compared_models(network, variables, without, of_control, settings.shares)
            variants = list(models)
            for name, (apply, share) in models.items():
                scores += score_rows("spikes_attention", name, *key, count_window_outcomes(apply, windows, share))
            analysis = analyze_attention(network, variables, windows)
            analyses.setdefault(recording.name, analysis)
            for (measure, rate), correlations in analysis.correlations.items():
                for attention, r in zip((TRAINED, "uniform"), correlations, strict=True):
                    variant, metric = f"{measure}, {attention}", f"r with {rate}"
                    scores.append(Score("spikes_attention", variant, *key, 0, "test", metric, r, len(windows)))
    if not folder.is_first_host:
        return
    model.save(folder.path / "model", overwrite=True)
    tables = {
        f"{name}: correlation with the population": correlation_table(scores, name, (TRAINED, "uniform"))
        for name in analyses
    }
    tables |= {
        f"{name}: altered attention and shuffled units": attention_score_table(scores, name, variants)
        for name in analyses
    }
    figures = {
        f"{name}: attention": draw_attention_analysis(folder.path, name, analysis)
        for name, analysis in analyses.items()
    }
    notes = [f"{model.causality_}.", *NOTES]
    folder.write_report(scores, "Attention of the published layer", INTRODUCTION, tables, figures, notes)


if __name__ == "__main__":
    main("spikes_attention", __doc__, PRESETS, run)
