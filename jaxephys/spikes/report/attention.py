"""Tables and figure of attention. Start with :func:`correlation_table`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxephys.evaluation.scores import Score
from jaxephys.reporting.plots import PALETTE, STYLE, save_figure
from jaxephys.reporting.score_table import summarize
from jaxephys.reporting.tables import Cell, Table, summary_cell
from jaxephys.spikes.attention_analysis import MEASURES, RUNNING_RATE, AttentionAnalysis, uniform_lag_profile

NOTES = [
    "attended_rate, entropy and awi_row belong to the query bin, received and awi_column to the key bin; "
    "jaxephys/spikes/attribution.py has the formulas.",
    "uniform: the same correlation for attention that is uniform over all earlier bins. What does not exceed it follows from the "
    "causal mask and slow rates alone.",
    f"{RUNNING_RATE}: a forecast from each unit's own rate in the window so far. If shuffled units reduce its scores as much as those of "
    "the network, the shuffle has only shown that units differ in rate.",
    "Scores are of the second half of windows that begin without a past; windows and bins are the same for all models.",
]


def correlation_table(scores: Sequence[Score], recording: str, variants: Sequence[str]) -> Table:
    """Summarize the correlations of attention measures with the population's spikes and their forecast.

    Parameters
    ----------
    scores : sequence of Score
        Correlations, with variants "<measure>, <attention>" and metrics "r with spikes" and "r with forecast".
    recording : str
        Name of the recording.
    variants : sequence of str
        Kinds of attention, such as "trained" and "uniform".

    Returns
    -------
    Table
        One row per measure; mean and standard deviation over seeds.
    """
    summaries = summarize([score for score in scores if score.test_on == recording])
    columns = {
        "side": [Cell(side) for side in MEASURES.values()],
        "measure": [Cell(measure) for measure in MEASURES],
    }
    for rate in ("spikes", "forecast"):
        for variant in variants:
            keys = [(f"{measure}, {variant}", f"r with {rate}") for measure in MEASURES]
            columns[f"{rate}, {variant}"] = [summary_cell(summaries[key]) for key in keys]
    note = "Pearson's r over the bins of a window with the number of spikes of the population, and with its forecast."
    return Table(columns, [note])


@matplotlib.rc_context(STYLE)
def draw_attention_analysis(folder: Path, name: str, analysis: AttentionAnalysis) -> Path:
    """Draw the attention matrix of a few bins, and the profile over lags beside that of uniform attention.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    name : str
        Name of the recording.
    analysis : AttentionAnalysis
        Result of :func:`jaxephys.spikes.attention_analysis.analyze_attention`.

    Returns
    -------
    Path
        The figure; a CSV file with the profile is written beside it.
    """
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    image = left.imshow(np.log10(np.maximum(analysis.map, 1e-5)), cmap="magma", interpolation="nearest")
    left.set(xlabel="Key bin", ylabel="Query bin", title="log10 attention weight, mean over heads")
    figure.colorbar(image, ax=left, shrink=0.8)
    profile = analysis.lag_profile
    lags, uniform = np.arange(1, len(profile)), uniform_lag_profile(analysis.n_bins, len(profile))
    right.plot(lags, profile[1:], color=PALETTE[0], linewidth=3, alpha=0.6, label="trained")  # may coincide
    right.plot(lags, uniform[1:], color="black", linestyle="--", linewidth=1, label="uniform")
    right.plot([1], [profile[0]], "o", color=PALETTE[1], label="own bin")
    right.set(xscale="log", xlabel="Lag (bins)", ylabel="Mean attention weight", title="Profile over lags")
    right.legend()
    rows = [(lag, float(value), float(uniform[lag])) for lag, value in enumerate(profile)]
    return save_figure(figure, folder, f"attention_{name}", ("lag", "attention", "uniform"), rows)
