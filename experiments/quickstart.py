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
networks                                       0.74 (baseline, which reads the last family) to 0.78 (ArcFace)
=============================================  ================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.command_line import main
from jaxephys import PatchSeqClassifier
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.evaluation.baselines import fit_predict_proba, make_baseline
from jaxephys.evaluation.splits import hold_out
from jaxephys.patchseq.network.classifier import SubclassNetwork
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.report import metric_scores, run_confusion_and_attention
from jaxephys.patchseq.synthetic import LINEAR_FAMILIES, PAIRED_FAMILIES, make_synthetic_cells
from jaxephys.patchseq.task import ABLATION, make_data, make_run_inputs, make_task
from jaxephys.reporting.maps import draw_attention, draw_confusion
from jaxephys.reporting.markdown import Headline
from jaxephys.reporting.plots import draw_bars, draw_curves
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.reporting.tables import model_table

METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "ece")
BASELINES = ("logistic", "svm")
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
    cells, posterior = make_synthetic_cells(settings.cells, strength=settings.strength)
    codes, classes, values = cells.codes(), cells.classes.tolist(), cells.values
    grid = RunGrid.cross(variant=tuple(ABLATION), seed=range(settings.seeds))
    folder.announce_run(len(grid), synthetic=values)

    splits = {seed: hold_out(codes, seed) for seed in range(settings.seeds)}
    run_splits = [splits[seed] for seed in grid.column("seed")]
    layout, variants = RaggedLayout.from_widths(cells.widths), [ABLATION[name] for name in grid.column("variant")]
    inputs = make_run_inputs(cells, layout, run_splits, variants, grid.column("seed"))
    task, data = make_task(SubclassNetwork(layout, len(classes), settings.hidden)), make_data(cells, layout)
    config = TrainConfig(max_epochs=settings.max_epochs, learning_rate=settings.learning_rate)
    result = folder.fit("quickstart", task, data, inputs, grid, config)

    test_rows = stack_rows([plain_rows(split.test) for split in run_splits])
    predicted = predict(task, data, result.best, test_rows, inputs.constants)
    model, selected = PatchSeqClassifier(token=None, hidden=settings.hidden), grid.where(variant=SELECTED)
    model.set_params(seeds=settings.seeds).keep_runs(result, inputs, cells, run_splits, selected)  # all hosts take part
    if not folder.is_first_host:
        return
    model.save(folder.path / "model", overwrite=True)
    folder.write_predictions(run_splits, len(cells), cells.classes, predicted.probability)

    scores, origin = [], ("quickstart", "synthetic")
    for levels, split, probability in zip(grid, run_splits, predicted.probability, strict=True):
        variant, seed, test = levels["variant"], levels["seed"], split.test
        scores += metric_scores(*origin, variant, seed, codes[test], probability[: len(test)])
    for seed, (train, _, test) in splits.items():
        for name in BASELINES:
            probability = fit_predict_proba(make_baseline(name, seed), values, codes, train, test, len(classes))
            scores += metric_scores(*origin, name, seed, codes[test], probability)
        scores += metric_scores(*origin, "bayes", seed, codes[test], posterior[test])
    bayes = float(np.mean([score.value for score in scores if (score.variant, score.metric) == ("bayes", "macro_f1")]))
    shown = [score for score in scores if score.variant != "bayes"]

    counts, attention = run_confusion_and_attention(
        codes, [run_splits[i].test for i in selected], predicted.probability[selected], predicted.attention[selected]
    )
    path, lines, names = folder.path, {"Bayes classifier": bayes}, grid.column("variant")
    curves = ("train_loss", "valid_macro_f1", "valid_ece")
    figures = {
        "Test macro-F1 of every model": draw_bars(path, shown, "macro_f1", lines, baselines=BASELINES),
        "Training loss and validation scores": draw_curves(path, result.history, names, curves),
        "Confusion on the test cells of all seeds": draw_confusion(path, counts, classes, f"{SELECTED}, all seeds"),
        "Mean attention to each family": draw_attention(path, attention, classes, list(cells.families)),
    }
    notes = [
        f"The Bayes classifier of the generating process has a macro-F1 of {bayes:.3f} on these test rows: the best possible.",
        "The epoch is selected by validation macro-F1 for all variants; test rows are used once, at the end.",
        "The baselines train on the training rows and do not use the validation rows; their settings were fixed beforehand.",
        "A support vector machine has no probabilities: its ece is that of the softmax of its decision values.",
        f"Confusion and attention are those of the variant {SELECTED!r}, mean over its seeds.",
    ]
    n_train = len(splits[0].train)
    tables = {"Test scores, mean ± sd over seeds": model_table(shown, METRICS, reference="svm", n_train=n_train)}
    title = "Quickstart: four models, ten seeds, one program"
    headline = Headline("macro_f1", SELECTED, BASELINES, n_train=n_train)
    folder.write_report(scores, title, INTRODUCTION, tables, figures, notes, headline)


if __name__ == "__main__":
    main("quickstart", __doc__, PRESETS, run)
