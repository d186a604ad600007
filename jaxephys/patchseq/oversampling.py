"""SMOTE as row tables: a synthetic cell is stored as (anchor, neighbor, mix) and not as a vector of features."""

from __future__ import annotations

import numpy as np
from imblearn.over_sampling import SMOTE
from jaxtyping import Float, Int

from jaxephys.engine.task import RowSet

N_NEIGHBORS = 5


def smote_rows(
    values: Float[np.ndarray, "cell column"], codes: Int[np.ndarray, "cell"], train: Int[np.ndarray, "row"], seed: int
) -> RowSet:
    """Return the training rows followed by synthetic rows, until all classes are as large as the largest.

    Parameters
    ----------
    values : array of shape (cell, column)
        Features of all cells without NaN, scaled by the training rows: neighbors are found by Euclidean distance, among
        training rows only.
    codes : array of int, shape (cell,)
        Class of each cell.
    train : array of int, shape (row,)
        Indices of the training cells.
    seed : int
        Seed of imbalanced-learn's SMOTE, whose samples these are.

    Returns
    -------
    RowSet
        Rows of weight 1; a synthetic row is ``x[index] + mix * (x[partner] - x[index])``.

    Raises
    ------
    ValueError
        If a class has a single training cell.

    Notes
    -----
    The number of neighbors is 5, or one less than the smallest class has cells.
    """
    counts = np.bincount(codes[train])
    smallest = int(counts[counts > 0].min())
    if smallest < 2:
        raise ValueError(
            f"class {np.flatnonzero(counts == smallest)[0]} has one training cell: SMOTE needs at least two"
        )
    recorder = _RecordingSMOTE(k_neighbors=min(N_NEIGHBORS, smallest - 1), random_state=seed)
    recorder.fit_resample(values[train], codes[train])
    anchors, partners, mixes = [train], [train], [np.zeros(len(train))]
    for code, anchor, neighbor, mix in recorder.samples:
        members = train[codes[train] == code]
        anchors.append(members[anchor])
        partners.append(members[neighbor])
        mixes.append(mix)
    index, partner = np.concatenate(anchors).astype(np.int32), np.concatenate(partners).astype(np.int32)
    return RowSet(index, np.ones(len(index), np.float32), partner, np.concatenate(mixes).astype(np.float32))


class _RecordingSMOTE(SMOTE):
    """imbalanced-learn's SMOTE; it records between which two samples each synthetic one is, and where."""

    def _generate_samples(self, X, nn_data, nn_num, rows, cols, steps, y_type=None, y=None):
        self.samples.append((y_type, rows, nn_num[rows, cols], np.ravel(steps)))
        return super()._generate_samples(X, nn_data, nn_num, rows, cols, steps, y_type, y)

    def fit_resample(self, X, y, **params):
        self.samples = []
        return super().fit_resample(X, y, **params)
