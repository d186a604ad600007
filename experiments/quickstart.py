"""Ten seeds of four models at once, on synthetic cells whose best possible score is known.

Shows all steps, from a table of feature families to a report, in a minute and without data. The variants of the published
ablation (BiLSTM, + attention, + SMOTE, ArcFace) train as one program and are compared with scikit-learn classifiers on the
same rows. The synthetic cells have two types per class, so that part of the information is in the combination of families.

    python -m experiments.quickstart                 40 runs, about a minute on two CPU cores
    python -m experiments.quickstart smoke           8 short runs

Expected macro-F1 over the ten seeds (with 720 training cells simple models win, and the report states it):

=============================================  ================
Bayes classifier of the generating process     0.99
support vector machine                         0.92
logistic regression                            0.88
networks                                       0.74 (bilstm, which reads the last family) to 0.78 (ArcFace)
=============================================  ================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from experiments.command_line import main
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.baselines import make_baseline
from jaxephys.evaluation.comparison import ModelComparison
from jaxephys.evaluation.splits import SplitKey, draw_splits
from jaxephys.patchseq.grid import class_attention, save_model, train_baselines, train_grid
from jaxephys.patchseq.published_values import QUESTIONS
from jaxephys.patchseq.report.comparison import confusion_counts, metric_scores
from jaxephys.patchseq.synthetic import LINEAR_FAMILIES, PAIRED_FAMILIES, make_synthetic_cells
from jaxephys.patchseq.task import ABLATION
from jaxephys.reporting.bars import draw_bars
from jaxephys.reporting.headline import Headline
from jaxephys.reporting.maps import draw_attention, draw_confusion
from jaxephys.reporting.plots import draw_curves
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.reporting.tables import model_table

METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "ece")
BASELINES = ("logistic", "svm")
BAYES = "bayes"
SELECTED = "attention"  # the variant whose confusion and attention are drawn, and that is saved


@dataclass(frozen=True)
class Quickstart(Settings):
    """Settings of the experiment."""

    cells: int = 1200
    """Number of synthetic cells; 60 % train, 20 % select the epoch, 20 % test."""
    strength: float = 1.0
    """Distance between classes; the Bayes score changes with it."""
    seeds: int = 10
    """Seeds of each variant; each has its own split and initial weights."""
    hidden: int = 32
    """Hidden units of the LSTM in each direction."""
    max_epochs: int = 30
    """Largest number of epochs; a run stops after 7 without a better validation macro-F1."""
    learning_rate: float = 3e-3
    """Learning rate of AdamW."""


PRESETS = {
    "default": Quickstart(),
    "smoke": Quickstart(cells=400, seeds=2, hidden=8, max_epochs=3),
}

INTRODUCTION = f"""The published ablation on synthetic cells, all seeds and variants trained as one program, with scikit-learn
classifiers on the same training and test rows. Classes differ in the mean of {", ".join(LINEAR_FAMILIES)}, which a linear model
finds, and in how signs combine in {" and ".join(PAIRED_FAMILIES)}, which it cannot find; the other families are noise."""


def run(settings: Quickstart, folder: RunFolder) -> None:
    """Train the ablation, score it with the baselines and the Bayes classifier, and write the report.

    Parameters
    ----------
    settings : Quickstart
        Settings of the experiment.
    folder : RunFolder
        The run folder.
    """
    table, posterior = make_synthetic_cells(settings.cells, strength=settings.strength)
    grid = RunGrid.cross(variant=tuple(ABLATION), seed=range(settings.seeds))
    folder.announce_run(len(grid), synthetic=table.values)

    comparison = ModelComparison(table, draw_splits(table, ("cell",), settings.seeds))
    keys, names = [SplitKey("cell", run["seed"], 0) for run in grid], grid.column("variant")
    config = TrainConfig(max_epochs=settings.max_epochs, learning_rate=settings.learning_rate)
    variants = [ABLATION[name] for name in names]
    # The published encoder has no token.
    trained = train_grid(folder, comparison, grid, keys, variants, settings.hidden, token=None, config=config)
    selected = grid.where(variant=SELECTED)
    save_model(folder, comparison, trained, selected)
    if not folder.is_first_host:
        return

    splits = [comparison.splits[key] for key in keys]
    tested = trained.prediction.probability[:, : len(splits[0].test)]  # as many cells in every split
    folder.write_predictions(splits, comparison.table, tested)
    for name, key, probability in zip(names, keys, tested, strict=True):
        comparison.add(name, key, probability)
    baselines = {name: partial(make_baseline, name) for name in BASELINES}
    train_baselines(folder, comparison, baselines, with_validation=False)
    for key, split in comparison.splits.items():
        comparison.add(BAYES, key, posterior[split.test])

    scores = metric_scores(comparison, "quickstart", "synthetic")
    bayes_scores = [score.value for score in scores if (score.variant, score.metric) == (BAYES, "macro_f1")]
    shown, bayes = [score for score in scores if score.variant != BAYES], float(np.mean(bayes_scores))
    counts = confusion_counts(comparison, SELECTED, "cell")
    attention = class_attention(comparison, trained, selected).mean(axis=0, dtype=np.float64)
    path, lines, classes = folder.path, {"Bayes classifier": bayes}, comparison.classes
    curves = ("train_loss", "valid_macro_f1", "valid_ece")
    figures = {
        "Test macro-F1 of every model": draw_bars(path, shown, "macro_f1", lines, baselines=BASELINES),
        "Training loss and validation scores": draw_curves(path, trained.result.history, names, curves),
        "Confusion on the test cells of all seeds": draw_confusion(path, counts, classes, f"{SELECTED}, all seeds"),
        "Mean attention to each family": draw_attention(path, attention, classes, list(comparison.table.families)),
    }
    notes = [
        f"The Bayes classifier of the generating process has a macro-F1 of {bayes:.3f} on these test rows: the best possible.",
        "The epoch is selected by validation macro-F1 for all variants; test rows are used once, at the end.",
        "The baselines train on the training rows and do not use the validation rows; their settings were fixed beforehand.",
        "A support vector machine has no probabilities: its expected calibration error is that of the softmax of its decision values.",
        f"Confusion and attention are those of the variant {SELECTED!r}, mean over its seeds.",
    ]
    n_train = len(splits[0].train)
    tables = {"Test scores, mean ± sd over seeds": model_table(shown, METRICS, reference="svm", n_train=n_train)}
    title = "Quickstart: four models, ten seeds, one program"
    headline = Headline("macro_f1", SELECTED, BASELINES, n_train=n_train)
    question = QUESTIONS["quickstart"]
    folder.write_report(scores, title, INTRODUCTION, tables, figures, notes, question, [headline])


if __name__ == "__main__":
    main("quickstart", __doc__, PRESETS, run)
