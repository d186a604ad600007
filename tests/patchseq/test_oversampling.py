"""SMOTE as rows gives imbalanced-learn's own samples, from training rows only."""

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE

from jaxephys.engine.rows import take_rows
from jaxephys.patchseq.oversampling import smote_rows


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [30, 9, 4]).astype(np.int32)
    return rng.normal(size=(43, 6)).astype(np.float32) + labels[:, None], labels


def test_rows_gathered_are_the_samples_of_imbalanced_learn(cells):
    values, labels = cells
    train = np.random.default_rng(1).permutation(43)[:36].astype(np.int32)
    smallest = np.bincount(labels[train]).min()
    rows = smote_rows(values, labels, train, seed=3)
    x, y = SMOTE(k_neighbors=min(5, smallest - 1), random_state=3).fit_resample(values[train], labels[train])
    np.testing.assert_allclose(take_rows(values, rows), x, atol=1e-6)
    np.testing.assert_array_equal(labels[rows.index], y)
    assert len(set(np.bincount(labels[rows.index]))) == 1


def test_no_row_outside_the_training_rows_is_used(cells):
    values, labels = cells
    train = np.concatenate([np.arange(0, 25), np.arange(30, 37), np.arange(39, 42)]).astype(np.int32)
    rows = smote_rows(values, labels, train, seed=0)
    assert set(rows.index) | set(rows.partner) <= set(train)
    moved = values.copy()
    moved[np.setdiff1d(np.arange(43), train)] = 1e6
    for ours, again in zip(rows, smote_rows(moved, labels, train, seed=0), strict=True):
        np.testing.assert_array_equal(ours, again)


def test_a_class_of_one_is_named(cells):
    values, labels = cells
    with pytest.raises(ValueError, match="class 2 has one training cell"):
        smote_rows(values, labels, np.arange(40, dtype=np.int32), seed=0)
