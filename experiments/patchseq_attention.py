"""Attention of a network to each feature family, class by class, and how much its predictions depend on each family.

Corresponds to Figures 4 and 5 of Schwider & Ramezani (2026), whose maps come from the last of their runs only. Here all runs
are used, each test cell once per seed, and the spread over seeds is shown. Attention is compared with the macro-F1 that is
lost on test cells whose values of a family are swapped with those of other cells, or missing: attention shows which states
the network weighs, not which features its predictions depend on.

    python -m experiments.patchseq_attention --data FOLDER              described network, human, 5 folds by donor x 10 seeds
    python -m experiments.patchseq_attention mouse --data FOLDER        the same, mouse, five classes, 10 seeds of 60/20/20
    python -m experiments.patchseq_attention ours --data FOLDER         our encoder, human (ours_mouse: mouse)
    python -m experiments.patchseq_attention published --data FOLDER    the network of the maps, ArcFace with SMOTE, human,
                                                                        by cell (published_mouse: mouse)

FOLDER holds human.csv and mouse_v1.csv, or is a table that data_prep has written.

Expected results:

==================  ==================  ========================  ======================================================
cells and network   macro-F1 (network)  largest attention         largest loss when swapped
==================  ==================  ========================  ======================================================
human, ours         0.756               adaptation 0.19           adaptation 0.14; rank correlation with attention 0.4, of
                                                                  two seeds 0.6
mouse, ours         0.891               subthreshold 0.20         the four families of action-potential shape, 0.11 to
                                                                  0.12 each
==================  ==================  ========================  ======================================================

Even attention is 0.17. On two CPU cores training takes 1 to 5 minutes, half of that with `ours`, up to 6 with `published` and up to
10 with `published_mouse` (`python -m jaxephys plan patchseq_attention PRESET --data FOLDER`); on one GPU it is predicted to take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from jaxephys.patchseq import family_importance as importance
from jaxephys.patchseq.grid import TOKEN, NetworkRecord, SplitSettings, describe_network, train_grid
from jaxephys.patchseq.published import HUMAN, MOUSE, Ablation
from jaxephys.patchseq.published_values import QUESTIONS
from jaxephys.patchseq.report.published import network_table
from jaxephys.patchseq.task import Prediction
from jaxephys.reporting.headline import Headline
from jaxephys.reporting.maps import draw_importance
from jaxephys.reporting.run_folder import RunFolder


@dataclass(frozen=True)
class Attention(SplitSettings):
    """Settings of the experiment."""

    data: Path = Path("cells")
    """Folder with human.csv and mouse_v1.csv, or a table of data_prep."""
    species: Literal["human", "mouse"] = "human"
    """Human cells in 5 folds, four classes; or mouse cells 60/20/20, five classes."""
    folds: tuple[Literal["cell", "donor"], ...] = ("donor",)
    """Unit of the splits: single cells, or all cells of a donor together."""
    parts: int = 5
    """Number of folds of each draw, for human cells."""
    ours: bool = False
    """Use our encoder, which sees what is missing; otherwise the published one."""
    variant: Literal["attention", "attention+smote", "arcface+smote"] = "attention"
    """Variant of the published ablation."""
    swaps: int = 5
    """Number of permutations of each family."""
    hidden: int = 128
    """Hidden units of the LSTM in each direction."""
    max_epochs: int = 50
    """Largest number of epochs; a run stops after 7 without a better validation macro-F1."""

    def __post_init__(self) -> None:
        if len(self.folds) != 1:
            raise ValueError(f"the folds are {self.folds}: give either cell or donor")


PUBLISHED = Attention(folds=("cell",), notebook_splits=True, variant="arcface+smote")
PRESETS = {
    "default": Attention(),
    "mouse": Attention(species="mouse"),
    "ours": Attention(ours=True, hidden=64),
    "ours_mouse": Attention(species="mouse", ours=True, hidden=64),
    "published": PUBLISHED,
    "published_mouse": replace(PUBLISHED, species="mouse"),
    "smoke": Attention(folds=("cell",), seeds=2, parts=2, swaps=2, hidden=8, max_epochs=2),
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
    n_folds, protocol = (None, MOUSE) if settings.species == "mouse" else (settings.parts, HUMAN)
    comparison = ModelComparison(cells, settings.draw_splits(cells, protocol.first_seed, n_folds))
    keys, run_splits = list(comparison.splits), list(comparison.splits.values())
    grid = RunGrid(("seed", "fold"), tuple(tuple(key[1:]) for key in keys))
    folder.announce_run(len(grid), cells=cells.values)

    token, ablation = (TOKEN, Ablation()) if settings.ours else (None, protocol.published)
    config, variant = TrainConfig(settings.max_epochs, **ablation.training), ablation.variants[settings.variant]
    record = NetworkRecord(describe_network(settings.hidden, token), variant, ablation.fit_scale, config)
    variants, fit_scale = [variant] * len(grid), ablation.fit_scale
    trained = train_grid(folder, comparison, grid, keys, variants, settings.hidden, token, config, fit_scale=fit_scale)
    test_rows = stack_rows([plain_rows(split.test) for split in run_splits])

    def predict_test_cells(values: np.ndarray) -> Prediction:
        data = trained.data._replace(packed=trained.network.layout.pack(values))
        return predict(trained.task, data, trained.result.best, test_rows, trained.inputs.constants)

    runs, prediction = importance.AttentionRuns(comparison), predict_test_cells(cells.values)
    scores = runs.scores(prediction)
    losses = runs.losses(predict_test_cells, folder.track(cells.families, "families"), settings.swaps, scores)
    if not folder.is_first_host:
        return
    attention, families, classes = runs.class_attention(prediction), list(cells.families), cells.classes.tolist()
    scores = [*scores, *runs.family_scores(attention, losses)]
    folder.write_predictions(run_splits, cells, prediction.probability)
    figure = draw_importance(folder.path, attention.mean(axis=0).T, families, classes, losses)
    caption = "Attention of each class's test cells to each family, and the loss of macro-F1 without it (dots: seeds)"
    encoder, question = "our" if settings.ours else "the published", QUESTIONS["patchseq_attention"]
    title = f"Attention of {encoder} encoder to families of {settings.species} cells"
    notes = importance.importance_notes(attention, losses, cells)
    tables = importance.importance_tables(scores, families, classes)
    tables["Network"] = network_table({importance.ATTENTION: record})
    rows = [*importance.importance_rows(attention, losses, cells), Headline("macro_f1", importance.ATTENTION, [])]
    folder.write_report(scores, title, INTRODUCTION, tables, {caption: figure}, notes, question, rows)


if __name__ == "__main__":
    main("patchseq_attention", __doc__, PRESETS, run)
