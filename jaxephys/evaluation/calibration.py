"""Calibration: probabilities that mean what they say, sets that hold the truth as often as asked, and the right to say "unknown".

All of it is fitted on rows that neither trained the model nor test it (validation rows). NumPy and SciPy, once a report.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar

Probabilities = Float[np.ndarray, "row class"]
Labels = Int[np.ndarray, "row"]

SMALLEST = 1e-37  # that float32 holds: a probability of 0 would rule out what validation rows may show
RANGE = (-3.0, 3.0)  # of the logarithm of the temperature
STEPS = np.array(sorted(np.linspace(-0.6, 0.6, 13), key=abs))  # offsets that are tried; of equals the least is taken


def fit_temperature(probability: Probabilities, label: Labels) -> float:
    """T that minimises the log loss of softmax(log p / T) on these rows; above 1 the model was too sure."""
    _check(probability, label)
    logit = np.log(np.maximum(probability, SMALLEST))
    rows = np.arange(len(label))

    def loss(log_temperature: float) -> float:
        scaled = logit / math.exp(log_temperature)
        top = scaled.max(axis=1)
        return float(np.mean(top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - scaled[rows, label]))

    return math.exp(float(minimize_scalar(loss, bounds=RANGE, method="bounded").x))  # type: ignore[attr-defined]


def apply_temperature(probability: Float[np.ndarray, "..."], temperature: float) -> Float[np.ndarray, "..."]:
    """softmax(log p / T) over the last dimension."""
    scaled = np.log(np.maximum(probability, SMALLEST)) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(probability.dtype)


def fit_offsets(probability: Probabilities, label: Labels) -> Float[np.ndarray, "class"]:
    """What to add to log p of each class for a better macro-F1 on these rows: 0 where nothing is gained.

    A classifier that is fitted to the log loss gives a doubtful cell to the larger class, and macro-F1 pays for that in the
    smaller one. Two rounds over the classes, each class moved half-way to its best offset: the best one of a few hundred rows
    is partly their noise, and half of it keeps most of the gain on others.
    """
    _check(probability, label)
    logit = np.log(np.maximum(probability, SMALLEST)).astype(np.float64)
    offsets = np.zeros(probability.shape[1])
    for name in 2 * list(range(len(offsets))):
        moves = STEPS[:, None] * np.eye(len(offsets))[name]
        reached = [_macro_f1(label, (logit + offsets + move).argmax(axis=1), len(offsets)) for move in moves]
        offsets += moves[int(np.argmax(reached))] / 2
    return offsets


def apply_offsets(probability: Probabilities, offsets: Float[np.ndarray, "class"]) -> Probabilities:
    """softmax(log p + offsets)."""
    raised = probability * np.exp(offsets)
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(probability.dtype)


def apply_prior(probability: Probabilities, prior: Float[np.ndarray, "class"], power: float) -> Probabilities:
    """p prior^power, normalised: 1 restores the frequencies that even classes in training took away, -1 takes them away."""
    if np.min(prior) <= 0:
        raise ValueError(f"the prior of a class is {np.min(prior)}: leave out the classes without training cells")
    return apply_offsets(probability, power * np.log(prior))


def _macro_f1(label: Labels, guess: Labels, classes: int) -> float:
    counts = np.bincount(label * classes + guess, minlength=classes**2).reshape(classes, classes)
    both = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean(2 * np.diag(counts) / np.maximum(both, 1)))


def conformal_thresholds(
    probability: Probabilities, label: Labels, coverage: float = 0.9
) -> Float[np.ndarray, "class"]:
    """The least probability with which each class stays in the set, so that a cell of the class is in it as often as asked.

    Split conformal prediction, a class at a time (rare classes are covered as often as common ones): of the n probabilities
    of the truth, the floor((n + 1)(1 - coverage))-th smallest. A class with too few rows for this coverage is in every set.
    """
    _check(probability, label)
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage}: it lies between 0 and 1 (0.9)")
    thresholds = np.zeros(probability.shape[1])
    for name in range(probability.shape[1]):
        truth = np.sort(probability[label == name, name])
        place = math.floor((len(truth) + 1) * (1 - coverage))
        thresholds[name] = truth[place - 1] if place >= 1 else 0.0
    return thresholds


def conformal_sets(probability: Probabilities, thresholds: Float[np.ndarray, "class"]) -> Bool[np.ndarray, "row class"]:
    """Which classes cannot be ruled out. Several: the cell is ambiguous. None: it is like no class, say "unknown"."""
    return probability >= thresholds


class SelectiveCurve(NamedTuple):
    """Accuracy on the rows the model is surest of, by the share that it answers."""

    coverage: Float[np.ndarray, "row"]
    accuracy: Float[np.ndarray, "row"]
    threshold: Float[np.ndarray, "row"]  # the least confidence among those answered

    @property
    def area(self) -> float:
        """Mean error over all coverages: 0 is perfect."""
        return float(1 - self.accuracy.mean())

    def at(self, coverage: Float[np.ndarray, "score"]) -> Float[np.ndarray, "score"]:
        """The accuracy when at least such a share is answered."""
        return self.accuracy[np.searchsorted(self.coverage, coverage)]


def selective_curve(probability: Probabilities, label: Labels) -> SelectiveCurve:
    """Answer the surest rows first. Rows of one confidence are answered together, so their order does not matter."""
    _check(probability, label)
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == label
    order = np.argsort(-confidence, kind="stable")
    confidence, answered = confidence[order], np.arange(1, len(label) + 1)
    accuracy = np.cumsum(right[order]) / answered
    last = np.flatnonzero(np.r_[np.diff(confidence) != 0, True])  # of each group of equals
    place = last[np.searchsorted(last, np.arange(len(label)))]
    return SelectiveCurve(answered[place] / len(label), accuracy[place], confidence[place].astype(np.float64))


def _check(probability: Probabilities, label: Labels) -> None:
    if len(probability) != len(label) or not len(label):
        raise ValueError(f"there are {len(probability)} rows of probabilities and {len(label)} labels: give one a row")
    if not np.isfinite(probability).all():
        raise ValueError("probabilities are not finite: leave out the runs that diverged, and say so")
    if label.min() < 0 or label.max() >= probability.shape[1]:
        raise ValueError(f"label {label.max()} is outside the {probability.shape[1]} classes")
