"""Calibration recovers a known temperature, sets have the requested coverage, and confident rows are answered first."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score

from jaxephys.evaluation.calibration import (
    apply_offsets,
    apply_prior,
    apply_temperature,
    conformal_sets,
    conformal_thresholds,
    fit_offsets,
    fit_temperature,
    selective_curve,
)


def draw(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels drawn from the probabilities, so that they are calibrated."""
    rng = np.random.default_rng(seed)
    probability = softmax(1.5 * rng.normal(size=(rows, 4)) + [1.0, 0.0, 0.0, -1.0], axis=1)
    label = (probability.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    return probability, np.minimum(label, 3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_known_temperature_is_recovered(temperature):
    probability, label = draw(20_000)
    distorted = apply_temperature(probability, 1 / temperature)
    found = fit_temperature(distorted, label)
    assert found == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(apply_temperature(distorted, temperature), probability, atol=1e-9)


def test_temperature_keeps_the_prediction_and_the_sum():
    probability, _ = draw(100)
    cooled = apply_temperature(probability.astype(np.float32), 2.0)
    assert cooled.dtype == np.float32
    np.testing.assert_array_equal(cooled.argmax(axis=1), probability.argmax(axis=1))
    np.testing.assert_allclose(cooled.sum(axis=1), 1, atol=1e-6)


def draw_rare(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a rare class that resembles the largest one, so that it is seldom predicted."""
    rng = np.random.default_rng(seed)
    label = rng.choice(3, size=rows, p=(0.6, 0.37, 0.03))
    centres = np.array([[0.0, 0.0], [4.0, 0.0], [1.5, 1.5]])
    x = centres[label] + rng.normal(size=(rows, 2))
    apart = ((x[:, None] - centres) ** 2).sum(axis=2)
    return softmax(-apart / 2 + np.log((0.6, 0.37, 0.03)), axis=1), label


TRIED = [move / 10 for move in range(-6, 7)]


def macro_f1(probability: np.ndarray, label: np.ndarray) -> float:
    return f1_score(label, probability.argmax(axis=1), average="macro")


def test_offsets_raise_macro_f1_on_other_rows():
    fitted, fresh = draw_rare(3000, 0), draw_rare(30_000, 1)
    offsets = fit_offsets(*fitted)
    assert offsets[2] - offsets[0] > 0.2, "the offset favors the rare class"
    assert macro_f1(apply_offsets(fresh[0], offsets), fresh[1]) > macro_f1(*fresh) + 0.01


def test_each_offset_moves_half_way_to_the_best_value():
    """Compared with loops and scikit-learn's macro F1. Of equally good offsets the smallest is taken."""
    probability, label = draw_rare(400, 3)
    expected = np.zeros(3)
    for name in (0, 1, 2, 0, 1, 2):
        moves = {move: macro_f1(probability * np.exp(expected + move * np.eye(3)[name]), label) for move in TRIED}
        best = max(moves.values())
        expected[name] += min((move for move in TRIED if moves[move] >= best - 1e-12), key=lambda m: (abs(m), m)) / 2
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(fit_offsets(probability, label), expected, atol=1e-12)


def test_perfect_predictions_need_no_offsets():
    _, label = draw_rare(400, 3)
    np.testing.assert_array_equal(fit_offsets(np.eye(3)[label] * 0.7 + 0.1, label), 0)


def test_offsets_are_added_to_log_probabilities():
    probability, _ = draw(50)
    offsets = np.array([0.3, 0.0, -0.2, 1.0])
    expected = softmax(np.log(probability) + offsets, axis=1)
    np.testing.assert_allclose(apply_offsets(probability, offsets), expected)
    assert apply_offsets(probability.astype(np.float32), offsets).dtype == np.float32
    np.testing.assert_array_equal(apply_offsets(np.array([[0.0, 1.0]]), offsets[:2]), [[0, 1]])


def test_prior_is_applied_and_removed():
    """By Bayes' rule, probabilities for balanced classes become those for the true frequencies, and back."""
    rng = np.random.default_rng(0)
    likelihood, prior = rng.random((50, 3)), np.array([0.7, 0.2, 0.1])
    even = likelihood / likelihood.sum(axis=1, keepdims=True)
    true = likelihood * prior / (likelihood * prior).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(apply_prior(even, prior, 1.0), true)
    np.testing.assert_allclose(apply_prior(true, prior, -1.0), even)
    logits = rng.normal(size=(50, 3))
    np.testing.assert_allclose(
        apply_prior(softmax(logits, axis=1), prior, 0.7), softmax(logits + 0.7 * np.log(prior), axis=1)
    )


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_every_class_has_the_requested_coverage(coverage):
    """Over many calibration sets, the coverage of new rows is at least the requested one, and not much more."""
    covered = []
    for seed in range(60):
        probability, label = draw(400, seed)
        fresh, truth = draw(2000, seed + 1000)
        inside = conformal_sets(fresh, conformal_thresholds(probability, label, coverage))[np.arange(2000), truth]
        covered.append([inside[truth == name].mean() for name in range(4)])
    mean = np.mean(covered, axis=0)
    assert (mean > coverage - 0.01).all() and (mean < coverage + 0.04).all(), mean


def test_thresholds_are_order_statistics():
    probability = np.array([[p, 1 - p] for p in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)])
    thresholds = conformal_thresholds(probability, np.zeros(10, int), 0.8)
    assert thresholds[0] == 0.2, "floor(11 * 0.2) = 2: the second smallest"
    assert thresholds[1] == 0, "a class without rows is in every set"
    assert conformal_thresholds(probability, np.zeros(10, int), 0.95)[0] == 0, "ten rows are too few for 95 %"


def test_most_confident_rows_are_answered_first():
    probability = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.55, 0.45]])
    curve = selective_curve(probability, np.array([0, 1, 1, 1]))
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.accuracy, [1, 1, 2 / 3, 0.5])
    np.testing.assert_allclose(curve.threshold, [0.9, 0.8, 0.6, 0.55])
    assert curve.area == pytest.approx(1 - np.mean([1, 1, 2 / 3, 0.5]))
    np.testing.assert_allclose(curve.accuracy_at(np.array([0.1, 0.5, 0.6, 1.0])), [1, 1, 2 / 3, 0.5])


def test_rows_of_equal_confidence_are_answered_together():
    probability = np.tile([0.7, 0.3], (4, 1))
    for label in ([0, 0, 1, 1], [1, 1, 0, 0]):
        curve = selective_curve(probability, np.array(label))
        np.testing.assert_allclose(curve.accuracy, 0.5)
        np.testing.assert_allclose(curve.coverage, 1)


MISTAKES = {
    "nothing": (lambda p, y: selective_curve(p[:0], y[:0]), "0 rows of probabilities"),
    "nan": (lambda p, y: conformal_thresholds(p * np.nan, y), "are not finite"),
    "label": (lambda p, y: fit_temperature(p, y + 4), "outside the 4 classes"),
    "offsets": (lambda p, y: fit_offsets(p, y + 4), "outside the 4 classes"),
    "prior": (lambda p, y: apply_prior(p, np.array([0.5, 0.5, 0.0, 0.0]), 1.0), "the prior of a class is 0.0"),
    "coverage": (lambda p, y: conformal_thresholds(p, y, 1.0), "coverage is 1.0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_invalid_arguments_raise(mistake):
    call, hint = MISTAKES[mistake]
    with pytest.raises(ValueError, match=hint):
        call(*draw(20))
