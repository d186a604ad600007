"""Classifiers of units: probes of an embedding or of feature views, and baselines. All hyperparameters are chosen on training rows.

    knn         k nearest neighbors by cosine, k of 1 to 20 chosen by inner folds and balanced accuracy. The published protocol
                chose k on test rows.
    linear      logistic regression with C = 0.1 and balanced classes on standardized columns
    linear, C = 1
                the published logistic regression on standardized columns of the benchmark's embedding
    balanced linear, C = 1
                the published logistic regression with balanced classes on the latent of the generative model
    mlp         the published network of 256 and 128 hidden units on standardized columns
    kernel      kernel regression with balanced classes, whose kernel is the mean of one kernel per block of columns
    pca + knn, umap + knn, forest, logistic, svm
                baselines, whose settings were fixed before any of them was evaluated; "umap + knn" needs the extra "umap"

The kernel probe is our classifier of cell types. With feature views (`jaxephys.hippie.feature_views`) and an embedding as blocks,

    K(x, x') = mean over blocks b of exp(-width |x_b - x'_b|^2 / p_b)

with p_b standardized columns, so that a view of five numbers has the same weight as one of a hundred samples, and a width of 1/2.
`jaxephys.hippie.kernel_choice` chooses views and width on other data sets than the one that is scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from jaxephys.evaluation.kernel_classifier import KernelRegressionClassifier
from jaxephys.evaluation.neighbors import load_umap

Matrix = Float[np.ndarray, "row column"]
Probability = Float[np.ndarray, "row class"]
MAX_NEIGHBORS = 20
FOLDS = 5  # inner folds
CLIP = 5.0  # sd, of standardized columns
WIDTH = 0.5  # inverse squared width of a kernel, in squared distances per column
NOISES = (0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)  # of a row of a class of average size
PCA_COMPONENTS, UMAP_COMPONENTS, TREES = 30, 10, 500
UMAP_BASELINE = "umap + knn"
PUBLISHED_LINEAR, GENERATIVE_LINEAR = "linear, C = 1", "balanced linear, C = 1"
PROBES = ("knn", "linear", "mlp", "kernel")
BASELINES = ("knn", "pca + knn", "forest", "logistic", "svm")
SEEDED = ("knn", "mlp", "pca + knn", UMAP_BASELINE, "forest")  # classifiers that depend on the seed


class PredictedClasses(NamedTuple):
    """Classes of units, as a probe predicts them from embeddings.

    Parameters
    ----------
    classes : array of str (n_classes,)
        Names of the classes, sorted.
    probability : array (n_units, n_classes)
        Probability of each class; the rows sum to 1. They are not calibrated.
    label : array of str (n_units,)
        The most probable class.
    k : int or None
        Number of neighbors that the nearest-neighbor probe chose; None for other probes.
    """

    classes: Shaped[np.ndarray, "class"]
    probability: Probability
    label: Shaped[np.ndarray, "row"]
    k: int | None


def predict_classes(
    reference: Float[np.ndarray, "some column"],
    labels: Shaped[np.ndarray, "some"],
    query: Matrix,
    probe: str = "knn",
    seed: int = 0,
) -> PredictedClasses:
    """Predict classes of units from their embeddings, with those of labelled units as training rows.

    Parameters
    ----------
    reference : array (n_reference, n_columns)
        Embeddings of labelled units.
    labels : array of str (n_reference,)
        Their classes.
    query : array (n_units, n_columns)
        Embeddings of the units to classify, from the same network.
    probe : {"knn", "linear", "mlp", "kernel"}
        Kind of classifier, see `make_probe`.
    seed : int
        Seed of its random numbers and inner folds.

    Returns
    -------
    PredictedClasses
        Probabilities and the most probable class.

    Raises
    ------
    ValueError
        If the probe is unknown, there are fewer than two classes, or a class has too few units for the inner folds.

    Examples
    --------
    >>> import numpy as np
    >>> embedding = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]])
    >>> predicted = predict_classes(embedding, np.array(["PV", "PV", "EXC", "EXC"]), np.array([[0.2, 0.9]]))
    >>> predicted.label.tolist(), predicted.probability.tolist(), predicted.k
    (['PV'], [[0.0, 1.0]], 1)
    """
    if probe not in PROBES:
        raise ValueError(f"there is no probe {probe!r}: choose one of {', '.join(PROBES)}")
    if len(np.unique(labels)) < 2:
        raise ValueError("the reference has fewer than two classes: give labelled units of two classes or more")
    pipeline = make_probe(probe, seed).fit(reference, labels)
    probability = np.asarray(pipeline.predict_proba(query), float)
    classes = np.asarray(pipeline.classes_)
    label = classes[probability.argmax(axis=1)]
    return PredictedClasses(classes, probability, label, getattr(pipeline[-1], "k_", None))


def make_probe(name: str, seed: int = 0, widths: Sequence[int] | None = None, width: float = WIDTH) -> Pipeline:
    """Return an unfitted classifier.

    Parameters
    ----------
    name : str
        Kind of classifier, one of those listed at the top of this module.
    seed : int
        Seed of its random numbers and inner folds.
    widths : sequence of int, optional
        Number of columns of each block of the kernel probe; by default all columns are one block. The others ignore it.
    width : float
        Inverse squared width of the kernels of the kernel probe.

    Returns
    -------
    Pipeline
        A scikit-learn classifier.

    Raises
    ------
    ValueError
        If there is no classifier of this name, or umap is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]])
    >>> y = np.array(["PV", "PV", "EXC", "EXC"])
    >>> make_probe("knn").fit(X, y).predict(np.array([[0.2, 0.9]])).tolist()
    ['PV']
    """
    knn = KNNProbe(seed=seed)
    logistic = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    makers = {
        "knn": lambda: (knn,),
        "linear": lambda: (make_scaler(), logistic),
        PUBLISHED_LINEAR: lambda: (
            StandardScaler(),
            LogisticRegression(solver="saga", max_iter=5000, random_state=seed),
        ),
        GENERATIVE_LINEAR: lambda: (LogisticRegression(class_weight="balanced", max_iter=2000),),
        "mlp": lambda: (make_scaler(), MLPClassifier((256, 128), early_stopping=True, max_iter=500, random_state=seed)),
        "kernel": lambda: (KernelProbe(widths, width),),
        "pca + knn": lambda: (_LimitedPCA(seed), knn),
        UMAP_BASELINE: lambda: (load_umap()(n_components=UMAP_COMPONENTS, random_state=seed, n_jobs=1), knn),
        "forest": lambda: (RandomForestClassifier(TREES, class_weight="balanced", random_state=seed, n_jobs=-1),),
        "logistic": lambda: (logistic,),
        "svm": lambda: (StandardScaler(), SVC(C=3.0, class_weight="balanced")),
    }
    if name not in makers:
        raise ValueError(f"unknown classifier {name!r}: choose one of {', '.join(map(repr, makers))}")
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
    seed : int
        Seed of the inner folds.

    Attributes
    ----------
    k_ : int
        The chosen k.
    """

    def __init__(self, seed: int = 0) -> None:
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
        smallest = int(np.bincount(self.codes_).min())
        if smallest < 2:
            raise ValueError(
                "a class has one training row: inner folds need two, merge it with another or leave it out"
            )
        accuracy = np.zeros(MAX_NEIGHBORS)
        inner = StratifiedKFold(min(FOLDS, smallest), shuffle=True, random_state=self.seed)
        for train, test in inner.split(self.rows_, self.codes_):
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
        max_k = min(MAX_NEIGHBORS, len(rows))
        nearest = np.argsort(-x @ rows.T, axis=1, kind="stable")[:, :max_k]
        counts = np.eye(len(self.classes_))[codes[nearest]].cumsum(axis=1)
        return np.moveaxis(counts / np.arange(1, max_k + 1)[:, None], 1, 0)


class KernelProbe(KernelRegressionClassifier):
    """Kernel classifier whose kernel is the mean of Gaussian kernels of blocks of columns. Classes have equal total weight.

    Parameters
    ----------
    widths : sequence of int, optional
        Number of columns of each block. By default all columns are one block.
    width : float
        Inverse squared width of the kernels, in squared distances per column. Larger values give a more local classifier.
    """

    noises = NOISES
    balanced = True

    def __init__(self, widths: Sequence[int] | None = None, width: float = WIDTH) -> None:
        self.widths = widths
        self.width = width

    def _fit_features(self, X: np.ndarray) -> Matrix:
        widths = [X.shape[1]] if self.widths is None else list(self.widths)
        if sum(widths) != X.shape[1]:
            raise ValueError(f"blocks of {widths} columns do not make {X.shape[1]}: give the width of each block")
        self.ends_ = np.cumsum(widths)
        self.scale_ = make_scaler().fit(X)
        return self.scale_.transform(X)

    def _features(self, X: np.ndarray) -> Matrix:
        return self.scale_.transform(X)

    def _kernel(self, features: Float[np.ndarray, "some column"]) -> Float[np.ndarray, "some row"]:
        new, old = (np.split(rows, self.ends_[:-1], axis=1) for rows in (features, self.rows_))
        return np.mean([rbf_kernel(x, z, self.width / x.shape[1]) for x, z in zip(new, old, strict=True)], axis=0)


class _LimitedPCA(TransformerMixin, BaseEstimator):
    """Principal components, fewer than `PCA_COMPONENTS` where there are fewer rows or columns."""

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: Matrix, y: object = None) -> _LimitedPCA:
        self.pca_ = PCA(min(PCA_COMPONENTS, *X.shape), random_state=self.random_state).fit(X)
        return self

    def transform(self, X: Matrix) -> Float[np.ndarray, "row _"]:
        return self.pca_.transform(X)


def make_scaler() -> Pipeline:
    """Return an unfitted scaler of columns to mean 0 and sd 1, clipped at 5 sd. Missing values and constant columns become 0.

    Returns
    -------
    Pipeline
        A scikit-learn transformer. Its training rows may contain NaN where a value is missing.
    """
    return make_pipeline(StandardScaler(), FunctionTransformer(_clip))


def _clip(rows: Matrix) -> Matrix:
    return np.clip(np.nan_to_num(rows), -CLIP, CLIP)


def _unit_length(rows: Matrix) -> Matrix:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
