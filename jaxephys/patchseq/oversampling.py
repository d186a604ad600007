"""SMOTE as row tables: a synthetic cell is (anchor, neighbour, mix), never a stored feature vector."""

from __future__ import annotations

import numpy as np
from imblearn.over_sampling import SMOTE
from jaxtyping import Float, Int

from jaxephys.engine.task import RowSet

NEIGHBOURS = 5


class _Recorder(SMOTE):
    """imbalanced-learn's SMOTE, noting which two samples each synthetic one lies between, and where."""

    def _generate_samples(self, X, nn_data, nn_num, rows, cols, steps, y_type=None, y=None):
        self.drawn.append((y_type, rows, nn_num[rows, cols], np.ravel(steps)))
        return super()._generate_samples(X, nn_data, nn_num, rows, cols, steps, y_type, y)

    def fit_resample(self, X, y, **params):
        self.drawn = []
        return super().fit_resample(X, y, **params)


def smote_rows(
    values: Float[np.ndarray, "cell column"], labels: Int[np.ndarray, "cell"], train: Int[np.ndarray, "row"], seed: int
) -> RowSet:
    """The training rows, then synthetic rows of every smaller class until all are as large as the largest.

    Neighbours are sought among the training rows only, so give ``values`` scaled with the training rows' mean and sd.
    k is 5, or one less than the smallest class. The draw is imbalanced-learn's for this seed.
    """
    counts = np.bincount(labels[train])
    smallest = counts[counts > 0].min()
    if smallest < 2:
        raise ValueError(
            f"class {np.flatnonzero(counts == smallest)[0]} has one training cell: SMOTE needs at least two"
        )
    recorder = _Recorder(k_neighbors=min(NEIGHBOURS, smallest - 1), random_state=seed)
    recorder.fit_resample(values[train], labels[train])
    anchors, partners, mixes = [train], [train], [np.zeros(len(train))]
    for label, anchor, neighbour, mix in recorder.drawn:
        members = train[labels[train] == label]
        anchors.append(members[anchor])
        partners.append(members[neighbour])
        mixes.append(mix)
    index, partner = np.concatenate(anchors).astype(np.int32), np.concatenate(partners).astype(np.int32)
    return RowSet(index, np.ones(len(index), np.float32), partner, np.concatenate(mixes).astype(np.float32))
