"""The table of runs."""

import numpy as np
import pytest

from jaxephys.engine.grid import RunGrid

AXIS = RunGrid.cross(variant=("plain", "attention"), seed=range(3))


def test_cross_varies_the_last_factor_fastest():
    assert len(AXIS) == 6
    assert AXIS[4] == {"variant": "attention", "seed": 1}
    assert AXIS.column("variant") == ["plain"] * 3 + ["attention"] * 3
    np.testing.assert_array_equal(AXIS.seeds, [0, 1, 2, 0, 1, 2])
    assert AXIS.seeds.dtype == np.int32
    assert list(AXIS) == [AXIS[place] for place in range(6)]


def test_where_finds_the_places_of_levels():
    np.testing.assert_array_equal(AXIS.where(variant="attention"), [3, 4, 5])
    np.testing.assert_array_equal(AXIS.where(seed=1), [1, 4])
    np.testing.assert_array_equal(AXIS.where(variant="plain", seed=2), [2])
    assert len(AXIS.where(seed=9)) == 0


def test_where_refuses_an_unknown_factor():
    with pytest.raises(ValueError, match="the run axis has no factor 'fold': it has variant, seed"):
        AXIS.where(fold=1)


def test_a_run_is_called_by_its_levels():
    assert AXIS.name(4) == "variant=attention seed=1"


def test_axis_without_runs_is_refused():
    with pytest.raises(ValueError, match="the run axis is empty: every factor needs at least one level"):
        RunGrid.cross(variant=("plain",), seed=())


def test_axis_without_seed_is_refused():
    with pytest.raises(ValueError, match="has the factors variant, fold but no seed"):
        RunGrid.cross(variant=("plain",), fold=range(2))


def test_a_run_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"holds the run \('plain', 1\) twice"):
        RunGrid.cross(variant=("plain",), seed=(0, 1, 1))
