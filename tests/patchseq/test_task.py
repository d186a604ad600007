"""The task: everything that is fitted depends on training rows only, and unused parts receive no gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import fit
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict, score
from jaxephys.engine.rows import pad_rows, plain_rows, stack_rows
from jaxephys.evaluation import metrics
from jaxephys.evaluation.splits import Split
from jaxephys.patchseq.losses import effective_number_weights, inverse_frequency_weights
from jaxephys.patchseq.network.classifier import SubclassNetwork
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.preprocessing import column_medians, fit_log_z_score, fit_signed_log, fit_z_score
from jaxephys.patchseq.task import ABLATION, Variant, make_data, make_run_inputs, make_task
from jaxephys.schemas.feature_table import FeatureTable

FAMILIES = {"isi": 4, "psth": 3, "width": 4}
CELLS = 60
ROWS = np.random.default_rng(7).permutation(CELLS).astype(np.int32)
# The test part holds row 0, at which padding rows point.
SPLIT = Split(np.setdiff1d(ROWS[:39], [0]), np.setdiff1d(ROWS[39:50], [0]), np.union1d(ROWS[50:], [0]))


def make_values():
    values = np.random.default_rng(0).normal(2.0, 3.0, size=(CELLS, sum(FAMILIES.values()))).astype(np.float32)
    values[:, 2] = 5.0  # a constant column
    return values


LABELS = np.array(["Pvalb", "Sst", "Sst", "Sst", "Vip", "Vip"])[np.arange(CELLS) % 6]


class Setting(NamedTuple):
    table: FeatureTable
    layout: RaggedLayout
    inputs: object


def make_setting(values=None, variants=None, label=LABELS, fit_scale=fit_z_score):
    variants = list(ABLATION.values()) if variants is None else variants
    table = FeatureTable.from_arrays(make_values() if values is None else values, FAMILIES, label)
    layout = RaggedLayout.from_widths(table.widths)
    count = len(variants)
    return Setting(table, layout, make_run_inputs(table, [SPLIT] * count, variants, [0] * count, fit_scale=fit_scale))


def run_of(stacked, index):
    """One run of a stacked tree."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[index]), stacked)


@pytest.fixture(scope="module")
def setting():
    return make_setting()


@pytest.fixture(scope="module")
def task(setting):
    return make_task(SubclassNetwork(setting.layout, 3, hidden=4))


@pytest.fixture(scope="module")
def variables(task):
    return task.init(jax.random.key(0))


# What make_runs fits.


def test_the_scale_is_that_of_the_training_rows(setting):
    seen = setting.table.values[SPLIT.train]
    scale = run_of(setting.inputs.constants.scale, 0)
    np.testing.assert_allclose(scale.median + scale.mean, setting.layout.pack(seen.mean(axis=0)), rtol=1e-5)
    sd = seen.std(axis=0)
    assert sd[2] == 0
    sd[2] = 1.0
    np.testing.assert_allclose(scale.sd, setting.layout.pack(sd, fill=1.0), rtol=1e-5)


def test_normalised_training_rows_have_mean_zero_and_sd_one(setting, task):
    constants = run_of(setting.inputs.constants, 0)
    data = jax.tree.map(jnp.asarray, make_data(setting.table))
    x = np.asarray(task.gather(data, constants, plain_rows(SPLIT.train), None).x)
    real = setting.layout.source_column >= 0
    np.testing.assert_allclose(x[:, real].mean(axis=0), 0, atol=1e-5)
    spread = np.delete(x[:, real].std(axis=0), np.flatnonzero(setting.layout.source_column[real] == 2))
    np.testing.assert_allclose(spread, 1, atol=1e-4)
    assert not x[:, ~real].any(), "padding of the layout stays zero"


@pytest.mark.parametrize("fit_scale", [fit_z_score, fit_log_z_score, fit_signed_log])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_nothing_fitted_changes_with_rows_outside_training(part, fit_scale):
    moved = make_values()
    moved[getattr(SPLIT, part)] += 100.0
    fitted = (make_setting(values, fit_scale=fit_scale).inputs for values in (None, moved))
    for ours, again in zip(*map(jax.tree.leaves, fitted), strict=True):
        np.testing.assert_array_equal(ours, again)


def test_nothing_fitted_changes_with_the_labels_of_test_rows(setting):
    label = LABELS.copy()
    label[SPLIT.test] = np.roll(label[SPLIT.test], 1)
    assert not np.array_equal(label, LABELS)
    for ours, again in zip(
        jax.tree.leaves(setting.inputs), jax.tree.leaves(make_setting(label=label).inputs), strict=True
    ):
        np.testing.assert_array_equal(ours, again)


def test_training_rows_do_change_it(setting):
    moved = make_values()
    moved[SPLIT.train[0]] += 100.0
    assert not np.array_equal(make_setting(moved).inputs.constants.scale.median, setting.inputs.constants.scale.median)


def test_class_weights_are_counted_on_training_rows():
    weights = [Variant(weights=name) for name in ("none", "inverse", "effective")]
    counts = np.unique(LABELS[SPLIT.train], return_counts=True)[1]
    assert counts[0] != counts[1]
    ours = make_setting(variants=weights).inputs.constants.class_weight
    for row, want in zip(
        ours, (np.ones(3), inverse_frequency_weights(counts), effective_number_weights(counts)), strict=True
    ):
        np.testing.assert_allclose(row, want, rtol=1e-6)


def test_after_smote_the_classes_weigh_the_same():
    inputs = make_setting(variants=[Variant(smote=True, weights="inverse")]).inputs
    np.testing.assert_allclose(inputs.constants.class_weight, 1, rtol=1e-6)
    assert (inputs.train.weight == 1).all() and inputs.train.index.shape[1] > len(SPLIT.train)


def test_runs_of_unequal_length_are_padded_with_weight_zero(setting):
    weight = setting.inputs.train.weight
    assert weight[0].sum() == len(SPLIT.train) < weight.shape[1], "the variants with SMOTE are longer"
    assert set(setting.inputs.train.index[0][: len(SPLIT.train)]) == set(SPLIT.train)


def test_a_constant_column_keeps_sd_one():
    scale = fit_z_score(np.array([[1.0, 2.0], [1.0, 4.0]], np.float32))
    np.testing.assert_array_equal(scale.median + scale.mean, [1, 3])
    np.testing.assert_array_equal(scale.sd, [1, 1])


def unflagged(inputs):
    return inputs._replace(constants=inputs.constants._replace(scale=inputs.constants.scale._replace(flagged=0)))


def test_a_missing_value_is_the_median_of_the_training_cells(task):
    """The same runs, batches included, whether NaN are filled here or were filled by hand; SMOTE's mixtures too."""
    holes = make_values()
    holes[SPLIT.train[::3], 0] = np.nan
    holes[SPLIT.test, 1] = np.nan
    filled = holes.copy()
    for column in (0, 1):
        median = np.nanmedian(holes[SPLIT.train, column])
        filled[np.isnan(holes[:, column]), column] = median
    ours, by_hand = (make_setting(values, variants=[Variant(smote=True)]) for values in (holes, filled))
    assert ours.inputs.constants.scale.flagged.any() and not by_hand.inputs.constants.scale.flagged.any()
    for left, right in zip(*(jax.tree.leaves(unflagged(some.inputs)) for some in (ours, by_hand)), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)
    batches = []
    for setting in (ours, by_hand):
        data = jax.tree.map(jnp.asarray, make_data(setting.table))
        batches.append(task.gather(data, run_of(setting.inputs.constants, 0), run_of(setting.inputs.train, 0), None).x)
    np.testing.assert_allclose(*batches, atol=1e-5)


def test_column_without_a_training_value_has_median_0():
    np.testing.assert_array_equal(column_medians(np.array([[np.nan, 1.0], [np.nan, np.nan]], np.float32)), [0, 1])


def test_an_unknown_class_weight_is_named():
    with pytest.raises(ValueError, match="class weights 'fair' are unknown: choose one of none, inverse, effective"):
        Variant(weights="fair")


# The loss.


def test_each_variant_trains_what_it_uses_and_nothing_else(setting, task, variables):
    data = jax.tree.map(jnp.asarray, make_data(setting.table))
    variants = [Variant(attention=a, arcface=b) for a in (True, False) for b in (True, False)]
    constants = make_setting(variants=variants).inputs.constants

    @jax.jit
    def gradients(constants):
        batch = task.gather(data, constants, jax.tree.map(jnp.asarray, plain_rows(SPLIT.train)), None)
        return jax.grad(lambda v: task.loss(v, batch, jax.random.key(1))[0])(variables)["params"]

    for index, variant in enumerate(variants):
        by_module = gradients(run_of(constants, index))
        largest = {
            name: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree)) for name, tree in by_module.items()
        }
        assert (largest["attention"] == 0) != variant.attention
        assert (largest["arcface"] == 0) != variant.arcface
        assert (largest["softmax"] == 0) == variant.arcface
        assert largest["encoder"] > 0
        assert np.isfinite(list(largest.values())).all()


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_padding_rows_change_neither_loss_nor_gradient(setting, task, variables, garbage):
    """Whatever the row that they point at contains: it may be a test row."""
    constants = run_of(setting.inputs.constants, 3)  # arcface
    rows = plain_rows(SPLIT.train)
    padded = pad_rows(rows, len(rows.index) + 9)
    data = make_data(setting.table)
    packed = data.packed.copy()
    packed[SPLIT.test] = garbage

    @jax.jit
    def gradients(packed, rows):
        batch = task.gather(data._replace(packed=packed, label=jnp.asarray(data.label)), constants, rows, None)
        return jax.value_and_grad(lambda v: task.loss(v, batch, jax.random.key(1))[0])(variables)

    clean, changed = (gradients(jnp.asarray(x), jax.tree.map(jnp.asarray, padded)) for x in (data.packed, packed))
    for ours, again in zip(jax.tree.leaves(clean), jax.tree.leaves(changed), strict=True):
        np.testing.assert_array_equal(ours, again)


# In the engine.


def test_validate_is_the_metrics_of_the_outputs(setting, task, variables):
    data = make_data(setting.table)
    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * 4), variables)
    rows = stack_rows([plain_rows(SPLIT.validation)] * 3 + [plain_rows(SPLIT.validation[:5])])
    predicted = predict(task, data, stacked, rows, setting.inputs.constants).probability
    ours = score(task, data, stacked, rows, setting.inputs.constants)
    for run, count in enumerate([len(SPLIT.validation)] * 3 + [5]):
        label = jnp.asarray(data.label[rows.index[run, :count]])
        want = metrics.classification_scores(label, jnp.asarray(predicted[run, :count]), jnp.ones(count))
        assert {*want, "selection"} == set(ours) and "macro_f1" in ours
        for name, value in want.items():
            assert float(ours[name][run]) == pytest.approx(float(value), abs=1e-5, nan_ok=True), name


def test_an_infinity_in_test_rows_changes_no_number_of_training(setting, task):
    grid = RunGrid.cross(variant=tuple(ABLATION), seed=[0])
    config = TrainConfig(max_epochs=2, batch_size=16, chunk_epochs=2)
    data = make_data(setting.table)
    packed = data.packed.copy()
    packed[SPLIT.test] = np.inf  # a NaN would be filled with a median
    clean, changed = (fit(task, some, setting.inputs, grid, config) for some in (data, data._replace(packed=packed)))
    assert changed.diverged() == []
    for ours, again in zip(
        jax.tree.leaves((clean.best, clean.history)), jax.tree.leaves((changed.best, changed.history)), strict=True
    ):
        np.testing.assert_array_equal(ours, again)
