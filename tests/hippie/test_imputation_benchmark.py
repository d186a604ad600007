"""The imputation benchmark: weights of a blend, and units with too few curves."""

from dataclasses import replace

import numpy as np
import pytest

from jaxephys.hippie.grid import k_fold_splits
from jaxephys.hippie.imputation_benchmark import blend_weights, complete_units


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
