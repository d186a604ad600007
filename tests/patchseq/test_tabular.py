"""Tabular models: scales fitted to training cells only, missing values and their flags, and learning of a known answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import fit
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.evaluation.splits import Split
from jaxephys.patchseq.classical_models import CLASSICAL_MODELS, RegularizedDiscriminant, make_classical_model
from jaxephys.patchseq.network.classifier import TabularNetwork
from jaxephys.patchseq.preprocessing import (
    CLIP,
    QUANTILE_LEVELS,
    SignedLogScaler,
    apply_scale,
    fit_log_z_score,
    fit_quantiles,
    fit_signed_log,
    fit_z_score,
    missing_flags,
)
from jaxephys.patchseq.task import CellData, make_tabular_inputs, make_tabular_task
from jaxephys.schemas.feature_table import FeatureTable

CELLS = 90
ROWS = np.random.default_rng(3).permutation(CELLS)
SPLIT = Split(np.sort(ROWS[:54]), np.sort(ROWS[54:72]), np.sort(ROWS[72:]))
LABELS = np.array(["Pvalb", "Sst", "Vip"])[np.arange(CELLS) % 3]


def make_values() -> np.ndarray:
    """Heavy tails, a constant column, a column that is missing in one class, and one never measured."""
    rng = np.random.default_rng(0)
    values = rng.standard_t(1.5, size=(CELLS, 6)).astype(np.float32)
    values[:, 0] = 10 ** (rng.normal(size=CELLS) + 1.5 * (LABELS == "Sst"))
    values[:, 1] += 4 * (LABELS == "Vip")
    values[:, 2] = 7.0
    values[LABELS == "Pvalb", 3] = np.nan
    values[:, 4] = np.nan
    return values


def make_table(values=None) -> FeatureTable:
    return FeatureTable.from_arrays(make_values() if values is None else values, {"a": 3, "b": 3}, LABELS)


def test_log_z_scores_take_the_logarithm_of_skewed_positive_columns_only():
    """Columns: skewed and positive; the same with a zero, or shifted below it; positive and even; missing; constant."""
    skewed = np.exp(np.linspace(0, 6, 40))
    columns = (skewed, skewed - 1, skewed - 2, np.linspace(1, 2, 40), np.full(40, np.nan), np.full(40, 3.0))
    values = np.stack(columns, axis=1).astype(np.float32)
    scale = fit_log_z_score(values)
    np.testing.assert_array_equal(scale.floor, [1, 0, 0, 0, 0, 0])
    logs = values.copy()
    logs[:, 0] = np.log(values[:, 0])
    np.testing.assert_allclose(apply_scale(values, scale), apply_scale(logs, fit_z_score(logs)), atol=1e-5)
    np.testing.assert_allclose(apply_scale(values, scale)[:, 0].std(), 1.0, rtol=1e-5)
    for array in (np.asarray, jnp.asarray):
        new = np.array([[np.nan, 0.0, 0.0, 1.0, 1.0, 3.0], [-5.0] + 5 * [np.nan], [0.5] + 5 * [np.nan]], np.float32)
        scaled = np.asarray(apply_scale(array(new), scale))
        assert np.isfinite(scaled).all()
        smallest = apply_scale(values, scale)[0, 0]
        assert scaled[1, 0] == pytest.approx(smallest, abs=1e-5), "no logarithm: as the smallest training value"
        assert scaled[2, 0] < smallest - 0.1, "below the training values, but with a logarithm of its own"


def test_the_signed_log_is_its_formula():
    values = np.array([[0.0], [1.0], [2.0], [4.0], [-96.0]])
    scale = fit_signed_log(values)
    assert (scale.median[0], scale.unit[0]) == (1.0, 1.0)
    z = np.sign(values - 1) * np.log1p(np.abs(values - 1))
    want = np.clip((z - z.mean()) / z.std(), -CLIP, CLIP)
    np.testing.assert_allclose(apply_scale(values.astype(np.float32), scale), want, atol=1e-6)


def test_training_cells_have_unit_spread_and_nothing_lies_beyond_the_cut():
    values = make_values()
    scale = fit_signed_log(values[SPLIT.train])
    z = np.asarray(apply_scale(values, scale))
    assert np.isfinite(z).all() and np.abs(z).max() <= CLIP
    np.testing.assert_allclose(z[SPLIT.train][:, [0, 1, 5]].std(axis=0), 1, atol=0.05)
    assert np.abs(z[:, [2, 4]]).max() < 1e-6, "no variation, or no value: no information"


def test_a_missing_value_stands_at_the_median_and_has_a_flag():
    values = make_values()
    scale = fit_signed_log(values[SPLIT.train])
    at_median = values.copy()
    at_median[np.isnan(values)] = np.broadcast_to(scale.median, values.shape)[np.isnan(values)]
    np.testing.assert_allclose(apply_scale(values, scale), apply_scale(at_median, scale), atol=1e-6)
    shown = np.asarray(missing_flags(values, scale))
    np.testing.assert_array_equal(shown[:, 3], np.isnan(values[:, 3]))
    assert shown[:, 4].all() and not shown[:, [0, 1, 2, 5]].any()


def test_a_rare_gap_has_no_flag():
    values = np.random.default_rng(0).normal(size=(200, 2))
    values[0, 0] = np.nan
    assert not fit_signed_log(values).flagged.any()


def test_quantiles_are_those_of_the_normal_distribution():
    values = np.random.default_rng(0).gamma(0.3, size=(5000, 1)).astype(np.float32)
    z = np.asarray(apply_scale(values, fit_quantiles(values)))[:, 0]
    below = (values[:, 0].argsort().argsort() + 0.5) / len(values)
    inner = (below > 0.02) & (below < 0.98)
    np.testing.assert_allclose(z[inner], norm.ppf(below[inner]), atol=0.05)
    assert z.max() == -z.min() == pytest.approx(norm.ppf(QUANTILE_LEVELS[-1])), "beyond the last knot nothing grows"


def test_quantiles_keep_the_order_and_put_what_is_shared_in_its_middle():
    values = np.array([[0.0]] * 40 + [[1.0]] * 30 + [[5.0]] * 30, np.float32)
    z = np.asarray(apply_scale(np.array([[0.0], [0.5], [1.0], [5.0], [99.0]], np.float32), fit_quantiles(values)))[:, 0]
    assert z[2] == pytest.approx(norm.ppf([0.405, 0.695]).mean(), abs=1e-5), "between its first knot and its last"
    assert (np.diff(z) >= 0).all() and z[0] < z[1] < z[2] < z[3]
    assert z[4] == pytest.approx(norm.ppf(QUANTILE_LEVELS[-1]))


def test_quantiles_of_what_is_missing_or_constant_are_nought():
    values = make_values()
    scale = fit_quantiles(values[SPLIT.train])
    z = np.asarray(apply_scale(values, scale))
    assert np.isfinite(z).all()
    np.testing.assert_array_equal(z[np.isnan(values)], 0)
    np.testing.assert_array_equal(z[:, [2, 4]], 0)
    np.testing.assert_array_equal(scale.flagged, fit_signed_log(values[SPLIT.train]).flagged)


def test_scikit_learn_transformer_gives_the_same():
    values = make_values()
    scaler = SignedLogScaler().fit(values[SPLIT.train])
    out = scaler.transform(values)
    assert out.shape == (CELLS, 6 + 2), "two columns have a flag"
    np.testing.assert_allclose(out[:, :6], apply_scale(values, scaler.scale_), atol=1e-6)


@pytest.mark.parametrize("fit_scale", [fit_signed_log, fit_quantiles])
def test_nothing_fitted_changes_with_test_or_validation_rows(fit_scale):
    moved = make_values()
    moved[SPLIT.test] = -1e6
    moved[SPLIT.validation] = 1e6
    ours, again = (make_tabular_inputs(make_table(values), [SPLIT], fit_scale) for values in (make_values(), moved))
    for left, right in zip(jax.tree.leaves(ours), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(left, right)
    moved[SPLIT.train[0]] += 100
    other = make_tabular_inputs(make_table(moved), [SPLIT], fit_scale)
    assert not np.array_equal(other.constants[0], ours.constants[0]), "the training rows do count"


@pytest.fixture(scope="module")
def trained():
    table = make_table()
    grid = RunGrid.cross(seed=range(2))
    inputs = make_tabular_inputs(table, [SPLIT] * 2)
    task = make_tabular_task(TabularNetwork(3, hidden=16), 6)
    config = TrainConfig(max_epochs=40, patience=None, batch_size=16, learning_rate=0.01)
    return table, task, inputs, fit(task, CellData(table.values, table.codes()), inputs, grid, config)


def test_separable_classes_are_learned(trained):
    table, task, inputs, result = trained
    probability = predict(
        task,
        CellData(table.values, table.codes()),
        result.best,
        stack_rows([plain_rows(SPLIT.test)] * 2),
        inputs.constants,
    )
    np.testing.assert_allclose(probability.sum(axis=-1), 1, atol=1e-5)
    assert (probability.mean(axis=0).argmax(axis=1) == table.codes()[SPLIT.test]).mean() > 0.85
    assert np.abs(probability[0] - probability[1]).max() > 1e-3, "two seeds are two networks"


def test_padding_rows_change_no_loss(trained):
    table, task, inputs, result = trained
    data = jax.tree.map(jnp.asarray, CellData(table.values, table.codes()))
    variables, scale = (
        jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), tree) for tree in (result.best, inputs.constants)
    )
    plain = plain_rows(SPLIT.train)
    padded = stack_rows([plain, plain_rows(np.resize(SPLIT.train, len(SPLIT.train) + 7))])
    short = jax.tree.map(lambda column: jnp.asarray(column[0]), padded)
    poisoned = data._replace(packed=data.packed.at[0].set(jnp.inf)) if 0 not in SPLIT.train else data
    losses = []
    for some, rows in ((data, short), (poisoned, short)):
        batch = task.gather(some, scale, rows, None)
        logits = task.outputs(variables, batch)
        losses.append(float(-(jnp.log(logits[jnp.arange(len(logits)), batch.label]) * batch.weight).sum()))
    assert losses[0] == losses[1] and np.isfinite(losses[0])


@pytest.mark.parametrize("name", CLASSICAL_MODELS)
def test_classical_models_learn_with_missing_values(name):
    values, codes = make_values(), make_table().codes()
    model = make_classical_model(name, 0).fit(values[SPLIT.train], codes[SPLIT.train])
    assert (model.predict(values[SPLIT.test]) == codes[SPLIT.test]).mean() > 0.7


def test_the_regularised_discriminant_is_linear_and_quadratic_at_its_ends():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 40)
    x = rng.normal(size=(120, 3)) * (1 + y[:, None]) + y[:, None]
    linear = LinearDiscriminantAnalysis(solver="lsqr").fit(x, y)
    ours = RegularizedDiscriminant(class_covariance=0.0, shrinkage=0.0).fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), linear.predict_proba(x), atol=1e-6)
    quadratic = RegularizedDiscriminant(class_covariance=1.0, shrinkage=0.0).fit(x, y)
    density = [multivariate_normal(x[y == k].mean(0), np.cov(x[y == k].T, bias=True)).pdf(x) for k in range(3)]
    np.testing.assert_allclose(
        quadratic.predict_proba(x), np.array(density).T / np.sum(density, axis=0)[:, None], atol=1e-6
    )


def test_the_regularised_discriminant_of_a_wide_table_is_that_of_the_whole_covariances():
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], 10)
    x, new = (rng.normal(size=(30, 50)) * (1 + y[:, None]) + y[:, None] for _ in range(2))
    decision = RegularizedDiscriminant().fit(x, y).decision_function(new)
    scatters = [np.cov(x[y == k].T, bias=True) for k in range(3)]
    wanted = []
    for k, scatter in enumerate(scatters):
        mixed = 0.7 * sum(scatters) / 3 + 0.3 * scatter
        whole = 0.8 * mixed + 0.2 * np.trace(mixed) / 50 * np.eye(50)
        wanted.append(multivariate_normal(x[y == k].mean(0), whole).logpdf(new))
    np.testing.assert_allclose(decision.T - decision[:, 0], np.array(wanted) - wanted[0], atol=1e-8)


def test_unknown_classical_model_is_named():
    with pytest.raises(ValueError, match="unknown classifier 'tree': choose one of signed-log lda"):
        make_classical_model("tree", 0)
