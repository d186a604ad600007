"""Human interneurons, four subclasses: the paper's ladder, a network over all features, and every simple opponent.

After Table 5 of Schwider & Ramezani (2026): 5 folds x 10 seeds. Their 506 cells and 12 x 498 tensor are not public; these are
704 cells of Lee & Dalley (2023) with scalar IPFX features arranged as families, so published numbers stand beside ours for
orientation only. Folds are cut by cell and by donor, and scores are given for acute and cultured slices apart: most Sst cells
were recorded in culture.

    python -m experiments.patchseq_human --data FOLDER                 400 runs of the ladder, 500 networks, opponents
    python -m experiments.patchseq_human smoke --data FOLDER           one seed, two folds

Expected macro-F1 / accuracy, by cell: kernel 0.806 / 0.857, vote 0.798 / 0.850, robust LDA 0.797 / 0.845, boosting 0.794 / 0.846,
tabular networks 0.792 / 0.846, LDA 0.781 / 0.838, attention ensemble 0.773 / 0.831, our ladder 0.747 to 0.761, the published encoder
0.716 to 0.730. By donor: kernel 0.807 / 0.859, boosting 0.799, vote 0.796, attention ensemble 0.774. Under an hour on two CPU cores,
half of it for forests, boosting and components.

FOLDER holds human.csv, or is a table that data_prep has written. The vote is the mean of five classical models on features made
comparable, whose settings are fixed in jaxephys/patchseq/classical_models.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from jaxephys.engine.config import TrainConfig
from jaxephys.evaluation.baselines import make_baseline
from jaxephys.evaluation.comparison import Arms
from jaxephys.evaluation.splits import k_folds
from jaxephys.patchseq.classical_models import NAMES, make_robust
from jaxephys.patchseq.component_forest import make_component_forest, widths_of
from jaxephys.patchseq.grid import (
    Comparison,
    Ladder,
    draw_splits,
    read_species,
    train_ladders,
    train_opponents,
    train_tabular,
)
from jaxephys.patchseq.preprocessing import fit_signed_log
from jaxephys.patchseq.report import METRICS, VOTE, draw_figures, tables_of
from jaxephys.patchseq.task import LADDER, Variant
from jaxephys.reporting.run_folder import RunFolder, main
from jaxephys.reporting.score_table import Score, Table, table

BASELINES = ("lda", "logistic", "svm", "forest", "boosting")
COMPONENTS = "components + forest"  # the published opponent
OPPONENTS = (*BASELINES, COMPONENTS)


def as_released(variant: Variant) -> Variant:
    """The released code weighs classes where it does not fill them, and selects its ArcFace models by accuracy."""
    weights = variant.weights if variant.smote else "inverse"
    return replace(variant, weights=weights, selection="accuracy" if variant.arcface else "macro_f1")


RELEASED = Ladder("released ", {name: as_released(variant) for name, variant in LADDER.items()}, ours=False, prior=-1.0)


@dataclass(frozen=True)
class Human(Comparison):
    data: Path = Path("human")
    """Folder with human.csv, or a table of data_prep."""
    parts: int = 5
    """Folds of each draw."""


PRESETS = {
    "default": Human(),
    "published": Human(folds=("cell",), released=True),
    "smoke": Human(seeds=1, parts=2, members=2, hidden=8, max_epochs=2),
}


def run(settings: Human, folder: RunFolder) -> None:
    cells = read_species(settings.data, "human")
    cut = partial(cut_folds, parts=settings.parts)
    arms = Arms(cells, draw_splits(cells, settings.folds, settings.seeds, cut))
    folder.greet(settings.runs(len(arms.splits), tabular=1), cells=cells.values)

    attention = train_ladders(folder, arms, settings, RELEASED)
    epochs = min(2 * settings.max_epochs, 100)
    plan = TrainConfig(max_epochs=epochs, patience=25, batch_size=64, weight_decay=0.01, chunk_epochs=10)
    train_tabular(folder, arms, "tabular", fit_signed_log, plan, settings.members)
    if not folder.first:
        return
    opponents = {name: partial(make_baseline, name) for name in BASELINES}
    opponents |= {COMPONENTS: partial(make_component_forest, widths_of(cells))}
    opponents |= {name: partial(make_robust, name) for name in NAMES}
    train_opponents(folder, arms, opponents, with_validation=True, crossed=NAMES)
    arms.vote(VOTE, NAMES)
    arms.offset(f"{VOTE} + offsets", VOTE)

    arms.save(folder)
    scores = arms.scores("patchseq_human", "human")
    figures = draw_figures(folder, arms, scores, (*OPPONENTS, *NAMES), OPPONENTS, attention)
    notes = [*NOTES, *(DEFECTS if settings.released else [])]
    folder.close(scores, "Human interneurons, four subclasses", INTRO, tables(scores, settings, arms), figures, notes)


INTRO = """Every arm is tested on the same folds. Networks train on 60 % of the cells and select their epoch by macro-F1 on 20 %;
the others select nothing and train on both. Test cells are seen once."""

NOTES = [
    "The vote is the mean of the four robust models and the kernel classifier, each at its temperature. The settings of the four "
    "were looked at on five seeds of these cells before they were fixed; chosen anew within each training part, by inner folds, "
    "such a vote scores as much (0.800, six seeds). The kernel's width was set on the 25 features shared with mouse, on other "
    "seeds of these cells; all else about it is chosen by leaving training cells out.",
    "The robust models train on all but the test cells. Their temperatures, offsets and thresholds come from five inner folds "
    "of these: models trained on four of them speak of the fifth. A validation part would hold some thirteen Lamp5 cells, too "
    "few for a threshold that nine in ten of them pass; the inner folds hold more than fifty, and cut by donor where the test "
    "is. The tabular networks and the ladder, which a validation part stops, are calibrated on that part.",
    "The published arms have the published encoder (families padded with zeros and normalised, z-scores) under our rules.",
    "A support vector machine has no probabilities: its ece and brier are those of the softmax of its decision values.",
    "The paper's best, on 506 other cells and 12 x 498 vectors: macro-F1 0.680, accuracy 0.79.",
    "Cells of which no feature was measured are left out (two of the 704).",
]

DEFECTS = [
    "The released arms follow the released code where it leaves good practice: the ArcFace model selects its epoch by "
    "validation accuracy and the others by macro-F1, so that they are not compared alike; models without SMOTE weigh classes "
    "by inverse frequency, those with it do not; ArcFace's probabilities are multiplied by the inverse frequencies of the "
    "training cells, which the paper does not say; folds are cut by cell alone, though donors give up to 29 cells.",
    "Not followed: all arms share our folds and seeds. As released, the sd is over the means of the draws, which is what all "
    "tables here show.",
]


def cut_folds(codes: np.ndarray, seed: int, groups: np.ndarray | None, *, parts: int):
    return k_folds(codes, parts, seed, groups=groups)


def tables(scores: list[Score], settings: Human, arms: Arms) -> dict[str, Table]:
    """Those of each way of cutting, then one a condition."""
    found = {}
    for kind in settings.folds:
        own = [score for score in scores if score.test_on == kind]
        train = round(np.mean([score.n for score in own])) * (settings.parts - 1)
        found |= tables_of(own, f"Folds by {kind}", arms.classes, OPPONENTS, train)
    parts = {score.test_on for score in scores} - set(settings.folds)
    for part in sorted(parts):
        found[f"Test cells: {part}"] = table([score for score in scores if score.test_on == part], METRICS[:3])
    return found


if __name__ == "__main__":
    main("patchseq_human", __doc__, PRESETS, run)
