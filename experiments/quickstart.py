"""Ten seeds of four models at once, on planted cells whose best possible score is known.

What it is for: to see the whole way, from a table of feature families to a report, in a minute and without data. The ladder
of the Patch-seq paper (BiLSTM, + attention, + SMOTE, ArcFace) trains as one program and meets scikit-learn on the same
rows. The planted cells have two types a class, so part of the signal is in how families go together.

    python -m experiments.quickstart                 40 runs, about a minute on two CPU cores
    python -m experiments.quickstart smoke           8 short runs

Expected macro-F1 over the ten seeds: the Bayes classifier of the generator 0.99, the support vector machine 0.92, logistic
regression 0.88, the networks 0.78 (ArcFace) down to 0.74 (the baseline that reads the last family). With 720 training cells
simple models win on this table, and the report says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxephys import PatchSeqClassifier
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.evaluation.baselines import baseline_scores_of
from jaxephys.evaluation.metrics import classification_scores, confusion
from jaxephys.evaluation.splits import Split, hold_out
from jaxephys.patchseq.network.classifier import SubclassNetwork
from jaxephys.patchseq.network.ragged_layout import Staircase
from jaxephys.patchseq.synthetic import LINEAR, PAIRED, Planted, plant
from jaxephys.patchseq.task import LADDER, Prediction, make_data, make_runs, make_task
from jaxephys.reporting.maps import draw_attention, draw_confusion
from jaxephys.reporting.plots import draw_bars, draw_curves
from jaxephys.reporting.run_folder import RunFolder, Settings, main
from jaxephys.reporting.score_table import Score, Table, table
from jaxephys.schemas.feature_table import FeatureTable

METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "ece")
BASELINES = ("logistic", "svm")
SHOWN = "attention"  # the variant whose confusion and attention are drawn, and that is saved


@dataclass(frozen=True)
class Quickstart(Settings):
    cells: int = 1200
    """Planted cells; 60 % train, 20 % select the epoch, 20 % test."""
    strength: float = 1.0
    """Distance between classes; the Bayes score moves with it."""
    seeds: int = 10
    """Seeds of each variant; each has its own split and initial weights."""
    hidden: int = 32
    """Hidden units of the LSTM in each direction."""
    max_epochs: int = 30
    """Epochs at most; a run stops after 7 without a better validation macro-F1."""
    learning_rate: float = 3e-3
    """Of AdamW."""


PRESETS = {
    "default": Quickstart(),
    "smoke": Quickstart(cells=400, seeds=2, hidden=8, max_epochs=3),
}


def run(settings: Quickstart, folder: RunFolder) -> None:
    planted = plant(settings.cells, strength=settings.strength)
    cells = planted.table
    axis = RunGrid.cross(variant=tuple(LADDER), seed=range(settings.seeds))
    folder.greet(len(axis), planted=cells.values)

    splits = {seed: hold_out(cells.codes(), seed) for seed in range(settings.seeds)}
    of_run = [splits[seed] for seed in axis.column("seed")]
    stairs = Staircase.of(cells.widths)
    runs = make_runs(cells, stairs, of_run, [LADDER[name] for name in axis.column("variant")], axis.column("seed"))
    task = make_task(SubclassNetwork(stairs, len(cells.classes), settings.hidden))
    data = make_data(cells, stairs)
    plan = TrainConfig(max_epochs=settings.max_epochs, learning_rate=settings.learning_rate)

    result = folder.fit("quickstart", task, data, runs, axis, plan)

    test = stack_rows([plain_rows(split.test) for split in of_run])
    predicted = predict(task, data, result.best, test, runs.constants)
    model = PatchSeqClassifier(token=None, hidden=settings.hidden, seeds=settings.seeds)
    model.adopt(result, runs, cells, of_run, axis.where(variant=SHOWN))  # asks the networks: all hosts take part
    if not folder.first:
        return
    scores = [*score_runs(axis, of_run, cells.codes(), predicted), *score_baselines(planted, splits)]
    folder.write_predictions(of_run, len(cells), cells.classes, predicted.probability)
    model.save(folder.path / "model", overwrite=True)
    shown = axis.where(variant=SHOWN)
    figures = draw(folder, result, scores, cells, [of_run[place] for place in shown], take_runs(predicted, shown))
    folder.close(
        scores, "Quickstart: four models, ten seeds, one program", INTRO, tables(scores, splits), figures, notes(scores)
    )


INTRO = f"""The ladder of the Patch-seq paper on planted cells, all seeds and variants trained as one program, with
scikit-learn's classifiers on the same training and test rows. Classes differ in the mean of {", ".join(LINEAR)}, which a linear
model finds, and in how signs go together in {" and ".join(PAIRED)}, which it cannot; the other families are noise."""


def score_runs(axis: RunGrid, splits: list[Split], codes: np.ndarray, predicted: Prediction) -> list[Score]:
    """The scores of every run on its own test rows."""
    return [
        score
        for place, (run, split) in enumerate(zip(axis, splits, strict=True))
        for score in tidy(
            run["variant"], run["seed"], codes[split.test], predicted.probability[place, : len(split.test)]
        )
    ]


def score_baselines(planted: Planted, splits: dict[int, Split]) -> list[Score]:
    """The opponents on the same training and test rows, and the best that is possible there."""
    values, codes = planted.table.values, planted.table.codes()
    scores = []
    for seed, split in splits.items():
        for name in BASELINES:
            probability = baseline_scores_of(
                name, values, codes, split.train, split.test, seed, len(planted.table.classes)
            )
            scores += tidy(name, seed, codes[split.test], probability)
        scores += tidy("bayes", seed, codes[split.test], planted.posterior[split.test])
    return scores


def tidy(variant: str, seed: int, label: np.ndarray, probability: np.ndarray) -> list[Score]:
    """Every metric of some probabilities as rows of scores.csv."""
    values = classification_scores(label, np.asarray(probability, np.float32), np.ones(len(label), np.float32))
    return [
        Score("quickstart", variant, "planted", "planted", seed, 0, "test", metric, float(value), len(label))
        for metric, value in values.items()
    ]


def tables(scores: list[Score], splits: dict[int, Split]) -> dict[str, Table]:
    """Ours and the opponents', and the paired difference to the stronger opponent, an SVM."""
    shown = [score for score in scores if score.variant != "bayes"]
    return {"Test scores, mean ± sd over seeds": table(shown, METRICS, reference="svm", n_train=len(splits[0].train))}


def notes(scores: list[Score]) -> list[str]:
    """What a reader should know beside the numbers."""
    best = np.mean([score.value for score in scores if (score.variant, score.metric) == ("bayes", "macro_f1")])
    return [
        f"The Bayes classifier of the generator reaches a macro-F1 of {best:.3f} on these test rows: no model does better but by luck.",
        "The epoch is selected by validation macro-F1, alike for all variants; test rows are seen once, at the end.",
        "The baselines train on the same training rows and leave the validation rows unused; their settings are fixed beforehand.",
        "A support vector machine has no probabilities: its ece is that of the softmax of its decision values.",
    ]


def draw(
    folder: RunFolder,
    result: FitResult,
    scores: list[Score],
    cells: FeatureTable,
    splits: list[Split],
    predicted: Prediction,
) -> dict[str, Path]:
    """The figures of the report. ``splits`` and ``predicted`` are of the runs of the variant that is shown."""
    codes, classes = cells.codes(), cells.classes.tolist()
    counts = np.zeros((len(classes), len(classes)))
    attention = np.zeros((len(classes), len(cells.families)))
    for place, split in enumerate(splits):
        label, rows = codes[split.test], slice(len(split.test))
        guess = predicted.probability[place, rows].argmax(axis=1)
        counts += np.asarray(confusion(label, guess, np.ones(len(label), np.float32), len(classes)))
        attention += np.stack(
            [predicted.attention[place, rows][label == code].mean(axis=0) for code in range(len(classes))]
        )
    bayes = float(np.mean([score.value for score in scores if (score.variant, score.metric) == ("bayes", "macro_f1")]))
    shown = [score for score in scores if score.variant != "bayes"]
    path, variants = folder.path, result.grid.column("variant")
    return {
        "Test macro-F1 of every variant and baseline": draw_bars(
            path, shown, "macro_f1", {"Bayes classifier": bayes}, baselines=BASELINES
        ),
        "Training loss and validation scores": draw_curves(
            path, result.history, variants, ("train_loss", "valid_macro_f1", "valid_ece")
        ),
        f"Confusion on the test cells of all seeds, {SHOWN}": draw_confusion(
            path, counts, classes, f"{SHOWN}, all seeds"
        ),
        f"Attention to each family, mean over the test cells of a class and over seeds, {SHOWN}": draw_attention(
            path, attention / len(splits), classes, list(cells.families)
        ),
    }


if __name__ == "__main__":
    main("quickstart", __doc__, PRESETS, run)
