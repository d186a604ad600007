"""Shrinkage LDA for tables of any width: scikit-learn's, and its very decisions where columns are more than rows.

The covariance of a class is shrunk on its own z-scores, R = (1 - d) Z'Z / n + d m I, with d and m after Ledoit and Wolf, and
classes are pooled by their shares. On thousands of columns that is a matrix which is never needed: it is a diagonal and one
direction a row, and Woodbury's identity solves with the rows alone,

    C = D + U'U,   C^-1 = D^-1 - D^-1 U' (I + U D^-1 U')^-1 U D^-1,   U [row column]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler


class ShrinkageLDA(LinearDiscriminantAnalysis):
    """Linear discriminant analysis whose shrinkage is that of Ledoit and Wolf."""

    def __init__(self) -> None:
        super().__init__(solver="lsqr", shrinkage="auto")

    def fit(self, X: np.ndarray, y: np.ndarray) -> ShrinkageLDA:
        classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        # Of two rows or one nothing is shrunk: where no class has more, there is no diagonal to solve with.
        if X.shape[1] <= len(X) or counts.max() <= 2:
            return super().fit(X, y)
        X = np.asarray(X, np.float64)
        self.classes_, self.priors_, self.n_features_in_ = classes, counts / len(X), X.shape[1]
        groups = [X[codes == code] for code in range(len(counts))]
        self.means_ = np.stack([group.mean(axis=0) for group in groups])
        diagonals, rows = zip(*map(_covariance, groups, self.priors_), strict=True)
        self.coef_ = _solve(np.sum(diagonals, axis=0), np.concatenate(rows), self.means_)
        self.intercept_ = np.log(self.priors_) - 0.5 * np.sum(self.means_ * self.coef_, axis=1)
        if len(counts) == 2:  # scikit-learn's form of two classes: one row
            self.coef_, self.intercept_ = self.coef_[1:] - self.coef_[:1], self.intercept_[1:] - self.intercept_[:1]
        return self


def _covariance(
    group: Float[np.ndarray, "row column"], share: float
) -> tuple[Float[np.ndarray, "column"], Float[np.ndarray, "row column"]]:
    """D and U of one class."""
    scaler = StandardScaler().fit(group)
    z = np.asarray(scaler.transform(group))
    shrinkage = ledoit_wolf_shrinkage(z)
    mean_variance = np.mean(z**2)
    scale = np.asarray(scaler.scale_)
    rows = np.sqrt(share * (1 - shrinkage) / len(z)) * z * scale
    return share * shrinkage * mean_variance * scale**2, rows


def _solve(
    diagonal: Float[np.ndarray, "column"],
    rows: Float[np.ndarray, "row column"],
    right: Float[np.ndarray, "class column"],
) -> Float[np.ndarray, "class column"]:
    """(D + U'U)^-1 applied to each row of the right side."""
    scaled = rows / diagonal
    inner = np.eye(len(rows)) + scaled @ rows.T
    return right / diagonal - solve(inner, scaled @ right.T, assume_a="pos").T @ scaled
