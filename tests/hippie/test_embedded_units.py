"""The files of embedded units have their published names and keys."""

from pathlib import Path

import numpy as np
import pytest

from jaxephys.hippie.embedded_units import EmbeddedUnits
from jaxephys.hippie.estimator import Hippie
from jaxephys.schemas.unit_table import UnitTable


@pytest.fixture
def embedded():
    rng = np.random.default_rng(0)
    labels = {"hull": ["PV", "", "SOM", "PV"], "watson": ["", "", ""]}
    tables = {
        name: UnitTable.from_arrays(
            isi=rng.random((len(label), 100)), label=label, technology="neuropixels", dataset=name
        )
        for name, label in labels.items()
    }
    cluster = np.array([0, 0, 1, -1, 1, 1, 0], np.int32)
    return EmbeddedUnits(tables, rng.random((7, 5)).astype(np.float32), rng.random((7, 2)), cluster)


def test_the_embeddings_have_the_published_keys_and_ours(embedded, tmp_path):
    path = embedded.write(tmp_path)
    assert path == tmp_path / "embeddings.npz"
    with np.load(path) as file:
        made = dict(file)
    assert {"embeddings", "labels", "dataset_ids", "technology_ids", "neuron_ids"} <= set(made)
    assert {"map", "cluster", "unit", "dataset", "label", "technology"} <= set(made)
    assert made["labels"].tolist() == ["PV", "", "SOM", "PV", "", "", ""]
    assert made["dataset_ids"].tolist() == ["hull"] * 4 + ["watson"] * 3
    assert made["neuron_ids"].tolist() == [0, 1, 2, 3, 0, 1, 2] and set(made["technology_ids"]) == {0}
    np.testing.assert_array_equal(made["embeddings"], embedded.embeddings)


def test_the_map_has_its_published_names(embedded, tmp_path):
    other = embedded.write(tmp_path, tmp_path / "deep" / "e.npz")
    assert other.exists() and not (tmp_path / "embeddings.npz").exists()
    with np.load(tmp_path / "umap_coords.npz") as file:
        np.testing.assert_array_equal(file["coords"], embedded.points.astype(np.float32))
        assert file["dataset_ids"].shape == file["labels"].shape == file["cluster"].shape == (7,)
    figures = embedded.draw(tmp_path)
    assert figures["Map of all units by data set"] == tmp_path / "figures" / "umap_by_dataset.png"
    assert {Path(figure).name for figure in figures.values()} == {
        "umap_by_dataset.png", "umap_by_cluster.png", "umap_by_class.png"
    }  # fmt: skip
    assert all(Path(figure).exists() for figure in figures.values())


def test_scores_are_those_of_each_data_set(embedded, monkeypatch):
    row = {"network": 0, "n": 3, "loss": 1.0, "r2": 0.5, "r2_wave": np.nan}
    monkeypatch.setattr(Hippie, "score_table", lambda self, units: [row])
    scores = embedded.scores(Hippie())
    assert {(score.test_on, score.metric) for score in scores} == {("hull", "r2"), ("hull", "rand"), ("watson", "r2")}
    assert [score.n for score in scores if score.metric == "r2"] == [4, 3]
