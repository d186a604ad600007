"""The forest and embedding experiments on small tables of known classes: known structure is found and reported."""

import csv
import sys

import numpy as np
import pytest

from experiments import patchseq_embedding
from jaxephys.evaluation.neighbors import (
    nearest_neighbors,
    neighbor_purity,
)
from jaxephys.patchseq.report.forest import ALL_CELLS, COMPONENTS, FEATURES
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
    assert "0.8728, on other cells" in report and "| 0.9072 |" in report, "the published numbers"
    drawn = {path.stem for path in (finished / "figures").glob("*.png")}
    assert drawn == {"bars_macro_f1", "classes_f1", "families", "confusions"}


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
    with pytest.raises(ValueError, match=r'umap-learn is not installed: pip install "jaxephys\[umap\]"'):
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
