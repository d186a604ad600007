"""Robust: classical classifiers on features made comparable: four on signed logarithms with flags of what is missing, one on
normal scores. Settings are fixed here, once."""

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
from jaxephys.patchseq.preprocessing import SignedLogScaler, span_of

NAMES = ("robust lda", "robust rda", "robust logistic", "robust svm", "kernel")


def make_robust(name: str, seed: int) -> Pipeline:
    """A fresh classifier. The width of the SVM's kernel suits some eighty features of unit variance."""
    makers = {
        "robust lda": ShrinkageLDA,
        "robust rda": lambda: RegularisedDiscriminant(own=0.3, shrinkage=0.2),
        "robust logistic": lambda: LogisticRegression(C=0.1, max_iter=2000),
        "robust svm": lambda: SVC(C=2.0, gamma=0.004, break_ties=True, random_state=seed),  # pyright: ignore
    }
    if name not in NAMES:
        raise ValueError(f"unknown classifier {name!r}: choose one of {', '.join(NAMES)}")
    return make_pipeline(KernelClassifier()) if name == "kernel" else make_pipeline(SignedLogScaler(), makers[name]())


class RegularisedDiscriminant(ClassifierMixin, BaseEstimator):
    """Gaussian classes whose covariance lies between the pooled one and their own, after Friedman (1989).

    C_k = (1 - own) C_pooled + own C_k, then (1 - shrinkage) C_k + shrinkage tr(C_k) / p I. With ``own`` 0 it is linear
    discriminant analysis; a little of a class's own shape is more than sixty cells of it could estimate alone. Where columns are
    more than cells, all C_k outside the directions of the cells are a number times I: only within them are they formed.
    """

    def __init__(self, own: float = 0.3, shrinkage: float = 0.2) -> None:
        self.own = own
        self.shrinkage = shrinkage

    def fit(self, X: np.ndarray, y: np.ndarray) -> RegularisedDiscriminant:
        self.classes_, codes = np.unique(y, return_inverse=True)
        columns, self.basis_ = X.shape[1], span_of(X)
        X = X if self.basis_ is None else X @ self.basis_
        groups = [X[codes == code] for code in range(len(self.classes_))]
        self.means_ = np.stack([group.mean(axis=0) for group in groups])
        scatters = [(group - mean).T @ (group - mean) for group, mean in zip(groups, self.means_, strict=True)]
        pooled, identity = sum(scatters) / len(X), np.eye(X.shape[1])
        roots, offsets, outside = [], [], []
        for group, scatter in zip(groups, scatters, strict=True):
            mixed = (1 - self.own) * pooled + self.own * scatter / len(group)
            outside.append(self.shrinkage * np.trace(mixed) / columns)
            roots.append(cholesky((1 - self.shrinkage) * mixed + outside[-1] * identity, lower=True))
            volume = np.log(np.diag(roots[-1])).sum()
            if self.basis_ is not None:
                volume += (columns - len(mixed)) * np.log(outside[-1]) / 2
            offsets.append(np.log(len(group) / len(X)) - volume)
        self.roots_, self.offsets_, self.outside_ = np.stack(roots), np.array(offsets), np.array(outside)
        return self

    def decision_function(self, X: np.ndarray) -> Float[np.ndarray, "row class"]:
        inside = X if self.basis_ is None else X @ self.basis_
        whitened = [
            solve_triangular(root, (inside - mean).T, lower=True)
            for root, mean in zip(self.roots_, self.means_, strict=True)
        ]
        distance = np.stack([(apart**2).sum(axis=0) for apart in whitened], axis=1)
        if self.basis_ is not None:
            distance = distance + ((X**2).sum(axis=1) - (inside**2).sum(axis=1))[:, None] / self.outside_
        return self.offsets_ - distance / 2

    def predict_proba(self, X: np.ndarray) -> Float[np.ndarray, "row class"]:
        return softmax(self.decision_function(X), axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.decision_function(X).argmax(axis=1)]
