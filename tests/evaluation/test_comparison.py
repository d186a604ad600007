"""Comparison of models: nothing is fitted to test rows, and ensembles, sets and scores are their formulas."""

import numpy as np
import pytest

from jaxephys.evaluation.calibration import (
    apply_temperature,
    conformal_sets,
    conformal_thresholds,
    fit_temperature,
    selective_curve,
)
from jaxephys.evaluation.comparison import CalibrationRows, ModelComparison, score_rows
from jaxephys.evaluation.metrics import classification_scores
from tests.patchseq.example_cells import CLASSES, make_comparison


class Unguarded(ModelComparison):
    """A comparison without the check of calibration rows."""

    def add(self, model, key, test, calibration=None):
        self.test_probability.setdefault(model, {})[key] = test
        self.calibration.setdefault(model, {})[key] = calibration


def calibrated(comparison: ModelComparison) -> np.ndarray:
    """Everything that is fitted to calibration rows: the average, its offsets, and the sets."""
    (key,) = comparison.splits
    comparison.add_average_ensemble("average", ("calm", "sure"))
    comparison.add_class_offsets("offsets", "average")
    calibration = comparison.calibration["average"][key]
    thresholds = conformal_thresholds(calibration.probability, comparison.codes[calibration.rows])
    both = np.concatenate([comparison.test_probability["average"][key], comparison.test_probability["offsets"][key]])
    return np.concatenate([both, conformal_sets(both, thresholds)])


def test_average_ensemble_is_the_mean_of_its_members_each_at_its_temperature(tmp_path):
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    comparison.add_average_ensemble("average", ("calm", "sure"))
    expected = []
    for name in ("calm", "sure"):
        calibration = comparison.calibration[name][key]
        temperature = fit_temperature(calibration.probability, comparison.codes[split.validation])
        expected.append(apply_temperature(comparison.test_probability[name][key], temperature))
    np.testing.assert_allclose(comparison.test_probability["average"][key], np.mean(expected, axis=0), atol=1e-6)
    comparison.add_average_ensemble("cool", ("sure",))
    np.testing.assert_allclose(comparison.test_probability["cool"][key], expected[1], atol=1e-6)
    assert expected[1].max(axis=1).mean() < comparison.test_probability["sure"][key].max(axis=1).mean(), (
        "it was overconfident"
    )


def test_nothing_is_fitted_to_the_labels_of_test_rows(tmp_path):
    usual = calibrated(make_comparison(tmp_path))
    np.testing.assert_array_equal(calibrated(make_comparison(tmp_path, "test")), usual)
    assert not np.array_equal(calibrated(make_comparison(tmp_path, "validation")), usual), (
        "labels of calibration rows do have an effect"
    )


def test_calibration_on_test_rows_is_refused(tmp_path):
    """Test rows among the calibration rows are refused; without the check, the test above would fail."""
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    rows = np.append(split.validation, split.test[3])
    with pytest.raises(
        ValueError, match=rf"leaky, .*: test row {split.test[3]} is also a calibration row \(1 in total\)"
    ):
        comparison.add(
            "leaky", key, comparison.test_probability["calm"][key], CalibrationRows(rows, np.full((len(rows), 4), 0.25))
        )
    probability = []
    for relabelled in (None, "test"):
        comparison = make_comparison(tmp_path, relabelled)
        leaky = Unguarded(comparison.table, comparison.splits)
        for name in ("calm", "sure"):
            leaky.add(
                name,
                key,
                comparison.test_probability[name][key],
                CalibrationRows(split.test, comparison.test_probability[name][key]),
            )
        probability.append(calibrated(leaky))
    assert not np.array_equal(*probability)


def test_average_ensemble_refuses_members_calibrated_on_other_rows(tmp_path):
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    comparison.calibration["calm"][key] = CalibrationRows(split.train, np.full((len(split.train), 4), 0.25))
    with pytest.raises(ValueError, match="calm, sure are calibrated on different rows"):
        comparison.add_average_ensemble("average", ("calm", "sure"))


def test_released_prior_is_that_of_the_training_cells(tmp_path):
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    share = np.bincount(comparison.codes[split.train]) / len(split.train)
    before = comparison.test_probability["calm"][key]
    comparison.add_prior_weighted("weighed", "calm", -1.0)
    expected = before / share / (before / share).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(comparison.test_probability["weighed"][key], expected, rtol=1e-5)


def test_uncertainty_scores_are_shares_of_the_test_cells(tmp_path):
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    found, label = comparison.uncertainty_scores("calm", key), comparison.codes[split.test]
    calibration, probability = comparison.calibration["calm"][key], comparison.test_probability["calm"][key]
    assert found["single"] + found["several"] + found["empty"] == pytest.approx(1)
    sets = conformal_sets(
        probability, conformal_thresholds(calibration.probability, comparison.codes[calibration.rows], 0.9)
    )
    assert found["set_size"] == pytest.approx(sets.sum() / len(sets))
    assert found["covered Sst"] == pytest.approx(sets[label == 2, 2].mean())
    assert found["selective_error"] == pytest.approx(selective_curve(probability, label).area)
    del comparison.calibration["calm"]
    assert set(comparison.uncertainty_scores("calm", key)) == {"selective_error"}


def test_scores_of_selected_rows_depend_on_these_rows_only():
    rng = np.random.default_rng(0)
    label, probability, selected = (
        rng.integers(4, size=30),
        rng.dirichlet(np.ones(4), 30).astype(np.float32),
        rng.random(30) < 0.5,
    )
    found = score_rows(label, probability, selected, 41, CLASSES)
    alone = classification_scores(label[selected], probability[selected], np.ones(selected.sum(), np.float32))
    for name, value in alone.items():
        assert found[name] == pytest.approx(float(value), abs=1e-6), name
    truth, guess = label[selected], probability[selected].argmax(axis=1)
    assert found["recall Pvalb"] == pytest.approx((guess[truth == 1] == 1).mean())
    assert score_rows(label, probability, np.zeros(30, bool), 41, CLASSES) == {}
