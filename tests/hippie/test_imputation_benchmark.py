"""The imputation benchmark: weights of a blend, and units with too few curves."""

from dataclasses import replace

import numpy as np
import pytest

from jaxephys.evaluation.scores import Score
from jaxephys.hippie.grid import k_fold_splits
from jaxephys.hippie.imputation import hide_curves
from jaxephys.hippie.imputation_benchmark import blend_weights, complete_units, imputation_tables
from jaxephys.hippie.task import UnitArrays


def test_blend_weights_select_the_member_that_is_right_on_validation_rows():
    rng = np.random.default_rng(0)
    given = rng.normal(size=(120, 6))
    curves = given @ rng.normal(size=(6, 9))
    split = k_fold_splits(np.arange(120), 1)[0, 0]
    drawn = rng.normal(size=(1, len(split.validation), 9))
    weights = blend_weights([split], drawn, given, curves)
    assert weights[1] == pytest.approx(1, abs=0.05) and abs(weights[[0, 2]]).max() < 0.05
    weights = blend_weights([split], curves[split.validation][None], rng.normal(size=(120, 6)), curves)
    assert weights[0] == pytest.approx(1, abs=0.01)


def test_units_with_one_curve_have_nothing_to_be_imputed_from(tables):
    units = tables["watson"]
    gone = {name: rows if name == "wave" else rows[:, :0] for name, rows in units.raw.items()}
    assert complete_units(replace(units, raw=gone)) is None
    acg = units.raw["acg"].copy()
    acg[:7] = np.nan
    whole = complete_units(replace(units, raw={**units.raw, "acg": acg}))
    assert whole is not None and len(whole) == 53


def test_hidden_curves_are_absent_or_zeros():
    rng = np.random.default_rng(0)
    curves = {name: rng.normal(size=(4, 5)).astype(np.float32) for name in ("wave", "isi")}
    data = UnitArrays(curves, np.array([[True, True]] * 3 + [[False, True]]), np.zeros(4, int))
    absent = hide_curves(data, np.array([True, False]))
    np.testing.assert_array_equal(absent.present, data.present & [True, False])
    assert absent.curves is data.curves
    given = np.array([[True, False], [False, True], [True, True], [True, True]])
    zeros = hide_curves(data, given, zeros=True)
    np.testing.assert_array_equal(zeros.present, data.present)
    assert (zeros.curves["isi"][0] == 0).all() and (zeros.curves["wave"][1] == 0).all()
    np.testing.assert_array_equal(zeros.curves["wave"][[0, 2, 3]], curves["wave"][[0, 2, 3]])


def test_errors_on_training_units_have_a_table_with_the_published_ones():
    scores = [
        Score("hippie_impute", model, "hausser", "hausser", 0, 0, split, "mse_wave", 0.2, 9)
        for model in ("network", "mean")
        for split in ("test", "train")
    ]
    tables = imputation_tables("hausser", scores, ["wave"])
    assert list(tables) == [
        "hausser",
        "hausser: units that the networks were trained on, as in the published evaluation",
    ]
    published = [cell.text for cell in [*tables.values()][1].columns["Mean squared error, waveform, published"]]
    assert published == ["0.242", "0.194"]
    assert list(imputation_tables("hull", scores[::2], ["wave"])) == ["hull"]
