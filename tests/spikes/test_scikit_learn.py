"""The contract of scikit-learn: its own checks, names of columns, parameters, searches over spans of time and pickles.

scikit-learn's checks give real numbers, which are no spikes. `SpikesAboveMean` takes a value above the mean as a spike; all else is that
of `SpikeTransformer`. The network is of the kind "units", which has parameters for each unit, since "population" takes any units.
"""

import inspect
import pickle
from unittest.mock import MagicMock

import jax
import numpy as np
import pandas as pd
import pytest
from _pytest.mark.structures import ParameterSet
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.utils.estimator_checks import estimator_checks_generator

from jaxephys import NetworkOptions, Objective, SpikeTransformer, load
from jaxephys.engine.fit import FitResult
from jaxephys.spikes import estimator
from tests.spikes.synthetic import synthetic_recording

TINY = {
    "length": 2,
    "entries_per_window": 4,
    "max_epochs": 1,
    "batch_size": 4,
    "calibration_bins": 8,
    "progress": False,
}
UNITS = NetworkOptions("units", width=4, depth=0, hidden=2)
EXPECTED_FAILURES = {
    "check_methods_sample_order_invariance": "samples are time bins, whose order is what is predicted from",
    "check_methods_subset_invariance": "samples are time bins: a prediction is of the test split and needs the bins before it",
}


class SpikesAboveMean(SpikeTransformer):
    """The estimator on real numbers, of which those above the mean are spikes."""

    def _check_spikes(self, X, fitting):
        values = super()._check_spikes(X, fitting)
        return values > values.mean()


@pytest.fixture
def unannotated(monkeypatch):
    """Parameters of any type, which users can give: the check of annotations is that of the tests."""
    monkeypatch.setattr(SpikeTransformer, "__init__", inspect.unwrap(SpikeTransformer.__init__))


# Checks that train nothing. The others train on eleven shapes, for each of which several programs are compiled: they are slow.
QUICK = {
    "check_complex_data",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimator_sparse_tag",
    "check_estimator_tags_renamed",
    "check_estimators_empty_data_messages",
    "check_estimators_unfitted",
    "check_fit1d",
    "check_fit2d_1sample",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
}


def checks():
    """Yield scikit-learn's checks as parameters, those that train marked slow."""
    options = {"expected_failed_checks": EXPECTED_FAILURES, "mark": "xfail", "xfail_strict": True}
    for item in estimator_checks_generator(SpikesAboveMean(UNITS, **TINY), **options):
        values, marks = (item.values, item.marks) if isinstance(item, ParameterSet) else (item, ())
        name = getattr(values[1], "func", values[1]).__name__
        slow = () if name in QUICK else (pytest.mark.slow,)
        yield pytest.param(
            *values, marks=[*marks, *slow], id=f"{name}-{'-'.join(map(str, values[1].keywords.values()))}"
        )


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learns_contract_holds(estimator, check, unannotated):
    check(estimator)


@pytest.fixture(scope="module")
def spikes():
    recording = synthetic_recording(0, bins=400, units=4)
    return recording.bits(0, 400)


@pytest.fixture(scope="module")
def fitted(spikes):
    """Trained on a DataFrame, whose columns name the units."""
    return SpikeTransformer(UNITS, **{**TINY, "length": 20}).fit(as_frame(spikes))


def as_frame(spikes):
    return pd.DataFrame(spikes, columns=["u7", "u8", "u9", "u12"])


def test_names_of_units_are_compared(fitted, spikes, tmp_path):
    frame = as_frame(spikes)
    for model in (fitted, load(fitted.save(tmp_path / "model"))):
        assert model.n_features_in_ == 4 and model.feature_names_in_.tolist() == list(frame.columns)
        with pytest.raises(ValueError, match="in the same order as they were in fit"):
            model.predict_proba(frame[frame.columns[::-1]])
        with pytest.raises(ValueError, match="has 3 features, but SpikeTransformer is expecting 4"):
            model.predict_proba(spikes[:, :3])
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            np.testing.assert_array_equal(model.predict_proba(spikes), model.predict_proba(frame))


def test_numbers_that_are_no_spikes_are_refused_in_one_sentence(spikes):
    model = SpikeTransformer(UNITS, **TINY)
    wrong = {
        "real numbers": (spikes + 0.5, "bin 0 of unit 0 holds 0.5"),
        "missing": (np.where(spikes == 1, np.nan, 0.0), "contains NaN"),
        "transposed": (spikes.T, "give bins x units, here perhaps spikes.T"),
        "silent": (np.zeros_like(spikes), "has no spike"),
        "one bin": (spikes[:1], "1 sample"),
    }
    for name, (values, hint) in wrong.items():
        with pytest.raises(ValueError, match=hint) as caught:
            model.fit(values)
        assert name == "missing" or "\n" not in str(caught.value)  # scikit-learn explains missing values at length


def test_a_list_of_lists_is_one_recording_and_a_list_of_arrays_several(spikes, monkeypatch):
    for X, count in ((spikes.tolist(), 1), ([spikes, spikes[:300]], 2), (spikes, 1)):
        assert describe(monkeypatch, SpikeTransformer(UNITS, **TINY), X)["recordings"] == count


# By name of a parameter, another value.
OTHER = {
    "network": NetworkOptions("units", width=8),
    "objective": Objective("focal", gamma=1.0),
    "adaptive": False,
    "length": 3,
    "entries_per_window": 8,
    "seeds": 2,
    "max_epochs": 2,
    "patience": 3,
    "batch_size": 2,
    "optimizer": "published",
    "learning_rate": 0.1,
    "weight_decay": 0.5,
    "select_by": "accuracy",
    "calibration_bins": 5,
    "random_state": 5,
    "progress": True,
}


def describe(monkeypatch, model, X):
    """Return what ``fit`` gives to the engine and to the calibration, without training."""
    engine_fit, forecaster = MagicMock(return_value=MagicMock(spec=FitResult)), MagicMock()

    def store_runs(self, result, indices=None):
        self.variables_ = {"params": {"a": np.zeros((1, 1))}}
        return np.arange(1)

    with monkeypatch.context() as patch:
        patch.setattr(estimator, "fit", engine_fit)
        patch.setattr(estimator, "Forecaster", forecaster)
        patch.setattr(SpikeTransformer, "_store_runs", store_runs)
        patch.setattr(estimator, "choose_threshold", lambda counts: 0.0)
        model.fit(X)
    (task, _, inputs, grid, config), options = engine_fit.call_args
    rows, constants = (
        [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(part)] for part in (inputs[:2], inputs[2])
    )
    calls = [(name, str(named)) for name, _, named in forecaster.mock_calls]
    described = str((task.init.__self__, rows, constants, grid.column("seed"), config, options))
    return {"engine": described, "calibration": str(calls), "recordings": len(set(grid.column("source")))}


def test_every_parameter_has_another_value():
    assert set(OTHER) == set(inspect.signature(SpikeTransformer).parameters)


@pytest.mark.parametrize("name", OTHER)
def test_every_parameter_reaches_the_training_or_the_calibration(name, spikes, monkeypatch):
    base = SpikeTransformer(UNITS, **TINY)
    changed = clone(base).set_params(**{name: OTHER[name]})
    assert describe(monkeypatch, base, spikes) != describe(monkeypatch, changed, spikes)


MISTAKES = {
    "no networks": ({"seeds": 0}, "seeds is 0: give a whole number of 1 or more"),
    "half a bin": ({"length": 2.5}, "length is 2.5: give a whole number"),
    "no entries": ({"entries_per_window": 0}, "entries_per_window is 0"),
    "no patience": ({"patience": 0}, "patience is 0"),
    "no rate": ({"learning_rate": 0.0}, "learning_rate is 0.0: give a number above 0"),
    "a negative seed": ({"random_state": -1}, "random_state is -1: give a whole number from 0"),
    "no network": ({"network": 3}, r"network is 3: give one of population, .* or NetworkOptions\(\.\.\.\)"),
    "an unknown loss": ({"objective": "huber"}, "loss 'huber' is unknown"),
    "experts of the published layer": (
        {"network": "published", "adaptive": True, "entries_per_window": None},
        "adaptive is True, but the network 'published' is not mixed with experts: leave it out",
    ),
    "entries of the published layer": (
        {"network": "legacy", "entries_per_window": 4},
        "entries_per_window is 4, but the loss of the network 'legacy' is computed on all entries: leave it out",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_impossible_parameter_is_one_sentence(mistake, spikes, unannotated):
    parameters, hint = MISTAKES[mistake]
    with pytest.raises(ValueError, match=hint) as caught:
        SpikeTransformer(**{"network": UNITS, **TINY, **parameters}).fit(spikes)
    assert "\n" not in str(caught.value)


def test_parameters_of_an_unknown_network_are_shown_without_its_options(unannotated):
    params = SpikeTransformer("deep", objective=3).get_params()
    assert params["network"] == "deep" and not any("__" in name for name in params)
    with pytest.raises(ValueError, match="network 'deep' is unknown"):
        SpikeTransformer("deep").set_params(network__width=4)


@pytest.mark.slow
def test_a_search_over_spans_of_time(fitted, spikes):
    base = clone(fitted).set_params(entries_per_window=8)
    search = GridSearchCV(
        base,
        {"learning_rate": np.array([0.01, 0.1])},
        cv=TimeSeriesSplit(2, test_size=100, max_train_size=200),
        refit=False,
        error_score="raise",
    ).fit(spikes)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_generator_draws_the_first_seed_and_a_saved_model_has_it(spikes, monkeypatch):
    model = SpikeTransformer(UNITS, **TINY, random_state=np.random.RandomState(3))
    describe(monkeypatch, model, spikes)
    assert model._encoded_parameters()["random_state"] == model.first_seed_ > 0
    other = SpikeTransformer(UNITS, **TINY, random_state=None)
    describe(monkeypatch, other, spikes)
    assert other.first_seed_ != model.first_seed_ and other._encoded_parameters()["random_state"] is None


def test_a_pickled_copy_predicts_the_same(fitted, spikes):
    frame = as_frame(spikes)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(frame), fitted.predict_proba(frame))


@pytest.mark.parametrize(
    "method", ["predict_proba", "score", "score_table", "attention", "calibrate", "count_outcomes"]
)
def test_an_unfitted_model_reports_that_it_is(method, spikes):
    with pytest.raises(NotFittedError):
        getattr(SpikeTransformer(), method)(spikes)
