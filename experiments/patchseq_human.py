"""Human interneurons, four subclasses: the paper's ladder, a network over all features, and every simple opponent.

After Table 5 of Schwider & Ramezani (2026): 5 folds x 10 seeds. Their 506 cells and 12 x 498 tensor are not public; these are
704 cells of Lee & Dalley (2023) with scalar IPFX features arranged as families, so published numbers stand beside ours for
orientation only. Folds are cut by cell and by donor, and scores are given for acute and cultured slices apart: most Sst cells
were recorded in culture.

    python -m experiments.patchseq_human --data FOLDER                 400 runs of the ladder, 500 networks, opponents
    python -m experiments.patchseq_human smoke --data FOLDER           one seed, two folds

Expected macro-F1 / accuracy, by cell: vote 0.800 / 0.851, robust LDA 0.797 / 0.846, boosting 0.794 / 0.846, tabular networks
0.792 / 0.847, LDA 0.781 / 0.839, the ladder 0.72 to 0.73. By donor: boosting 0.799, vote 0.794, tabular 0.792. About half an hour
on two CPU cores, a third of it for the ladder and most of the rest for forests and boosting.

FOLDER holds human.csv, or is a table that data_prep has written. The vote is the mean of four classical models on signed-log features
("robust"), whose settings are fixed in jaxephys/patchseq/robust.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from experiments._patchseq import (
    METRICS,
    VOTE,
    Arms,
    Comparison,
    draw_figures,
    draw_splits,
    read_cells,
    train_ladder,
    train_opponents,
    train_tabular,
)
from experiments._run import RunFolder, main
from jaxephys.baselines import make_baseline
from jaxephys.engine.rows import k_folds
from jaxephys.engine.types import TrainPlan
from jaxephys.patchseq.robust import NAMES, make_robust
from jaxephys.patchseq.task import LADDER
from jaxephys.report import Score, Table, table

BASELINES = ("lda", "logistic", "svm", "forest", "boosting")


@dataclass(frozen=True)
class Human(Comparison):
    data: Path = Path("human")
    """Folder with human.csv, or a table of data_prep."""
    parts: int = 5
    """Folds of each draw."""


PRESETS = {
    "default": Human(),
    "smoke": Human(seeds=1, parts=2, members=2, hidden=8, max_epochs=2),
}


def run(settings: Human, folder: RunFolder) -> None:
    cells = read_cells(settings.data, "human.csv", "subclass4")
    cut = partial(cut_folds, parts=settings.parts)
    arms = Arms(draw_splits(cells, settings.folds, settings.seeds, cut), {})
    folder.greet(len(arms.splits) * (len(LADDER) + settings.members), cells=cells.values)

    train_ladder(folder, arms, cells, TrainPlan(max_epochs=settings.max_epochs), settings.hidden)
    epochs = min(2 * settings.max_epochs, 100)
    plan = TrainPlan(max_epochs=epochs, patience=25, batch_size=64, weight_decay=0.01, chunk_epochs=10)
    train_tabular(folder, arms, cells, plan, settings.members)
    if not folder.first:
        return
    opponents = {name: partial(make_baseline, name) for name in BASELINES}
    opponents |= {name: partial(make_robust, name) for name in NAMES}
    train_opponents(folder, arms, cells, opponents, with_validation=True)
    arms.vote(NAMES)

    scores = arms.scores("patchseq_human", "human", cells)
    figures = draw_figures(folder, arms, scores, cells, VOTE, (*BASELINES, *NAMES))
    folder.close(scores, "Human interneurons, four subclasses", INTRO, tables(scores, settings), figures, NOTES)


INTRO = """Every arm is tested on the same folds. Networks train on 60 % of the cells and select their epoch by macro-F1 on 20 %;
the others select nothing and train on both. Test cells are seen once."""

NOTES = [
    "The vote is the mean of the four robust models. Their settings were looked at on five seeds of these cells before they "
    "were fixed; chosen anew within each training part, by inner folds, such a vote scores as much (0.800, six seeds).",
    "A support vector machine has no probabilities: its ece and brier are those of the softmax of its decision values.",
    "The paper's best, on 506 other cells and 12 x 498 vectors: macro-F1 0.680, accuracy 0.79.",
    "Cells of which no feature was measured are left out (two of the 704).",
]


def cut_folds(codes: np.ndarray, seed: int, groups: np.ndarray | None, *, parts: int):
    return k_folds(codes, parts, seed, groups=groups)


def tables(scores: list[Score], settings: Human) -> dict[str, Table]:
    """One table a way of cutting, with the paired difference to LDA, and one a condition."""
    found = {}
    for kind in settings.folds:
        own = [score for score in scores if score.test_on == kind]
        train = round(np.mean([score.n for score in own])) * (settings.parts - 1)
        found[f"Folds by {kind}"] = table(own, METRICS, reference="lda", n_train=train)
    parts = {score.test_on for score in scores} - set(settings.folds)
    for part in sorted(parts):
        found[f"Test cells: {part}"] = table([score for score in scores if score.test_on == part], METRICS[:3])
    return found


if __name__ == "__main__":
    main("patchseq_human", __doc__, PRESETS, run)
