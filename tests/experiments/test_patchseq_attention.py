"""Attention and what is lost without a family: on cells whose classes one family alone tells."""

import numpy as np
import pytest

from experiments.patchseq_attention import MISSING, SWAPPED, attention_of, columns_of, family_scores, notes, omit, swap
from jaxephys import FeatureTable
from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.splits import Split
from jaxephys.patchseq.task import Prediction
from jaxephys.reporting.score_table import read_scores
from tests.experiments.command import only_run, run

FAMILIES = {"passive": 2, "spike": 3, "train": 1}
RNG = np.random.default_rng(0)


@pytest.fixture
def cells():
    label = np.array(["Pvalb", "Sst", "Sst"])[np.arange(12) % 3]
    return FeatureTable.of(RNG.normal(size=(12, 6)).astype(np.float32), FAMILIES, label)


def test_a_family_is_swapped_whole_and_nothing_else_moves(cells):
    inside = columns_of(cells, "spike")
    assert inside == slice(2, 5)
    swapped = swap(cells, "spike", 1)
    assert {tuple(row) for row in swapped[:, inside]} == {tuple(row) for row in cells.values[:, inside]}
    assert not np.array_equal(swapped[:, inside], cells.values[:, inside])
    for damaged in (swapped, omit(cells, "spike")):
        np.testing.assert_array_equal(np.delete(damaged, inside, axis=1), np.delete(cells.values, inside, axis=1))
    assert np.isnan(omit(cells, "spike")[:, inside]).all()


def test_attention_of_a_class_counts_each_of_its_test_cells_once(cells):
    """Folds of unequal size: the mean over cells is not the mean over folds."""
    axis = RunGrid.cross(seed=(3, 7), fold=(0, 1))
    nobody = np.array([], int)
    splits = [Split(nobody, nobody, np.arange(8)), Split(nobody, nobody, np.arange(8, 12))] * 2
    attention = RNG.dirichlet(np.ones(3), size=(4, 8)).astype(np.float32)
    said = Prediction(np.zeros((4, 8, 2)), attention, np.zeros((4, 8, 1)))
    maps = attention_of(axis, splits, cells, said)
    by_cell = np.concatenate([attention[2, :8], attention[3, :4]])  # of seed 7
    for code, name in enumerate(("Pvalb", "Sst")):
        np.testing.assert_allclose(maps[1, code], by_cell[cells.label == name].mean(axis=0), rtol=1e-6)
    scores = family_scores(cells, maps, {SWAPPED: np.zeros((2, 3))}, "cell")
    mine = [s.value for s in scores if (s.variant, s.metric, s.seed) == ("spike", "attention", 1)]
    assert mine == pytest.approx([by_cell[:, 1].mean()], rel=1e-6)


def test_the_notes_say_when_attention_and_importance_disagree():
    maps, shares = np.tile([0.6, 0.3, 0.1], (2, 2, 1)), np.array([0.5, 0.5])
    (seeds, verdict, _) = notes(maps, shares, {MISSING: np.tile([0.0, 0.1, 0.2], (2, 1))}, list(FAMILIES))
    assert "Spearman correlation of 1.00" in seeds
    assert "Spearman correlation of -1.00" in verdict and "for train" in verdict and "attention is passive" in verdict


def test_the_command_finds_the_family_that_tells_the_classes(tmp_path):
    label = np.random.default_rng(1).permutation(np.resize(["Pvalb", "Sst", "Vip"], 150))
    values = np.random.default_rng(2).normal(size=(150, 6)).astype(np.float32)
    values[:, 2:5] += 3 * np.array([[name == c for c in ("Pvalb", "Sst", "Vip")] for name in label])
    table = FeatureTable.of(values, FAMILIES, about={"subclass4": label})
    table.save(tmp_path / "table.npz")
    small = ("--hidden", "4", "--max-epochs", "20", "--swaps", "2")
    done = run("experiments.patchseq_attention", "smoke", "--data", str(tmp_path), *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = read_scores(only_run(tmp_path) / "scores.csv")
    for name in (SWAPPED, MISSING):
        lost = {f: np.mean([s.value for s in scores if (s.variant, s.metric) == (f, name)]) for f in FAMILIES}
        assert max(lost, key=lost.get) == "spike" and lost["spike"] > 0.1, lost
