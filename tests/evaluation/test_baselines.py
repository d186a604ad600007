"""Baselines use the training rows only and return a probability for every class."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier

from jaxephys.evaluation import baselines
from jaxephys.evaluation.baselines import fit_predict_proba, make_baseline
from jaxephys.evaluation.discriminant import ShrinkageLDA

NAMES = ("logistic", "lda", "svm", "forest", "boosting")
TRAIN, TEST = np.arange(80), np.arange(80, 140)


@pytest.fixture(autouse=True)
def small_forest(monkeypatch):
    monkeypatch.setattr(
        baselines, "RandomForestClassifier", lambda trees, **rest: RandomForestClassifier(60, **rest | {"n_jobs": 1})
    )


def predict(name, values, codes, train, test, seed, n_classes):
    return fit_predict_proba(make_baseline(name, seed), values, codes, train, test, n_classes)


def make_rows(classes=3, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(classes, size=140)
    values = noise * rng.normal(size=(140, 6)) + 1.5 * np.eye(6)[codes]
    return values.astype(np.float32), codes


@pytest.mark.parametrize("name", NAMES)
def test_labels_and_values_of_test_rows_do_not_change_predictions(name):
    values, codes = make_rows()
    first = predict(name, values, codes, TRAIN, TEST, 0, 3)
    shuffled = codes.copy()
    shuffled[TEST] = np.random.default_rng(1).permutation(codes[TEST])
    np.testing.assert_array_equal(first, predict(name, values, shuffled, TRAIN, TEST, 0, 3))
    moved = values.copy()
    moved[TEST[1:]] += 50.0  # a scaler fitted to all rows would change the first prediction
    np.testing.assert_array_equal(first[0], predict(name, moved, codes, TRAIN, TEST, 0, 3)[0])


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_training_rows_are_learned(name):
    values, codes = make_rows()
    probability = predict(name, values, codes, TRAIN, TEST, 0, 3)
    assert (probability.argmax(axis=1) == codes[TEST]).mean() > 0.6
    shuffled = codes.copy()
    shuffled[TRAIN] = np.random.default_rng(1).permutation(codes[TRAIN])
    assert (predict(name, values, shuffled, TRAIN, TEST, 0, 3).argmax(axis=1) == codes[TEST]).mean() < 0.6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("absent", [0, 1, 3])
def test_a_class_absent_from_training_has_probability_zero(name, absent):
    values, codes = make_rows(classes=4)
    train = TRAIN[codes[TRAIN] != absent]
    probability = predict(name, values, codes, train, TEST, 0, 4)
    assert probability.shape == (len(TEST), 4) and probability.dtype == np.float32
    np.testing.assert_array_equal(probability[:, absent], 0)
    assert (np.delete(probability, absent, axis=1) > 0).any(axis=0).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_argmax_of_svm_probabilities_is_its_prediction(classes):
    """Tested on noisy rows, where pairs of classes tie."""
    for seed in range(5):
        values, codes = make_rows(classes, noise=4.0, seed=seed)
        probability = predict("svm", values, codes, TRAIN, TEST, 0, classes)
        predicted = make_baseline("svm", 0).fit(values[TRAIN], codes[TRAIN]).predict(values[TEST])
        np.testing.assert_array_equal(probability.argmax(axis=1), predicted)


@pytest.mark.parametrize("name", NAMES)
def test_scale_of_a_feature_does_not_matter(name):
    values, codes = make_rows()
    scaled = values * np.array([1024, 1 / 1024, 1, 2, 0.5, 1], np.float32)
    np.testing.assert_allclose(*(predict(name, x, codes, TRAIN, TEST, 0, 3) for x in (values, scaled)), atol=1e-4)


def test_forest_depends_on_the_seed():
    values, codes = make_rows()
    first, again, other = (predict("forest", values, codes, TRAIN, TEST, seed, 3) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_unknown_baseline_raises():
    with pytest.raises(ValueError, match="unknown baseline 'boost': choose one of logistic, lda, svm, forest"):
        make_baseline("boost", 0)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("columns", [10, 90])
def test_shrinkage_lda_equals_scikit_learn(classes, columns):
    rng = np.random.default_rng(2)
    codes = np.arange(60) % classes
    values = rng.normal(size=(60, columns)) * rng.uniform(0.1, 10, columns) + codes[:, None]
    values[:, 3] = 1.0  # a constant feature
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(values[:50], codes[:50])
    ours = ShrinkageLDA().fit(values[:50], codes[:50])
    np.testing.assert_allclose(ours.predict_proba(values), theirs.predict_proba(values), atol=1e-6)
    np.testing.assert_array_equal(ours.predict(values), theirs.predict(values))


@pytest.mark.parametrize("members", [(2, 2, 2), (1, 2, 2), (3, 1, 2)])
def test_shrinkage_lda_of_few_rows_equals_scikit_learn(members):
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(3), members)
    values = rng.normal(size=(len(codes), 20)) + 3 * codes[:, None]
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(values, codes)
    np.testing.assert_allclose(
        ShrinkageLDA().fit(values, codes).predict_proba(values), theirs.predict_proba(values), atol=1e-6
    )
