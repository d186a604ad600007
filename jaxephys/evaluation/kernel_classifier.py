"""Kernel: Gaussian-process regression on class indicators, over features made normal, with a metric that may be carried over.

    F(x) = m + K(x, Z) (K(Z, Z) + noise I)^-1 (Y - m),   p = softmax(sharpness F),   m = shares of the classes
    K(x, x') = exp(-width |x - x'|^2 / p) + x.x' / p [+ weight exp(-|e - e'|^2 / 2 d)]

p is the number of features. The noise is the one with the least squared error of the training cells when each is left out,
which the regression gives in closed form, ``Y - a / diag((K + noise I)^-1)``, a the weights; the sharpness the one with the
least log loss there. Nothing else is chosen. e is a discriminant projection to d numbers that may be carried over from cells of
another species and their finer types (``Metric``): not the classes are carried over, which lie elsewhere, but the directions in
which types differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import QuantileTransformer

from jaxephys.evaluation.kernels import regress, sharpness_of

CUT = 3.0  # sd
QUANTILES = 200
FEWEST = 8  # cells of a type that tells a direction
SHRINKAGE = 0.1


class NormalScores(TransformerMixin, BaseEstimator):
    """Each feature by its quantile among the training cells, as a normal deviate; a missing value stands at the median."""

    def fit(self, X: np.ndarray, y: object = None) -> NormalScores:
        count = max(2, min(QUANTILES, len(X) // 2))
        self.quantiles_ = QuantileTransformer(n_quantiles=count, output_distribution="normal").fit(X)
        return self

    def transform(self, X: np.ndarray) -> Float[np.ndarray, "row column"]:
        return np.nan_to_num(np.clip(self.quantiles_.transform(X), -CUT, CUT))


class Metric(NamedTuple):
    """Directions in which the types of other cells differ, on their own normal scores."""

    projection: LinearDiscriminantAnalysis
    weight: float

    @classmethod
    def of(
        cls,
        values: Float[np.ndarray, "some column"],
        types: Shaped[np.ndarray, "some"],
        directions: int = 12,
        weight: float = 0.4,
    ) -> Metric:
        """From cells of another species, each species by its own quantiles. A type of few cells tells nothing, and one without
        a name is none."""
        types = np.asarray(types).astype(str)
        names, counts = np.unique(types[types != ""], return_counts=True)
        known = np.isin(types, names[counts >= FEWEST])
        if (counts >= FEWEST).sum() < 2:
            raise ValueError(f"{len(names)} types, and less than two of {FEWEST} cells: they tell no direction")
        directions = min(directions, int((counts >= FEWEST).sum()) - 1)
        scores = NormalScores().fit_transform(values)
        model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=SHRINKAGE, n_components=directions)
        return cls(model.fit(scores[known], types[known]), weight)


class KernelClassifier(ClassifierMixin, BaseEstimator):
    """NaN is a missing value. ``metric``: one carried over."""

    def __init__(self, width: float = 0.75, metric: Metric | None = None) -> None:
        self.width = width
        self.metric = metric

    def fit(self, X: np.ndarray, y: np.ndarray) -> KernelClassifier:
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.scores_ = NormalScores().fit(X)
        self.rows_ = self.scores_.transform(X)
        self.block_ = None if self.metric is None else _Block.of(self.metric, self.rows_)
        indicators = np.eye(len(self.classes_))[codes]
        self.regression_ = regress(self._kernel(self.rows_), indicators)
        self.noise_ = self.regression_.noise
        self.sharpness_ = sharpness_of(self.regression_.left_out, codes)
        return self

    def predict_proba(self, X: np.ndarray) -> Float[np.ndarray, "row class"]:
        regressed = self.regression_.at(self._kernel(self.scores_.transform(X)))
        return softmax(self.sharpness_ * regressed, axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _kernel(self, x: Float[np.ndarray, "some column"]) -> Float[np.ndarray, "some row"]:
        columns = x.shape[1]
        kernel = rbf_kernel(x, self.rows_, self.width / columns) + x @ self.rows_.T / columns
        return kernel if self.block_ is None else kernel + self.block_.kernel(x)


class _Block(NamedTuple):
    """A metric and where the training rows lie in it, each direction with mean 0 and sd 1 over them."""

    metric: Metric
    mean: np.ndarray
    sd: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, metric: Metric, rows: Float[np.ndarray, "row column"]) -> _Block:
        projected = metric.projection.transform(rows)
        mean, sd = projected.mean(axis=0), projected.std(axis=0) + 1e-6
        return cls(metric, mean, sd, (projected - mean) / sd)

    def kernel(self, x: Float[np.ndarray, "some column"]) -> Float[np.ndarray, "some row"]:
        placed = (self.metric.projection.transform(x) - self.mean) / self.sd
        return self.metric.weight * rbf_kernel(placed, self.rows, 0.5 / placed.shape[1])
