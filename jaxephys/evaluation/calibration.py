"""Calibration of class probabilities: temperatures, class offsets, conformal sets and selective prediction.

Everything is fitted to rows that neither trained the model nor test it, such as validation rows. `fit_temperature` makes probabilities
match frequencies, `fit_offsets` raises macro F1, `conformal_thresholds` gives sets of classes that contain the true class with a chosen
probability, and `selective_curve` gives the accuracy when a model answers its most confident rows only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import softmax

Probabilities = Float[np.ndarray, "row class"]
Codes = Int[np.ndarray, "row"]

MIN_PROBABILITY = 1e-37  # representable in float32; a probability of 0 would exclude a class for good
LOG_TEMPERATURE_RANGE = (-3.0, 3.0)
OFFSETS = np.array(sorted(np.linspace(-0.6, 0.6, 13), key=abs))  # the smallest comes first, so that it wins ties


def fit_temperature(probability: Probabilities, codes: Codes) -> float:
    """Return the temperature that minimizes the log loss of softmax(log p / T).

    Parameters
    ----------
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    codes : array of int, shape (n_rows,)
        True classes.

    Returns
    -------
    float
        The temperature T. It is above 1 if the model is too confident.

    Raises
    ------
    ValueError
        If there are no rows, a probability is not finite, or a class is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> probability = np.tile([0.9, 0.1], (10, 1))
    >>> fit_temperature(probability, np.array([0] * 7 + [1] * 3)) > 1  # 70 % are right at 90 % confidence
    True
    """
    _check(probability, codes)
    logit = np.log(np.maximum(probability, MIN_PROBABILITY))
    rows = np.arange(len(codes))

    def log_loss(log_temperature: float) -> float:
        scaled = logit / math.exp(log_temperature)
        top = scaled.max(axis=1)
        return float(np.mean(top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - scaled[rows, codes]))

    best = minimize_scalar(log_loss, bounds=LOG_TEMPERATURE_RANGE, method="bounded")
    return math.exp(float(best.x))  # type: ignore[attr-defined]


def apply_temperature(probability: Float[np.ndarray, "..."], temperature: float) -> Float[np.ndarray, "..."]:
    """Return softmax(log p / T) over the last axis.

    Parameters
    ----------
    probability : array, shape (..., n_classes)
        Class probabilities.
    temperature : float
        Temperature T > 0, from `fit_temperature`.

    Returns
    -------
    array, shape (..., n_classes)
        Probabilities of the same dtype. The most probable class stays the same.
    """
    scaled = np.log(np.maximum(probability, MIN_PROBABILITY)) / temperature
    return softmax(scaled, axis=-1).astype(probability.dtype)


def fit_offsets(probability: Probabilities, codes: Codes) -> Float[np.ndarray, "class"]:
    """Return offsets of the log probabilities of the classes that improve macro F1.

    Parameters
    ----------
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    codes : array of int, shape (n_rows,)
        True classes.

    Returns
    -------
    array, shape (n_classes,)
        Offsets; 0 where none improves macro F1.

    Notes
    -----
    A classifier that minimizes the log loss assigns uncertain cells to the larger class, which lowers the F1 of the smaller one.
    In two rounds over the classes, the offset of each class moves half-way to the best of 13 values from -0.6 to 0.6. The best
    value for a few hundred rows depends on their noise; half of it keeps most of the gain on other rows.
    """
    _check(probability, codes)
    logit = np.log(np.maximum(probability, MIN_PROBABILITY)).astype(np.float64)
    offsets = np.zeros(probability.shape[1])
    for code in 2 * list(range(len(offsets))):
        changes = OFFSETS[:, None] * np.eye(len(offsets))[code]
        scores = [_macro_f1(codes, (logit + offsets + change).argmax(axis=1), len(offsets)) for change in changes]
        offsets += changes[int(np.argmax(scores))] / 2
    return offsets


def apply_offsets(probability: Probabilities, offsets: Float[np.ndarray, "class"]) -> Probabilities:
    """Return softmax(log p + offsets).

    Parameters
    ----------
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    offsets : array, shape (n_classes,)
        Offset of each class, from `fit_offsets`.

    Returns
    -------
    array, shape (n_rows, n_classes)
        Probabilities of the same dtype.
    """
    raised = probability * np.exp(offsets)
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(probability.dtype)


def apply_prior(probability: Probabilities, prior: Float[np.ndarray, "class"], power: float) -> Probabilities:
    """Return probabilities multiplied by a power of the class frequencies and normalized.

    Parameters
    ----------
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    prior : array, shape (n_classes,)
        Class frequencies, all positive.
    power : float
        Exponent of the frequencies: 1 restores frequencies that balanced training removed, -1 removes them.

    Returns
    -------
    array, shape (n_rows, n_classes)
        Probabilities of the same dtype.

    Raises
    ------
    ValueError
        If a frequency is not positive.
    """
    if np.min(prior) <= 0:
        raise ValueError(f"the prior of a class is {np.min(prior)}: leave out the classes without training cells")
    return apply_offsets(probability, power * np.log(prior))


def conformal_thresholds(probability: Probabilities, codes: Codes, coverage: float = 0.9) -> Float[np.ndarray, "class"]:
    """Return the probability above which each class belongs to the conformal set of a cell.

    Parameters
    ----------
    probability : array, shape (n_rows, n_classes)
        Class probabilities of calibration rows.
    codes : array of int, shape (n_rows,)
        True classes of these rows.
    coverage : float, default 0.9
        Probability, between 0 and 1, with which the set of a cell contains its class.

    Returns
    -------
    array, shape (n_classes,)
        Thresholds for `conformal_sets`. A class with too few rows for this coverage has threshold 0, so it is in every set.

    Raises
    ------
    ValueError
        If the coverage is not between 0 and 1, or for the reasons named in `fit_temperature`.

    Notes
    -----
    Split conformal prediction per class, so that rare classes have the same coverage as frequent ones: of the n
    probabilities of the true class, the threshold is the floor((n + 1) (1 - coverage))-th smallest.
    """
    _check(probability, codes)
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage}: it must be between 0 and 1, such as 0.9")
    thresholds = np.zeros(probability.shape[1])
    for code in range(probability.shape[1]):
        class_probability = np.sort(probability[codes == code, code])
        rank = math.floor((len(class_probability) + 1) * (1 - coverage))
        thresholds[code] = class_probability[rank - 1] if rank >= 1 else 0.0
    return thresholds


def conformal_sets(
    probability: Probabilities, thresholds: Float[np.ndarray, "class"], *, include_predicted: bool = False
) -> Bool[np.ndarray, "row class"]:
    """Return the set of classes that cannot be excluded for each row.

    Parameters
    ----------
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    thresholds : array, shape (n_classes,)
        Result of `conformal_thresholds`.
    include_predicted : bool, default False
        Add the most probable class to each set. The sets then have at least the coverage of the thresholds, and are never empty.

    Returns
    -------
    array of bool, shape (n_rows, n_classes)
        Whether each class is in the set of a row. A set of several classes means that the cell is ambiguous, an empty one that
        every class is less probable than for most of its calibration rows.

    Notes
    -----
    The threshold of a class is a quantile of its own calibration rows, so that the most probable class can be below its threshold
    while a less probable one is above its own. If a classifier hardly errs, thresholds are close to 1, and about the share
    (1 - coverage) of ordinary rows has an empty set.

    Examples
    --------
    >>> import numpy as np
    >>> probability, thresholds = np.array([[0.7, 0.3], [0.1, 0.9]]), np.array([0.8, 0.2])
    >>> conformal_sets(probability, thresholds).tolist()
    [[False, True], [False, True]]
    >>> conformal_sets(probability, thresholds, include_predicted=True).tolist()
    [[True, True], [False, True]]
    """
    sets = probability >= thresholds
    if include_predicted:
        sets[np.arange(len(sets)), probability.argmax(axis=1)] = True
    return sets


class SelectiveCurve(NamedTuple):
    """Accuracy on the most confident rows, as a function of the share of rows that are answered.

    Parameters
    ----------
    coverage : array, shape (n_rows,)
        Shares of answered rows, in increasing order.
    accuracy : array, shape (n_rows,)
        Accuracy on the answered rows.
    threshold : array, shape (n_rows,)
        Lowest confidence among the answered rows.
    """

    coverage: Float[np.ndarray, "row"]
    accuracy: Float[np.ndarray, "row"]
    threshold: Float[np.ndarray, "row"]

    @property
    def area(self) -> float:
        """Mean error over all shares; 0 is perfect."""
        return float(1 - self.accuracy.mean())

    def accuracy_at(self, coverage: Float[np.ndarray, "score"]) -> Float[np.ndarray, "score"]:
        """Return the accuracy when at least a given share of rows is answered.

        Parameters
        ----------
        coverage : array, shape (n,)
            Shares from 0 to 1.

        Returns
        -------
        array, shape (n,)
            Accuracies.
        """
        return self.accuracy[np.searchsorted(self.coverage, coverage)]


def selective_curve(probability: Probabilities, codes: Codes) -> SelectiveCurve:
    """Return the accuracy of a model that answers its most confident rows only.

    Parameters
    ----------
    probability : array, shape (n_rows, n_classes)
        Class probabilities. The confidence of a row is its largest probability.
    codes : array of int, shape (n_rows,)
        True classes.

    Returns
    -------
    SelectiveCurve
        Accuracy by share of answered rows. Rows of equal confidence are answered together, so their order does not matter.
    """
    _check(probability, codes)
    confidence, correct = probability.max(axis=1), probability.argmax(axis=1) == codes
    order = np.argsort(-confidence, kind="stable")
    confidence, answered = confidence[order], np.arange(1, len(codes) + 1)
    accuracy = np.cumsum(correct[order]) / answered
    last_of_tie = np.flatnonzero(np.r_[np.diff(confidence) != 0, True])
    index = last_of_tie[np.searchsorted(last_of_tie, np.arange(len(codes)))]
    return SelectiveCurve(answered[index] / len(codes), accuracy[index], confidence[index].astype(np.float64))


def _macro_f1(codes: Codes, predicted: Codes, n_classes: int) -> float:
    counts = np.bincount(codes * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    both = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean(2 * np.diag(counts) / np.maximum(both, 1)))


def _check(probability: Probabilities, codes: Codes) -> None:
    if len(probability) != len(codes) or not len(codes):
        raise ValueError(
            f"there are {len(probability)} rows of probabilities and {len(codes)} labels: as many of both are needed"
        )
    if not np.isfinite(probability).all():
        raise ValueError("probabilities are not finite: leave out the runs that diverged and report them")
    if codes.min() < 0 or codes.max() >= probability.shape[1]:
        raise ValueError(f"label {codes.max()} is outside the {probability.shape[1]} classes")
