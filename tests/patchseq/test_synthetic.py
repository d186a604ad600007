"""Synthetic cells: their posterior is the true one, so that no classifier is better than its argmax."""

import numpy as np
import pytest

from jaxephys.evaluation.baselines import fit_predict_proba, make_baseline
from jaxephys.patchseq import synthetic as module
from jaxephys.patchseq.synthetic import CLASS_SHARES, CLASSES, FAMILIES, make_synthetic_cells


@pytest.fixture(scope="module")
def many():
    return make_synthetic_cells(20_000, seed=3, strength=0.5)


def standard_error(right):
    return right.std() / np.sqrt(len(right))


def test_the_posterior_is_a_distribution(many):
    assert many.posterior.shape == (20_000, len(CLASSES))
    assert many.posterior.min() >= 0
    np.testing.assert_allclose(many.posterior.sum(axis=1), 1, atol=1e-12)


def test_accuracy_of_the_bayes_classifier_is_its_confidence(many):
    right = many.posterior.argmax(axis=1) == many.table.codes()
    assert abs(right.mean() - many.posterior.max(axis=1).mean()) < 3 * standard_error(right)
    assert 0.5 < right.mean() < 0.95, "neither trivial nor hopeless"


def test_each_class_is_as_frequent_as_its_posterior(many):
    """In every bin of the posterior, for every class."""
    codes = many.table.codes()
    for code in range(len(CLASSES)):
        probability, is_class = many.posterior[:, code], codes == code
        for low in np.arange(0, 1, 0.2):
            inside = (probability >= low) & (probability < low + 0.2)
            error = np.sqrt((probability * (1 - probability))[inside].sum()) / inside.sum()
            assert abs(is_class[inside].mean() - probability[inside].mean()) < 4 * error


def test_a_posterior_of_other_noise_would_not_pass(many, monkeypatch):
    """The same check on a wrong posterior: it is overconfident, and the check sees it."""
    monkeypatch.setattr(module, "NOISE_SD", 0.0)
    prototypes = 1.3 * 0.5 * module._prototypes(np.random.default_rng(0))
    bases = [module._cosine_basis(width) for width in FAMILIES.values()]
    wrong = module._posterior(many.table.values, prototypes, bases)
    right = wrong.argmax(axis=1) == many.table.codes()
    assert abs(right.mean() - wrong.max(axis=1).mean()) > 3 * standard_error(right)


def test_without_strength_the_posterior_is_the_prior():
    posterior = make_synthetic_cells(50, strength=0.0).posterior
    np.testing.assert_allclose(posterior, np.tile(CLASS_SHARES, (50, 1)), atol=1e-9)


def test_a_strong_classifier_comes_near_to_bayes_and_does_not_beat_it():
    cells = make_synthetic_cells(4000, seed=5)
    codes, rows = cells.table.codes(), np.arange(4000)
    train, test = rows[:2000], rows[2000:]
    probability = fit_predict_proba(make_baseline("svm", 0), cells.table.values, codes, train, test, len(CLASSES))
    right = probability.argmax(axis=1) == codes[test]
    bayes = cells.posterior[test].argmax(axis=1) == codes[test]
    assert right.mean() > 0.75 * bayes.mean()
    assert right.mean() < bayes.mean() + 3 * standard_error(bayes)


def test_the_seed_decides_the_cells_and_not_the_world():
    first, again, other = (
        make_synthetic_cells(40, seed=1),
        make_synthetic_cells(40, seed=1),
        make_synthetic_cells(40, seed=2),
    )
    np.testing.assert_array_equal(first.table.values, again.table.values)
    np.testing.assert_array_equal(first.table.label, again.table.label)
    np.testing.assert_array_equal(first.posterior, again.posterior)
    assert not np.array_equal(first.table.values, other.table.values)
    means = [make_synthetic_cells(4000, seed=seed).table for seed in (1, 2)]
    by_class = [np.stack([t.values[t.label == name].mean(axis=0) for name in CLASSES]) for t in means]
    assert np.corrcoef(by_class[0].ravel(), by_class[1].ravel())[0, 1] > 0.8
