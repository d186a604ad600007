"""Nearest neighbors: purity, overlap and chance are their formulas."""

import numpy as np
import pytest

from jaxephys.evaluation.neighbors import (
    chance_purity,
    nearest_neighbors,
    neighbor_overlap,
    neighbor_purity,
    shuffle_within_groups,
)


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
