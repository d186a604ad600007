"""The map of recordings: which predict one another, which are good to train on, and what could stand for what.

After Figure 4 of Shimono (2026). Of the transfer grid, s_ij = (score_ij + score_ji) / 2 and d_ij = 1 / s_ij - 1; points in three
dimensions whose distances come nearest to d. The paper descends once from a random start. Here: SMACOF, whose steps cannot raise the
stress, from many starts, with how far the maps of other starts are from the best (Procrustes), and with how far the order
of recordings moves when the grid does. The paper proposes the map for the choice of substitutes: they are listed, with their scores.

    python -m experiments.spikes_layout --grid runs/spikes_grid/RUN          of a finished run of spikes_grid
    python -m experiments.spikes_layout smoke --grid runs/spikes_grid/RUN    few starts

Published: local populations are good to train on, the cerebellum is easy to predict. Seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from jaxephys.reporting.plots import GREY, PALETTE, STYLE, draw_legend, save_figure
from jaxephys.reporting.run_folder import RunFolder, Settings, main
from jaxephys.reporting.score_table import Cell, Score, Table, read_scores
from jaxephys.spikes.layout import Layout, find_substitutes, make_layout, rank_seeds, rank_targets
from jaxephys.spikes.report import Grid, grid_of


@dataclass(frozen=True)
class Map(Settings):
    grid: Path = Path("grid")
    """Folder of a finished run of spikes_grid, or its scores.csv."""
    variant: str = "population"
    """Whose scores make the map: a network or a baseline of that run."""
    metric: str = "roc_auc"
    """Which score; one that lies between 0 and 1."""
    dimensions: int = 3
    """Of the map."""
    restarts: int = 32
    """Random starts."""


PRESETS = {"default": Map(), "smoke": Map(restarts=4)}


def run(settings: Map, folder: RunFolder) -> None:
    scores, names = read_grid(settings)
    grid = grid_of(scores, settings.variant, settings.metric, names)
    check_grid(grid, names, settings)
    folder.greet(1, grid=grid)
    found = make_layout(grid, settings.dimensions, settings.restarts)
    figures = {
        "The map: what lies close predicts each other well": draw_map(folder.path, found, names),
    }
    kept = [score for score in scores if (score.variant, score.metric) == (settings.variant, settings.metric)]
    title = f"Map of {len(names)} recordings by {settings.metric} of {settings.variant}"
    folder.close(kept, title, INTRO, tables(grid, names, scores, settings), figures, notes(found, grid))


INTRO = """Distances are d = 1 / s - 1, s the mean of the scores in both directions. Ranks and substitutes come from the grid itself; the map only
comes near it."""


def read_grid(settings: Map) -> tuple[list[Score], list[str]]:
    path = settings.grid / "scores.csv" if settings.grid.is_dir() else settings.grid
    if not path.is_file():
        raise ValueError(f"there is no {path}: give --grid the folder of a finished run of spikes_grid")
    scores = [score for score in read_scores(path) if score.split == "test"]
    variants = sorted({score.variant for score in scores})
    if settings.variant not in variants:
        raise ValueError(f"{path} has no scores of {settings.variant!r}: choose --variant from {', '.join(variants)}")
    names = dict.fromkeys(score.test_on for score in scores if score.variant == settings.variant)
    return scores, list(names)


def check_grid(grid: Grid, names: list[str], settings: Map) -> None:
    missing = np.argwhere(~np.isfinite(grid))
    if len(missing):
        i, j = missing[0]
        raise ValueError(f"there is no {settings.metric} of {names[i]} on {names[j]}: a map needs every pair")


def tables(grid: Grid, names: list[str], scores: list[Score], settings: Map) -> dict[str, Table]:
    seeds, targets = rank_seeds(grid), rank_targets(grid)
    order = np.argsort(-seeds)
    ranks = Table(
        {
            "recording": [Cell(names[i]) for i in order],
            "as a seed": [Cell(f"{seeds[i]:.3f}") for i in order],
            "as a target": [Cell(f"{targets[i]:.3f}", targets[i] == targets.max()) for i in order],
            "on itself": [Cell(f"{grid[i, i]:.3f}") for i in order],
        },
        [
            f"As a seed: mean {settings.metric} of its model on the others; as a target: of the models of the others on it.",
            *order_notes(scores, names, settings),
        ],
    )
    near = find_substitutes(grid, names)
    places = range(len(next(iter(near.values()))))
    substitutes = Table(
        {
            "recording": [Cell(name) for name in names],
            "its own model": [Cell(f"{grid[i, i]:.3f}") for i in range(len(names))],
            **{
                f"substitute {place + 1}": [
                    Cell(f"{near[name][place].name} ({near[name][place].score:.3f})") for name in names
                ]
                for place in places
            },
        },
        ["The nearest by d, and in brackets what their models score on the recording."],
    )
    return {"Good to train on, easy to predict": ranks, "What could stand for what": substitutes}


def order_notes(scores: list[Score], names: list[str], settings: Map) -> list[str]:
    """Whether another seed of the networks, or a baseline, ranks the recordings alike."""
    of_metric = [score for score in scores if score.metric == settings.metric]
    own = {
        seed: [s for s in of_metric if s.seed == seed]
        for seed in {s.seed for s in of_metric if s.variant == settings.variant}
    }
    grids = {
        f"seed {seed}": grid_of(rows, settings.variant, settings.metric, names) for seed, rows in sorted(own.items())
    }
    first = next(iter(grids.values()))
    others = dict(list(grids.items())[1:])
    for variant in sorted({score.variant for score in of_metric} - {settings.variant, "truth"}):
        others[variant] = grid_of(of_metric, variant, settings.metric, names)
    return [
        f"Rank correlation with {name}: as seeds {agree(rank_seeds(first), rank_seeds(grid))}, "
        f"as targets {agree(rank_targets(first), rank_targets(grid))}."
        for name, grid in others.items()
    ]


def agree(a: Float[np.ndarray, "recording"], b: Float[np.ndarray, "recording"]) -> str:
    """Two orders, unless one of them ranks all alike."""
    if np.ptp(a) < 1e-9 or np.ptp(b) < 1e-9 or not np.isfinite(b).all():
        return "undefined"
    return f"{spearmanr(a, b).statistic:+.2f}"  # pyright: ignore[reportAttributeAccessIssue]


def notes(found: Layout, grid: Grid) -> list[str]:
    same = int((found.disparity < 0.01).sum())
    return [
        f"Least stress {found.stress[0]:.4g}, relative {found.relative_stress:.3f}: 0 fits exactly, above 0.2 the map misleads.",
        f"{same} of {len(found.stress)} starts found this map (Procrustes disparity below 0.01); the median of all is "
        f"{np.median(found.disparity):.3f}.",
        f"The scores are not symmetric: the two directions of a pair differ by {np.abs(grid - grid.T)[np.triu_indices(len(grid), 1)].mean():.3f} "
        "on average, which no map shows.",
    ]


@matplotlib.rc_context(STYLE)
def draw_map(folder: Path, found: Layout, names: list[str]) -> Path:
    """Two views of the points, along the axes of most spread; a colour a kind, taken from the first word of the names."""
    kinds = list(dict.fromkeys(kind_of(name) for name in names))
    points = np.pad(found.points, ((0, 0), (0, max(0, 3 - found.points.shape[1]))))
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    for axes, (x, y) in zip(figure.subplots(1, 2), ((0, 1), (0, 2)), strict=True):
        for kind, colour in zip(kinds, PALETTE, strict=False):
            mine = [i for i, name in enumerate(names) if kind_of(name) == kind]
            axes.plot(points[mine, x], points[mine, y], "o", color=colour, label=kind)
        for i, name in enumerate(names):
            axes.annotate(name, points[i, [x, y]], xytext=(4, 4), textcoords="offset points", fontsize=7)
        axes.set(xlabel=f"axis {x + 1}", ylabel=f"axis {y + 1}")
        axes.set_aspect("equal", "datalim")
        axes.margins(0.15)
        axes.grid(True)
    draw_legend(figure, *figure.axes[0].get_legend_handles_labels())
    figure.supxlabel(
        f"Relative stress {found.relative_stress:.3f}. Distances mean 1 / score - 1.", fontsize=8, color=GREY
    )
    return save_figure(
        figure, folder, "map", ("recording", "x", "y", "z"), [(n, *p[:3]) for n, p in zip(names, points, strict=True)]
    )


def kind_of(name: str) -> str:
    for kind in ("vitro", "vivo"):
        if kind in name:
            return f"in {kind}"
    return name.split("_")[0]


if __name__ == "__main__":
    main("spikes_layout", __doc__, PRESETS, run)
