"""Probes: small classifiers on an embedding, or on features as they are. All choose what they choose on their training rows.

    knn      cosine, k of 1 to 20 by inner folds and balanced accuracy: the published protocol, but k never on test rows
    linear   logistic regression, classes balanced, on standardised columns
    mlp      the published network of 256 and 128 units on standardised columns
    kernel   regression on a mean of kernels, one for each block of columns, classes balanced

The kernel probe is the head of our own scores. With views of the curves (``views.py``) and an embedding as blocks:

    K(x, x') = mean over blocks b of exp(-|x_b - x'_b|^2 / 2 p_b),     p_b columns, each of mean 0 and sd 1

so that a view of five numbers counts as much as one of a hundred samples. Noise and sharpness by rows left out
(``jaxephys.evaluation.kernels``), each class counting alike: it is made for balanced accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from jaxephys.evaluation.calibration import apply_prior, apply_temperature, fit_temperature
from jaxephys.evaluation.kernels import regress, sharpness_of

Matrix = Float[np.ndarray, "row column"]
Probability = Float[np.ndarray, "row class"]
MOST = 20  # neighbours
FOLDS = 5  # inner ones
CUT = 5.0  # sd, of the kernel's columns
NOISES = (0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)  # of a row of a class of mean size
NAMES = ("knn", "linear", "mlp", "kernel")


def make_probe(name: str, seed: int = 0, widths: Sequence[int] | None = None) -> Pipeline:
    """A fresh probe. ``widths``: of the blocks of the kernel; the others see one block."""
    makers = {
        "knn": lambda: (KNNProbe(seed=seed),),
        "linear": lambda: (Standard(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)),
        "mlp": lambda: (Standard(), MLPClassifier((256, 128), early_stopping=True, max_iter=500, random_state=seed)),
        "kernel": lambda: (KernelProbe(widths),),
    }
    if name not in NAMES:
        raise ValueError(f"unknown probe {name!r}: choose one of {', '.join(NAMES)}")
    return make_pipeline(*makers[name]())


def as_blocks(views: Mapping[str, Float[np.ndarray, "row _"]]) -> tuple[Matrix, tuple[int, ...]]:
    """Views, or a view and an embedding, side by side, and the widths by which the kernel probe tells them apart."""
    return np.concatenate(list(views.values()), axis=1), tuple(values.shape[1] for values in views.values())


class KNNProbe(ClassifierMixin, BaseEstimator):
    """The share of each class among the k nearest by cosine; of equal shares the first class answers, as in scikit-learn."""

    def __init__(self, most: int = MOST, seed: int = 0) -> None:
        self.most = most
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> KNNProbe:
        self.classes_, self.codes_ = np.unique(y, return_inverse=True)
        self.rows_ = _unit(X)
        reached = np.zeros(self.most)
        for train, test in _inner(self.codes_, self.seed).split(self.rows_, self.codes_):
            votes = self._votes(self.rows_[test], self.rows_[train], self.codes_[train])
            reached[: len(votes)] += [balanced_accuracy_score(self.codes_[test], vote.argmax(axis=1)) for vote in votes]
        self.k_ = int(reached.argmax()) + 1
        return self

    def predict_proba(self, X: np.ndarray) -> Probability:
        return self._votes(_unit(X), self.rows_, self.codes_)[self.k_ - 1]

    def predict(self, X: np.ndarray) -> Shaped[np.ndarray, "row"]:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _votes(self, x: Matrix, rows: Float[np.ndarray, "some column"], codes: Int[np.ndarray, "some"]) -> np.ndarray:
        """[k - 1, row, class] for every k at once."""
        most = min(self.most, len(rows))
        nearest = np.argsort(-x @ rows.T, axis=1, kind="stable")[:, :most]
        counts = np.eye(len(self.classes_))[codes[nearest]].cumsum(axis=1)
        return np.moveaxis(counts / np.arange(1, most + 1)[:, None], 1, 0)


class KernelProbe(ClassifierMixin, BaseEstimator):
    """``widths``: of the blocks of columns; one block without. NaN stands at the mean. Probabilities are as if classes were
    even, calibrated on rows left out."""

    def __init__(self, widths: Sequence[int] | None = None) -> None:
        self.widths = widths

    def fit(self, X: np.ndarray, y: np.ndarray) -> KernelProbe:
        self.classes_, codes = np.unique(y, return_inverse=True)
        widths = [X.shape[1]] if self.widths is None else list(self.widths)
        if sum(widths) != X.shape[1]:
            raise ValueError(f"blocks of {widths} columns do not make {X.shape[1]}: give the width of each block")
        self.ends_ = np.cumsum(widths)
        self.scale_ = Standard().fit(X)
        self.rows_ = self.scale_.transform(X)
        even = compute_sample_weight("balanced", codes)
        self.regression_ = regress(self._kernel(self.rows_), np.eye(len(self.classes_))[codes], even, NOISES)
        self.sharpness_ = sharpness_of(self.regression_.left_out, codes, even)
        return self

    def predict_proba(self, X: np.ndarray) -> Probability:
        return softmax(self.sharpness_ * self.regression_.at(self._kernel(self.scale_.transform(X))), axis=1)

    def predict(self, X: np.ndarray) -> Shaped[np.ndarray, "row"]:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _kernel(self, x: Float[np.ndarray, "some column"]) -> Float[np.ndarray, "some row"]:
        blocks = zip(np.split(x, self.ends_[:-1], axis=1), np.split(self.rows_, self.ends_[:-1], axis=1), strict=True)
        kernels = [rbf_kernel(new, old, 0.5 / new.shape[1]) for new, old in blocks]
        return np.mean(kernels, axis=0)


class Calibrated(ClassifierMixin, BaseEstimator):
    """Any probe with probabilities that mean what they say where classes are as frequent as in training.

    What the probe says of rows that it was not trained on, in inner folds, tells the temperature; one trained on even classes
    (``even``) is first given the frequencies of the classes back. The answers stay those of the probe.
    """

    def __init__(self, probe: BaseEstimator, even: bool = False, seed: int = 0) -> None:
        self.probe = probe
        self.even = even
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> Calibrated:
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.shares_ = np.bincount(codes) / len(codes)
        inner, own = _inner(codes, self.seed), cast(Pipeline, clone(self.probe))
        said = np.asarray(cross_val_predict(own, X, codes, cv=inner, method="predict_proba"))
        self.temperature_ = fit_temperature(self._frequent(said), codes)
        self.probe_ = own.fit(X, y)
        return self

    def predict_proba(self, X: np.ndarray) -> Probability:
        return apply_temperature(self._frequent(self.probe_.predict_proba(X)), self.temperature_)

    def predict(self, X: np.ndarray) -> Shaped[np.ndarray, "row"]:
        return self.probe_.predict(X)

    def _frequent(self, probability: Probability) -> Probability:
        """A vote of a few neighbours says 0 where it ought to say little: one more vote by the shares of the classes."""
        told = apply_prior(probability, self.shares_, 1.0) if self.even else probability
        return (MOST * told + self.shares_) / (MOST + 1)


class Novelty(BaseEstimator):
    """How unlike the training rows a row is: its distance to the k-th nearest of them, as a quantile of their own.

    Each training row's own distance is to the k-th nearest of the others. A row from the same population scores evenly
    between 0 and 1, so that 0.95 and more is said of one in twenty; 1 is further out than any training row.
    """

    def __init__(self, k: int = 10) -> None:
        self.k = k

    def fit(self, X: np.ndarray, y: object = None) -> Novelty:
        if len(X) <= self.k:
            raise ValueError(f"{len(X)} rows have no {self.k}-th nearest other: give more rows, or a smaller k")
        self.scale_ = Standard().fit(X)
        self.nearest_ = NearestNeighbors(n_neighbors=self.k).fit(self.scale_.transform(X))
        self.distances_ = np.sort(self.nearest_.kneighbors()[0][:, -1])  # without an argument: a row is not its own
        return self

    def score_samples(self, X: np.ndarray) -> Float[np.ndarray, "row"]:
        distance = self.nearest_.kneighbors(self.scale_.transform(X))[0][:, -1]
        return np.searchsorted(self.distances_, distance) / len(self.distances_)


class Standard(TransformerMixin, BaseEstimator):
    """Columns of mean 0 and sd 1 on the rows fitted, cut far out; a missing value stands at the mean, a constant at 0."""

    def fit(self, X: np.ndarray, y: object = None) -> Standard:
        self.scaler_ = StandardScaler().fit(X)
        return self

    def transform(self, X: np.ndarray) -> Matrix:
        return np.clip(np.nan_to_num(self.scaler_.transform(X)), -CUT, CUT)


def _inner(codes: Int[np.ndarray, "row"], seed: int) -> StratifiedKFold:
    """As many inner folds as the smallest class can fill."""
    fewest = int(np.bincount(codes).min())
    if fewest < 2:
        raise ValueError("a class has one training row: inner folds need two, merge it with another or leave it out")
    return StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)


def _unit(rows: Matrix) -> Matrix:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
