"""The Patch-seq experiments on a small table of known classes: every arm is scored on every split, and nothing leaks."""

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
from experiments import patchseq_human, patchseq_mouse
from jaxephys.evaluation.calibration import (
    apply_temperature,
    conformal_sets,
    conformal_thresholds,
    fit_temperature,
    selective_curve,
)
from jaxephys.evaluation.comparison import Arms, Held, measure
from jaxephys.evaluation.metrics import classification_scores
from jaxephys.patchseq.classical_models import NAMES
from jaxephys.patchseq.grid import draw_splits, read_cells, train_opponents
from jaxephys.patchseq.report import ladder_table
from jaxephys.patchseq.task import LADDER
from jaxephys.reporting.run_folder import RunFolder, Settings
from jaxephys.reporting.score_table import Score, read_scores
from tests.experiments.command import only_run, run

CLASSES = ("Lamp5", "Pvalb", "Sst", "Vip")


def write_cells(path, cells: int = 96, species: str = "human") -> None:
    """Three features tell the classes, one does not; some values are missing, and donors hold three cells each."""
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


def test_every_arm_is_scored_on_every_split(finished):
    scores = [score for score in read_scores(finished / "scores.csv") if score.metric == "macro_f1"]
    ladder = {f"{prefix}{name}" for prefix in ("", "published ") for name in LADDER}
    arms = {*ladder, *patchseq_human.OPPONENTS, *NAMES, "attention ensemble", "tabular", "vote", "vote + offsets"}
    assert {score.variant for score in scores} == arms
    for kind in ("cell", "donor"):
        assert len([score for score in scores if score.test_on == kind]) == 2 * len(arms)
    parts = {score.test_on for score in scores}
    assert parts == {"cell", "donor"} | {f"{a}, {b}" for a in ("cell", "donor") for b in ("acute", "culture")}
    both = {part: sum(score.n for score in scores if (score.test_on, score.variant) == (part, "lda")) for part in parts}
    assert both["cell"] == both["cell, acute"] + both["cell, culture"] == 96


def test_what_is_planted_is_found(finished):
    scores = read_scores(finished / "scores.csv")
    for arm in ("lda", "vote", "robust svm"):
        found = [s.value for s in scores if (s.variant, s.metric, s.test_on) == (arm, "macro_f1", "cell")]
        assert np.mean(found) > 0.7, arm


def test_the_report_has_its_tables_and_figures(finished):
    report = (finished / "report.md").read_text()
    for kind in ("cell", "donor"):
        for table in ("", ": each class", ": the ladder", ": what is left open"):
            assert f"## Folds by {kind}{table}\n" in report
    assert "## Test cells: donor, culture" in report
    assert "macro_f1, ours | macro_f1, published encoder | accuracy, ours" in report
    drawn = {path.stem for path in (finished / "figures").glob("*.png")}
    assert drawn == {"bars_macro_f1", "classes_f1", "selective", "confusion", "attention"}


def test_the_predictions_reproduce_the_scores(finished):
    file, cells = np.load(finished / "predictions.npz"), cells_of(finished)
    np.testing.assert_array_equal(file["cell"], cells.cell)
    np.testing.assert_array_equal(file["classes"][file["label"]], cells.label)
    wanted = {s[1:6]: s.value for s in read_scores(finished / "scores.csv") if s.metric == "accuracy"}
    for (a, arm), place in itertools.product(enumerate(file["arm"]), range(len(file["folds"]))):
        rows = file["test"][place][file["test"][place] >= 0]
        assert (file["part"][place, rows] == 2).all()
        said = file["probability"][a, place, : len(rows)]
        kind = str(file["folds"][place])
        score = wanted[str(arm), "human", kind, int(file["seed"][place]), int(file["fold"][place])]
        assert (said.argmax(axis=1) == file["label"][rows]).mean() == pytest.approx(score)
        assert np.isnan(file["probability"][a, place, len(rows) :]).all(), "padding holds no number"


def test_every_grid_leaves_its_history_and_the_model_loads(finished):
    for tag in ("", "_published", "_tabular"):
        with open(finished / f"runs{tag}.csv") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == {"": 4 * (4 + 1), "_tabular": 4 * 2}.get(tag, 4 * 4)
        assert (finished / f"history{tag}.csv").stat().st_size > 100
    model, cells = jaxephys.load(finished), cells_of(finished)
    said = model.predict_proba(cells)
    assert said.shape == (96, 4) and model.predict_proba(cells, per_seed=True).shape == (2 * 2, 96, 4)
    with np.load(finished / "predictions.npz") as left:  # one of its networks is that of the first split
        place = (list(left["arm"]).index("attention"), int(np.flatnonzero(left["folds"] == "cell")[0]))
        test = left["test"][place[1]]
        test, saved = test[test >= 0], left["probability"][place][test >= 0]
    networks = model.predict_proba(cells, per_seed=True)[:, test].argmax(axis=-1)
    assert (networks == saved.argmax(axis=-1)).all(axis=1).any()


def test_the_released_rules_are_those_of_the_released_code():
    human, mouse = patchseq_human.RELEASED, patchseq_mouse.RELEASED
    assert {rung.selection for rung in mouse.variants.values()} == {"accuracy"}
    rules = {name: (rung.weights, rung.selection) for name, rung in human.variants.items()}
    assert rules == {
        "baseline": ("inverse", "macro_f1"),
        "attention": ("inverse", "macro_f1"),
        "attention+smote": ("none", "macro_f1"),
        "arcface+smote": ("effective", "accuracy"),
    }
    assert (mouse.prior, human.prior) == (0.7, -1.0)


def quiet_folder(path, settings=None) -> RunFolder:
    return RunFolder(path, "test", settings or Settings(), [], Console(quiet=True))


def test_the_mouse_votes_with_its_members(tmp_path, monkeypatch):
    """All but the ladders, which the human experiment has run."""
    write_cells(tmp_path / "mouse_v1.csv", species="mouse")
    monkeypatch.setattr(patchseq_mouse, "train_ladders", lambda *_: np.full((4, 2), 0.5))
    settings = replace(patchseq_mouse.PRESETS["smoke"], data=tmp_path, members=1, released=True)
    patchseq_mouse.run(settings, quiet_folder(tmp_path, settings))
    file = np.load(tmp_path / "predictions.npz")
    said = {str(arm): probability[0] for arm, probability in zip(file["arm"], file["probability"], strict=True)}
    members = [said[name] for name in patchseq_mouse.MEMBERS]
    assert np.abs(members[0] - members[1]).max() > 1e-3, "the two scalings are two views"
    # A temperature keeps the order of the classes, so where all members agree the vote does.
    answers = np.array([member.argmax(axis=1) for member in members])
    agreed = (answers == answers[0]).all(axis=0)
    assert agreed.sum() > 5 and (said["vote"].argmax(axis=1) == answers[0])[agreed].all()
    assert "which the paper does not say" in (tmp_path / "report.md").read_text(), "the defects are said"


def test_the_ladder_stands_three_ways_side_by_side():
    def score(variant, value):
        return Score("e", variant, "a", "cell", 0, 0, "test", "macro_f1", value, 9)

    rows = [score("attention", 0.8), score("published attention", 0.7), score("released arcface+smote", 0.6)]
    columns = ladder_table([*rows, rows[0]._replace(metric="accuracy")]).columns
    texts = {name: [cell.text for cell in column] for name, column in columns.items()}
    assert texts == {
        "variant": list(LADDER),
        "macro_f1, ours": ["-", "0.800", "-", "-"],
        "macro_f1, published encoder": ["-", "0.700", "-", "-"],
        "macro_f1, as released": ["-", "-", "-", "0.600"],
        "accuracy, ours": ["-", "0.800", "-", "-"],
    }


def make_arms(folder, relabelled=None) -> Arms:
    """Two arms that know the same, one of them too sure of it, on one split; ``relabelled`` rows have another class."""
    write_cells(folder / "human.csv")
    cells = read_cells(folder, "human.csv", "subclass4")
    splits = draw_splits(cells, ("cell",), 1, patchseq_mouse.cut_once)
    ((place, split),) = splits.items()
    rng, codes = np.random.default_rng(0), cells.codes()
    logits = 1.5 * np.eye(4)[codes] + rng.normal(size=(len(cells), 4))
    if relabelled is not None:
        rows = getattr(split, relabelled)
        label = cells.label.copy()
        label[rows] = cells.classes[(codes[rows] + 1 + np.arange(len(rows)) % 2) % 4]
        cells = replace(cells, label=label)
    arms = Arms(cells, splits)
    for name, sure in (("calm", 1.0), ("sure", 8.0)):
        said = softmax(sure * logits, axis=1)
        arms.add(name, place, said[split.test], Held(split.validation, said[split.validation]))
    return arms


class Unguarded(Arms):
    """Arms that may be calibrated on any row."""

    def add(self, arm, place, test, held=None):
        self.tested.setdefault(arm, {})[place] = test
        self.held.setdefault(arm, {})[place] = held


def calibrated(arms: Arms) -> np.ndarray:
    """All that is fitted on held rows: the vote, its offsets, and the sets."""
    (place,) = arms.splits
    arms.vote("vote", ("calm", "sure"))
    arms.offset("offsets", "vote")
    held = arms.held["vote"][place]
    thresholds = conformal_thresholds(held.probability, arms.codes[held.rows])
    both = np.concatenate([arms.tested["vote"][place], arms.tested["offsets"][place]])
    return np.concatenate([both, conformal_sets(both, thresholds)])


def test_a_vote_is_the_mean_of_its_members_each_at_its_temperature(tmp_path):
    arms = make_arms(tmp_path)
    ((place, split),) = arms.splits.items()
    arms.vote("vote", ("calm", "sure"))
    expected = []
    for name in ("calm", "sure"):
        held = arms.held[name][place]
        temperature = fit_temperature(held.probability, arms.codes[split.validation])
        expected.append(apply_temperature(arms.tested[name][place], temperature))
    np.testing.assert_allclose(arms.tested["vote"][place], np.mean(expected, axis=0), atol=1e-6)
    arms.vote("cool", ("sure",))
    np.testing.assert_allclose(arms.tested["cool"][place], expected[1], atol=1e-6)
    assert expected[1].max(axis=1).mean() < arms.tested["sure"][place].max(axis=1).mean(), "it was too sure"


def test_nothing_is_fitted_to_the_labels_of_test_rows(tmp_path):
    usual = calibrated(make_arms(tmp_path))
    np.testing.assert_array_equal(calibrated(make_arms(tmp_path, "test")), usual)
    assert not np.array_equal(calibrated(make_arms(tmp_path, "validation")), usual), "those of held rows do count"


def test_a_planted_leak_is_caught(tmp_path):
    """Test rows among the held ones are refused; and if they came in, the test above would see it."""
    arms = make_arms(tmp_path)
    ((place, split),) = arms.splits.items()
    rows = np.append(split.validation, split.test[3])
    with pytest.raises(
        ValueError, match=f"leaky, .*: test row {split.test[3]} is among the rows that calibrate, 1 leak"
    ):
        arms.add("leaky", place, arms.tested["calm"][place], Held(rows, np.full((len(rows), 4), 0.25)))
    said = []
    for relabelled in (None, "test"):
        arms = make_arms(tmp_path, relabelled)
        leaky = Unguarded(arms.table, arms.splits)
        for name in ("calm", "sure"):
            leaky.add(name, place, arms.tested[name][place], Held(split.test, arms.tested[name][place]))
        said.append(calibrated(leaky))
    assert not np.array_equal(*said)


def test_who_is_calibrated_on_other_rows_does_not_vote_along(tmp_path):
    arms = make_arms(tmp_path)
    ((place, split),) = arms.splits.items()
    arms.held["calm"][place] = Held(split.train, np.full((len(split.train), 4), 0.25))
    with pytest.raises(ValueError, match="calm, sure are calibrated on different rows"):
        arms.vote("vote", ("calm", "sure"))


@pytest.mark.parametrize("with_validation", [True, False])
def test_nobody_speaks_of_rows_that_he_was_trained_on(tmp_path, with_validation):
    """The nearest neighbour repeats what it has seen: on labels that mean nothing it must be no better than chance."""
    arms = make_arms(tmp_path)
    ((place, split),) = arms.splits.items()
    arms = Arms(replace(arms.table, label=np.random.default_rng(1).permutation(arms.table.label)), arms.splits)
    nearest = {"nearest": lambda seed: make_pipeline(SimpleImputer(), KNeighborsClassifier(1))}
    train_opponents(quiet_folder(tmp_path), arms, nearest, with_validation=with_validation, crossed=nearest)
    held = arms.held["nearest"][place]
    rows = np.sort(np.concatenate([split.train, split.validation])) if with_validation else split.validation
    np.testing.assert_array_equal(held.rows, rows)
    np.testing.assert_allclose(held.probability.sum(axis=1), 1)
    assert (held.probability.argmax(axis=1) == arms.codes[rows]).mean() < 0.5
    seen = make_pipeline(SimpleImputer(), KNeighborsClassifier(1)).fit(arms.table.values[rows], arms.codes[rows])
    assert seen.score(arms.table.values[rows], arms.codes[rows]) == 1.0, "it would have been found out"


def test_the_released_prior_is_that_of_the_training_cells(tmp_path):
    arms = make_arms(tmp_path)
    ((place, split),) = arms.splits.items()
    share = np.bincount(arms.codes[split.train]) / len(split.train)
    before = arms.tested["calm"][place]
    arms.weigh("weighed", "calm", -1.0)
    expected = before / share / (before / share).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(arms.tested["weighed"][place], expected, rtol=1e-5)


def test_doubts_are_shares_of_the_test_cells(tmp_path):
    arms = make_arms(tmp_path)
    ((place, split),) = arms.splits.items()
    found, label = arms.doubts("calm", place), arms.codes[split.test]
    held, said = arms.held["calm"][place], arms.tested["calm"][place]
    assert found["single"] + found["several"] + found["empty"] == pytest.approx(1)
    sets = conformal_sets(said, conformal_thresholds(held.probability, arms.codes[held.rows], 0.9))
    assert found["set_size"] == pytest.approx(sets.sum() / len(sets))
    assert found["covered Sst"] == pytest.approx(sets[label == 2, 2].mean())
    assert found["selective_error"] == pytest.approx(selective_curve(said, label).area)
    del arms.held["calm"]
    assert set(arms.doubts("calm", place)) == {"selective_error"}


def test_scores_of_a_part_are_those_of_its_rows_alone():
    rng = np.random.default_rng(0)
    label, said, chosen = (
        rng.integers(4, size=30),
        rng.dirichlet(np.ones(4), 30).astype(np.float32),
        rng.random(30) < 0.5,
    )
    found = measure(label, said, chosen, 41, CLASSES)
    alone = classification_scores(label[chosen], said[chosen], np.ones(chosen.sum(), np.float32))
    for name, value in alone.items():
        assert found[name] == pytest.approx(float(value), abs=1e-6), name
    truth, guess = label[chosen], said[chosen].argmax(axis=1)
    assert found["recall Pvalb"] == pytest.approx((guess[truth == 1] == 1).mean())
    assert measure(label, said, np.zeros(30, bool), 41, CLASSES) == {}


def test_a_folder_without_cells_is_one_sentence(tmp_path):
    done = run("experiments.patchseq_human", "smoke", "--data", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2 and "holds neither human.csv nor a table of data_prep" in done.stderr
    assert done.stderr.strip().count("\n") == 0
