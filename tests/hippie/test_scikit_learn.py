"""The contract of scikit-learn: its own checks, arrays in place of tables, labels of any type, parameters, searches and pickles.

scikit-learn's checks give real numbers in two to ten columns, which can be waveforms but no histograms: the checked estimator has a
single modality. `HIPPIEClassifier` of `jaxephys.hippie.inference` is the same class.
"""

import inspect
import pickle
import warnings

import jax
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxephys
from jaxephys import Hippie, UnitTable
from jaxephys.hippie import estimator
from jaxephys.hippie.inference import HIPPIEClassifier
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.synthetic import make_synthetic_units
from jaxephys.hippie.task import OURS, Objective, make_task

SMALL = {"width": 2, "trunk": "dense", "max_epochs": 1, "batch_size": 2, "progress": False}
CHECKED = Hippie(2, **SMALL, modalities=("wave",))
OUTPUT_CHECKS = (
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_global_output_transform_pandas,
)


@pytest.fixture
def unannotated(monkeypatch):
    """Parameters of any type, which users can give: the check of annotations is that of the tests."""
    monkeypatch.setattr(Hippie, "__init__", inspect.unwrap(Hippie.__init__))


@parametrize_with_checks([CHECKED])
def test_scikit_learns_contract_holds(estimator, check, unannotated):
    check(estimator)


@pytest.mark.parametrize("check", OUTPUT_CHECKS, ids=lambda check: check.__name__)
def test_scikit_learns_contract_of_column_names_holds(check):
    check("Hippie", CHECKED)


def test_the_published_class_is_the_checked_one():
    assert HIPPIEClassifier is Hippie


@pytest.fixture(scope="module")
def units():
    return make_synthetic_units(40)


@pytest.fixture(scope="module")
def X(units):
    return np.concatenate(list(units.raw.values()), axis=1)


# All trainings have 20 units and a technology, so that they share one program.
TRAINED, TECHNOLOGY = np.arange(20), "tetrode"


@pytest.fixture(scope="module")
def fitted(X):
    return Hippie(4, **SMALL).fit(X[TRAINED], technology=TECHNOLOGY)


# Arrays.


def test_an_array_of_250_columns_has_the_results_of_its_table(fitted, units, X):
    table = UnitTable.from_arrays(**units.raw)
    from_table = Hippie(4, **SMALL).fit(table.rows(TRAINED), technology=TECHNOLOGY)
    np.testing.assert_array_equal(fitted.transform(X), from_table.embed(table))
    assert fitted.score(X) == pytest.approx(np.mean([row["r2"] for row in from_table.score_table(table)]))
    assert fitted.seen(X).sum() == 20 and not fitted.seen(X[20:]).any() and from_table.seen(X[:20]).all()
    assert fitted.n_features_in_ == 250 and not hasattr(from_table, "n_features_in_")
    missing = X[:3].copy()
    missing[1, 50:150] = np.nan
    assert np.isfinite(fitted.transform(missing)).all()


def test_units_of_a_held_out_table_are_found_and_no_others(units, X):
    held_out = Hippie(4, **SMALL).fit(X[:30], held_out=X[20:], technology=TECHNOLOGY)
    table = UnitTable.from_arrays(**units.raw)
    assert held_out.seen(X).tolist() == [True] * 20 + [False] * 20 == held_out.seen(table).tolist()


def test_small_tables_share_a_program_and_its_rounding(fitted, X):
    one_by_one = np.concatenate([fitted.transform(X[[row]]) for row in range(10)])
    np.testing.assert_array_equal(one_by_one, fitted.transform(X[:30])[:10])


def test_names_of_columns_are_compared(fitted, X, tmp_path):
    frame = pd.DataFrame(X, columns=[f"c{column}" for column in range(250)], index=np.arange(100, 140))
    model = clone(fitted).fit(frame[:20], technology=TECHNOLOGY).set_output(transform="pandas")
    for trained in (model, jaxephys.load(model.save(tmp_path / "model")).set_output(transform="pandas")):
        embedding = trained.transform(frame)
        assert list(embedding.columns) == ["hippie0", "hippie1", "hippie2", "hippie3"]
        assert embedding.index.equals(frame.index) and trained.n_features_in_ == 250
        with pytest.raises(ValueError, match="in the same order as they were in fit"):
            trained.transform(frame[frame.columns[::-1]])
        with pytest.raises(ValueError, match="has 249 features, but Hippie is expecting 250"):
            trained.transform(X[:, :249])


def test_embeddings_of_several_tables_follow_one_another(fitted, units):
    parts = [units.rows(np.arange(5)), units.rows(np.arange(5, 20))]
    np.testing.assert_array_equal(fitted.transform(parts), fitted.transform(units)[:20])
    tuned = Hippie(4, **SMALL)
    embedding = tuned.fit_transform(parts, technology="tetrode")
    np.testing.assert_array_equal(embedding[:5], tuned.embed(parts[0], technology="tetrode"))
    assert np.abs(embedding[:5] - tuned.embed(parts[0])).max() > 1e-4


def test_a_model_whose_units_were_named_by_row_gives_a_warning(fitted, units):
    old = clone(fitted)
    old.__dict__.update(fitted.__dict__, trained_on_=np.array(["synthetic/row 0", "synthetic/row 1"]))
    with pytest.warns(UserWarning, match="an earlier version named by row"):
        assert not old.seen(units).any()
    named = UnitTable.from_arrays(**units.raw, unit=[f"row {row}" for row in range(40)], dataset="synthetic")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert old.seen(named).sum() == 2 and not fitted.seen(named).any()


# Labels.


@pytest.mark.parametrize("labels", [[10, 2], [True, False], ["regular", "fast"], [1.0, 2.0]], ids=str)
def test_classes_keep_their_type_and_order(labels, units, tmp_path, monkeypatch):
    """Training is left out: the decoder's table has a row for each class whatever their type."""
    y = np.array(labels)[np.arange(40) % 2]
    captured = capture(monkeypatch, Hippie(4, **SMALL, objective="published"), units, y)
    np.testing.assert_array_equal(captured["classes"], np.unique(y))
    assert captured["classes"].dtype == y.dtype
    variables = jax.device_get(make_task(captured["network"]).init(jax.random.key(0)))
    model = Hippie.from_network(captured["network"], variables, Preparation())
    model.classes_ = captured["classes"]
    again = jaxephys.load(model.save(tmp_path / "model"))
    assert again.classes_.dtype.kind == y.dtype.kind and again.classes_.tolist() == np.unique(y).tolist()
    assert again.decode(np.zeros((2, 4)), label=y[0])["wave"].shape == (2, 50)


def test_labels_of_one_class_are_refused_by_name(units):
    with pytest.raises(ValueError, match="all 40 labels are 'PV'"):
        Hippie(4, **SMALL).fit(units, np.full(40, "PV"))


# Parameters.


def capture(monkeypatch, model, units, y=None):
    """Return what a call of ``fit`` gives to the engine, without training."""
    given = {}

    class Stop(Exception):
        pass

    def stop(task, data, inputs, grid, config, *, initial, title):
        given.update(task=task, data=data, inputs=inputs, grid=grid, config=config, title=title)
        raise Stop

    def start(self, *args):
        given["network"] = network(self, *args)
        return given["network"]

    def encode(labels, count):
        given["encoded"] = encode_labels(labels, count)
        return given["encoded"]

    network, encode_labels = Hippie._new_network, estimator.encode_labels
    with monkeypatch.context() as patch:
        patch.setattr(estimator, "fit", stop)
        patch.setattr(estimator, "encode_labels", encode)
        patch.setattr(Hippie, "_new_network", start)
        with pytest.raises(Stop):
            model.fit(units, y)
    given["classes"] = given["encoded"].classes
    return given


# By name of a parameter, another value.
OTHER = {
    "latent": 3,
    "width": 3,
    "modalities": ("wave", "acg"),
    "trunk": "resnet",
    "objective": Objective(beta=2.0),
    "contrast": 3.0,
    "seeds": 2,
    "max_epochs": 2,
    "patience": 3,
    "batch_size": 16,
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "validation": 0.3,
    "random_state": 5,
    "progress": True,
}


def test_every_parameter_has_another_value():
    assert set(OTHER) == set(inspect.signature(Hippie).parameters)


def describe(given):
    """Return all numbers that training depends on, as text."""
    inputs = given["inputs"]
    rows = [np.asarray(leaf).tolist() for leaf in (*inputs.train, *inputs.validation)]
    constants = [np.asarray(leaf).tolist() for leaf in inputs.constants.objective]
    return {
        "network": str(given["network"]),
        "rows": str(rows),
        "objective": str(constants),
        "seeds": given["grid"].column("seed"),
        "config": given["config"],
        "title": given["title"],
    }


@pytest.mark.parametrize("name", OTHER)
def test_every_parameter_reaches_the_training(name, units, monkeypatch):
    base = Hippie(4, **SMALL)
    changed = clone(base).set_params(**{name: OTHER[name]})
    y = units.label
    assert describe(capture(monkeypatch, base, units, y)) != describe(capture(monkeypatch, changed, units, y))


MISTAKES = {
    "no networks": ({"seeds": 0}, "seeds is 0: give a whole number of 1 or more"),
    "half a unit": ({"width": 2.5}, "width is 2.5: give a whole number"),
    "no latent": ({"latent": 0}, "latent is 0"),
    "no patience": ({"patience": 0}, "patience is 0"),
    "text": ({"learning_rate": "fast"}, "learning_rate is 'fast': give a number"),
    "no rate": ({"learning_rate": 0.0}, "learning_rate is 0.0: give a number above 0"),
    "no validation": ({"validation": 0.0}, "validation is 0.0: give a share"),
    "a negative seed": ({"random_state": -1}, "random_state is -1: give a whole number from 0"),
    "an unknown trunk": ({"trunk": "lstm"}, "trunk is 'lstm': choose one of resnet, dense"),
    "no objective": ({"objective": ["ours"]}, "is unknown: choose one of ours, published, generative, or give"),
    "one modality as text": ({"modalities": "wave"}, "modalities is 'wave': give some of wave, isi, acg"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_impossible_parameter_is_one_sentence(mistake, units, unannotated):
    parameters, hint = MISTAKES[mistake]
    with pytest.raises(ValueError, match=hint) as caught:
        Hippie(**{**SMALL, **parameters}).fit(units)
    assert "\n" not in str(caught.value)


def test_another_number_of_columns_is_refused(X):
    with pytest.raises(ValueError, match=r"has 60 columns, not 250 \(wave 50, isi 100, acg 100\): give these"):
        Hippie(4, **SMALL).fit(X[:, :60])
    with pytest.raises(ValueError, match="there is no table of units"):
        Hippie(4, **SMALL).fit([])


def test_a_generator_draws_the_first_seed_and_a_saved_model_has_it(fitted, X, tmp_path):
    first, again = (
        clone(fitted).set_params(random_state=np.random.RandomState(3)).fit(X[TRAINED], technology=TECHNOLOGY)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.transform(X), again.transform(X))
    assert jaxephys.load(first.save(tmp_path / "model")).random_state == first.first_seed_ > 0
    anywhere = [clone(fitted).set_params(random_state=None).fit(X[TRAINED], technology=TECHNOLOGY) for _ in range(2)]
    assert anywhere[0].first_seed_ != anywhere[1].first_seed_
    assert jaxephys.load(anywhere[0].save(tmp_path / "other")).random_state is None


# Searches and pickles.


def test_a_search_over_a_pipeline_of_a_table(units):
    """UnitTable is divided into folds by scikit-learn, and parameters of NumPy's types are taken."""
    pipeline = make_pipeline(Hippie(4, **SMALL), LogisticRegression())
    grid = {"hippie__contrast": np.array([1.0, 10.0]), "hippie__learning_rate": np.array([1e-3])}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(units, units.label)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_[0]
    assert best.n_parameters_ > 0 and search.predict(units).shape == (40,)


@pytest.mark.parametrize("method", ["pickle", "joblib"])
def test_a_copy_by_pickle_embeds_the_same(method, fitted, X, tmp_path):
    if method == "pickle":
        copy = pickle.loads(pickle.dumps(fitted))
    else:
        copy = joblib.load(joblib.dump(fitted, tmp_path / "model.joblib")[0])
    np.testing.assert_array_equal(copy.transform(X), fitted.transform(X))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("transform", ()), ("embed", ()), ("reconstruct", ()), ("impute", ("acg",)), ("traverse", (0,)),
        ("counterfactual", ("tetrode",)), ("score", ()), ("score_table", ()), ("seen", ()), ("calibrate", ()),
    ],
)  # fmt: skip
def test_an_unfitted_model_reports_that_it_is(method, arguments, units):
    with pytest.raises(NotFittedError):
        getattr(Hippie(objective=OURS), method)(units, *arguments)
    with pytest.raises(NotFittedError):
        Hippie().get_feature_names_out()
