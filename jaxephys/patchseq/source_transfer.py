"""Borrow: classical classifiers of a species with few labelled cells, which may borrow from one with many.

Linear discriminant analysis knows classes by their moments, and moments can be borrowed:

    W = (1 - w) W_own + w W_known,   a part g of it drawn to a sphere
    mu_k = (n_k m_k + b (c + o_k)) / (n_k + b)

with m_k the mean of the own n_k cells of class k, c the mean of these means, and o_k the offset of the known class from the
mean of the known classes: b is worth so many cells a class. How much to borrow is chosen by inner folds of the labelled
cells. Every grid begins without borrowing and with the roundest classes, and of equals the first is taken: a model can decline.

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

from jaxephys.evaluation.kernel_classifier import Metric
from jaxephys.patchseq.preprocessing import fit_signed_log, fit_z_score, scaled, span_of

SCALES = {"z-score": fit_z_score, "signed log": fit_signed_log}
INNER = 5  # folds
UNLABELLED = 0.5  # what a cell without a label counts
ITERATIONS = 10  # of EM
FEWEST = 1e-9  # cells of a class that has none

Values = Float[np.ndarray, "cell column"]
Probabilities = Float[np.ndarray, "cell class"]


class Labelled(NamedTuple):
    """Cells of one species, NaN where a value is missing. ``groups`` (donors) stay together in inner folds."""

    values: Float[np.ndarray, "some column"]
    codes: Int[np.ndarray, "some"]
    groups: Shaped[np.ndarray, "some"] | None = None


class Moments(NamedTuple):
    """What discriminant analysis knows of classes; numbers of cells may be those of EM."""

    cells: Float[np.ndarray, "class"]
    means: Float[np.ndarray, "class column"]
    within: Float[np.ndarray, "column column"]


class Strength(NamedTuple):
    """How a discriminant is fitted: its scale, how far its covariance is drawn to a sphere, and what it borrows."""

    scale: str = "z-score"
    sphere: float = 0.1
    covariance: float = 0.0
    pseudo_cells: float = 0.0


OWN = tuple(Strength(scale, sphere) for scale in SCALES for sphere in (0.6, 0.3, 0.1, 0.02))
BORROWED = OWN + tuple(
    Strength(scale, sphere, covariance, pseudo_cells)
    for scale in SCALES
    for covariance in (0.0, 0.1, 0.3, 0.6)
    for pseudo_cells in (0.0, 3.0, 10.0, 30.0)
    for sphere in (0.3, 0.1, 0.02)
    if covariance or pseudo_cells
)
SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)  # of the known species in a joint regression


class Lender:
    """The known species, prepared once: its moments on each scale, a logistic regression, and a metric of its finer types.

    ``shuffled`` is the metric when the types are dealt out anew among its cells: what any projection would do.
    """

    def __init__(self, known: Labelled, types: Shaped[np.ndarray, "some"] | None = None) -> None:
        classes = known.codes.astype(str)
        types = classes if types is None else np.where(types == "", classes, types)  # a cell without a type: its class
        self.metric = Metric.of(known.values, types)
        self.shuffled = Metric.of(known.values, np.random.default_rng(0).permutation(types))
        classes = int(known.codes.max()) + 1
        even = np.eye(classes)[known.codes] / np.bincount(known.codes)[known.codes, None]  # each class counts once
        self.codes = known.codes
        self.x = {name: standardised(known.values, known.values, name) for name in SCALES}
        self.moments = {name: moments(x, even) for name, x in self.x.items()}
        self.logistic = LogisticRegression(C=0.3, class_weight="balanced", max_iter=2000)
        self.logistic.fit(self.x["z-score"], known.codes)

    @property
    def classes(self) -> int:
        return len(self.logistic.classes_)

    def regress(self, cells: Values, training: Float[np.ndarray, "some column"]) -> Probabilities:
        """What the regression says of another species' cells, on the scale of that species' training cells."""
        return self.logistic.predict_proba(standardised(cells, training, "z-score"))


def discriminants(
    own: Labelled, new: Values, lender: Lender, unlabelled: Float[np.ndarray, "others column"] | None = None
) -> Callable[[Strength], Probabilities]:
    """A function that says of ``new`` cells what the discriminant of a given strength says.

    ``unlabelled`` cells of the own species, where there are any, are counted by EM.
    """
    rest = np.empty((0, own.values.shape[1]), np.float32) if unlabelled is None else unlabelled
    training, prepared = np.concatenate([own.values, rest]), {}
    one_hot = np.eye(lender.classes)[own.codes]

    def said(strength: Strength) -> Probabilities:
        name = strength.scale
        if name not in prepared:
            prepared[name] = within_span(
                lender, name, [standardised(cells, training, name) for cells in (own.values, rest, new)]
            )
        lent, x, more, asked = prepared[name]
        model = discriminant(moments(x, one_hot), lent, strength)
        for _ in range(ITERATIONS if len(more) else 0):
            q = np.concatenate([one_hot, UNLABELLED * model(more)])
            model = discriminant(moments(np.concatenate([x, more]), q), lent, strength)
        return model(asked)

    return said


def within_span(
    lender: Lender, scale: str, cells: Sequence[np.ndarray]
) -> tuple[Moments, np.ndarray, np.ndarray, np.ndarray]:
    """Moments of the known species, and labelled, unlabelled and new cells, in the directions that training cells span.

    Discriminants know no others, and a table wider than it has cells would cost thousands of inversions of its width.
    """
    x, more, asked = cells
    lent, basis = lender.moments[scale], span_of(np.concatenate([lender.x[scale], x, more]))
    if basis is None:
        return lent, x, more, asked
    lent = Moments(lent.cells, lent.means @ basis, basis.T @ lent.within @ basis)
    return lent, x @ basis, more @ basis, asked @ basis


def discriminant(own: Moments, known: Moments, strength: Strength) -> Callable[[Values], Probabilities]:
    """The posterior of Gaussian classes with one covariance. A class without a cell has prior 0."""
    spread = (1 - strength.covariance) * own.within + strength.covariance * known.within
    # Where every class has one cell nothing is known of the spread: that of a scaled feature, 1, stands in.
    sphere = (np.trace(spread) / len(spread) or 1.0) * np.eye(len(spread))
    precision = np.linalg.inv((1 - strength.sphere) * spread + strength.sphere * sphere)
    centre = own.means[own.cells > FEWEST].mean(axis=0)
    lent = centre + known.means - known.means.mean(axis=0)
    count, pseudo = own.cells[:, None], strength.pseudo_cells
    means = (count * own.means + pseudo * lent) / np.maximum(count + pseudo, FEWEST)
    slopes = means @ precision
    with np.errstate(divide="ignore"):
        offsets = np.log(own.cells / own.cells.sum()) - np.sum(slopes * means, axis=1) / 2
    return lambda x: softmax(x @ slopes.T + offsets, axis=1)


def moments(x: Values, q: Probabilities) -> Moments:
    """Of cells that belong to classes with the weights ``q``."""
    count = q.sum(axis=0)
    means = q.T @ x / np.maximum(count, FEWEST)[:, None]
    square = sum((own[:, None] * (x - mean)).T @ (x - mean) for own, mean in zip(q.T, means, strict=True))
    return Moments(count, means, square / count.sum())


def joint_regressions(own: Labelled, new: Values, lender: Lender) -> Callable[[float], Probabilities]:
    """A function that says of ``new`` cells what a regression on both species says.

    The known cells of a class weigh ``share`` times as much as the own cells of it, so that the classes keep the own shares.
    """
    x, asked = (standardised(cells, own.values, "z-score") for cells in (own.values, new))
    counts, known = (np.bincount(codes, minlength=lender.classes) for codes in (own.codes, lender.codes))

    def said(share: float) -> Probabilities:
        model = LogisticRegression(C=0.3, max_iter=2000)
        both, codes = np.concatenate([x, lender.x["z-score"]]), np.concatenate([own.codes, lender.codes])
        weight = np.concatenate([np.ones(len(x)), share * (counts / known)[lender.codes]])
        counted = weight > 0
        model.fit(both[counted], codes[counted], weight[counted])
        return spread_out(model.predict_proba(asked), model.classes_, lender.classes)

    return said


def stacked_regression(own: Labelled, new: Values, lender: Lender) -> Probabilities:
    """A regression on the features and on what the known species' regression makes of them."""

    def features(cells: Values) -> np.ndarray:
        x = standardised(cells, own.values, "z-score")
        return np.concatenate([x, lender.logistic.predict_log_proba(x)], axis=1)

    x, asked = features(own.values), features(new)
    mean, sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    model = LogisticRegression(C=0.3, max_iter=2000).fit((x - mean) / sd, own.codes)
    return spread_out(model.predict_proba((asked - mean) / sd), model.classes_, lender.classes)


def choose(
    own: Labelled,
    grid: Sequence[Any],
    attempts: Callable[[Labelled, Values], Callable[[Any], Probabilities]],
    seed: int,
) -> Any:
    """The entry of the grid with the best mean macro-F1 over inner folds of the labelled cells; of equals the first."""
    classes, total = int(own.codes.max()) + 1, np.zeros(len(grid))
    for fit, held in inner_folds(own, seed):
        groups = None if own.groups is None else own.groups[fit]
        attempt = attempts(Labelled(own.values[fit], own.codes[fit], groups), own.values[held])
        for place, entry in enumerate(grid):
            guess = attempt(entry).argmax(axis=1)
            table = np.bincount(own.codes[held] * classes + guess, minlength=classes**2)
            total[place] += mean_f1(table.reshape(classes, classes))
    return grid[int(total.argmax())]


def inner_folds(own: Labelled, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stratified, with whole groups where there are any; fewer folds where the smallest class has fewer cells."""
    least = np.bincount(own.codes)
    folds = int(np.clip(least[least > 0].min(), 2, INNER))
    maker = StratifiedKFold if own.groups is None else StratifiedGroupKFold
    return maker(folds, shuffle=True, random_state=seed).split(own.values, own.codes, own.groups)


def mean_f1(table: Shaped[np.ndarray, "*rest class class"]) -> Float[np.ndarray, "*rest"]:
    """Macro-F1 of confusion tables; a class without truth and prediction counts 0."""
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    mass = table.sum(axis=-1) + table.sum(axis=-2)
    return np.asarray(np.divide(2.0 * hits, mass, out=np.zeros(hits.shape), where=mass > 0).mean(axis=-1))


def standardised(cells: Values, training: Float[np.ndarray, "some column"], scale: str) -> Values:
    """The cells on the scale that is fitted to the training cells."""
    return np.asarray(scaled(cells, SCALES[scale](training)), np.float64)


def spread_out(said: Probabilities, present: np.ndarray, classes: int) -> Probabilities:
    """The probabilities of all classes where a model knows some."""
    everywhere = np.zeros((len(said), classes))
    everywhere[:, present] = said
    return everywhere
