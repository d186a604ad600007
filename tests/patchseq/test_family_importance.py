"""Attention and the loss of macro-F1 without a family: permutations, class means and notes."""

import numpy as np
import pytest

from jaxephys import FeatureTable
from jaxephys.evaluation.comparison import ModelComparison
from jaxephys.evaluation.splits import Split, SplitKey
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
    no_rows = np.array([], int)
    folds = [Split(no_rows, no_rows, np.arange(8)), Split(no_rows, no_rows, np.arange(8, 12))]
    splits = {SplitKey("cell", seed, fold): split for seed in (3, 7) for fold, split in enumerate(folds)}
    attention = RNG.dirichlet(np.ones(3), size=(4, 8)).astype(np.float32)
    prediction = Prediction(np.zeros((4, 8, 2)), attention, np.zeros((4, 8, 1)))
    runs = AttentionRuns(ModelComparison(cells, splits))
    maps = runs.class_attention(prediction)
    by_cell = np.concatenate([attention[2, :8], attention[3, :4]])  # of seed 7
    for code, name in enumerate(("Pvalb", "Sst")):
        np.testing.assert_allclose(maps[1, code], by_cell[cells.label == name].mean(axis=0), rtol=1e-6)
    scores = runs.family_scores(maps, {SWAPPED: np.zeros((2, 3))})
    values = [s.value for s in scores if (s.variant, s.metric, s.seed) == ("spike", "attention", 1)]
    assert values == pytest.approx([by_cell[:, 1].mean()], rel=1e-6)


def test_notes_report_that_attention_and_losses_disagree(cells):
    maps, losses = np.tile([0.6, 0.3, 0.1], (2, 2, 1)), {MISSING: np.tile([0.0, 0.1, 0.2], (2, 1))}
    (seeds, agreement, _) = importance_notes(maps, losses, cells)
    assert "Spearman correlation of 1.00" in seeds
    assert (
        "Spearman correlation of -1.00" in agreement
        and "for train" in agreement
        and "attention is passive" in agreement
    )


def test_only_the_family_that_a_classifier_reads_has_a_permutation_loss():
    rng = np.random.default_rng(2)
    values, codes = rng.normal(size=(200, 7)), np.arange(200) % 4
    values[:, 4:6] = np.stack([codes // 2, codes % 2], axis=1)
    widths = {"a": 4, "b": 3}
    losses = permutation_losses(lambda rows: (2 * rows[:, 4] + rows[:, 5]).astype(int), values, codes, widths, (0, 0))
    assert losses["a"] == 0.0
    assert losses["b"] == pytest.approx(0.75, abs=0.06), "a quarter is right by chance, as both columns move together"
