"""Attention and the loss of macro-F1 without a family, on cells whose classes depend on one family."""

import numpy as np
import pytest

from jaxephys import FeatureTable
from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.splits import Split
from jaxephys.patchseq.family_importance import (
    MISSING,
    SWAPPED,
    AttentionRuns,
    importance_notes,
    permutation_losses,
    remove_family,
    swap_family,
)
from jaxephys.patchseq.task import Prediction
from jaxephys.reporting.score_table import read_scores
from tests.experiments.command import only_run, run

FAMILIES = {"passive": 2, "spike": 3, "train": 1}
RNG = np.random.default_rng(0)


@pytest.fixture
def cells():
    label = np.array(["Pvalb", "Sst", "Sst"])[np.arange(12) % 3]
    return FeatureTable.from_arrays(RNG.normal(size=(12, 6)).astype(np.float32), FAMILIES, label)


def test_family_is_permuted_as_a_whole_and_other_columns_stay(cells):
    inside = cells.columns["spike"]
    assert inside == slice(2, 5)
    swapped = swap_family(cells, "spike", 1)
    assert {tuple(row) for row in swapped[:, inside]} == {tuple(row) for row in cells.values[:, inside]}
    assert not np.array_equal(swapped[:, inside], cells.values[:, inside])
    for changed in (swapped, remove_family(cells, "spike")):
        np.testing.assert_array_equal(np.delete(changed, inside, axis=1), np.delete(cells.values, inside, axis=1))
    assert np.isnan(remove_family(cells, "spike")[:, inside]).all()


def test_attention_of_a_class_weighs_each_of_its_test_cells_equally(cells):
    """Folds of unequal size: the mean over cells is not the mean over folds."""
    grid = RunGrid.cross(seed=(3, 7), fold=(0, 1))
    no_rows = np.array([], int)
    splits = [Split(no_rows, no_rows, np.arange(8)), Split(no_rows, no_rows, np.arange(8, 12))] * 2
    attention = RNG.dirichlet(np.ones(3), size=(4, 8)).astype(np.float32)
    prediction = Prediction(np.zeros((4, 8, 2)), attention, np.zeros((4, 8, 1)))
    runs = AttentionRuns("patchseq_attention", cells, grid, splits, "cell")
    maps = runs.class_attention(prediction)
    by_cell = np.concatenate([attention[2, :8], attention[3, :4]])  # of seed 7
    for code, name in enumerate(("Pvalb", "Sst")):
        np.testing.assert_allclose(maps[1, code], by_cell[cells.label == name].mean(axis=0), rtol=1e-6)
    scores = runs.family_scores(maps, {SWAPPED: np.zeros((2, 3))})
    values = [s.value for s in scores if (s.variant, s.metric, s.seed) == ("spike", "attention", 1)]
    assert values == pytest.approx([by_cell[:, 1].mean()], rel=1e-6)


def test_notes_report_that_attention_and_losses_disagree():
    maps, shares = np.tile([0.6, 0.3, 0.1], (2, 2, 1)), np.array([0.5, 0.5])
    (seeds, agreement, _) = importance_notes(maps, shares, {MISSING: np.tile([0.0, 0.1, 0.2], (2, 1))}, list(FAMILIES))
    assert "Spearman correlation of 1.00" in seeds
    assert (
        "Spearman correlation of -1.00" in agreement
        and "for train" in agreement
        and "attention is passive" in agreement
    )


def test_experiment_finds_the_family_that_separates_the_classes(tmp_path):
    label = np.random.default_rng(1).permutation(np.resize(["Pvalb", "Sst", "Vip"], 150))
    values = np.random.default_rng(2).normal(size=(150, 6)).astype(np.float32)
    values[:, 2:5] += 3 * np.array([[name == c for c in ("Pvalb", "Sst", "Vip")] for name in label])
    table = FeatureTable.from_arrays(values, FAMILIES, about={"subclass4": label})
    table.save(tmp_path / "table.npz")
    small = ("--hidden", "4", "--max-epochs", "20", "--swaps", "2")
    done = run("experiments.patchseq_attention", "smoke", "--data", str(tmp_path), *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = read_scores(only_run(tmp_path) / "scores.csv")
    for name in (SWAPPED, MISSING):
        lost = {f: np.mean([s.value for s in scores if (s.variant, s.metric) == (f, name)]) for f in FAMILIES}
        assert max(lost, key=lost.get) == "spike" and lost["spike"] > 0.1, lost


def test_only_the_family_that_a_classifier_reads_has_a_permutation_loss():
    rng = np.random.default_rng(2)
    values, codes = rng.normal(size=(200, 7)), np.arange(200) % 4
    values[:, 4:6] = np.stack([codes // 2, codes % 2], axis=1)
    widths = {"a": 4, "b": 3}
    losses = permutation_losses(lambda rows: (2 * rows[:, 4] + rows[:, 5]).astype(int), values, codes, widths, (0, 0))
    assert losses["a"] == 0.0
    assert losses["b"] == pytest.approx(0.75, abs=0.06), "a quarter is right by chance, as both columns move together"
