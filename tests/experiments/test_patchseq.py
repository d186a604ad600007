"""The Patch-seq experiments on a small table of known classes: every model is scored on every split, and nothing depends on test labels."""

import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest

import jaxephys
from data_prep.patchseq.feature_csv import read_cells
from experiments import patchseq_human, patchseq_mouse
from jaxephys.patchseq.classical_models import CLASSICAL_MODELS
from jaxephys.patchseq.published import HUMAN, MOUSE
from jaxephys.patchseq.report.comparison import AVERAGE
from jaxephys.patchseq.task import ABLATION
from jaxephys.reporting.score_table import read_scores
from tests.experiments.command import only_run, run
from tests.patchseq.example_cells import quiet_folder, write_cells


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("human")
    write_cells(folder / "human.csv")
    small = ("--seeds", "1", "--parts", "2", "--members", "2", "--hidden", "4", "--max-epochs", "3")
    done = run("experiments.patchseq_human", "smoke", "--data", str(folder), *small, cwd=folder)
    assert done.returncode == 0, done.stderr
    return only_run(folder)


def cells_of(run_folder):
    return read_cells(run_folder.parents[2], "human.csv", "subclass4")


def test_every_model_is_scored_on_every_split(finished):
    scores = [score for score in read_scores(finished / "scores.csv") if score.metric == "macro_f1"]
    variants = {f"{prefix}{name}" for prefix in ("", "published ") for name in ABLATION}
    ensembles = {"attention ensemble", "tabular", AVERAGE, f"{AVERAGE} + offsets"}
    models = {*variants, *patchseq_human.BASELINES, *CLASSICAL_MODELS, *ensembles, f"{CLASSICAL_MODELS[-1]} + offsets"}
    assert {score.variant for score in scores} == models
    for kind in ("cell", "donor"):
        assert len([score for score in scores if score.test_on == kind]) == 2 * len(models)
    parts = {score.test_on for score in scores}
    assert parts == {"cell", "donor"} | {f"{a}, {b}" for a in ("cell", "donor") for b in ("acute", "culture")}
    both = {part: sum(score.n for score in scores if (score.test_on, score.variant) == (part, "lda")) for part in parts}
    assert both["cell"] == both["cell, acute"] + both["cell, culture"] == 96


def test_separable_classes_are_found(finished):
    scores = read_scores(finished / "scores.csv")
    for model in ("lda", AVERAGE, "signed-log svm"):
        found = [s.value for s in scores if (s.variant, s.metric, s.test_on) == (model, "macro_f1", "cell")]
        assert np.mean(found) > 0.7, model


def test_the_report_has_its_tables_and_figures(finished):
    report = (finished / "report.md").read_text()
    for kind in ("cell", "donor"):
        for table in ("", ": each class", ": the ablation", ": uncertainty"):
            assert f"## Folds by {kind}{table}\n" in report
    assert "## Test cells: donor, culture" in report
    assert "Macro F1, paper | Macro F1, as published | Macro F1, our encoder | Accuracy, paper" in report
    assert "The published value is 0.6754 (attention with SMOTE), on 506 other cells." in report
    drawn = {path.stem for path in (finished / "figures").glob("*.png")}
    assert drawn == {"bars_macro_f1", "ablation", "classes_f1", "selective", "confusion", "confusions", "attention"}


def test_every_row_of_a_network_names_network_and_optimizer(finished):
    report = (finished / "report.md").read_text()
    table = report.split("## Networks\n")[1].split("\n## ")[0]
    rows = {
        cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in table.splitlines() if "|" in line)
    }
    names = {f"{prefix}{name}" for prefix in ("", "published ") for name in ABLATION}
    assert names | {"tabular", "attention ensemble"} == set(rows) - {"Model"} - {
        name for name in rows if set(name) <= set("-: |")
    }
    assert rows["published bilstm"][0] == "published encoder, BiLSTM of 2 x 8, no attention"
    assert rows["published bilstm"][2:4] == ["cross-entropy, inverse-frequency weights", "Adam, rate 0.001"]
    assert rows["attention"][0] == "our encoder (64 values a family), BiLSTM of 2 x 4, attention"


def test_the_confusion_of_the_forest_and_of_each_network_counts_every_test_cell(finished):
    with open(finished / "figures" / "confusions.csv") as file:
        counts: dict[str, float] = {}
        for row in csv.DictReader(file):
            counts[row["panel"]] = counts.get(row["panel"], 0) + float(row["count"])
    assert set(counts.values()) == {96} and "components + forest" in counts
    assert {f"{prefix}{name}" for prefix in ("", "published ") for name in ABLATION} <= set(counts)


def test_the_predictions_reproduce_the_scores(finished):
    file, cells = np.load(finished / "predictions.npz"), cells_of(finished)
    np.testing.assert_array_equal(file["cell"], cells.cell)
    np.testing.assert_array_equal(file["classes"][file["label"]], cells.label)
    wanted = {s[1:6]: s.value for s in read_scores(finished / "scores.csv") if s.metric == "accuracy"}
    for (a, model), key in itertools.product(enumerate(file["arm"]), range(len(file["folds"]))):
        rows = file["test"][key][file["test"][key] >= 0]
        assert (file["part"][key, rows] == 2).all()
        probability = file["probability"][a, key, : len(rows)]
        kind = str(file["folds"][key])
        score = wanted[str(model), "human", kind, int(file["seed"][key]), int(file["fold"][key])]
        assert (probability.argmax(axis=1) == file["label"][rows]).mean() == pytest.approx(score)
        assert np.isnan(file["probability"][a, key, len(rows) :]).all(), "padding holds no number"


def test_every_grid_leaves_its_history_and_the_model_loads(finished):
    for tag in ("", "_published", "_tabular"):
        with open(finished / f"runs{tag}.csv") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == {"": 4 * (4 + 1), "_tabular": 4 * 2}.get(tag, 4 * 4)
        assert (finished / f"history{tag}.csv").stat().st_size > 100
    model, cells = jaxephys.load(finished), cells_of(finished)
    probability = model.predict_proba(cells)
    assert probability.shape == (96, 4) and model.predict_proba(cells, per_network=True).shape == (2 * 2, 96, 4)
    with np.load(finished / "predictions.npz") as left:  # one of its networks is that of the first split
        key = (list(left["arm"]).index("attention"), int(np.flatnonzero(left["folds"] == "cell")[0]))
        test = left["test"][key[1]]
        test, saved = test[test >= 0], left["probability"][key][test >= 0]
    networks = model.predict_proba(cells, per_network=True)[:, test].argmax(axis=-1)
    assert (networks == saved.argmax(axis=-1)).all(axis=1).any()


@pytest.mark.slow
def test_the_published_preset_has_the_splits_of_the_notebook_and_both_sets_of_rules(tmp_path):
    write_cells(tmp_path / "human.csv")
    small = {"seeds": 1, "parts": 2, "members": 1, "hidden": 4, "max_epochs": 1}
    settings = replace(patchseq_human.PRESETS["published"], data=tmp_path, **small)
    patchseq_human.run(settings, quiet_folder(tmp_path, settings))
    scores = [score for score in read_scores(tmp_path / "scores.csv") if score.metric == "macro_f1"]
    assert {score.seed for score in scores} == {9}
    assert {f"released {name}" for name in ABLATION} <= {score.variant for score in scores}
    report = (tmp_path / "report.md").read_text()
    table = report.split("## Folds by cell: the ablation\n")[1].split("\n## ")[0]
    assert "Macro F1, paper | Macro F1, as published | Macro F1, as released | Macro F1, our encoder" in table
    networks = report.split("## Networks\n")[1].split("\n## ")[0]
    assert "| released attention | published encoder, BiLSTM of 2 x 8, attention | z-scores | cross-entropy" in networks
    assert "AdamW, rate 0.001, weight decay 0.0001, gradients clipped to 2 | validation accuracy" in networks
    assert len(jaxephys.load(tmp_path).predict(read_cells(tmp_path, "human.csv", "subclass4"))) == 96


def test_the_released_rules_are_those_of_the_released_code():
    human, mouse = HUMAN.released, MOUSE.released
    assert {variant.selection for variant in mouse.variants.values()} == {"accuracy"}
    rules = {name: (variant.weights, variant.selection) for name, variant in human.variants.items()}
    assert rules == {
        "bilstm": ("inverse", "macro_f1"),
        "attention": ("inverse", "macro_f1"),
        "attention+smote": ("none", "macro_f1"),
        "arcface+smote": ("effective", "accuracy"),
    }
    assert (mouse.prior_power, human.prior_power) == (0.7, -1.0)


def test_average_ensemble_of_the_mouse_experiment_agrees_with_its_members(tmp_path, monkeypatch):
    """Everything except the ablations, which the human experiment trains."""
    write_cells(tmp_path / "mouse_v1.csv", species="mouse")
    monkeypatch.setattr(patchseq_mouse.ComparisonNetworks, "train_ablations", lambda *_: np.full((4, 2), 0.5))
    monkeypatch.setattr(patchseq_mouse.ComparisonNetworks, "save_ensemble", lambda *_: None)
    settings = replace(patchseq_mouse.PRESETS["smoke"], data=tmp_path, members=1, released=True)
    patchseq_mouse.run(settings, quiet_folder(tmp_path, settings))
    file = np.load(tmp_path / "predictions.npz")
    probability = {
        str(model): probability[0] for model, probability in zip(file["arm"], file["probability"], strict=True)
    }
    members = [probability[name] for name in patchseq_mouse.MEMBERS]
    assert np.abs(members[0] - members[1]).max() > 1e-3, "the two scales lead to different models"
    # A temperature keeps the order of the classes, so where all members agree their average does.
    predictions = np.array([member.argmax(axis=1) for member in members])
    agreed = (predictions == predictions[0]).all(axis=0)
    assert agreed.sum() > 5 and (probability[AVERAGE].argmax(axis=1) == predictions[0])[agreed].all()
    assert "which is not in the paper" in (tmp_path / "report.md").read_text(), "deviations are reported"


def test_folder_without_cells_gives_one_sentence(tmp_path):
    done = run("experiments.patchseq_human", "smoke", "--data", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2 and "holds neither human.csv nor a table of data_prep" in done.stderr
    assert done.stderr.strip().count("\n") == 0
