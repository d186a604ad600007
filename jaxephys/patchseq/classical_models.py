"""Classical classifiers on features of comparable scale, with fixed settings.

==========================  =============================================================================
``signed-log lda``          linear discriminant analysis with a shrunken covariance
``signed-log rda``          discriminant analysis with class covariances shrunken to the pooled one
``signed-log logistic``     logistic regression
``signed-log svm``          support vector machine with an RBF kernel
``kernel``                  regularized kernel classifier on normal scores (``jaxephys.evaluation``)
==========================  =============================================================================

The first four read signed logarithms of the features and flags of missing values (``SignedLogScaler``).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import cholesky, solve_triangular
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC

from jaxephys.evaluation.discriminant import ShrinkageLDA
from jaxephys.evaluation.kernel_classifier import KernelClassifier
from jaxephys.patchseq.preprocessing import SignedLogScaler, row_span_basis

CLASSICAL_MODELS = ("signed-log lda", "signed-log rda", "signed-log logistic", "signed-log svm", "kernel")


def make_classical_model(name: str, seed: int) -> Pipeline:
    """Create an unfitted classifier.

    Parameters
    ----------
    name : str
        One of ``CLASSICAL_MODELS``.
    seed : int
        Random state of the support vector machine.

    Returns
    -------
    Pipeline
        A scikit-learn pipeline; NaN is allowed in its input. The width of the SVM's kernel suits some eighty features of
        unit variance.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    makers = {
        "signed-log lda": ShrinkageLDA,
        "signed-log rda": lambda: RegularizedDiscriminant(class_covariance=0.3, shrinkage=0.2),
        "signed-log logistic": lambda: LogisticRegression(C=0.1, max_iter=2000),
        "signed-log svm": lambda: SVC(C=2.0, gamma=0.004, break_ties=True, random_state=seed),  # pyright: ignore
    }
    if name not in CLASSICAL_MODELS:
        raise ValueError(f"unknown classifier {name!r}: choose one of {', '.join(CLASSICAL_MODELS)}")
    return make_pipeline(KernelClassifier()) if name == "kernel" else make_pipeline(SignedLogScaler(), makers[name]())


class RegularizedDiscriminant(ClassifierMixin, BaseEstimator):
    """Gaussian classes whose covariances are between the pooled covariance and their own, after Friedman (1989).

    Parameters
    ----------
    class_covariance : float, default 0.3
        Weight of a class's own covariance; with 0 this is linear discriminant analysis. A small weight uses the shape of a
        class that has too few cells to estimate a covariance from them only.
    shrinkage : float, default 0.2
        Weight of a sphere of the same trace.

    Notes
    -----
    ``C_k = (1 - w) C_pooled + w C_k``, then ``(1 - s) C_k + s tr(C_k) / p I`` with w = ``class_covariance`` and
    s = ``shrinkage``. Where there are more columns than cells, every C_k is a multiple of I outside the directions of the
    cells, so that covariances are formed within these directions only.
    """

    def __init__(self, class_covariance: float = 0.3, shrinkage: float = 0.2) -> None:
        self.class_covariance = class_covariance
        self.shrinkage = shrinkage

    def fit(self, X: np.ndarray, y: np.ndarray) -> RegularizedDiscriminant:
        """Estimate means and covariances.

        Parameters
        ----------
        X : array of shape (row, column)
            Features without NaN.
        y : array of shape (row,)
            Class of each row.

        Returns
        -------
        RegularizedDiscriminant
            The fitted classifier.
        """
        self.classes_, codes = np.unique(y, return_inverse=True)
        n_columns, self.basis_ = X.shape[1], row_span_basis(X)
        X = X if self.basis_ is None else X @ self.basis_
        groups = [X[codes == code] for code in range(len(self.classes_))]
        self.means_ = np.stack([group.mean(axis=0) for group in groups])
        scatters = [(group - mean).T @ (group - mean) for group, mean in zip(groups, self.means_, strict=True)]
        pooled, identity = sum(scatters) / len(X), np.eye(X.shape[1])
        roots, offsets, outside = [], [], []
        for group, scatter in zip(groups, scatters, strict=True):
            mixed = (1 - self.class_covariance) * pooled + self.class_covariance * scatter / len(group)
            outside.append(self.shrinkage * np.trace(mixed) / n_columns)
            roots.append(cholesky((1 - self.shrinkage) * mixed + outside[-1] * identity, lower=True))
            log_volume = np.log(np.diag(roots[-1])).sum()
            if self.basis_ is not None:
                log_volume += (n_columns - len(mixed)) * np.log(outside[-1]) / 2
            offsets.append(np.log(len(group) / len(X)) - log_volume)
        self.roots_, self.offsets_, self.outside_ = np.stack(roots), np.array(offsets), np.array(outside)
        return self

    def decision_function(self, X: np.ndarray) -> Float[np.ndarray, "row class"]:
        """Return the log posterior of each class up to a constant of the row.

        Parameters
        ----------
        X : array of shape (row, column)
            Features without NaN.

        Returns
        -------
        array of shape (row, class)
            Decision values in the order of ``classes_``.
        """
        inside = X if self.basis_ is None else X @ self.basis_
        whitened = [
            solve_triangular(root, (inside - mean).T, lower=True)
            for root, mean in zip(self.roots_, self.means_, strict=True)
        ]
        distance = np.stack([(difference**2).sum(axis=0) for difference in whitened], axis=1)
        if self.basis_ is not None:
            distance = distance + ((X**2).sum(axis=1) - (inside**2).sum(axis=1))[:, None] / self.outside_
        return self.offsets_ - distance / 2

    def predict_proba(self, X: np.ndarray) -> Float[np.ndarray, "row class"]:
        """Predict class probabilities.

        Parameters
        ----------
        X : array of shape (row, column)
            Features without NaN.

        Returns
        -------
        array of shape (row, class)
            Probabilities in the order of ``classes_``.
        """
        return softmax(self.decision_function(X), axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict the most probable class of each row.

        Parameters
        ----------
        X : array of shape (row, column)
            Features without NaN.

        Returns
        -------
        array of shape (row,)
            Classes.
        """
        return self.classes_[self.decision_function(X).argmax(axis=1)]
