"""Probes: classifiers on an embedding or on feature views. All their hyperparameters are chosen on their training rows.

    knn      k nearest neighbors by cosine, k of 1 to 20 chosen by inner folds and balanced accuracy. The published protocol chose k
             on test rows.
    linear   logistic regression with balanced classes on standardized columns
    mlp      the published network of 256 and 128 hidden units on standardized columns
    kernel   kernel regression with balanced classes, whose kernel is the mean of one kernel per block of columns

The kernel probe is our classifier of cell types. With feature views (`jaxephys.hippie.feature_views`) and an embedding as blocks,

    K(x, x') = mean over blocks b of exp(-|x_b - x'_b|^2 / 2 p_b)

with p_b standardized columns, so that a view of five numbers has the same weight as one of a hundred samples.

`CalibratedProbe` gives any probe calibrated probabilities, `NoveltyScorer` measures how far a unit is from the training units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxephys.evaluation.calibration import apply_prior, apply_temperature, fit_temperature
from jaxephys.evaluation.kernel_classifier import KernelRegressionClassifier

Matrix = Float[np.ndarray, "row column"]
Probability = Float[np.ndarray, "row class"]
MAX_NEIGHBORS = 20
FOLDS = 5  # inner folds
CLIP = 5.0  # sd, of standardized columns
NOISES = (0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)  # of a row of a class of average size
NAMES = ("knn", "linear", "mlp", "kernel")


def make_probe(name: str, seed: int = 0, widths: Sequence[int] | None = None) -> Pipeline:
    """Return an unfitted probe.

    Parameters
    ----------
    name : {"knn", "linear", "mlp", "kernel"}
        Kind of probe.
    seed : int
        Seed of inner folds and of the network.
    widths : sequence of int, optional
        Number of columns of each block of the kernel probe; by default all columns are one block. The other probes ignore it.

    Returns
    -------
    Pipeline
        A scikit-learn classifier.

    Raises
    ------
    ValueError
        If there is no probe of this name.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]])
    >>> y = np.array(["PV", "PV", "EXC", "EXC"])
    >>> make_probe("knn").fit(X, y).predict(np.array([[0.2, 0.9]])).tolist()
    ['PV']
    """
    makers = {
        "knn": lambda: (KNNProbe(seed=seed),),
        "linear": lambda: (ClippedScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)),
        "mlp": lambda: (
            ClippedScaler(),
            MLPClassifier((256, 128), early_stopping=True, max_iter=500, random_state=seed),
        ),
        "kernel": lambda: (KernelProbe(widths),),
    }
    if name not in NAMES:
        raise ValueError(f"unknown probe {name!r}: choose one of {', '.join(NAMES)}")
    return make_pipeline(*makers[name]())


def join_blocks(blocks: Mapping[str, Float[np.ndarray, "row _"]]) -> tuple[Matrix, tuple[int, ...]]:
    """Join blocks of columns to the input of the kernel probe.

    Parameters
    ----------
    blocks : mapping of str to array (n_rows, width)
        Feature views, embeddings.

    Returns
    -------
    values : array (n_rows, n_columns)
        All columns.
    widths : tuple of int
        Number of columns of each block, for `make_probe`.
    """
    return np.concatenate(list(blocks.values()), axis=1), tuple(values.shape[1] for values in blocks.values())


class KNNProbe(ClassifierMixin, BaseEstimator):
    """Classifier by k nearest neighbors with cosine similarity; k is chosen by inner folds and balanced accuracy.

    Parameters
    ----------
    max_neighbors : int
        Largest k.
    seed : int
        Seed of the inner folds.

    Attributes
    ----------
    k_ : int
        The chosen k.
    """

    def __init__(self, max_neighbors: int = MAX_NEIGHBORS, seed: int = 0) -> None:
        self.max_neighbors = max_neighbors
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> KNNProbe:
        """Choose k and store the training rows.

        Parameters
        ----------
        X : array (n_rows, n_columns)
            Training rows.
        y : array (n_rows,)
            Their classes, with at least two rows each.

        Returns
        -------
        KNNProbe
            The fitted classifier.
        """
        self.classes_, self.codes_ = np.unique(y, return_inverse=True)
        self.rows_ = _unit_length(X)
        accuracy = np.zeros(self.max_neighbors)
        for train, test in _inner_folds(self.codes_, self.seed).split(self.rows_, self.codes_):
            votes = self._votes(self.rows_[test], self.rows_[train], self.codes_[train])
            accuracy[: len(votes)] += [
                balanced_accuracy_score(self.codes_[test], vote.argmax(axis=1)) for vote in votes
            ]
        self.k_ = int(accuracy.argmax()) + 1
        return self

    def predict_proba(self, X: np.ndarray) -> Probability:
        """Return the share of each class among the k nearest neighbors.

        Parameters
        ----------
        X : array (n_rows, n_columns)
            Rows.

        Returns
        -------
        array (n_rows, n_classes)
            Shares, in the order of ``classes_``.
        """
        return self._votes(_unit_length(X), self.rows_, self.codes_)[self.k_ - 1]

    def predict(self, X: np.ndarray) -> Shaped[np.ndarray, "row"]:
        """Return the most frequent class; of equal shares the first class, as in scikit-learn.

        Parameters
        ----------
        X : array (n_rows, n_columns)
            Rows.

        Returns
        -------
        array (n_rows,)
            Classes.
        """
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _votes(self, x: Matrix, rows: Float[np.ndarray, "some column"], codes: Int[np.ndarray, "some"]) -> np.ndarray:
        """Return the shares for every k at once, with shape (max_k, n_rows, n_classes)."""
        max_k = min(self.max_neighbors, len(rows))
        nearest = np.argsort(-x @ rows.T, axis=1, kind="stable")[:, :max_k]
        counts = np.eye(len(self.classes_))[codes[nearest]].cumsum(axis=1)
        return np.moveaxis(counts / np.arange(1, max_k + 1)[:, None], 1, 0)


class KernelProbe(KernelRegressionClassifier):
    """Kernel classifier whose kernel is the mean of Gaussian kernels of blocks of columns. Classes have equal total weight.

    Parameters
    ----------
    widths : sequence of int, optional
        Number of columns of each block. By default all columns are one block.
    """

    noises = NOISES
    balanced = True

    def __init__(self, widths: Sequence[int] | None = None) -> None:
        self.widths = widths

    def _fit_features(self, X: np.ndarray) -> Matrix:
        widths = [X.shape[1]] if self.widths is None else list(self.widths)
        if sum(widths) != X.shape[1]:
            raise ValueError(f"blocks of {widths} columns do not make {X.shape[1]}: give the width of each block")
        self.ends_ = np.cumsum(widths)
        self.scale_ = ClippedScaler().fit(X)
        return self.scale_.transform(X)

    def _features(self, X: np.ndarray) -> Matrix:
        return self.scale_.transform(X)

    def _kernel(self, features: Float[np.ndarray, "some column"]) -> Float[np.ndarray, "some row"]:
        new, old = (np.split(rows, self.ends_[:-1], axis=1) for rows in (features, self.rows_))
        return np.mean([rbf_kernel(x, z, 0.5 / x.shape[1]) for x, z in zip(new, old, strict=True)], axis=0)


class CalibratedProbe(ClassifierMixin, BaseEstimator):
    """A probe with calibrated probabilities, for data in which classes are as frequent as in training.

    Parameters
    ----------
    probe : classifier
        Unfitted probe.
    even : bool
        The probe was trained with balanced classes; the class frequencies of the training rows are restored.
    seed : int
        Seed of the inner folds, whose predictions determine the temperature.

    Attributes
    ----------
    temperature_ : float
        Above 1 where the probe is overconfident. It does not change predictions.
    """

    def __init__(self, probe: BaseEstimator, even: bool = False, seed: int = 0) -> None:
        self.probe = probe
        self.even = even
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> CalibratedProbe:
        """Fit the probe, and its temperature on predictions for left-out rows.

        Parameters
        ----------
        X : array (n_rows, n_columns)
            Training rows.
        y : array (n_rows,)
            Their classes.

        Returns
        -------
        CalibratedProbe
            The fitted classifier.
        """
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.shares_ = np.bincount(codes) / len(codes)
        folds, probe = _inner_folds(codes, self.seed), cast(Pipeline, clone(self.probe))
        left_out = np.asarray(cross_val_predict(probe, X, codes, cv=folds, method="predict_proba"))
        self.temperature_ = fit_temperature(self._smoothed(left_out), codes)
        self.probe_ = probe.fit(X, y)
        return self

    def predict_proba(self, X: np.ndarray) -> Probability:
        """Return calibrated class probabilities.

        Parameters
        ----------
        X : array (n_rows, n_columns)
            Rows.

        Returns
        -------
        array (n_rows, n_classes)
            Probabilities, in the order of ``classes_``.
        """
        return apply_temperature(self._smoothed(self.probe_.predict_proba(X)), self.temperature_)

    def predict(self, X: np.ndarray) -> Shaped[np.ndarray, "row"]:
        """Return the predictions of the probe.

        Parameters
        ----------
        X : array (n_rows, n_columns)
            Rows.

        Returns
        -------
        array (n_rows,)
            Classes.
        """
        return self.probe_.predict(X)

    def _smoothed(self, probability: Probability) -> Probability:
        """Add one vote by the class frequencies to 20 of the probe: few neighbors give 0 where it should be a small number."""
        restored = apply_prior(probability, self.shares_, 1.0) if self.even else probability
        return (MAX_NEIGHBORS * restored + self.shares_) / (MAX_NEIGHBORS + 1)


class NoveltyScorer(BaseEstimator):
    """Score the novelty of rows by the distance to the k-th nearest training row.

    Parameters
    ----------
    k : int
        Number of the neighbor.
    """

    def __init__(self, k: int = 10) -> None:
        self.k = k

    def fit(self, X: np.ndarray, y: object = None) -> NoveltyScorer:
        """Store the training rows and the distance of each to its k-th nearest other row.

        Parameters
        ----------
        X : array (n_rows, n_columns)
            Training rows, more than k.
        y : ignored
            Present for scikit-learn compatibility.

        Returns
        -------
        NoveltyScorer
            The fitted scorer.
        """
        if len(X) <= self.k:
            raise ValueError(f"{len(X)} rows have no {self.k}-th nearest other: give more rows, or a smaller k")
        self.scale_ = ClippedScaler().fit(X)
        self.nearest_ = NearestNeighbors(n_neighbors=self.k).fit(self.scale_.transform(X))
        self.distances_ = np.sort(
            self.nearest_.kneighbors()[0][:, -1]
        )  # without argument, a row is not its own neighbor
        return self

    def score_samples(self, X: np.ndarray) -> Float[np.ndarray, "row"]:
        """Return the novelty of rows.

        Parameters
        ----------
        X : array (n_rows, n_columns)
            Rows that were not trained on.

        Returns
        -------
        array (n_rows,)
            Quantile of the distance among those of the training rows. Rows of the same population score uniformly between 0 and 1;
            1 is farther away than any training row.
        """
        distance = self.nearest_.kneighbors(self.scale_.transform(X))[0][:, -1]
        return np.searchsorted(self.distances_, distance) / len(self.distances_)


class ClippedScaler(TransformerMixin, BaseEstimator):
    """Scale columns to mean 0 and sd 1 on the training rows and clip them at 5 sd. Missing values and constant columns become 0."""

    def fit(self, X: np.ndarray, y: object = None) -> ClippedScaler:
        """Measure mean and sd of the columns.

        Parameters
        ----------
        X : array (n_rows, n_columns)
            Training rows; NaN where a value is missing.
        y : ignored
            Present for scikit-learn compatibility.

        Returns
        -------
        ClippedScaler
            The fitted scaler.
        """
        self.scaler_ = StandardScaler().fit(X)
        return self

    def transform(self, X: np.ndarray) -> Matrix:
        """Scale and clip rows.

        Parameters
        ----------
        X : array (n_rows, n_columns)
            Rows; NaN where a value is missing.

        Returns
        -------
        array (n_rows, n_columns)
            Finite numbers between -5 and 5.
        """
        return np.clip(np.nan_to_num(self.scaler_.transform(X)), -CLIP, CLIP)


def _inner_folds(codes: Int[np.ndarray, "row"], seed: int) -> StratifiedKFold:
    """Return five folds, or as many as the smallest class has rows."""
    smallest = int(np.bincount(codes).min())
    if smallest < 2:
        raise ValueError("a class has one training row: inner folds need two, merge it with another or leave it out")
    return StratifiedKFold(min(FOLDS, smallest), shuffle=True, random_state=seed)


def _unit_length(rows: Matrix) -> Matrix:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
