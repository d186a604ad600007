"""The contract of scikit-learn: its own checks, labels of any type, names of columns, parameters and searches.

Class means are in the place of the networks, except where networks are trained for the same program as in ``test_estimator.py``.
"""

import inspect
import pickle

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency, parametrize_with_checks

import jaxephys
from jaxephys import FeatureTable, PatchSeqClassifier
from tests.patchseq.class_means import class_means  # noqa: F401  a fixture
from tests.patchseq.test_estimator import SMALL, WIDTHS, make_cells

CHECKED = PatchSeqClassifier(seeds=1, hidden=4, token=4, max_epochs=10, learning_rate=0.05, progress=False)
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "validation cells are drawn from the cells, whatever their weights",
}
CODES = np.arange(90) % 3
NAMES = ["isi_0", "isi_1", "isi_2", "psth_0", "psth_1"]
with_checks = parametrize_with_checks([CHECKED], expected_failed_checks=lambda _: EXPECTED_FAILURES, xfail_strict=True)


@pytest.fixture
def unchecked_types(monkeypatch):
    """Scikit-learn gives a constructor values of wrong types, which the tests otherwise refuse."""
    monkeypatch.setattr(PatchSeqClassifier, "__init__", inspect.unwrap(PatchSeqClassifier.__init__))


@with_checks
@pytest.mark.usefixtures("class_means", "unchecked_types")
def test_scikit_learns_contract_holds(estimator, check):
    check(estimator)


@pytest.mark.slow  # some thirty programs are compiled
@with_checks
@pytest.mark.usefixtures("unchecked_types")
def test_scikit_learns_contract_holds_with_networks(estimator, check):
    check(estimator)


def as_frame(x: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(x, columns=NAMES)


LABELS = {
    "integers": np.array([2, 10, 1]),
    "booleans": np.array([False, True]),
    "text": np.array(["Pvalb", "Sst", "Vip"]),
    "objects": np.array(["Pvalb", "Sst", "Vip"], object),
    "whole floats": np.array([1.0, 2.0, 10.0]),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.usefixtures("class_means")
def test_labels_keep_their_type_and_order_also_in_a_saved_model(kind, tmp_path):
    x = make_cells()[0]
    y = LABELS[kind][CODES % len(LABELS[kind])]
    model = PatchSeqClassifier(**SMALL).fit(x, y)
    for trained in (model, jaxephys.load(model.save(tmp_path / "model"))):
        assert trained.classes_.dtype == np.unique(y).dtype
        np.testing.assert_array_equal(trained.classes_, np.unique(y))
        assert trained.predict(x).dtype == y.dtype
        scores = trained.score(x, y), np.mean(trained.predict(x) == y), trained.score_table(x, y)[0]["accuracy"]
        np.testing.assert_allclose(scores, scores[0], rtol=1e-6)
        assert scores[0] > (0.8 if len(LABELS[kind]) == 3 else 0.4)
    table = FeatureTable.from_arrays(x, WIDTHS, y)  # a table keeps labels as text
    assert model.score(table) == model.score(x, y)
    np.testing.assert_array_equal(model.calibrate(table).held_out_codes_, np.unique(y, return_inverse=True)[1])


@pytest.fixture(scope="module")
def fitted():
    """Networks that were trained with a DataFrame and integer labels whose order as text is another."""
    x = make_cells()[0]
    return PatchSeqClassifier(**{**SMALL, "families": None}).fit(as_frame(x), np.array([2, 10, 30])[CODES])


def test_networks_do_not_depend_on_the_type_of_labels(fitted):
    x, y = make_cells()
    assert fitted.score(as_frame(x), np.array([2, 10, 30])[CODES]) > 0.75
    text = PatchSeqClassifier(**SMALL).fit(x, y)
    np.testing.assert_array_equal(text.predict_proba(x), fitted.predict_proba(as_frame(x)))


def test_columns_are_compared_by_name(fitted, tmp_path):
    frame = as_frame(make_cells()[0])
    turned = FeatureTable.from_arrays(frame.to_numpy(), {"isi": ["isi_2", "isi_1", "isi_0"], "psth": NAMES[3:]})
    for model in (fitted, jaxephys.load(fitted.save(tmp_path / "model"))):
        assert (model.families_, model.widths_) == (("isi", "psth"), (3, 2))
        assert model.feature_names_in_.tolist() == NAMES and model.n_features_in_ == 5
        with pytest.raises(ValueError, match="in the same order as they were in fit"):
            model.predict(frame[NAMES[::-1]])
        with pytest.raises(ValueError, match="now missing"):
            model.predict(frame.drop(columns="psth_1"))
        with pytest.raises(ValueError, match="unseen at fit time"):
            model.predict(frame.assign(tau=1.0))
        with pytest.raises(ValueError, match="feature 0 of the table is 'isi_2', but it was 'isi_0' in training"):
            model.predict(turned)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            np.testing.assert_array_equal(model.predict(frame.to_numpy()), model.predict(frame))


@pytest.mark.usefixtures("class_means")
def test_scikit_learns_check_of_column_names():
    check_dataframe_column_names_consistency("PatchSeqClassifier", CHECKED)


@pytest.mark.usefixtures("class_means")
def test_each_column_without_a_family_is_one():
    x, y = make_cells()
    model = PatchSeqClassifier(**{**SMALL, "families": None}).fit(x, y)
    assert model.families_ == ("x0", "x1", "x2", "x3", "x4") and not hasattr(model, "feature_names_in_")
    named = PatchSeqClassifier(**SMALL).fit(as_frame(x).set_axis(list("abcde"), axis=1), y)
    assert named.families_ == ("isi", "psth") and named.features_ == tuple("abcde"), "families define, names are kept"
    with pytest.raises(ValueError, match="has 4 features, but PatchSeqClassifier is expecting 5"):
        model.predict(x[:, :4])
    with pytest.warns(UserWarning, match="101 families, as many steps of the LSTM: give families="):
        PatchSeqClassifier(seeds=1).fit(np.repeat(x, 21, axis=1)[:, :101], y)


@pytest.mark.usefixtures("class_means")
def test_a_model_of_spikeinterface_predicts_labels():
    """As SpikeInterface does: a pipeline, its feature names, integer labels and their names."""
    metrics, names = as_frame(make_cells()[0]), {0: "good", 1: "mua", 2: "noise"}
    pipeline = make_pipeline(PatchSeqClassifier(**SMALL)).fit(metrics, CODES)
    required = metrics[metrics.columns[::-1]][list(pipeline.feature_names_in_)]
    expected = [names[label] for label in pipeline.predict(required)]
    assert np.mean(np.array(expected) == np.array(list(names.values()))[CODES]) > 0.8
    curation = pytest.importorskip("spikeinterface.curation.model_based_curation")

    class Analyzer:
        unit_ids = np.arange(90)

        def set_sorting_property(self, name, values):
            assert len(values) == 90

    labelled = curation.ModelBasedClassification(Analyzer(), pipeline).predict_labels(names, metrics=metrics)
    assert labelled["prediction"].tolist() == expected


@pytest.mark.usefixtures("class_means")
def test_cross_validation_and_a_search_over_numpy_values(tmp_path):
    x = make_cells()[0]
    model = PatchSeqClassifier(**SMALL)
    assert cross_val_score(model, x, CODES, cv=2).min() > 0.7
    grid = {"hidden": np.array([4, 2]), "gamma": np.array([0.0, 1.0]), "smote": np.array([False])}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(x, CODES)
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
    "seeds": 3,
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


def test_every_parameter_has_another_value():
    assert set(OTHER) | {"progress"} == set(inspect.signature(PatchSeqClassifier).parameters)


@pytest.mark.parametrize("name", OTHER)
def test_every_parameter_reaches_the_training(name, class_means):  # noqa: F811
    x, y = make_cells()
    keep = np.r_[np.flatnonzero(CODES < 2), np.flatnonzero(CODES == 2)[:12]]
    received = []
    for value in (SMALL.get(name, PatchSeqClassifier().get_params()[name]), OTHER[name]):
        clone(PatchSeqClassifier(**SMALL)).set_params(**{name: value}).fit(x[keep], y[keep])
        received.append(class_means.received)
    (task, inputs, grid, config), (other_task, other_inputs, other_grid, other_config) = received
    leaves, others = jax.tree.leaves(inputs), jax.tree.leaves(other_inputs)
    equal = len(leaves) == len(others) and all(map(np.array_equal, leaves, others))
    assert task is not other_task or config != other_config or len(grid) != len(other_grid) or not equal


MISTAKES = {
    "no networks": ({"seeds": 0}, "seeds is 0: give a whole number of at least 1"),
    "no token": ({"token": 0}, "token is 0: give"),
    "no patience": ({"patience": 0}, "patience is 0"),
    "only dropout": ({"dropout": 1.0}, "dropout is 1.0: give a number from 0 to below 1"),
    "no validation": ({"validation": 0.0}, "validation is 0.0: give a number between 0 and 1"),
    "a negative exponent": ({"gamma": -1.0}, "gamma is -1.0: give a number of at least 0"),
    "half a unit": ({"hidden": 2.5}, "hidden is 2.5: give a whole number"),
    "a word as a rate": ({"learning_rate": "fast"}, "learning_rate is 'fast': give a number above 0"),
    "a negative seed": ({"random_state": -1}, "random_state is -1: give a whole number from 0"),
    "a word as a seed": ({"random_state": "lucky"}, "'lucky' cannot be used to seed"),
    "an unknown pooling": ({"pooling": "mean"}, "pooling is 'mean': choose attention or fixed"),
    "a word as a switch": ({"smote": "no"}, "smote is 'no': choose False or True"),
    "families too narrow": ({"families": {"isi": 3}}, "do not make up the 5 columns"),
    "families without widths": ({"families": ["isi"]}, "give the width of each family"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_impossible_parameter_is_one_sentence(mistake):
    parameters, hint = MISTAKES[mistake]
    with pytest.raises(ValueError, match=hint) as caught:
        PatchSeqClassifier(**SMALL).set_params(**parameters).fit(*make_cells())
    assert "\n" not in str(caught.value)


def test_infinite_values_are_named():
    x, y = make_cells()
    x[3, 1] = np.inf
    with pytest.raises(ValueError, match="column isi_1 of row 3 is inf: give a number, or NaN where it is missing"):
        PatchSeqClassifier(**SMALL).fit(as_frame(x), y)


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_set", "attention", "embed", "score", "calibrate"]
)
def test_an_unfitted_classifier_reports_that_it_is(method):
    x, y = make_cells()
    with pytest.raises(NotFittedError):
        getattr(PatchSeqClassifier(), method)(*((x, y) if method in ("score", "calibrate") else (x,)))


def test_weights(fitted):
    """Equal weights change nothing, a cell of weight 0 is left out, and a heavy class is predicted more often."""
    x, y = make_cells()
    expected = fitted.predict_proba(as_frame(x))
    model = clone(fitted).set_params(families=WIDTHS)
    np.testing.assert_array_equal(model.fit(x, y, sample_weight=np.full(90, 3.0)).predict_proba(x), expected)
    more = np.concatenate([x, x[:6] + 100]), np.concatenate([y, y[:6]])
    weight = np.r_[np.ones(90), np.zeros(6)]
    np.testing.assert_array_equal(model.fit(*more, sample_weight=weight).predict_proba(x), expected)
    heavy = model.fit(x, y, sample_weight=np.where(y == "Pvalb", 30.0, 1.0)).predict(x)
    assert (heavy == "Pvalb").sum() > (expected.argmax(axis=1) == 0).sum()


def test_weights_of_synthetic_cells_are_between_those_of_two_cells(class_means):  # noqa: F811
    x, y = make_cells()
    keep = np.r_[np.flatnonzero(CODES < 2), np.flatnonzero(CODES == 2)[:12]]
    weight = np.random.default_rng(0).uniform(1, 2, len(keep))
    PatchSeqClassifier(**SMALL, smote=True).fit(x[keep], y[keep], sample_weight=weight)
    rows = class_means.received[1].train
    relative, synthetic = weight / weight.mean(), (rows.mix > 0) & (rows.weight > 0)
    expected = (1 - rows.mix) * relative[rows.index] + rows.mix * relative[rows.partner]
    assert synthetic.any()
    np.testing.assert_allclose(rows.weight[rows.weight > 0], expected[rows.weight > 0], rtol=1e-5)


@pytest.mark.usefixtures("class_means")
def test_a_generator_draws_the_first_seed_and_a_saved_model_has_it(tmp_path):
    x, y = make_cells()
    first, again = (PatchSeqClassifier(**SMALL, random_state=np.random.RandomState(3)).fit(x, y) for _ in range(2))
    assert first.first_seed_ == again.first_seed_ > 0
    loaded = jaxephys.load(first.save(tmp_path / "model"))
    assert loaded.random_state == first.first_seed_
    np.testing.assert_array_equal(clone(loaded).fit(x, y).predict_proba(x), first.predict_proba(x))
    anywhere = [PatchSeqClassifier(**SMALL, random_state=None).fit(x, y) for _ in range(2)]
    assert anywhere[0].first_seed_ != anywhere[1].first_seed_
    assert jaxephys.load(anywhere[0].save(tmp_path / "other")).random_state is None


def test_networks_train_from_a_large_seed():
    x, y = make_cells()
    model = PatchSeqClassifier(**SMALL, random_state=2**31 - 3).fit(x, y)
    assert [row["run"] for row in model.training_] == [f"seed={2**31 - 3}", f"seed={2**31 - 2}"]
    assert model.score(x, y) > 0.75


def test_it_is_pickled_with_its_labels(fitted):
    frame = as_frame(make_cells()[0])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(frame), fitted.predict(frame))


def test_the_predicted_class_is_in_its_set(fitted):
    frame = as_frame(make_cells()[0] + np.random.default_rng(1).normal(size=(90, 5)).astype(np.float32))
    predicted = np.searchsorted(fitted.classes_, fitted.predict(frame))
    for coverage in (0.5, 0.8):
        sets, plain = (fitted.predict_set(frame, coverage, include_predicted=some) for some in (True, False))
        assert sets[np.arange(90), predicted].all()
        assert not plain[np.arange(90), predicted].all(), "the plain sets lack some"
        assert not (plain & ~sets).any() and (sets & ~plain).sum(axis=1).max() == 1
