"""Hyperparameters as factors of a grid: every level is the run that it would be alone, and validation rows choose."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxephys.engine.fit import fit
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.run_log import RunResult
from jaxephys.engine.search import add_levels, choose_levels, parse_levels
from jaxephys.engine.task import Status
from tests.engine.linear_task import DATA, TASK, TRAIN_CONFIG, make_grid

SHORT = replace(TRAIN_CONFIG, max_epochs=4, chunk_epochs=2)
SEARCHABLE = TASK._replace(searchable=("scale",))


def repeated_inputs(count):
    """Return grid and inputs of several seeds with the same rows."""
    _, inputs = make_grid([0])
    return RunGrid.cross(seed=range(count)), jax.tree.map(lambda leaf: np.repeat(leaf, count, axis=0), inputs)


@pytest.mark.parametrize("execution", ["map", "vmap"])
@pytest.mark.parametrize(("name", "values"), [("learning_rate", (1e-3, 3e-2)), ("weight_decay", (0.0, 0.5))])
def test_a_run_with_its_level_equals_a_fit_with_this_option(execution, name, values):
    config = replace(SHORT, execution=execution)
    grid, inputs = make_grid(range(2))
    crossed, crossed_inputs, _ = add_levels(grid, inputs, None, {name: values})
    together = fit(TASK, DATA, crossed_inputs, crossed, config)
    for index, value in enumerate(values):
        alone = fit(TASK, DATA, inputs, grid, replace(config, **{name: value}))
        runs = crossed.where(**{name: value})
        np.testing.assert_array_equal(runs, [index, index + 2])
        for key, table in alone.history.items():
            np.testing.assert_allclose(together.history[key][runs], table, rtol=2e-5, atol=2e-6)
    assert not np.allclose(together.history["train_loss"][0], together.history["train_loss"][1])


def test_the_factor_of_a_grid_replaces_the_option_of_the_config():
    _, inputs = make_grid([0])
    inputs = jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=0), inputs)
    grid = RunGrid.cross(learning_rate=(1e-3, 3e-2), seed=[0])
    loss = fit(TASK, DATA, inputs, grid, SHORT).history["train_loss"]
    assert loss[1, -1] < loss[0, -1]


def test_a_scalar_of_the_constants_is_replaced_in_every_run():
    grid, inputs = make_grid(range(3))
    crossed, crossed_inputs, initial = add_levels(grid, inputs, {"a": np.arange(3)}, {"scale": (2.0, 5.0)})
    np.testing.assert_array_equal(crossed_inputs.constants["scale"], [2, 5] * 3)
    np.testing.assert_array_equal(initial["a"], [0, 0, 1, 1, 2, 2])
    assert crossed.column("scale") == [2.0, 5.0] * 3
    np.testing.assert_array_equal(crossed_inputs.train.index[3], inputs.train.index[1])
    with pytest.raises(ValueError, match="hold 0 scalars"):
        add_levels(grid, inputs, None, {"other": (1.0,)})


def result_with_scores(grid, scores):
    """A FitResult of given validation scores; the variable of each run is its index."""
    n_runs = len(grid)
    numbers = np.zeros(n_runs, np.int32)
    results = RunResult({"params": np.arange(n_runs)}, np.asarray(scores, np.float32), numbers, numbers, numbers)
    grid0, inputs = make_grid(range(1))
    template = fit(TASK, DATA, inputs, grid0, replace(SHORT, max_epochs=1, chunk_epochs=1))
    return replace(
        template, grid=grid, run_results=results, history={"loss": np.arange(n_runs, dtype=np.float32)[:, None]}
    )


@pytest.mark.parametrize(("mode", "best"), [("min", [0, 2]), ("max", [1, 3])])
def test_the_mean_over_seeds_with_the_same_rows_chooses(mode, best):
    grid, inputs = repeated_inputs(2)
    crossed, crossed_inputs, _ = add_levels(grid, inputs, None, {"learning_rate": (1e-3, 1e-2)})
    # seed 0 prefers the second level, but the mean over both seeds the first (smaller is better)
    result = result_with_scores(crossed, [0.5, 0.4, 0.1, 0.9])
    chosen, candidates = choose_levels(result, crossed_inputs, {"learning_rate": (1e-3, 1e-2)}, mode)
    np.testing.assert_array_equal(chosen.best["params"], best)
    np.testing.assert_array_equal(chosen.history["loss"][:, 0], best)
    assert chosen.grid == grid
    assert [candidate.chosen for candidate in candidates] == [mode == "min", mode == "max"]
    assert [candidate.n_seeds for candidate in candidates] == [2, 2]
    assert candidates[0].score == pytest.approx(0.3) and candidates[0].sd == pytest.approx(0.2828, abs=1e-4)


def test_runs_with_other_rows_have_no_part_in_the_choice():
    grid, inputs = make_grid(range(2))  # the seeds differ in their rows
    crossed, crossed_inputs, _ = add_levels(grid, inputs, None, {"learning_rate": (1e-3, 1e-2)})
    result = result_with_scores(crossed, [0.5, 0.4, 0.1, 0.9])
    chosen, candidates = choose_levels(result, crossed_inputs, {"learning_rate": (1e-3, 1e-2)}, "min")
    np.testing.assert_array_equal(chosen.best["params"], [1, 2])
    assert len(candidates) == 4


def test_a_level_that_diverged_is_not_chosen():
    grid, inputs = repeated_inputs(2)
    levels = parse_levels(["learning_rate=1e-2,1e30"], TASK)
    crossed, crossed_inputs, _ = add_levels(grid, inputs, None, levels)
    config = replace(SHORT, clip_norm=None)
    result = fit(TASK, DATA, crossed_inputs, crossed, config)
    chosen, candidates = choose_levels(result, crossed_inputs, levels, config.mode)
    assert Status.DIVERGED in result.run_results.status
    assert Status.DIVERGED not in chosen.run_results.status
    assert [candidate.chosen for candidate in candidates] == [True, False]
    assert np.isnan(candidates[1].score)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate", "cannot be read: write them as"),
        ("learning_rate=fast", "cannot be read: write them as"),
        ("momentum=0.9", "choose among learning_rate, weight_decay, scale"),
        ("scale=1,1", "hold a value twice"),
    ],
)
def test_levels_that_cannot_be_searched_are_one_sentence(text, words):
    with pytest.raises(ValueError, match=words):
        parse_levels([text], SEARCHABLE)


def test_levels_are_read_from_text():
    assert parse_levels(["weight_decay=0,1e-2", "scale=2"], SEARCHABLE) == {
        "weight_decay": (0.0, 0.01),
        "scale": (2.0,),
    }
