"""Kernel classifiers: ridge regression of class indicators on a kernel, with leave-one-out error in closed form.

`KernelRegressionClassifier` is the method; a subclass supplies the features and the kernel. `KernelClassifier` is the one for tables
of features with missing values. It can use `DiscriminantDirections`, in which finer types of cells of another species differ. The
kernel probe of HIPPIE embeddings is another subclass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils import Tags
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxephys.evaluation.estimator_inputs import FLOATS, check_features, check_labels, check_weights, encode_classes

NOISES = (0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 1.0)
SHARPNESSES = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)  # regressed indicators differ by one at most
CLIP = 3.0  # standard deviations of a normal score
N_QUANTILES = 200
MIN_CELLS_PER_TYPE = 8  # to estimate a direction
LDA_SHRINKAGE = 0.1


class KernelRegressionClassifier(ABC, ClassifierMixin, BaseEstimator):
    """Base class of classifiers by ridge regression of class indicators on a kernel.

    Attributes
    ----------
    classes_ : array, shape (n_classes,)
        The different labels, sorted, in the type of the labels.
    n_features_in_ : int
        Number of columns of the training rows.
    feature_names_in_ : array of str, shape (n_columns,)
        Names of the columns, where the training rows are a DataFrame with text names or a FeatureTable.
    rows_ : array, shape (n_rows, n_transformed)
        Transformed training rows.
    intercept_, coefficients_ : array, shape (n_classes,) and (n_rows, n_classes)
        m and a of the formula below.
    noise_, sharpness_ : float
        The selected noise and sharpness.
    left_out_ : array, shape (n_rows, n_classes)
        Prediction F for each training row from all others.

    Notes
    -----
    With training rows Z, class indicators Y, row weights w and m, the weighted mean of Y:

    F(x) = m + K(x, Z) a,   a = C^-1 (Y - m),   C = K(Z, Z) + noise / w,   p(x) = softmax(sharpness F(x)).

    The prediction for each training row from all others needs no refitting: it is Y - a / diag(C^-1). The noise is the one of
    `noises` with the least squared error of these predictions, and the sharpness the one with their least log loss. Nothing
    else is selected. Training needs the eigenvectors of K(Z, Z), so that its time grows with the cube of the number of rows.
    """

    noises: ClassVar[Sequence[float]] = NOISES
    balanced: ClassVar[bool] = False  # whether each class has the same total weight

    @abstractmethod
    def _fit_features(self, X: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
        """Fit the transformation of the features to the training rows and return the transformed rows."""

    @abstractmethod
    def _features(self, X: Float[np.ndarray, "some column"]) -> Float[np.ndarray, "some column"]:
        """Transform the features of new rows."""

    @abstractmethod
    def _kernel(self, features: Float[np.ndarray, "some column"]) -> Float[np.ndarray, "some row"]:
        """Return the kernel between transformed rows and the training rows ``self.rows_``."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KernelRegressionClassifier:
        """Fit the classifier.

        Parameters
        ----------
        X : array-like, DataFrame or FeatureTable, shape (n_rows, n_columns)
            Features. NaN is a missing value.
        y : array-like, shape (n_rows,)
            Labels of any type. Optional where ``X`` is a table with labels, which they replace.
        sample_weight : array-like, shape (n_rows,), optional
            Weight of each row in the regression, in its leave-one-out errors and in the log loss that selects the sharpness; the
            transformation of the features ignores it. A row of weight 0 is left out. By default all weights are 1.

        Returns
        -------
        KernelRegressionClassifier
            This classifier.

        Raises
        ------
        ValueError
            If a label is missing, there is a single class, a value is infinite, or shapes do not agree.
        """
        features, labels = check_features(self, X, reset=True), check_labels(self, X, y)
        weight = np.ones(len(labels)) if sample_weight is None else check_weights(sample_weight, len(labels))
        used, weight = weight > 0, weight[weight > 0]
        self.classes_, codes = encode_classes(labels[used])
        self.rows_ = self._fit_features(features[used])
        if self.balanced:
            weight = weight * compute_sample_weight("balanced", codes)
        indicators = np.eye(len(self.classes_))[codes]
        self.intercept_ = np.average(indicators, axis=0, weights=weight)
        root = np.sqrt(weight)[:, None]
        values, vectors = np.linalg.eigh(root * self._kernel(self.rows_) * root.T)
        least = np.inf
        for noise in self.noises:
            inverse = root * ((vectors / (values + noise)) @ vectors.T) * root.T
            coefficients = inverse @ (indicators - self.intercept_)
            left_out = indicators - coefficients / np.diag(inverse)[:, None]
            error = float(np.average((left_out - indicators) ** 2, axis=0, weights=weight).mean())
            if error < least:
                least, self.noise_, self.coefficients_, self.left_out_ = error, noise, coefficients, left_out
        self.sharpness_ = _fit_sharpness(self.left_out_, codes, weight)
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "some class"]:
        """Return class probabilities.

        Parameters
        ----------
        X : array-like, DataFrame or FeatureTable, shape (n_rows, n_columns)
            Features with the columns of the training rows. NaN is a missing value.

        Returns
        -------
        array, shape (n_rows, n_classes)
            Probabilities in the order of ``classes_``.
        """
        check_is_fitted(self)
        features = self._features(check_features(self, X, reset=False))
        regressed = self.intercept_ + self._kernel(features) @ self.coefficients_
        return softmax(self.sharpness_ * regressed, axis=1)

    def predict(self, X: Any) -> Shaped[np.ndarray, "some"]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like, DataFrame or FeatureTable, shape (n_rows, n_columns)
            Features with the columns of the training rows. NaN is a missing value.

        Returns
        -------
        array, shape (n_rows,)
            Labels in the type of ``classes_``.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class KernelClassifier(KernelRegressionClassifier):
    """Classify cells by scalar features with a kernel on their normal scores, without a neural network.

    Each feature becomes the normal deviate of its quantile among the training cells, so that units and heavy tails do not
    matter, and a missing value becomes the median. Ridge regression of the classes on a Gaussian and a linear kernel of these
    scores gives the probabilities; the strength of the ridge is selected by leave-one-out errors. There are no random numbers.
    Training takes about a second for 1,000 cells and ten for 2,000; the time grows with the cube of the number of cells.

    Parameters
    ----------
    width : float, default 0.75
        Inverse squared width of the Gaussian kernel. Larger values give a more local classifier.
    directions : DiscriminantDirections, optional
        Directions that were estimated on other cells. By default only the cells given to `fit` are used.

    Attributes
    ----------
    classes_ : array, shape (n_classes,)
        The different labels, sorted, in the type of the labels.
    n_features_in_ : int
        Number of columns of the training rows.
    feature_names_in_ : array of str, shape (n_columns,)
        Names of the columns, where the training rows are a DataFrame with text names or a FeatureTable.
    noise_, sharpness_ : float
        The selected strength of the ridge, and the factor of the regressed class indicators in the softmax.
    left_out_ : array, shape (n_rows, n_classes)
        Regressed indicators of each training row, predicted from all other rows.

    See Also
    --------
    jaxephys.PatchSeqClassifier : A network for families of features, such as traces of a hundred samples.

    Notes
    -----
    With p features, and projections e(x) to d directions:

    ``K(x, x') = exp(-width |x - x'|^2 / p) + x.x' / p [+ weight exp(-|e(x) - e(x')|^2 / 2d)]``.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxephys import KernelClassifier
    >>> X, y = np.array([[0.0], [0.1], [2.0], [2.1], [np.nan]]), np.array(["Sst", "Sst", "Vip", "Vip", "Vip"])
    >>> model = KernelClassifier().fit(X, y)
    >>> model.predict([[0.05], [2.05]]).tolist(), model.predict_proba([[0.05], [np.nan]]).shape
    (['Sst', 'Vip'], (2, 2))
    """

    def __init__(self, width: float = 0.75, directions: DiscriminantDirections | None = None) -> None:
        self.width = width
        self.directions = directions

    def _fit_features(self, X: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
        self.scores_ = NormalScores().fit(X)
        rows = self.scores_.transform(X)
        if self.directions is not None:
            projected = self.directions.projection.transform(rows)
            self.mean_, self.sd_ = projected.mean(axis=0), projected.std(axis=0) + 1e-6
            self.projected_ = (projected - self.mean_) / self.sd_
        return rows

    def _features(self, X: Float[np.ndarray, "some column"]) -> Float[np.ndarray, "some column"]:
        return self.scores_.transform(X)

    def _kernel(self, features: Float[np.ndarray, "some column"]) -> Float[np.ndarray, "some row"]:
        columns = features.shape[1]
        kernel = rbf_kernel(features, self.rows_, self.width / columns) + features @ self.rows_.T / columns
        if self.directions is None:
            return kernel
        projected = (self.directions.projection.transform(features) - self.mean_) / self.sd_
        return kernel + self.directions.weight * rbf_kernel(projected, self.projected_, 0.5 / projected.shape[1])


class DiscriminantDirections(NamedTuple):
    """Directions in which types of other cells differ, as a term of the kernel of `KernelClassifier`.

    The classes are not transferred, since they lie elsewhere in another species; the directions in which types differ are.

    Parameters
    ----------
    projection : LinearDiscriminantAnalysis
        Fitted projection of normal scores to the directions.
    weight : float
        Weight of the term in the kernel.
    """

    projection: LinearDiscriminantAnalysis
    weight: float

    @classmethod
    def fit(
        cls,
        values: Float[np.ndarray, "some column"],
        types: Shaped[np.ndarray, "some"],
        n_directions: int = 12,
        weight: float = 0.4,
    ) -> DiscriminantDirections:
        """Estimate directions by linear discriminant analysis of the normal scores of other cells.

        Parameters
        ----------
        values : array, shape (n_cells, n_columns)
            Features of cells of another species, with NaN for missing values. They become normal scores by their own quantiles.
        types : array of str, shape (n_cells,)
            Type of each cell, finer than the classes to predict. Cells of the type ``""`` and of types with fewer than 8 cells
            are ignored.
        n_directions : int, default 12
            Largest number of directions; there are at most one less than types.
        weight : float, default 0.4
            Weight of the term in the kernel.

        Returns
        -------
        DiscriminantDirections
            The directions.

        Raises
        ------
        ValueError
            If fewer than two types have 8 cells.
        """
        types = np.asarray(types).astype(str)
        names, counts = np.unique(types[types != ""], return_counts=True)
        frequent = names[counts >= MIN_CELLS_PER_TYPE]
        if len(frequent) < 2:
            raise ValueError(
                f"discriminant directions need at least two types with {MIN_CELLS_PER_TYPE} cells; "
                f"{len(frequent)} of {len(names)} types have as many"
            )
        used = np.isin(types, frequent)
        scores = NormalScores().fit_transform(values)
        model = LinearDiscriminantAnalysis(
            solver="eigen", shrinkage=LDA_SHRINKAGE, n_components=min(n_directions, len(frequent) - 1)
        )
        return cls(model.fit(scores[used], types[used]), weight)


class NormalScores(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Transformer of each feature to the normal deviate of its quantile among the training rows.

    Scores are clipped at 3 standard deviations. A missing value becomes 0, the score of the median.
    """

    def fit(self, X: Any, y: object = None) -> NormalScores:
        """Estimate the quantiles of each feature.

        Parameters
        ----------
        X : array-like or DataFrame, shape (n_rows, n_columns)
            Features, with NaN for missing values.
        y : ignored
            Present for scikit-learn compatibility.

        Returns
        -------
        NormalScores
            This transformer.
        """
        X = validate_data(self, X, dtype=FLOATS, ensure_all_finite="allow-nan")
        n_quantiles = max(2, min(N_QUANTILES, len(X) // 2))
        self.quantiles_ = QuantileTransformer(n_quantiles=n_quantiles, output_distribution="normal").fit(X)
        return self

    def transform(self, X: Any) -> Float[np.ndarray, "some column"]:
        """Return the normal scores of rows.

        Parameters
        ----------
        X : array-like or DataFrame, shape (n_rows, n_columns)
            Features, with NaN for missing values.

        Returns
        -------
        array, shape (n_rows, n_columns)
            Normal scores in [-3, 3].
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=FLOATS, ensure_all_finite="allow-nan")
        return np.nan_to_num(np.clip(self.quantiles_.transform(X), -CLIP, CLIP))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _fit_sharpness(
    left_out: Float[np.ndarray, "row class"], codes: Int[np.ndarray, "row"], weight: Float[np.ndarray, "row"]
) -> float:
    """Return the sharpness with the least log loss of the leave-one-out predictions."""
    rows = np.arange(len(codes))

    def log_loss(sharpness: float) -> float:
        return float(np.average(-log_softmax(sharpness * left_out, axis=1)[rows, codes], weights=weight))

    return min(SHARPNESSES, key=log_loss)
