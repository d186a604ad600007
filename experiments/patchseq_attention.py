"""Attention of a network to each feature family, class by class, and how much its predictions depend on each family.

Corresponds to Figures 4 and 5 of Schwider & Ramezani (2026), whose maps come from the last of their runs only. Here all runs
are used, each test cell once per seed, and the spread over seeds is shown. Attention is compared with the macro-F1 that is
lost on test cells whose values of a family are swapped with those of other cells, or missing: attention shows which states
the network weighs, not which features its predictions depend on.

    python -m experiments.patchseq_attention --data FOLDER              human, 5 folds x 10 seeds
    python -m experiments.patchseq_attention mouse --data FOLDER        mouse, five classes, 10 seeds of 60/20/20
    python -m experiments.patchseq_attention published --data FOLDER    the published encoder on the human cells

FOLDER holds human.csv and mouse_v1.csv, or is a table that data_prep has written.

Expected results:

=======  ==================  ========================  ================================================================
cells    macro-F1 (network)  largest attention         largest loss when swapped
=======  ==================  ========================  ================================================================
human    0.756               adaptation 0.19           adaptation 0.14; rank correlation with attention 0.4, of two seeds 0.6
mouse    0.891               subthreshold 0.20         the four families of action-potential shape, 0.11 to 0.12 each
=======  ==================  ========================  ================================================================

Even attention is 0.17. Time: three minutes for human, one and a half for mouse cells on two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data_prep.patchseq.feature_csv import read_species
from experiments.command_line import main
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.evaluation.comparison import ModelComparison
from jaxephys.evaluation.splits import draw_splits
from jaxephys.patchseq.family_importance import (
    MISSING,
    SWAPPED,
    AttentionRuns,
    importance_notes,
    importance_tables,
    remove_family,
    swap_family,
)
from jaxephys.patchseq.grid import TOKEN, train_grid
from jaxephys.patchseq.task import Prediction, Variant
from jaxephys.reporting.maps import draw_importance
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings


@dataclass(frozen=True)
class Attention(Settings):
    """Settings of the experiment."""

    data: Path = Path("cells")
    """Folder with human.csv and mouse_v1.csv, or a table of data_prep."""
    species: Literal["human", "mouse"] = "human"
    """Human cells in 5 folds, four classes; or mouse cells 60/20/20, five classes."""
    folds: Literal["cell", "donor"] = "donor"
    """Unit of the splits: single cells, or all cells of a donor together."""
    seeds: int = 10
    """Number of draws of the splits."""
    parts: int = 5
    """Number of folds of each draw, for human cells."""
    ours: bool = True
    """Use our encoder, which sees what is missing; otherwise the published one."""
    swaps: int = 5
    """Number of permutations of each family."""
    hidden: int = 64
    """Hidden units of the LSTM in each direction."""
    max_epochs: int = 50
    """Largest number of epochs; a run stops after 7 without a better validation macro-F1."""


PRESETS = {
    "default": Attention(),
    "mouse": Attention(species="mouse"),
    "published": Attention(ours=False),
    "smoke": Attention(folds="cell", seeds=2, parts=2, swaps=2, hidden=8, max_epochs=2),
}

INTRODUCTION = """An attention network of the family sequence is trained on every split. The attention of a class is the mean
over all its test cells of a seed, then over seeds. Beside it: the loss of macro-F1 on the same test cells when the values of
a family are those of other cells, and when the family is missing."""


def run(settings: Attention, folder: RunFolder) -> None:
    """Train the networks, predict their test cells with changed families, and write the report.

    Parameters
    ----------
    settings : Attention
        Settings of the experiment.
    folder : RunFolder
        The run folder.
    """
    cells = read_species(settings.data, settings.species)
    n_folds = None if settings.species == "mouse" else settings.parts
    comparison = ModelComparison(cells, draw_splits(cells, (settings.folds,), settings.seeds, n_folds))
    keys, run_splits = list(comparison.splits), list(comparison.splits.values())
    grid = RunGrid(("seed", "fold"), tuple(tuple(key[1:]) for key in keys))
    folder.announce_run(len(grid), cells=cells.values)

    token, config = TOKEN if settings.ours else None, TrainConfig(max_epochs=settings.max_epochs)
    trained = train_grid(folder, comparison, grid, keys, [Variant()] * len(grid), settings.hidden, token, config)
    test_rows = stack_rows([plain_rows(split.test) for split in run_splits])

    def predict_test_cells(values: np.ndarray) -> Prediction:
        data = trained.data._replace(packed=trained.network.layout.pack(values))
        return predict(trained.task, data, trained.result.best, test_rows, trained.inputs.constants)

    runs, prediction = AttentionRuns(comparison), predict_test_cells(cells.values)
    scores, losses = runs.scores(prediction), {SWAPPED: [], MISSING: []}
    for family in folder.track(cells.families, "families"):
        swapped = [swap_family(cells, family, seed) for seed in range(settings.swaps)]
        losses[SWAPPED].append(runs.family_loss(predict_test_cells, swapped, scores))
        losses[MISSING].append(runs.family_loss(predict_test_cells, [remove_family(cells, family)], scores))
    if not folder.is_first_host:
        return
    losses = {name: np.stack(lost, axis=1) for name, lost in losses.items()}
    attention, families, classes = runs.class_attention(prediction), list(cells.families), cells.classes.tolist()
    scores = [*scores, *runs.family_scores(attention, losses)]
    folder.write_predictions(run_splits, cells, prediction.probability)
    figure = draw_importance(folder.path, attention.mean(axis=0).T, families, classes, losses)
    caption = "Attention of each class's test cells to each family, and the loss of macro-F1 without it (dots: seeds)"
    title = (
        f"Attention of {'our' if settings.ours else 'the published'} encoder to families of {settings.species} cells"
    )
    notes = importance_notes(attention, losses, cells)
    tables = importance_tables(scores, families, classes)
    folder.write_report(scores, title, INTRODUCTION, tables, {caption: figure}, notes)


if __name__ == "__main__":
    main("patchseq_attention", __doc__, PRESETS, run)
