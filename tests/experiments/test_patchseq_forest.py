"""Forests and embeddings on small tables of known classes: no leakage, known structure is found, neighbors are correct."""

import csv
import sys

import numpy as np
import pytest

from experiments import patchseq_embedding
from jaxephys.evaluation.baselines import fit_predict_proba
from jaxephys.evaluation.neighbors import (
    chance_purity,
    nearest_neighbors,
    neighbor_overlap,
    neighbor_purity,
    shuffle_within_groups,
)
from jaxephys.patchseq.report.forest import ALL_CELLS, COMPONENTS, FEATURES
from jaxephys.patchseq.sparse_components import (
    GOUWENS,
    FamilyPlan,
    SparseComponents,
    choose_plan,
    make_component_forest,
)
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import read_scores
from tests.experiments.command import only_run, run

CLASSES = ("Lamp5", "Pvalb", "Sst", "Vip")
COLUMNS = (
    "vrest",
    "ri",
    "tau",
    "updown_ramp",
    "threshold_v_ramp",
)  # the first three are a family and separate the classes


def write_cells(path, cells: int = 120) -> None:
    """Some values are missing; a donor has three cells; a slice of the culture has a larger second feature."""
    rng = np.random.default_rng(0)
    label = rng.permutation(np.resize(CLASSES, cells))
    condition = rng.permutation(np.resize(("acute", "culture"), cells))
    values = rng.normal(size=(cells, 5))
    values[:, :3] += 6 * np.eye(4)[np.searchsorted(CLASSES, label)][:, :3]
    values[:, 3] += 4 * (condition == "culture")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("cell_id", "species", "subclass4", "subclass5", "donor", "condition", *COLUMNS))
        for i in range(cells):
            row = ["" if rng.random() < 0.04 else f"{value:.4f}" for value in values[i]]
            writer.writerow((i, "mouse", label[i], label[i], f"d{i // 3}", condition[i], *row))


# Components and forest.


def make_values(cells: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    codes = np.arange(cells) % 3
    values = rng.normal(size=(cells, 7)).astype(np.float32)
    values[:, 0] += 4 * codes
    values[rng.random(values.shape) < 0.05] = np.nan
    return values, codes


WIDTHS = {"a": 4, "b": 3}
TRAIN, TEST = np.arange(40), np.arange(40, 60)


def predicted_after(change, model) -> np.ndarray:
    """Predict the first test row when the other test rows are changed."""
    values, codes = make_values()
    values[TEST[1:]] = change(values[TEST[1:]])
    return fit_predict_proba(model, values, codes, TRAIN, TEST[:1], 3)


class FittedOnOtherRows(SparseComponents):
    """Fitted on rows that it should not see."""

    def __init__(self, families, seen=None):
        super().__init__(families)
        self.seen = seen

    def fit(self, X, y=None):
        return super().fit(np.concatenate([X, self.seen]))


def test_what_test_rows_are_like_changes_nothing_and_a_leak_would_be_seen():
    def honest():
        return make_component_forest(WIDTHS, 0).set_params(randomforestclassifier__n_estimators=40)

    def change_strongly(rows):
        return 50 * rows[:, ::-1]

    np.testing.assert_array_equal(
        predicted_after(lambda rows: rows, honest()), predicted_after(change_strongly, honest())
    )

    def fitted_on_test_rows(change):
        model = honest()
        return model.set_params(sparsecomponents=FittedOnOtherRows(WIDTHS, change(make_values()[0][TEST[1:]])))

    plain, changed = (
        predicted_after(change, fitted_on_test_rows(change)) for change in (lambda rows: rows, change_strongly)
    )
    assert np.abs(plain - changed).max() > 0.02


def test_component_forest_has_the_published_settings_and_imputes_training_medians():
    model = make_component_forest(WIDTHS, 3)
    settings = model[-1].get_params()
    wanted = dict(n_estimators=600, min_samples_leaf=2, class_weight="balanced_subsample", random_state=3)
    assert settings.items() >= wanted.items()
    values, _ = make_values()
    fitted = SparseComponents(WIDTHS).fit(values[TRAIN])
    missing = np.isnan(values[TEST])
    filled = np.where(missing, np.nanmedian(values[TRAIN], axis=0), values[TEST])
    assert missing.any()
    np.testing.assert_allclose(fitted.transform(values[TEST]), fitted.transform(filled), rtol=1e-5, atol=1e-5)


def test_the_published_plan_is_taken_where_its_families_are():
    vectors = {**dict.fromkeys(GOUWENS, 450), "psth": 120}
    assert choose_plan(vectors) is GOUWENS
    assert choose_plan(WIDTHS) == {"a": FamilyPlan(4, scaled=True), "b": FamilyPlan(3, scaled=True)}
    assert choose_plan(dict.fromkeys(list(GOUWENS)[1:], 450)) is not GOUWENS


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forest")
    write_cells(folder / "mouse_v1.csv")
    done = run(
        "experiments.patchseq_forest", "smoke", "--data", str(folder), "--seeds", "2", "--trees", "30", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return only_run(folder)


def test_every_forest_is_scored_on_every_split_out_of_bag_too(finished):
    scores = [score for score in read_scores(finished / "scores.csv") if score.metric == "macro_f1"]
    assert {score.variant for score in scores} == {FEATURES, COMPONENTS, ALL_CELLS}
    for kind in ("cell", "donor"):
        for split, rows in (("test", 24), ("out of bag", 72)):
            selected = [score for score in scores if (score.test_on, score.split) == (kind, split)]
            assert len(selected) == 6
            assert np.mean([score.n for score in selected]) == pytest.approx(rows, abs=6)
            assert np.mean([score.value for score in selected]) > 0.85


def test_components_and_losses_are_those_of_the_informative_families(finished):
    scores = [score for score in read_scores(finished / "scores.csv") if score.test_on == "cell"]
    kept = {score.metric: score.value for score in scores if score.metric.startswith("components")}
    assert kept == {"components": 5.0, "components subthreshold": 3.0, "components ramp_ap": 2.0}
    for model in (FEATURES, COMPONENTS):
        lost = {
            metric: np.mean(
                [s.value for s in scores if (s.variant, s.metric, s.split) == (model, metric, "validation")]
            )
            for metric in ("macro-F1 lost subthreshold", "macro-F1 lost ramp_ap")
        }
        assert lost["macro-F1 lost subthreshold"] > 0.4 and abs(lost["macro-F1 lost ramp_ap"]) < 0.1


def test_the_report_of_the_forest_is_whole(finished):
    report = (finished / "report.md").read_text()
    for heading in (
        "Held out by cell",
        "Held out by donor",
        "Out of bag, and on test cells, by donor",
        "Families, by cell",
    ):
        assert f"## {heading}" in report
    assert len(list((finished / "figures").glob("*.png"))) == 3


# Neighbours.


def test_purity_and_overlap_are_their_brute_force():
    rng = np.random.default_rng(3)
    points, label = rng.normal(size=(30, 3)), rng.integers(3, size=30)
    nearest = nearest_neighbors(points, 4)
    apart = np.linalg.norm(points[:, None] - points, axis=2) + np.where(np.eye(30), np.inf, 0)
    for cell, row in enumerate(apart.argsort(axis=1)[:, :4]):
        assert set(nearest[cell]) == set(row)
        assert neighbor_purity(nearest, label)[cell] == np.mean(label[row] == label[cell])
    other = nearest_neighbors(rng.normal(size=(30, 3)), 4)
    shared = np.mean([len(set(a) & set(b)) / 4 for a, b in zip(nearest, other, strict=True)])
    assert neighbor_overlap(nearest, other) == pytest.approx(shared)
    assert neighbor_overlap(nearest, nearest) == 1.0


def test_shuffled_labels_stay_within_what_is_fixed():
    rng = np.random.default_rng(4)
    fixed, label = rng.integers(3, size=90), rng.integers(5, size=90)
    mixed = shuffle_within_groups(label, fixed, rng)
    assert (mixed != label).any()
    for group in range(3):
        assert sorted(mixed[fixed == group]) == sorted(label[fixed == group])


def test_chance_is_its_formula_and_a_confounder_raises_it():
    rng = np.random.default_rng(5)
    label = np.repeat([0, 1], [60, 30])
    nearest = nearest_neighbors(rng.normal(size=(90, 2)) + 8 * label[:, None])
    free = chance_purity(nearest, label, np.zeros(90), 300, rng)
    assert free.mean() == pytest.approx((60 * 59 + 30 * 29) / (90 * 89), abs=0.01)
    held = chance_purity(nearest, label, label, 5, rng)
    np.testing.assert_allclose(held, neighbor_purity(nearest, label).mean(), err_msg="nothing is left to shuffle")


# The pictures.


class Flat:
    """A substitute for UMAP: two random directions, others for another seed."""

    def __init__(self, *, random_state: int, **settings) -> None:
        self.random_state = random_state

    def fit_transform(self, space: np.ndarray) -> np.ndarray:
        return space @ np.random.default_rng(self.random_state).normal(size=(space.shape[1], 2))


def test_purities_are_reported_with_their_chance_level(tmp_path, monkeypatch):
    write_cells(tmp_path / "mouse_v1.csv")
    monkeypatch.setattr(patchseq_embedding, "load_umap", lambda: Flat)
    settings = patchseq_embedding.Embedding(species="mouse", data=tmp_path, seeds=2, shuffles=20)
    patchseq_embedding.run(settings, RunFolder(tmp_path / "run", "patchseq_embedding", settings, []))
    found = {
        (score.test_on, score.metric): score.value
        for score in read_scores(tmp_path / "run" / "scores.csv")
        if score.variant == "signed-log features"
    }
    assert found["subclass", "purity"] > 0.7 and found["subclass", "excess"] > 0.6
    assert found["condition", "purity"] > found["condition", "chance, fixed, high"], "culture differs by construction"
    assert found["donor", "chance, fixed, low"] <= found["donor", "purity"] <= found["donor", "chance, fixed, high"]
    report = (tmp_path / "run" / "report.md").read_text()
    assert "## Neighbors of the same condition" in report and "at the same subclass and condition" in report
    assert len(list((tmp_path / "run" / "figures").glob("*.png"))) == 3


def test_without_umap_the_error_explains_the_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match=r'umap-learn is not installed: pip install "\.\[umap\]"'):
        patchseq_embedding.load_umap()


@pytest.mark.slow  # the compiler of UMAP, a quarter of a minute of a core
def test_umap_keeps_separated_classes_together_and_is_reproducible(tmp_path):
    pytest.importorskip("umap")
    rng, label = np.random.default_rng(6), np.arange(60) % 3
    space = rng.normal(size=(60, 5)) + 8 * np.eye(5)[label]
    settings = patchseq_embedding.Embedding()
    folder = RunFolder(tmp_path, "patchseq_embedding", settings, [])
    first, second = (
        patchseq_embedding.embed(folder, patchseq_embedding.load_umap(), "x", space, seeds) for seeds in (2, 1)
    )
    assert neighbor_purity(nearest_neighbors(first[0], 10), label).mean() > 0.95
    np.testing.assert_array_equal(first[0], second[0])
    assert not np.allclose(first[0], first[1])
