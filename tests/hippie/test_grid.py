"""Folds of the HIPPIE grids."""

import numpy as np

from jaxephys.hippie.grid import k_fold_splits


def test_folds_are_disjoint_and_the_same_for_every_seed():
    splits = k_fold_splits(np.arange(7, 50), 2)
    tested = np.concatenate([splits[1, fold].test for fold in range(5)])
    np.testing.assert_array_equal(np.sort(tested), np.arange(7, 50))
    np.testing.assert_array_equal(splits[0, 3].test, splits[1, 3].test)
    assert not np.array_equal(splits[0, 3].validation, splits[1, 3].validation)
