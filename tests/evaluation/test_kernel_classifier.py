"""The closed-form leave-one-out error equals refitting, directions of other cells help, and scikit-learn's contract holds."""

import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency, parametrize_with_checks

from jaxephys import FeatureTable
from jaxephys.evaluation.kernel_classifier import NOISES, DiscriminantDirections, KernelClassifier, NormalScores

EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "the quantiles of the features ignore weights, and of two equal cells one "
    "is left out at a time",
}

RNG = np.random.default_rng(0)


def make_cells(cells: int = 60, columns: int = 6, seed: int = 0):
    rng = np.random.default_rng(seed)
    label = np.array(["Lamp5", "Sst", "Vip"])[np.arange(cells) % 3]
    x = rng.normal(size=(cells, columns))
    x[:, 0] += 2 * (label == "Sst")
    x[:, 1] = np.exp(x[:, 1] + 2 * (label == "Vip"))  # a heavy tail
    x[rng.random(x.shape) < 0.05] = np.nan
    return x, label


def refitted(model: KernelClassifier, label: np.ndarray, noise: float):
    """Return the prediction for each cell from the others by refitting."""
    z, y = model.rows_, np.eye(3)[np.unique(label, return_inverse=True)[1]]
    kernel = rbf_kernel(z, z, model.width / z.shape[1]) + z @ z.T / z.shape[1]
    found = []
    for i in range(len(z)):
        keep = np.arange(len(z)) != i
        solved = np.linalg.solve(kernel[np.ix_(keep, keep)] + noise * np.eye(len(z) - 1), y[keep] - y.mean(axis=0))
        found.append(y.mean(axis=0) + kernel[i, keep] @ solved)
    return np.array(found), y


def test_noise_has_the_least_leave_one_out_error():
    x, label = make_cells()
    model = KernelClassifier().fit(x, label)
    errors = [np.mean(np.square(np.subtract(*refitted(model, label, noise)))) for noise in NOISES]
    assert model.noise_ == NOISES[int(np.argmin(errors))]
    assert np.argmin(errors) > 0, "noisy data need more than the smallest noise"


def test_new_cells_are_classified_and_missing_values_count_as_the_median():
    model = KernelClassifier().fit(*make_cells(150))
    x, label = make_cells(90, seed=1)
    assert (model.predict(x) == label).mean() > 0.65
    np.testing.assert_allclose(model.predict_proba(x).sum(axis=1), 1)
    hole, median = np.full((1, 6), np.nan), np.nanmedian(make_cells(150)[0], axis=0)[None]
    np.testing.assert_allclose(model.predict_proba(hole), model.predict_proba(median), atol=0.02)


def test_scale_of_a_feature_does_not_matter():
    x, label = make_cells()
    new = make_cells(20, seed=1)[0]
    stretched = [np.c_[1e3 * some[:, :1], some[:, 1:]] for some in (x, new)]
    ours, again = KernelClassifier().fit(x, label), KernelClassifier().fit(stretched[0], label)
    np.testing.assert_allclose(ours.predict_proba(new), again.predict_proba(stretched[1]), atol=1e-6)


def test_normal_scores_use_the_training_cells():
    x = RNG.exponential(size=(400, 2))
    fitted = NormalScores().fit(x[:300])
    np.testing.assert_allclose(fitted.transform(x[:300]).std(axis=0), 1, atol=0.1)
    moved = x.copy()
    moved[300:] = 1e6
    np.testing.assert_array_equal(fitted.transform(x[:300]), NormalScores().fit(moved[:300]).transform(x[:300]))
    assert np.abs(fitted.transform(moved)).max() <= 3


def few_and_many(seed: int):
    """Return cells of another species whose types differ in two directions of forty features, in which our few cells differ as well."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(40, 40)))[0][:2]

    def draw(cells, types, centres):
        return rng.normal(size=(cells, 40)) + 3 * centres[types] @ directions

    finer = rng.integers(8, size=800)
    other = draw(800, finer, rng.normal(size=(8, 2)))
    label = np.arange(240) % 3
    ours = draw(240, label, np.array([[1.2, 0], [-0.6, 1], [-0.6, -1]]) / 1.5)
    return other, finer, ours, label


def test_directions_of_other_cells_help_if_cells_are_few():
    gains = []
    for seed in range(4):
        other, finer, ours, label = few_and_many(seed)
        train, test = slice(0, 30), slice(30, None)
        right = [
            (
                KernelClassifier(directions=directions).fit(ours[train], label[train]).predict(ours[test])
                == label[test]
            ).mean()
            for directions in (None, DiscriminantDirections.fit(other, finer, n_directions=2, weight=2.0))
        ]
        gains.append(right[1] - right[0])
    assert np.mean(gains) > 0.03, gains


def test_types_with_few_cells_give_no_direction():
    with pytest.raises(ValueError, match="at least two types with 8 cells"):
        DiscriminantDirections.fit(RNG.normal(size=(20, 3)), np.arange(20))


def expected_failures(estimator) -> dict[str, str]:
    return EXPECTED_FAILURES if isinstance(estimator, KernelClassifier) else {}


@parametrize_with_checks(
    [KernelClassifier(), NormalScores()], expected_failed_checks=expected_failures, xfail_strict=True
)
def test_scikit_learns_contract_holds(estimator, check, monkeypatch):
    monkeypatch.setattr(
        KernelClassifier, "__init__", inspect.unwrap(KernelClassifier.__init__)
    )  # without a check of types
    check(estimator)


def test_columns_are_compared_by_name():
    check_dataframe_column_names_consistency("KernelClassifier", KernelClassifier())
    x, label = make_cells()
    table = FeatureTable.from_arrays(x, {"isi": [f"f{i}" for i in range(6)]}, label)
    model = KernelClassifier().fit(table)
    plain = KernelClassifier().fit(table.values, label)
    np.testing.assert_array_equal(model.predict_proba(table), plain.predict_proba(table.values))
    with pytest.raises(ValueError, match="is 'f5', but it was 'f0' in training"):
        model.predict(FeatureTable.from_arrays(x[:, ::-1], {"isi": [f"f{i}" for i in range(6)][::-1]}))
    scores = NormalScores().set_output(transform="pandas").fit_transform(pd.DataFrame(x).add_prefix("f"))
    assert scores.columns.tolist() == [f"f{i}" for i in range(6)]


def test_a_weight_of_zero_leaves_a_cell_out_and_a_large_one_decides():
    x, label = make_cells()
    weight = np.ones(60)
    weight[:9] = 0
    ours, without = KernelClassifier().fit(x, label, weight), KernelClassifier().fit(x[9:], label[9:])
    np.testing.assert_array_equal(ours.predict_proba(x), without.predict_proba(x))
    same = KernelClassifier().fit(x, label, np.full(60, 1.0))
    np.testing.assert_array_equal(same.predict_proba(x), KernelClassifier().fit(x, label).predict_proba(x))
    is_vip = label == "Vip"
    heavy = KernelClassifier().fit(x, label, np.where(is_vip, 20.0, 1.0))
    assert (heavy.predict(x) == "Vip").sum() > (same.predict(x) == "Vip").sum() + 5


def test_it_is_pickled_and_cloned_with_its_labels():
    x, label = make_cells()
    model = KernelClassifier(width=0.5).fit(x, np.array([10, 2, 7])[np.unique(label, return_inverse=True)[1]])
    assert model.classes_.tolist() == [2, 7, 10] and model.predict(x).dtype == int
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), model.predict_proba(x))
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(ValueError, match="all 60 labels are 'Sst', one class"):
        KernelClassifier().fit(x, np.full(60, "Sst"))
