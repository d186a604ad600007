"""The Patch-seq experiments on a small table of known classes: every model is scored on every split, and nothing depends on test labels."""

import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy.special import softmax
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

import jaxephys
from data_prep.patchseq.feature_csv import read_cells
from experiments import patchseq_human, patchseq_mouse
from jaxephys.evaluation.calibration import (
    apply_temperature,
    conformal_sets,
    conformal_thresholds,
    fit_temperature,
    selective_curve,
)
from jaxephys.evaluation.comparison import CalibrationRows, ModelComparison, score_rows
from jaxephys.evaluation.metrics import classification_scores
from jaxephys.evaluation.scores import Score
from jaxephys.patchseq.classical_models import CLASSICAL_MODELS
from jaxephys.patchseq.grid import draw_splits, train_baselines
from jaxephys.patchseq.report.comparison import AVERAGE, ablation_table
from jaxephys.patchseq.task import ABLATION
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import read_scores
from jaxephys.reporting.settings import Settings
from tests.experiments.command import only_run, run

CLASSES = ("Lamp5", "Pvalb", "Sst", "Vip")


def write_cells(path, cells: int = 96, species: str = "human") -> None:
    """Three features separate the classes, one does not; some values are missing, and donors hold three cells each."""
    rng = np.random.default_rng(0)
    label = rng.permutation(np.resize(CLASSES, cells))
    values = rng.normal(size=(cells, 4)) + 3 * np.array([[name == c for c in CLASSES] for name in label]) @ np.eye(4)
    names = ("vrest", "ri", "updown_ramp", "threshold_v_ramp")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("cell_id", "species", "subclass4", "subclass5", "donor", "condition", *names))
        for i in range(cells):
            row = ["" if rng.random() < 0.05 else f"{value:.4f}" for value in values[i]]
            writer.writerow((i, species, label[i], label[i], f"d{i // 3}", ("acute", "culture")[i % 2], *row))


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
    models = {*variants, *patchseq_human.BASELINES, *CLASSICAL_MODELS, *ensembles}
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
    assert "Macro F1, ours | Macro F1, published encoder | Accuracy, ours" in report
    drawn = {path.stem for path in (finished / "figures").glob("*.png")}
    assert drawn == {"bars_macro_f1", "classes_f1", "selective", "confusion", "attention"}


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


def test_the_released_rules_are_those_of_the_released_code():
    human, mouse = patchseq_human.RELEASED, patchseq_mouse.RELEASED
    assert {variant.selection for variant in mouse.variants.values()} == {"accuracy"}
    rules = {name: (variant.weights, variant.selection) for name, variant in human.variants.items()}
    assert rules == {
        "baseline": ("inverse", "macro_f1"),
        "attention": ("inverse", "macro_f1"),
        "attention+smote": ("none", "macro_f1"),
        "arcface+smote": ("effective", "accuracy"),
    }
    assert (mouse.prior_power, human.prior_power) == (0.7, -1.0)


def quiet_folder(path, settings=None) -> RunFolder:
    return RunFolder(path, "test", settings or Settings(), [], Console(quiet=True))


def test_average_ensemble_of_the_mouse_experiment_agrees_with_its_members(tmp_path, monkeypatch):
    """Everything except the ablations, which the human experiment trains."""
    write_cells(tmp_path / "mouse_v1.csv", species="mouse")
    monkeypatch.setattr(patchseq_mouse, "train_ablations", lambda *_: np.full((4, 2), 0.5))
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


def test_ablation_table_shows_all_encoders_side_by_side():
    def score(variant, value):
        return Score("e", variant, "a", "cell", 0, 0, "test", "macro_f1", value, 9)

    rows = [score("attention", 0.8), score("published attention", 0.7), score("released arcface+smote", 0.6)]
    columns = ablation_table([*rows, rows[0]._replace(metric="accuracy")]).columns
    texts = {name: [cell.text for cell in column] for name, column in columns.items()}
    assert texts == {
        "Variant": list(ABLATION),
        "Macro F1, ours": ["-", "0.800", "-", "-"],
        "Macro F1, published encoder": ["-", "0.700", "-", "-"],
        "Macro F1, as released": ["-", "-", "-", "0.600"],
        "Accuracy, ours": ["-", "0.800", "-", "-"],
    }


def make_comparison(folder, relabelled=None) -> ModelComparison:
    """Two models with the same information, one overconfident, on one split; ``relabelled`` rows have another class."""
    write_cells(folder / "human.csv")
    cells = read_cells(folder, "human.csv", "subclass4")
    splits = draw_splits(cells, ("cell",), 1)
    ((key, split),) = splits.items()
    rng, codes = np.random.default_rng(0), cells.codes()
    logits = 1.5 * np.eye(4)[codes] + rng.normal(size=(len(cells), 4))
    if relabelled is not None:
        rows = getattr(split, relabelled)
        label = cells.label.copy()
        label[rows] = cells.classes[(codes[rows] + 1 + np.arange(len(rows)) % 2) % 4]
        cells = cells.with_label(label)
    comparison = ModelComparison(cells, splits)
    for name, sure in (("calm", 1.0), ("sure", 8.0)):
        probability = softmax(sure * logits, axis=1)
        comparison.add(
            name, key, probability[split.test], CalibrationRows(split.validation, probability[split.validation])
        )
    return comparison


class Unguarded(ModelComparison):
    """A comparison without the check of calibration rows."""

    def add(self, model, key, test, calibration=None):
        self.test_probability.setdefault(model, {})[key] = test
        self.calibration.setdefault(model, {})[key] = calibration


def calibrated(comparison: ModelComparison) -> np.ndarray:
    """Everything that is fitted to calibration rows: the average, its offsets, and the sets."""
    (key,) = comparison.splits
    comparison.add_average_ensemble("average", ("calm", "sure"))
    comparison.add_class_offsets("offsets", "average")
    calibration = comparison.calibration["average"][key]
    thresholds = conformal_thresholds(calibration.probability, comparison.codes[calibration.rows])
    both = np.concatenate([comparison.test_probability["average"][key], comparison.test_probability["offsets"][key]])
    return np.concatenate([both, conformal_sets(both, thresholds)])


def test_average_ensemble_is_the_mean_of_its_members_each_at_its_temperature(tmp_path):
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    comparison.add_average_ensemble("average", ("calm", "sure"))
    expected = []
    for name in ("calm", "sure"):
        calibration = comparison.calibration[name][key]
        temperature = fit_temperature(calibration.probability, comparison.codes[split.validation])
        expected.append(apply_temperature(comparison.test_probability[name][key], temperature))
    np.testing.assert_allclose(comparison.test_probability["average"][key], np.mean(expected, axis=0), atol=1e-6)
    comparison.add_average_ensemble("cool", ("sure",))
    np.testing.assert_allclose(comparison.test_probability["cool"][key], expected[1], atol=1e-6)
    assert expected[1].max(axis=1).mean() < comparison.test_probability["sure"][key].max(axis=1).mean(), (
        "it was overconfident"
    )


def test_nothing_is_fitted_to_the_labels_of_test_rows(tmp_path):
    usual = calibrated(make_comparison(tmp_path))
    np.testing.assert_array_equal(calibrated(make_comparison(tmp_path, "test")), usual)
    assert not np.array_equal(calibrated(make_comparison(tmp_path, "validation")), usual), (
        "labels of calibration rows do have an effect"
    )


def test_calibration_on_test_rows_is_refused(tmp_path):
    """Test rows among the calibration rows are refused; without the check, the test above would fail."""
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    rows = np.append(split.validation, split.test[3])
    with pytest.raises(
        ValueError, match=rf"leaky, .*: test row {split.test[3]} is also a calibration row \(1 in total\)"
    ):
        comparison.add(
            "leaky", key, comparison.test_probability["calm"][key], CalibrationRows(rows, np.full((len(rows), 4), 0.25))
        )
    probability = []
    for relabelled in (None, "test"):
        comparison = make_comparison(tmp_path, relabelled)
        leaky = Unguarded(comparison.table, comparison.splits)
        for name in ("calm", "sure"):
            leaky.add(
                name,
                key,
                comparison.test_probability[name][key],
                CalibrationRows(split.test, comparison.test_probability[name][key]),
            )
        probability.append(calibrated(leaky))
    assert not np.array_equal(*probability)


def test_average_ensemble_refuses_members_calibrated_on_other_rows(tmp_path):
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    comparison.calibration["calm"][key] = CalibrationRows(split.train, np.full((len(split.train), 4), 0.25))
    with pytest.raises(ValueError, match="calm, sure are calibrated on different rows"):
        comparison.add_average_ensemble("average", ("calm", "sure"))


@pytest.mark.parametrize("with_validation", [True, False])
def test_calibration_rows_are_predicted_by_models_not_trained_on_them(tmp_path, with_validation):
    """A nearest neighbour memorizes its training rows: with random labels it must be no better than chance."""
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    comparison = ModelComparison(
        comparison.table.with_label(np.random.default_rng(1).permutation(comparison.table.label)), comparison.splits
    )
    nearest = {"nearest": lambda seed: make_pipeline(SimpleImputer(), KNeighborsClassifier(1))}
    train_baselines(
        quiet_folder(tmp_path), comparison, nearest, with_validation=with_validation, cross_calibrated=nearest
    )
    calibration = comparison.calibration["nearest"][key]
    rows = np.sort(np.concatenate([split.train, split.validation])) if with_validation else split.validation
    np.testing.assert_array_equal(calibration.rows, rows)
    np.testing.assert_allclose(calibration.probability.sum(axis=1), 1)
    assert (calibration.probability.argmax(axis=1) == comparison.codes[rows]).mean() < 0.5
    seen = make_pipeline(SimpleImputer(), KNeighborsClassifier(1)).fit(
        comparison.table.values[rows], comparison.codes[rows]
    )
    assert seen.score(comparison.table.values[rows], comparison.codes[rows]) == 1.0, (
        "training rows would be predicted perfectly"
    )


def test_released_prior_is_that_of_the_training_cells(tmp_path):
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    share = np.bincount(comparison.codes[split.train]) / len(split.train)
    before = comparison.test_probability["calm"][key]
    comparison.add_prior_weighted("weighed", "calm", -1.0)
    expected = before / share / (before / share).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(comparison.test_probability["weighed"][key], expected, rtol=1e-5)


def test_uncertainty_scores_are_shares_of_the_test_cells(tmp_path):
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    found, label = comparison.uncertainty_scores("calm", key), comparison.codes[split.test]
    calibration, probability = comparison.calibration["calm"][key], comparison.test_probability["calm"][key]
    assert found["single"] + found["several"] + found["empty"] == pytest.approx(1)
    sets = conformal_sets(
        probability, conformal_thresholds(calibration.probability, comparison.codes[calibration.rows], 0.9)
    )
    assert found["set_size"] == pytest.approx(sets.sum() / len(sets))
    assert found["covered Sst"] == pytest.approx(sets[label == 2, 2].mean())
    assert found["selective_error"] == pytest.approx(selective_curve(probability, label).area)
    del comparison.calibration["calm"]
    assert set(comparison.uncertainty_scores("calm", key)) == {"selective_error"}


def test_scores_of_selected_rows_depend_on_these_rows_only():
    rng = np.random.default_rng(0)
    label, probability, selected = (
        rng.integers(4, size=30),
        rng.dirichlet(np.ones(4), 30).astype(np.float32),
        rng.random(30) < 0.5,
    )
    found = score_rows(label, probability, selected, 41, CLASSES)
    alone = classification_scores(label[selected], probability[selected], np.ones(selected.sum(), np.float32))
    for name, value in alone.items():
        assert found[name] == pytest.approx(float(value), abs=1e-6), name
    truth, guess = label[selected], probability[selected].argmax(axis=1)
    assert found["recall Pvalb"] == pytest.approx((guess[truth == 1] == 1).mean())
    assert score_rows(label, probability, np.zeros(30, bool), 41, CLASSES) == {}


def test_folder_without_cells_gives_one_sentence(tmp_path):
    done = run("experiments.patchseq_human", "smoke", "--data", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2 and "holds neither human.csv nor a table of data_prep" in done.stderr
    assert done.stderr.strip().count("\n") == 0
