"""The table of runs."""

import numpy as np
import pytest

from jaxephys.engine.grid import RunGrid

GRID = RunGrid.cross(variant=("plain", "attention"), seed=range(3))


def test_cross_varies_the_last_factor_fastest():
    assert len(GRID) == 6
    assert GRID[4] == {"variant": "attention", "seed": 1}
    assert GRID.column("variant") == ["plain"] * 3 + ["attention"] * 3
    np.testing.assert_array_equal(GRID.seeds, [0, 1, 2, 0, 1, 2])
    assert GRID.seeds.dtype == np.int32
    assert list(GRID) == [GRID[index] for index in range(6)]


def test_where_returns_the_indices_of_levels():
    np.testing.assert_array_equal(GRID.where(variant="attention"), [3, 4, 5])
    np.testing.assert_array_equal(GRID.where(seed=1), [1, 4])
    np.testing.assert_array_equal(GRID.where(variant="plain", seed=2), [2])
    assert len(GRID.where(seed=9)) == 0


def test_where_refuses_an_unknown_factor():
    with pytest.raises(ValueError, match="the run grid has no factor 'fold': it has variant, seed"):
        GRID.where(fold=1)


def test_the_name_of_a_run_lists_its_levels():
    assert GRID.name(4) == "variant=attention seed=1"


def test_grid_without_runs_is_refused():
    with pytest.raises(ValueError, match="the run grid is empty: every factor needs at least one level"):
        RunGrid.cross(variant=("plain",), seed=())


def test_grid_without_seed_is_refused():
    with pytest.raises(ValueError, match="has the factors variant, fold but no seed"):
        RunGrid.cross(variant=("plain",), fold=range(2))


def test_a_run_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"holds the run \('plain', 1\) twice"):
        RunGrid.cross(variant=("plain",), seed=(0, 1, 1))
