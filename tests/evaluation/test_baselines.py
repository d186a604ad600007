"""The opponents: they learn from the training rows that they are given, and answer for every class."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier

from jaxephys.evaluation import baselines
from jaxephys.evaluation.baselines import baseline_scores_of, make_baseline
from jaxephys.evaluation.discriminant import ShrinkageLDA

NAMES = ("logistic", "lda", "svm", "forest", "boosting")
TRAIN, TEST = np.arange(80), np.arange(80, 140)


@pytest.fixture(autouse=True)
def small_forest(monkeypatch):
    monkeypatch.setattr(
        baselines, "RandomForestClassifier", lambda trees, **rest: RandomForestClassifier(60, **rest | {"n_jobs": 1})
    )


def make_rows(classes=3, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(classes, size=140)
    values = noise * rng.normal(size=(140, 6)) + 1.5 * np.eye(6)[codes]
    return values.astype(np.float32), codes


@pytest.mark.parametrize("name", NAMES)
def test_labels_and_values_of_test_rows_teach_nothing(name):
    values, codes = make_rows()
    first = baseline_scores_of(name, values, codes, TRAIN, TEST, 0, 3)
    shuffled = codes.copy()
    shuffled[TEST] = np.random.default_rng(1).permutation(codes[TEST])
    np.testing.assert_array_equal(first, baseline_scores_of(name, values, shuffled, TRAIN, TEST, 0, 3))
    moved = values.copy()
    moved[TEST[1:]] += 50.0  # were the scale fitted to all rows, the first test row would be read differently
    np.testing.assert_array_equal(first[0], baseline_scores_of(name, moved, codes, TRAIN, TEST, 0, 3)[0])


@pytest.mark.parametrize("name", NAMES)
def test_training_rows_do_teach(name):
    values, codes = make_rows()
    said = baseline_scores_of(name, values, codes, TRAIN, TEST, 0, 3)
    assert (said.argmax(axis=1) == codes[TEST]).mean() > 0.6
    shuffled = codes.copy()
    shuffled[TRAIN] = np.random.default_rng(1).permutation(codes[TRAIN])
    assert (baseline_scores_of(name, values, shuffled, TRAIN, TEST, 0, 3).argmax(axis=1) == codes[TEST]).mean() < 0.6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("absent", [0, 1, 3])
def test_a_class_absent_from_training_has_probability_zero(name, absent):
    values, codes = make_rows(classes=4)
    train = TRAIN[codes[TRAIN] != absent]
    said = baseline_scores_of(name, values, codes, train, TEST, 0, 4)
    assert said.shape == (len(TEST), 4) and said.dtype == np.float32
    np.testing.assert_array_equal(said[:, absent], 0)
    assert (np.delete(said, absent, axis=1) > 0).any(axis=0).all()
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_argmax_of_the_svm_is_its_prediction(classes):
    """On rows so noisy that classes tie in the vote of their pairs."""
    for seed in range(5):
        values, codes = make_rows(classes, noise=4.0, seed=seed)
        said = baseline_scores_of("svm", values, codes, TRAIN, TEST, 0, classes)
        predicted = make_baseline("svm", 0).fit(values[TRAIN], codes[TRAIN]).predict(values[TEST])
        np.testing.assert_array_equal(said.argmax(axis=1), predicted)


@pytest.mark.parametrize("name", NAMES)
def test_units_of_a_feature_do_not_matter(name):
    values, codes = make_rows()
    scaled = values * np.array([1024, 1 / 1024, 1, 2, 0.5, 1], np.float32)
    np.testing.assert_allclose(
        *(baseline_scores_of(name, x, codes, TRAIN, TEST, 0, 3) for x in (values, scaled)), atol=1e-4
    )


def test_the_seed_decides_the_forest():
    values, codes = make_rows()
    first, again, other = (baseline_scores_of("forest", values, codes, TRAIN, TEST, seed, 3) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_unknown_baseline_is_named():
    with pytest.raises(ValueError, match="unknown baseline 'boost': choose one of logistic, lda, svm, forest"):
        make_baseline("boost", 0)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("columns", [10, 90])
def test_shrinkage_lda_decides_as_that_of_scikit_learn(classes, columns):
    rng = np.random.default_rng(2)
    codes = np.arange(60) % classes
    values = rng.normal(size=(60, columns)) * rng.uniform(0.1, 10, columns) + codes[:, None]
    values[:, 3] = 1.0  # nothing to tell by
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(values[:50], codes[:50])
    ours = ShrinkageLDA().fit(values[:50], codes[:50])
    np.testing.assert_allclose(ours.predict_proba(values), theirs.predict_proba(values), atol=1e-6)
    np.testing.assert_array_equal(ours.predict(values), theirs.predict(values))


@pytest.mark.parametrize("members", [(2, 2, 2), (1, 2, 2), (3, 1, 2)])
def test_shrinkage_lda_of_hardly_any_rows_says_what_that_of_scikit_learn_does(members):
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(3), members)
    values = rng.normal(size=(len(codes), 20)) + 3 * codes[:, None]
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(values, codes)
    np.testing.assert_allclose(
        ShrinkageLDA().fit(values, codes).predict_proba(values), theirs.predict_proba(values), atol=1e-6
    )
