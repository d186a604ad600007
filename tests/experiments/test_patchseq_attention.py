"""Attention and the loss of macro-F1 without a family, on cells whose classes depend on one family."""

import numpy as np
import pytest

from jaxephys import FeatureTable
from jaxephys.patchseq.family_importance import (
    MISSING,
    SWAPPED,
)
from jaxephys.reporting.score_table import read_scores
from tests.experiments.command import only_run, run

FAMILIES = {"passive": 2, "spike": 3, "train": 1}


NETWORKS = {  # options and the description in the report
    "ours": (
        ("--ours", "--hidden", "4"),
        "our encoder (64 values a family), BiLSTM of 2 x 4, attention | signed logarithms",
    ),
    "published": (
        ("--notebook-splits", "--variant", "arcface+smote", "--hidden", "32"),
        "published encoder, BiLSTM of 2 x 32, attention, ArcFace head | logarithm of skewed positive features, z-scores",
    ),
}


@pytest.mark.parametrize("network", ["ours", pytest.param("published", marks=pytest.mark.slow)])
def test_experiment_finds_the_family_that_separates_the_classes(tmp_path, network):
    options, description = NETWORKS[network]
    label = np.random.default_rng(1).permutation(np.resize(["Pvalb", "Sst", "Vip"], 150))
    values = np.random.default_rng(2).normal(size=(150, 6)).astype(np.float32)
    values[:, 2:5] += 3 * np.array([[name == c for c in ("Pvalb", "Sst", "Vip")] for name in label])
    table = FeatureTable.from_arrays(values, FAMILIES, about={"subclass4": label})
    table.save(tmp_path / "table.npz")
    small = ("--max-epochs", "20", "--swaps", "2", *options)
    done = run("experiments.patchseq_attention", "smoke", "--data", str(tmp_path), *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert description in (only_run(tmp_path) / "report.md").read_text()
    scores = read_scores(only_run(tmp_path) / "scores.csv")
    for name in (SWAPPED, MISSING):
        lost = {f: np.mean([s.value for s in scores if (s.variant, s.metric) == (f, name)]) for f in FAMILIES}
        assert max(lost, key=lost.get) == "spike" and lost["spike"] > 0.1, lost
