"""Attention of the published layer, made causal: the bins that it attends to, and how its scores depend on attention.

Reproduces Figure 5 of Shimono (2026), for networks trained with the published Dice loss and with cross-entropy:

- a: the mean attention weight as a function of the lag;
- b: maps of attention and of attention weighted by importance (AWI), where the importance of a bin is the gradient of the loss that the
  network was trained with, with respect to the spikes of the bin;
- c, e, f: correlations of attention measures per query bin and per key bin with the rate of the training input, of the test windows and
  of the generated data (predictions one step ahead, thresholded), with t tests at p < .01;
- g: scores without attention, and with the units shuffled in the last 50 % or 95 % of each window, of networks on their own recording,
  trained in vitro and scored in vivo, and the reverse.

The published layer sees the bin that it predicts. It can copy this bin, so neither a diagonal in its attention map nor a high AUC
without attention shows that it uses the past. Here the layer is causal and predicts the next bin. Correlations are compared with those
of uniform attention, and scores with those of a forecast from the running rate alone.

    python -m experiments.spikes_attention                           4 simulated populations of a minute
    python -m experiments.spikes_attention paper --data FOLDER       Dice only, windows of 3,125 bins, 200 epochs, ten seeds
    python -m experiments.spikes_attention short --data FOLDER       8 epochs of AdamW

Times of training, by the rates of spikes_grid (2.3 CPU-hours a network of ``paper``): ``paper``, 240 networks, 12 days on two cores and about
80 minutes on an H100; ``python -m jaxephys plan spikes_attention paper`` predicts it for the device at hand.

Published: the correlation with the rate of the training input is positive for query bins and negative for key bins (p < .01), that with
the generated rate is not significant; disabling attention reduces the AUC only slightly.
Expected of ``short --losses bce --max-epochs 3`` on one in vitro and one in vivo recording: weights are almost uniform, correlations
hardly exceed those of uniform attention, and the layer trained without attention has the same ROC AUC (0.916 in vitro, 0.793 in vivo).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data_prep.spikes.load import read_or_simulate
from experiments.command_line import main
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.spikes.attention_analysis import AttentionAnalysis
from jaxephys.spikes.attention_grid import analyze_runs, score_altered, train_with_and_without_attention
from jaxephys.spikes.grid import OURS, PAPER, DescribedSettings, training_notes, write_intervals
from jaxephys.spikes.published_values import QUESTIONS
from jaxephys.spikes.report.attention import NOTES, attention_figures, attention_headlines, attention_tables


@dataclass(frozen=True)
class SpikeAttention(DescribedSettings):
    """Settings of the analysis of attention."""

    populations: int = 4
    """Number of simulated populations, alternately in vitro and in vivo."""
    networks: tuple[Literal["published"], ...] = ("published",)
    """Only the published layer, made causal, can be analyzed."""
    seeds: int = 1
    """Networks per recording and loss."""
    losses: tuple[str, ...] = ("dice", "bce")
    """Names of the losses that networks are trained with, each in turn; the published one is dice."""
    windows: int = 16
    """Number of evenly spaced windows of the test bins, and of the training bins, that are analyzed."""
    shares: tuple[float, ...] = (0.5, 0.95)
    """Fractions of a window: in the last part of this length, the units are shuffled."""


PRESETS = {
    "default": SpikeAttention(),
    "paper": SpikeAttention(populations=12, losses=("dice",), **PAPER),
    "short": SpikeAttention(**OURS),
    "smoke": SpikeAttention(
        populations=2, minutes=0.2, units=16, max_epochs=1, length=128, windows=4, losses=("dice",), resamples=5
    ),
}
INTRODUCTION = """The published layer, causal and predicting the next bin, is trained on each recording with each loss, with and without
attention, and analyzed in windows of its training and test bins."""


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
    n_runs = 2 * len(recordings) * settings.seeds * len(settings.losses)  # with and without attention
    folder.announce_run(n_runs, recordings=[recording.packed for recording in recordings])
    runs = train_with_and_without_attention(folder, recordings, settings, settings.losses)
    scores: list[Score] = []
    intervals = {}
    analyses: dict[str, dict[str, list[AttentionAnalysis]]] = {loss: {} for loss in settings.losses}
    sizes = {"length": settings.length, "n_windows": settings.windows}
    for recording in folder.track(recordings, "analyzing"):
        of_losses, correlations = analyze_runs(runs, recording, **sizes)
        for loss, of_seeds in of_losses.items():
            analyses[loss][recording.name] = of_seeds
        resampling = {"shares": settings.shares, "resamples": settings.resamples}
        altered, found = score_altered(runs, recordings, recording, **sizes, **resampling)
        scores += [*altered, *correlations]
        intervals |= found
    if not folder.is_first_host:
        return
    runs.model.save(folder.path / "model", overwrite=True)
    write_intervals(folder.path / "intervals.csv", intervals)
    tables = attention_tables(scores, intervals, analyses, recordings)
    figures = attention_figures(folder.path, scores, intervals, analyses, recordings, settings.shares)
    notes = [f"{runs.model.causality_}.", *training_notes(settings), *NOTES]
    title, question = "Attention of the published layer", QUESTIONS["spikes_attention"]
    headlines = attention_headlines(recordings, settings.losses)
    folder.write_report(scores, title, INTRODUCTION, tables, figures, notes, question, headlines, intervals=intervals)


if __name__ == "__main__":
    main("spikes_attention", __doc__, PRESETS, run)
