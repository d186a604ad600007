"""The contract of scikit-learn: its own checks, labels of any type, names of columns, weights, parameters and searches."""

import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxephys
from jaxephys import FeatureTable, PatchSeqClassifier

WIDTHS = {"isi": 3, "psth": 2}
SMALL = {
    "seeds": 1,
    "hidden": 4,
    "token": 4,
    "max_epochs": 5,
    "batch_size": 16,
    "learning_rate": 0.05,
    "families": WIDTHS,
    "progress": False,
}
CHECKED = PatchSeqClassifier(seeds=1, hidden=4, token=4, max_epochs=10, learning_rate=0.05, progress=False)
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "validation cells are drawn from the cells, whatever their weights",
}


@parametrize_with_checks([CHECKED], expected_failed_checks=lambda _: EXPECTED_FAILURES, xfail_strict=True)
def test_scikit_learns_contract_holds(estimator, check, monkeypatch):
    monkeypatch.setattr(
        PatchSeqClassifier, "__init__", inspect.unwrap(PatchSeqClassifier.__init__)
    )  # no check of types
    check(estimator)


def make_cells(cells: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return features and class numbers from 0 to 2."""
    rng, codes = np.random.default_rng(0), np.arange(cells) % 3
    x = rng.normal(size=(cells, 5)).astype(np.float32)
    x[:, 0] += 5 * (codes == 1)
    x[:, 4] += 5 * (codes == 2)
    return x, codes


@pytest.fixture(scope="module")
def fitted():
    """Trained with a DataFrame and integer labels whose order as text is another."""
    x, codes = make_cells()
    return PatchSeqClassifier(**{**SMALL, "families": None}).fit(as_frame(x), np.array([2, 10, 30])[codes])


def as_frame(x: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(x, columns=["isi_0", "isi_1", "isi_2", "psth_0", "psth_1"])


LABELS = {
    "integers": np.array([2, 10, 1]),
    "booleans": np.array([False, True]),
    "text": np.array(["Pvalb", "Sst", "Vip"]),
    "objects": np.array(["Pvalb", "Sst", "Vip"], object),
    "whole floats": np.array([1.0, 2.0, 10.0]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_keep_their_type_and_order_also_in_a_saved_model(kind, tmp_path):
    x, codes = make_cells()
    y = LABELS[kind][codes % len(LABELS[kind])]
    model = PatchSeqClassifier(**SMALL).fit(x, y)
    for trained in (model, jaxephys.load(model.save(tmp_path / "model"))):
        assert trained.classes_.dtype == np.unique(y).dtype
        np.testing.assert_array_equal(trained.classes_, np.unique(y))
        assert trained.predict(x).dtype == y.dtype
        assert trained.score(x, y) == np.mean(trained.predict(x) == y) == trained.score_table(x, y)[0]["accuracy"]
    names = FeatureTable.from_arrays(x, WIDTHS, y)  # a table keeps labels as text
    assert model.score(names) == model.score_table(names)[0]["accuracy"] == model.score(x, y)


def test_classes_have_the_codes_of_numpy(fitted):
    x, codes = make_cells()
    assert fitted.score(as_frame(x), np.array([2, 10, 30])[codes]) > 0.8, "10 is between 2 and 30"
    text = PatchSeqClassifier(**SMALL).fit(x, np.array(["a", "b", "c"])[codes])
    np.testing.assert_array_equal(text.predict_proba(x), fitted.predict_proba(as_frame(x)))


def test_columns_are_compared_by_name(fitted, tmp_path):
    x, _ = make_cells()
    frame = as_frame(x)
    turned = FeatureTable.from_arrays(x, {"isi": ["isi_2", "isi_1", "isi_0"], "psth": ["psth_0", "psth_1"]})
    for model in (fitted, jaxephys.load(fitted.save(tmp_path / "model"))):
        assert (model.families_, model.widths_) == (("isi", "psth"), (3, 2))
        assert model.feature_names_in_.tolist() == list(frame.columns) and model.n_features_in_ == 5
        with pytest.raises(ValueError, match="in the same order as they were in fit"):
            model.predict(frame[frame.columns[::-1]])
        with pytest.raises(ValueError, match="now missing"):
            model.predict(frame.drop(columns="psth_1"))
        with pytest.raises(ValueError, match="unseen at fit time"):
            model.predict(frame.assign(tau=1.0))
        with pytest.raises(ValueError, match="feature 0 of the table is 'isi_2', but it was 'isi_0' in training"):
            model.predict(turned)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            np.testing.assert_array_equal(model.predict(x), model.predict(frame))


def test_each_column_without_a_family_is_one(fitted):
    x, codes = make_cells()
    model = PatchSeqClassifier(**{**SMALL, "families": None, "max_epochs": 1}).fit(x, codes)
    assert model.families_ == ("x0", "x1", "x2", "x3", "x4") and not hasattr(model, "feature_names_in_")
    named = PatchSeqClassifier(**SMALL).fit(as_frame(x).set_axis(list("abcde"), axis=1), codes)
    assert named.families_ == ("isi", "psth") and named.features_ == tuple("abcde"), "families define, names are kept"
    with pytest.raises(ValueError, match="has 4 features, but PatchSeqClassifier is expecting 5"):
        model.predict(x[:, :4])


def test_many_columns_without_families_give_a_warning():
    model = PatchSeqClassifier()
    with pytest.warns(UserWarning, match="101 families, as many steps of the LSTM: give families="):
        model._divide_into_families(np.ones((2, 101)))


def test_a_model_of_spikeinterface_predicts_labels(fitted):
    """As SpikeInterface does: a pipeline, its feature names, integer labels and their names."""
    x, codes = make_cells()
    pipeline = make_pipeline(clone(fitted)).fit(as_frame(x), codes)
    metrics = as_frame(x)[list(pipeline.feature_names_in_)]
    names = {0: "good", 1: "mua", 2: "noise"}
    assert {names[label] for label in pipeline.predict(metrics)} <= set(names.values())
    curation = pytest.importorskip("spikeinterface.curation.model_based_curation")

    class Analyzer:
        unit_ids = np.arange(60)

        def set_sorting_property(self, name, values):
            assert len(values) == 60

    labelled = curation.ModelBasedClassification(Analyzer(), pipeline).predict_labels(names, metrics=metrics)
    assert labelled["prediction"].tolist() == [names[label] for label in pipeline.predict(metrics)]


def test_cross_validation_and_a_search_over_numpy_values(tmp_path):
    x, codes = make_cells()
    model = PatchSeqClassifier(**{**SMALL, "max_epochs": 2})
    assert np.isfinite(cross_val_score(model, x, codes, cv=2)).all()
    grid = {"hidden": np.array([4, 2]), "gamma": np.array([0.0, 1.0]), "smote": np.array([False])}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(x, codes)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    loaded = jaxephys.load(best.save(tmp_path / "model"))
    assert loaded.get_params() == best.get_params() and type(loaded.hidden) is int
    np.testing.assert_array_equal(loaded.predict_proba(x), best.predict_proba(x))


# By name of a parameter, another value. `progress` shows a bar only.
OTHER = {
    "head": "arcface",
    "pooling": "fixed",
    "token": None,
    "smote": True,
    "gamma": 2.0,
    "class_weights": "inverse",
    "seeds": 2,
    "hidden": 3,
    "dropout": 0.6,
    "max_epochs": 3,
    "patience": 1,
    "batch_size": 8,
    "learning_rate": 0.01,
    "validation": 0.4,
    "families": {"isi": 2, "psth": 3},
    "random_state": 5,
}


@pytest.fixture(scope="module")
def unbalanced():
    x, codes = make_cells(90)
    keep = np.r_[np.flatnonzero(codes != 2), np.flatnonzero(codes == 2)[:10]]
    return x[keep] * np.array([0.2, 1, 1, 1, 0.2], np.float32), codes[keep]


def test_every_parameter_has_another_value():
    assert set(OTHER) | {"progress"} == set(inspect.signature(PatchSeqClassifier).parameters)


@pytest.mark.parametrize("name", OTHER)
def test_every_parameter_reaches_the_training(name, unbalanced):
    x, codes = unbalanced
    base = PatchSeqClassifier(**SMALL)
    changed = clone(base).set_params(**{name: OTHER[name]})
    first, second = (model.fit(x, codes).predict_proba(x) for model in (base, changed))
    assert not np.array_equal(first, second)


MISTAKES = {
    "no networks": ({"seeds": 0}, "seeds is 0: give a whole number of at least 1"),
    "half a unit": ({"hidden": 2.5}, "hidden is 2.5: give a whole number"),
    "no token": ({"token": 0}, "token is 0: give"),
    "no patience": ({"patience": 0}, "patience is 0"),
    "only dropout": ({"dropout": 1.0}, "dropout is 1.0: give a number from 0 to below 1"),
    "no validation": ({"validation": 0.0}, "validation is 0.0: give a number between 0 and 1"),
    "a negative exponent": ({"gamma": -1}, "gamma is -1: give a number of at least 0"),
    "no rate": ({"learning_rate": "fast"}, "learning_rate is 'fast': give a number above 0"),
    "a negative seed": ({"random_state": -1}, "random_state is -1: give a whole number from 0"),
    "an unknown pooling": ({"pooling": "mean"}, "pooling is 'mean': choose attention or fixed"),
    "families too narrow": ({"families": {"isi": 3}}, "do not make up the 5 columns"),
    "families without widths": ({"families": ["isi"]}, "give the width of each family"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_impossible_parameter_is_one_sentence(mistake):
    parameters, hint = MISTAKES[mistake]
    with pytest.raises(ValueError, match=hint) as caught:
        PatchSeqClassifier(**{**SMALL, **parameters}).fit(*make_cells())
    assert "\n" not in str(caught.value)


def test_infinite_values_are_named():
    x, codes = make_cells()
    x[3, 1] = np.inf
    with pytest.raises(ValueError, match="column isi_1 of row 3 is inf: give a number, or NaN where it is missing"):
        PatchSeqClassifier(**SMALL).fit(as_frame(x), codes)


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_set", "attention", "embed", "score", "score_table"]
)
def test_an_unfitted_classifier_reports_that_it_is(method):
    x, codes = make_cells()
    arguments = (x, codes) if method.startswith("score") else (x,)
    with pytest.raises(NotFittedError):
        getattr(PatchSeqClassifier(), method)(*arguments)


def test_weights(fitted):
    """Equal weights change nothing, weight 0 leaves a cell out, and a heavy class is predicted more often."""
    x, codes = make_cells()
    x[:, [0, 4]] *= 0.3
    plain = PatchSeqClassifier(**SMALL).fit(x, codes)
    equal = PatchSeqClassifier(**SMALL).fit(x, codes, sample_weight=np.full(60, 3.0))
    np.testing.assert_array_equal(equal.predict_proba(x), plain.predict_proba(x))
    heavy = PatchSeqClassifier(**SMALL).fit(x, codes, sample_weight=np.where(codes == 0, 30.0, 1.0))
    assert (heavy.predict(x) == 0).sum() > (plain.predict(x) == 0).sum()
    padded, more = np.concatenate([x, x[:6] + 100]), np.concatenate([codes, codes[:6]])
    without = PatchSeqClassifier(**SMALL).fit(padded, more, sample_weight=np.r_[np.ones(60), np.zeros(6)])
    np.testing.assert_array_equal(without.predict_proba(x), plain.predict_proba(x))


def test_a_generator_draws_the_first_seed_and_a_saved_model_has_it(tmp_path):
    x, codes = make_cells()
    first, again = (PatchSeqClassifier(**SMALL, random_state=np.random.RandomState(3)).fit(x, codes) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(x), again.predict_proba(x))
    assert first.first_seed_ > 0
    loaded = jaxephys.load(first.save(tmp_path / "model"))
    assert loaded.random_state == first.first_seed_
    np.testing.assert_array_equal(clone(loaded).fit(x, codes).predict_proba(x), first.predict_proba(x))
    anywhere = [PatchSeqClassifier(**SMALL, random_state=None).fit(x, codes) for _ in range(2)]
    assert anywhere[0].first_seed_ != anywhere[1].first_seed_
    assert jaxephys.load(anywhere[0].save(tmp_path / "other")).random_state is None


def test_it_is_pickled_with_its_labels(fitted):
    frame = as_frame(make_cells()[0])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(frame), fitted.predict(frame))


def test_the_predicted_class_is_in_its_set(fitted):
    frame = as_frame(make_cells()[0] + np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32))
    predicted = np.searchsorted(fitted.classes_, fitted.predict(frame))
    for coverage in (0.5, 0.8):
        sets, plain = (fitted.predict_set(frame, coverage, include_predicted=some) for some in (True, False))
        assert sets[np.arange(60), predicted].all()
        assert not plain[np.arange(60), predicted].all(), "the plain sets lack some"
        assert not (plain & ~sets).any() and (sets & ~plain).sum(axis=1).max() == 1
