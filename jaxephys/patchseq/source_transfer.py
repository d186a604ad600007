"""Classical classifiers of a target species with few labelled cells that may use a source species with many.

Start with ``SourceDomain`` and ``TransferDiscriminants``. Linear discriminant analysis describes classes by their moments,
and moments can come from both species:

    W = (1 - w) W_target + w W_source,   a share g of it replaced by a sphere
    mu_k = (n_k m_k + b (c + o_k)) / (n_k + b)

with m_k the mean of the n_k target cells of class k, c the mean of these means, and o_k the offset of the source class from
the mean of the source classes: b is the weight of the source in cells per class. How much of the source is used is selected
by inner folds of the labelled target cells. Every grid of settings starts without the source and with the roundest
covariance, and among equals the first is selected, so that a model can ignore the source.

Each species is scaled by its own cells: their medians differ more than their classes do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from jaxephys.evaluation.kernel_classifier import DiscriminantDirections
from jaxephys.patchseq.preprocessing import apply_scale, fit_signed_log, fit_z_score, row_span_basis

SCALES = {"z-score": fit_z_score, "signed log": fit_signed_log}
INNER_FOLDS = 5
UNLABELLED_WEIGHT = 0.5  # weight of a cell without a label
EM_ITERATIONS = 10
MIN_COUNT = 1e-9  # cells of a class that has none

Values = Float[np.ndarray, "cell column"]
Probabilities = Float[np.ndarray, "cell class"]


class LabelledCells(NamedTuple):
    """Labelled cells of one species.

    Parameters
    ----------
    values : array of shape (cell, column)
        Features, NaN where a value is missing.
    codes : array of int, shape (cell,)
        Class of each cell.
    groups : array of shape (cell,), optional
        Donor of each cell; inner folds keep the cells of a donor together.
    """

    values: Float[np.ndarray, "some column"]
    codes: Int[np.ndarray, "some"]
    groups: Shaped[np.ndarray, "some"] | None = None


class ClassMoments(NamedTuple):
    """The moments of Gaussian classes with a common covariance.

    Parameters
    ----------
    counts : array of shape (class,)
        Number of cells; a sum of weights in EM.
    means : array of shape (class, column)
        Mean of each class.
    covariance : array of shape (column, column)
        Covariance within classes.
    """

    counts: Float[np.ndarray, "class"]
    means: Float[np.ndarray, "class column"]
    covariance: Float[np.ndarray, "column column"]


class TransferStrength(NamedTuple):
    """Settings of a discriminant: its scale, its shrinkage and how much of the source species it uses.

    Parameters
    ----------
    scale : {"z-score", "signed log"}, default "z-score"
        Scale of the features.
    shrinkage : float, default 0.1
        Share of the covariance that is replaced by a sphere (g).
    covariance_weight : float, default 0.0
        Weight of the source's covariance (w).
    pseudo_cells : float, default 0.0
        Weight of the source's class offsets, in cells per class (b).
    """

    scale: str = "z-score"
    shrinkage: float = 0.1
    covariance_weight: float = 0.0
    pseudo_cells: float = 0.0


TARGET_ONLY_STRENGTHS = tuple(
    TransferStrength(scale, shrinkage) for scale in SCALES for shrinkage in (0.6, 0.3, 0.1, 0.02)
)
SOURCE_STRENGTHS = TARGET_ONLY_STRENGTHS + tuple(
    TransferStrength(scale, shrinkage, covariance_weight, pseudo_cells)
    for scale in SCALES
    for covariance_weight in (0.0, 0.1, 0.3, 0.6)
    for pseudo_cells in (0.0, 3.0, 10.0, 30.0)
    for shrinkage in (0.3, 0.1, 0.02)
    if covariance_weight or pseudo_cells
)
SOURCE_WEIGHTS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)  # of the source species in a joint regression


class SourceDomain:
    """The source species, prepared once: its moments on each scale, a logistic regression, and the directions of its types.

    Parameters
    ----------
    cells : LabelledCells
        Cells of the source species, with the classes of the target species.
    types : array of str, shape (cell,), optional
        Finer transcriptomic type of each cell, "" where unknown; the class is used instead where it is.

    Attributes
    ----------
    directions : DiscriminantDirections
        Directions in which the types differ, for ``KernelClassifier``.
    shuffled_directions : DiscriminantDirections
        The same after the types were permuted among the cells, as a control: the effect of an arbitrary projection.
    """

    def __init__(self, cells: LabelledCells, types: Shaped[np.ndarray, "some"] | None = None) -> None:
        class_names = cells.codes.astype(str)
        types = class_names if types is None else np.where(types == "", class_names, types)
        self.directions = DiscriminantDirections.fit(cells.values, types)
        self.shuffled_directions = DiscriminantDirections.fit(cells.values, np.random.default_rng(0).permutation(types))
        self.n_classes = int(cells.codes.max()) + 1
        # Each class has the same total weight.
        weights = np.eye(self.n_classes)[cells.codes] / np.bincount(cells.codes)[cells.codes, None]
        self.codes = cells.codes
        self.scaled = {name: standardize(cells.values, cells.values, name) for name in SCALES}
        self.moments = {name: class_moments(x, weights) for name, x in self.scaled.items()}
        self.logistic = LogisticRegression(C=0.3, class_weight="balanced", max_iter=2000)
        self.logistic.fit(self.scaled["z-score"], cells.codes)

    def predict_proba(self, query: Values, target: Float[np.ndarray, "some column"]) -> Probabilities:
        """Predict cells of the target species with the regression of the source species.

        Parameters
        ----------
        query : array of shape (cell, column)
            Cells of the target species.
        target : array of shape (target cell, column)
            Training cells of the target species, which fit its scale.

        Returns
        -------
        array of shape (cell, class)
            Class probabilities.
        """
        return self.logistic.predict_proba(standardize(query, target, "z-score"))


class TransferDiscriminants:
    """Discriminants of target cells, one for each ``TransferStrength``, that share the preparation of the features.

    Parameters
    ----------
    target : LabelledCells
        Labelled training cells of the target species.
    query : array of shape (cell, column)
        Cells to predict.
    source : SourceDomain
        The source species.
    unlabelled : array of shape (unlabelled cell, column), optional
        Training cells of the target species without a label, which EM includes with half the weight.
    """

    def __init__(
        self,
        target: LabelledCells,
        query: Values,
        source: SourceDomain,
        unlabelled: Float[np.ndarray, "others column"] | None = None,
    ) -> None:
        self.target, self.query, self.source = target, query, source
        self.unlabelled = np.empty((0, target.values.shape[1]), np.float32) if unlabelled is None else unlabelled
        self._prepared: dict[str, tuple[ClassMoments, np.ndarray, np.ndarray, np.ndarray]] = {}

    def predict_proba(self, strength: TransferStrength) -> Probabilities:
        """Predict the query cells.

        Parameters
        ----------
        strength : TransferStrength
            Settings of the discriminant.

        Returns
        -------
        array of shape (cell, class)
            Class probabilities of the query cells.
        """
        if strength.scale not in self._prepared:
            self._prepared[strength.scale] = self._prepare(strength.scale)
        source_moments, labelled, unlabelled, query = self._prepared[strength.scale]
        one_hot = np.eye(self.source.n_classes)[self.target.codes]
        predict = discriminant(class_moments(labelled, one_hot), source_moments, strength)
        for _ in range(EM_ITERATIONS if len(unlabelled) else 0):
            weights = np.concatenate([one_hot, UNLABELLED_WEIGHT * predict(unlabelled)])
            moments = class_moments(np.concatenate([labelled, unlabelled]), weights)
            predict = discriminant(moments, source_moments, strength)
        return predict(query)

    def _prepare(self, scale: str) -> tuple[ClassMoments, np.ndarray, np.ndarray, np.ndarray]:
        """Return moments of the source, and labelled, unlabelled and query cells, in the span of all training cells.

        Discriminants use no other directions, and a table that is wider than it has cells would require thousands of
        inversions of matrices of its width.
        """
        training = np.concatenate([self.target.values, self.unlabelled])
        labelled, unlabelled, query = (
            standardize(values, training, scale) for values in (self.target.values, self.unlabelled, self.query)
        )
        moments = self.source.moments[scale]
        basis = row_span_basis(np.concatenate([self.source.scaled[scale], labelled, unlabelled]))
        if basis is None:
            return moments, labelled, unlabelled, query
        moments = ClassMoments(moments.counts, moments.means @ basis, basis.T @ moments.covariance @ basis)
        return moments, labelled @ basis, unlabelled @ basis, query @ basis


def discriminant(
    target: ClassMoments, source: ClassMoments, strength: TransferStrength
) -> Callable[[Values], Probabilities]:
    """Return the posterior of Gaussian classes with a common covariance.

    Parameters
    ----------
    target, source : ClassMoments
        Moments of the two species.
    strength : TransferStrength
        Shrinkage and weights of the source; its scale is not used.

    Returns
    -------
    callable
        Maps scaled features of shape (cell, column) to class probabilities. A class without a target cell has prior 0.
    """
    weight = strength.covariance_weight
    covariance = (1 - weight) * target.covariance + weight * source.covariance
    # Where every class has a single cell the covariance is 0: the variance of a scaled feature, 1, replaces it.
    sphere = (np.trace(covariance) / len(covariance) or 1.0) * np.eye(len(covariance))
    precision = np.linalg.inv((1 - strength.shrinkage) * covariance + strength.shrinkage * sphere)
    center = target.means[target.counts > MIN_COUNT].mean(axis=0)
    expected = center + source.means - source.means.mean(axis=0)
    count, pseudo_cells = target.counts[:, None], strength.pseudo_cells
    means = (count * target.means + pseudo_cells * expected) / np.maximum(count + pseudo_cells, MIN_COUNT)
    slopes = means @ precision
    with np.errstate(divide="ignore"):
        offsets = np.log(target.counts / target.counts.sum()) - np.sum(slopes * means, axis=1) / 2
    return lambda x: softmax(x @ slopes.T + offsets, axis=1)


def class_moments(x: Values, weights: Probabilities) -> ClassMoments:
    """Return the moments of classes to which cells belong with weights.

    Parameters
    ----------
    x : array of shape (cell, column)
        Scaled features.
    weights : array of shape (cell, class)
        Weight of each cell in each class; one-hot for labelled cells.

    Returns
    -------
    ClassMoments
        Counts, means and the covariance within classes.
    """
    counts = weights.sum(axis=0)
    means = weights.T @ x / np.maximum(counts, MIN_COUNT)[:, None]
    scatter = sum((weight[:, None] * (x - mean)).T @ (x - mean) for weight, mean in zip(weights.T, means, strict=True))
    return ClassMoments(counts, means, scatter / counts.sum())


def joint_regression(target: LabelledCells, query: Values, source: SourceDomain, source_weight: float) -> Probabilities:
    """Predict cells with a logistic regression on the labelled cells of both species.

    Parameters
    ----------
    target : LabelledCells
        Labelled training cells of the target species.
    query : array of shape (cell, column)
        Cells to predict.
    source : SourceDomain
        The source species.
    source_weight : float
        Weight of the source cells of a class relative to the target cells of the class, so that the classes keep the
        shares that they have in the target species. With 0 the source has no effect.

    Returns
    -------
    array of shape (cell, class)
        Class probabilities.
    """
    x, query_x = (standardize(values, target.values, "z-score") for values in (target.values, query))
    target_counts, source_counts = (
        np.bincount(codes, minlength=source.n_classes) for codes in (target.codes, source.codes)
    )
    model = LogisticRegression(C=0.3, max_iter=2000)
    both, codes = np.concatenate([x, source.scaled["z-score"]]), np.concatenate([target.codes, source.codes])
    weight = np.concatenate([np.ones(len(x)), source_weight * (target_counts / source_counts)[source.codes]])
    used = weight > 0
    model.fit(both[used], codes[used], weight[used])
    return expand_classes(model.predict_proba(query_x), model.classes_, source.n_classes)


def stacked_regression(target: LabelledCells, query: Values, source: SourceDomain) -> Probabilities:
    """Predict cells with a logistic regression on the features and on the log probabilities of the source's regression.

    Parameters
    ----------
    target : LabelledCells
        Labelled training cells of the target species.
    query : array of shape (cell, column)
        Cells to predict.
    source : SourceDomain
        The source species.

    Returns
    -------
    array of shape (cell, class)
        Class probabilities.
    """

    def features(cells: Values) -> np.ndarray:
        x = standardize(cells, target.values, "z-score")
        return np.concatenate([x, source.logistic.predict_log_proba(x)], axis=1)

    x, query_x = features(target.values), features(query)
    mean, sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    model = LogisticRegression(C=0.3, max_iter=2000).fit((x - mean) / sd, target.codes)
    return expand_classes(model.predict_proba((query_x - mean) / sd), model.classes_, source.n_classes)


def select_by_inner_folds(
    target: LabelledCells,
    settings: Sequence[Any],
    make_predictor: Callable[[LabelledCells, Values], Callable[[Any], Probabilities]],
    seed: int,
) -> Any:
    """Return the setting with the best mean macro-F1 over inner folds of the labelled cells.

    Parameters
    ----------
    target : LabelledCells
        Labelled training cells.
    settings : sequence
        Settings to compare; among equals the first is selected.
    make_predictor : callable
        ``make_predictor(training cells, query)`` returns a function from a setting to the probabilities of the query.
    seed : int
        Seed of the folds.

    Returns
    -------
    object
        One of ``settings``.
    """
    n_classes, total = int(target.codes.max()) + 1, np.zeros(len(settings))
    for train, held_out in inner_folds(target, seed):
        groups = None if target.groups is None else target.groups[train]
        training_cells = LabelledCells(target.values[train], target.codes[train], groups)
        predict = make_predictor(training_cells, target.values[held_out])
        for index, setting in enumerate(settings):
            predicted = predict(setting).argmax(axis=1)
            counts = np.bincount(target.codes[held_out] * n_classes + predicted, minlength=n_classes**2)
            total[index] += macro_f1_of_confusion(counts.reshape(n_classes, n_classes))
    return settings[int(total.argmax())]


def inner_folds(target: LabelledCells, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split labelled cells into stratified folds, whole groups at a time where there are groups.

    Parameters
    ----------
    target : LabelledCells
        Labelled cells.
    seed : int
        Seed of the shuffling.

    Returns
    -------
    iterator of (train, held_out)
        Indices of each fold; five folds, or fewer where the smallest class has fewer cells.
    """
    counts = np.bincount(target.codes)
    n_folds = int(np.clip(counts[counts > 0].min(), 2, INNER_FOLDS))
    maker = StratifiedKFold if target.groups is None else StratifiedGroupKFold
    return maker(n_folds, shuffle=True, random_state=seed).split(target.values, target.codes, target.groups)


def macro_f1_of_confusion(counts: Shaped[np.ndarray, "*rest class class"]) -> Float[np.ndarray, "*rest"]:
    """Return the macro-F1 of confusion matrices.

    Parameters
    ----------
    counts : array of shape (..., class, class)
        Number of cells by true and predicted class.

    Returns
    -------
    array of shape (...)
        Macro-F1; a class without true and without predicted cells counts as 0.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    mass = counts.sum(axis=-1) + counts.sum(axis=-2)
    return np.asarray(np.divide(2.0 * hits, mass, out=np.zeros(hits.shape), where=mass > 0).mean(axis=-1))


def standardize(cells: Values, training: Float[np.ndarray, "some column"], scale: str) -> Values:
    """Scale cells by training cells.

    Parameters
    ----------
    cells : array of shape (cell, column)
        Features, NaN where a value is missing.
    training : array of shape (training cell, column)
        Cells that the scale is fitted to.
    scale : {"z-score", "signed log"}
        Name of the scale.

    Returns
    -------
    array of float64, shape (cell, column)
        Scaled features without NaN.
    """
    return np.asarray(apply_scale(cells, SCALES[scale](training)), np.float64)


def expand_classes(probability: Probabilities, present: np.ndarray, n_classes: int) -> Probabilities:
    """Return probabilities of all classes from those of a model that was trained on some of them.

    Parameters
    ----------
    probability : array of shape (cell, present class)
        Probabilities of the present classes.
    present : array of int
        Codes of these classes.
    n_classes : int
        Number of all classes.

    Returns
    -------
    array of shape (cell, class)
        Probabilities; 0 for absent classes.
    """
    expanded = np.zeros((len(probability), n_classes))
    expanded[:, present] = probability
    return expanded
