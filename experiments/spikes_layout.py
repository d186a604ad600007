"""A map of recordings from a transfer grid: mutual predictability, rankings, and substitutes in training.

Reproduces the three-dimensional map of Figure 4 of Shimono (2026). With the transfer grid, s_ij = (score_ij + score_ji) / 2 and
d_ij = 1 / s_ij - 1; points are placed such that their distances approximate d. The paper uses one gradient descent from a random
start (``--method gradient_descent``). Here the map is made by SMACOF, whose steps cannot increase the stress, from many starts; the report
compares both methods and states how much the maps of other starts differ (Procrustes disparity) and how much the rankings of recordings
depend on the seed and the model. The paper
proposes the map to choose substitutes for a recording; they are listed with their scores.

    python -m experiments.spikes_layout --grid runs/spikes_grid/RUN          map of a finished run of spikes_grid
    python -m experiments.spikes_layout smoke --grid runs/spikes_grid/RUN    few starts

Published: local populations are good to train on, the cerebellum is easy to predict. The computation takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from experiments.command_line import main
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import read_scores
from jaxephys.reporting.settings import Settings
from jaxephys.spikes.baselines import BASELINE_NAMES
from jaxephys.spikes.grid import DESCRIBED
from jaxephys.spikes.layout import METHODS, make_layout
from jaxephys.spikes.published_values import QUESTIONS
from jaxephys.spikes.report.layout import draw_layout, layout_notes, layout_row, layout_tables, method_table
from jaxephys.spikes.report.transfer import score_matrix


@dataclass(frozen=True)
class SpikeMap(Settings):
    """Settings of the map."""

    grid: Path = Path("grid")
    """Folder of a finished run of spikes_grid, or its scores.csv."""
    variant: str | None = None
    """Model whose scores make the map: a network or a baseline of that run. By default the first network that the run has of
    population, published layer, units and others."""
    metric: str = "roc_auc"
    """Score between 0 and 1."""
    dimensions: int = 3
    """Dimensions of the map."""
    restarts: int = 32
    """Number of random starts."""
    method: Literal["smacof", "gradient_descent"] = "smacof"
    """How the map that is drawn is made; both are compared."""


PRESETS = {"default": SpikeMap(), "smoke": SpikeMap(restarts=4)}
INTRODUCTION = """Distances are d = 1 / s - 1, with s the mean of the scores in both directions. Rankings and substitutes follow from
the grid itself; the map only approximates it."""


def run(settings: SpikeMap, folder: RunFolder) -> None:
    """Make the map and report it.

    Parameters
    ----------
    settings : SpikeMap
        Settings of the experiment.
    folder : RunFolder
        Folder that receives the results.
    """
    scores, variant, names = read_grid(settings)
    metric = settings.metric
    matrix = score_matrix(scores, variant, metric, names)
    missing = np.argwhere(~np.isfinite(matrix))
    if len(missing):
        i, j = missing[0]
        raise ValueError(f"there is no {metric} of {names[i]} on {names[j]}: a map needs every pair of recordings")
    folder.announce_run(1, grid=matrix)
    layouts = {method: make_layout(matrix, settings.dimensions, settings.restarts, method=method) for method in METHODS}
    layout = layouts[settings.method]
    figures = {"Map: recordings that predict each other well are close": draw_layout(folder.path, layout, names)}
    tables = layout_tables(matrix, names, scores, variant, metric)
    tables["Methods"] = method_table(layouts, settings.method)
    used = [score for score in scores if (score.variant, score.metric) == (variant, metric)]
    title = f"Map of {len(names)} recordings by {metric} of {variant}"
    notes, question = layout_notes(layout, matrix), QUESTIONS["spikes_layout"]
    folder.write_report(used, title, INTRODUCTION, tables, figures, notes, question, [layout_row(layouts)])


def read_grid(settings: SpikeMap) -> tuple[list[Score], str, list[str]]:
    """Read the test scores of a transfer grid.

    Parameters
    ----------
    settings : SpikeMap
        Settings of the experiment.

    Returns
    -------
    scores : list of Score
        Test scores of all models.
    variant : str
        Model whose scores make the map.
    names : list of str
        Names of the recordings.

    Raises
    ------
    ValueError
        If there are no scores, or none of the chosen model.
    """
    path = settings.grid / "scores.csv" if settings.grid.is_dir() else settings.grid
    if not path.is_file():
        raise ValueError(f"there is no {path}: give --grid the folder of a finished run of spikes_grid")
    scores = [score for score in read_scores(path) if score.split == "test"]
    variants = sorted({score.variant for score in scores})
    variant = settings.variant or choose_network(variants)
    if variant not in variants:
        raise ValueError(f"{path} has no scores of {variant!r}: choose --variant from {', '.join(variants)}")
    names = dict.fromkeys(score.test_on for score in scores if score.variant == variant)
    return scores, variant, list(names)


def choose_network(variants: list[str]) -> str:
    """Return the network of a transfer grid whose map is drawn by default.

    Parameters
    ----------
    variants : list of str
        All models of the run.

    Returns
    -------
    str
        The first of the networks for any units, the described layer and those for known units; or else the first model that is neither
        a baseline nor the true probability of simulated spikes, or the first of all.
    """
    preferred = [name for name in ("population", DESCRIBED, "units") if name in variants]
    others = [name for name in variants if not name.startswith((*BASELINE_NAMES, "true probability"))]
    return [*preferred, *others, *variants, ""][0]


if __name__ == "__main__":
    main("spikes_layout", __doc__, PRESETS, run)
