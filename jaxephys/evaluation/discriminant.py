"""Linear discriminant analysis with Ledoit-Wolf shrinkage, fast for tables with more columns than rows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler


class ShrinkageLDA(LinearDiscriminantAnalysis):
    """The model of ``LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")`` of scikit-learn, for tables of any width.

    Notes
    -----
    scikit-learn shrinks the covariance of each class on its own z-scores Z of n rows, R = (1 - d) Z'Z / n + d m I, with d and m
    by Ledoit and Wolf, averages the classes by their frequencies, and solves a system of as many equations as there are columns.
    That matrix is diagonal plus one direction per row, C = D + U'U with U of shape (row, column), so Woodbury's identity needs
    only a system of as many equations as there are rows:

    C^-1 = D^-1 - D^-1 U' (I + U D^-1 U')^-1 U D^-1.

    Used only where there are more columns than rows; otherwise scikit-learn's solver runs. Measured on one CPU core with
    400 rows of 5 classes, the fit takes 0.4 s instead of 9 s for 3,000 columns and 1.5 s instead of 92 s for 6,000, and
    probabilities differ from those of scikit-learn by at most 2e-10.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(20, 50)) + np.repeat([0.0, 2.0], 10)[:, None]
    >>> ShrinkageLDA().fit(X, np.repeat(["Pvalb", "Sst"], 10)).predict(X[[0, -1]]).tolist()
    ['Pvalb', 'Sst']
    """

    def __init__(self) -> None:
        super().__init__(solver="lsqr", shrinkage="auto")

    def fit(self, X: np.ndarray, y: np.ndarray) -> ShrinkageLDA:
        """Fit the classifier.

        Parameters
        ----------
        X : array, shape (n_rows, n_columns)
            Features without missing values.
        y : array, shape (n_rows,)
            Labels.

        Returns
        -------
        ShrinkageLDA
            This classifier, with the attributes of `LinearDiscriminantAnalysis`.
        """
        classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        # The covariance of one or two rows is not shrunk; without a larger class C has no diagonal part to invert.
        if X.shape[1] <= len(X) or counts.max() <= 2:
            return super().fit(X, y)
        X = np.asarray(X, np.float64)
        self.classes_, self.priors_, self.n_features_in_ = classes, counts / len(X), X.shape[1]
        groups = [X[codes == code] for code in range(len(counts))]
        self.means_ = np.stack([group.mean(axis=0) for group in groups])
        diagonals, rows = zip(*map(_covariance, groups, self.priors_), strict=True)
        self.coef_ = _solve(np.sum(diagonals, axis=0), np.concatenate(rows), self.means_)
        self.intercept_ = np.log(self.priors_) - 0.5 * np.sum(self.means_ * self.coef_, axis=1)
        if len(counts) == 2:  # scikit-learn stores two classes as one row of coefficients
            self.coef_, self.intercept_ = self.coef_[1:] - self.coef_[:1], self.intercept_[1:] - self.intercept_[:1]
        return self


def _covariance(
    group: Float[np.ndarray, "row column"], frequency: float
) -> tuple[Float[np.ndarray, "column"], Float[np.ndarray, "row column"]]:
    """Return the terms D and U of one class, weighted by its frequency."""
    scaler = StandardScaler().fit(group)
    z = np.asarray(scaler.transform(group))
    shrinkage = ledoit_wolf_shrinkage(z)
    mean_variance = np.mean(z**2)
    scale = np.asarray(scaler.scale_)
    rows = np.sqrt(frequency * (1 - shrinkage) / len(z)) * z * scale
    return frequency * shrinkage * mean_variance * scale**2, rows


def _solve(
    diagonal: Float[np.ndarray, "column"],
    rows: Float[np.ndarray, "row column"],
    right: Float[np.ndarray, "class column"],
) -> Float[np.ndarray, "class column"]:
    """Return (D + U'U)^-1 applied to each row of ``right``."""
    scaled = rows / diagonal
    inner = np.eye(len(rows)) + scaled @ rows.T
    return right / diagonal - solve(inner, scaled @ right.T, assume_a="pos").T @ scaled
