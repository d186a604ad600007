"""A plan has the exact sizes of a training, trains nothing, and estimates times that are positive and finite."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from jaxephys.engine import compile_cache, memory
from jaxephys.engine.fit import fit, initial_variables
from jaxephys.engine.plan import PlanComplete, Planner, active_planner
from jaxephys.engine.plan_times import Speed, estimate_times, measure_speed
from jaxephys.engine.predict import predict, score
from jaxephys.engine.task import Backend
from tests.engine.linear_task import BATCH, DATA, FEATURES, HIDDEN, TASK, TRAIN_CONFIG, make_grid, train_length

N_PARAMETERS = FEATURES * HIDDEN + HIDDEN


def plan_fits(*configs, **options):
    """The plan and the result of a fit with each config."""
    grid, inputs = make_grid()
    planner = Planner()
    with planner.active():
        results = [fit(TASK, DATA, inputs, grid, config, **options) for config in configs]
    return planner.plans, results


def test_a_plan_counts_runs_parameters_steps_and_batches():
    (plan, batched), _ = plan_fits(TRAIN_CONFIG, replace(TRAIN_CONFIG, run_batch=2), title="grid")
    n_devices = min(5, len(jax.local_devices()))
    assert (plan.title, plan.n_runs, plan.n_parameters, plan.n_devices) == ("grid", 5, N_PARAMETERS, n_devices)
    assert plan.capacity == -(-5 // n_devices) * n_devices and plan.n_batches == 1
    assert batched.capacity == 2 and batched.n_batches == 3
    np.testing.assert_array_equal(plan.steps, [-(-train_length(run) // BATCH) for run in range(5)])
    assert (plan.shortest_epochs, plan.config.max_epochs) == (4, 40)


def test_bytes_are_those_of_state_inputs_and_data():
    (plan,), _ = plan_fits(TRAIN_CONFIG)
    # Parameters, best parameters, two moments; means twice; and at most 20 numbers.
    values = 4 * N_PARAMETERS + 2 * FEATURES
    rows = 4 * (compile_cache.padded_length(60, BATCH) + compile_cache.padded_length(40))
    assert 0 <= plan.run_bytes - 4 * (values + rows) <= 4 * 20
    assert plan.data_bytes == memory.size_in_bytes(DATA)
    assert 0 < plan.memory_share < 1


def test_a_grid_that_the_memory_does_not_hold_is_split(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 14_000)
    (plan,), _ = plan_fits(TRAIN_CONFIG)
    assert plan.capacity < 5 and plan.n_batches == -(-5 // plan.capacity)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    (plan,), _ = plan_fits(TRAIN_CONFIG)
    assert plan.memory_share > 1


def test_the_operations_are_those_of_a_step_and_of_validation():
    (plan, larger), _ = plan_fits(TRAIN_CONFIG, replace(TRAIN_CONFIG, batch_size=2 * BATCH))
    # Forward, and the gradients of weights: the input needs none. The second layer is a product as well.
    assert plan.epoch.loop.flops >= 2 * 2 * BATCH * (FEATURES * HIDDEN + HIDDEN)
    assert larger.epoch.loop.flops == 2 * plan.epoch.loop.flops
    n_validation = compile_cache.padded_length(40)
    assert plan.epoch.once.flops == pytest.approx(2 * n_validation * (FEATURES * HIDDEN + HIDDEN), rel=0.2)


def test_nothing_is_trained_and_results_have_the_shapes_of_real_ones(tmp_path):
    _, (planned,) = plan_fits(replace(TRAIN_CONFIG, max_epochs=2), folder=tmp_path / "checkpoints", title="grid")
    assert not any(tmp_path.iterdir())
    grid, inputs = make_grid()
    real = fit(TASK, DATA, inputs, grid, replace(TRAIN_CONFIG, max_epochs=2))
    for found, wanted in (
        (planned.best, real.best),
        (planned.history, real.history),
        (planned.run_results, real.run_results),
    ):
        assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, wanted)
        assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, wanted)
    assert planned.diverged() == [] and planned.execution == "not trained"


def test_a_later_training_and_predictions_use_the_result_of_an_earlier_one():
    grid, inputs = make_grid()
    planner = Planner()
    with planner.active():
        first = fit(TASK, DATA, inputs, grid, TRAIN_CONFIG)
        fit(TASK, DATA, inputs, grid, TRAIN_CONFIG, initial=initial_variables(first.best, drop=("head",)))
        outputs = predict(TASK, DATA, first.best, inputs.validation, inputs.constants)
        scores = score(TASK, DATA, first.best, inputs.validation, inputs.constants)
    assert planner.n_runs == 10
    assert outputs.shape == inputs.validation.index.shape and (outputs == 1).all()
    assert scores.keys() == {"mse", "skill"} and scores["mse"].shape == (5,)


def test_errors_of_a_training_are_found_by_its_plan():
    with pytest.raises(ValueError, match="monitor is 'accuracy'"):
        plan_fits(replace(TRAIN_CONFIG, monitor="accuracy"))
    _, inputs = make_grid()
    with Planner().active(), pytest.raises(ValueError, match="the grid has 4"):
        fit(TASK, DATA, inputs, make_grid(range(4))[0], TRAIN_CONFIG)
    assert active_planner() is None


def test_a_plan_ends_with_the_expected_number_of_runs():
    grid, inputs = make_grid()
    planner = Planner(expected_runs=10)
    with planner.active():
        fit(TASK, DATA, inputs, grid, TRAIN_CONFIG)
        with pytest.raises(PlanComplete):
            fit(TASK, DATA, inputs, grid, TRAIN_CONFIG)
    assert len(planner.plans) == 2


# Times.


def test_times_are_positive_and_finite():
    (plan,), _ = plan_fits(TRAIN_CONFIG)
    speed = measure_speed(plan)
    times = estimate_times(plan, speed)
    for value in (*speed, *times):
        assert np.isfinite(value) and value > 0
    assert times.shortest < times.longest


def test_times_are_proportional_to_the_work():
    plans, _ = plan_fits(TRAIN_CONFIG, replace(TRAIN_CONFIG, max_epochs=80), replace(TRAIN_CONFIG, patience=None))
    plan, longer, unstopped = (replace(plan, recorded_seconds=None) for plan in plans)
    times = partial(estimate_times, speed=Speed(1.0, 1.0))
    half, once, twice = (times(replace(plan, config=replace(plan.config, max_epochs=n))).longest for n in (20, 40, 80))
    assert times(longer).longest == twice and twice - once == pytest.approx(2 * (once - half))
    assert times(unstopped).shortest == times(unstopped).longest
    assert estimate_times(plan, Speed(3.0, 2.0)).longest == pytest.approx(3 * times(plan).longest)
    assert estimate_times(plan, Speed(3.0, 2.0)).compilation == pytest.approx(2 * times(plan).compilation)


def test_stacked_runs_share_the_launches_of_operations():
    (plan,), _ = plan_fits(TRAIN_CONFIG)
    stacked = replace(plan, backend=Backend("cpu", "vmap", "float32"))
    speed = Speed(1.0, 1.0)
    assert estimate_times(stacked, speed).longest < estimate_times(plan, speed).longest
    batched = replace(stacked, capacity=1, n_devices=1)
    assert estimate_times(batched, speed).longest > estimate_times(replace(stacked, n_devices=1), speed).longest


def test_a_recorded_time_of_compilation_is_preferred(monkeypatch):
    monkeypatch.setattr(compile_cache, "_read_times", lambda: {f"training of 2 runs of {N_PARAMETERS} parameters": 7.0})
    config = replace(TRAIN_CONFIG, run_batch=2)
    (plan,), _ = plan_fits(config)
    assert plan.recorded_seconds is None  # that of the initialization is not known
    titles = {f"{name} of 2 runs of {N_PARAMETERS} parameters": 7.0 for name in ("initialization", "training")}
    monkeypatch.setattr(compile_cache, "_read_times", lambda: titles)
    (plan,), _ = plan_fits(config)
    assert plan.recorded_seconds == 14.0
    times = estimate_times(plan, Speed(1.0, 5.0))
    assert times.compilation == 14.0 != times.first_compilation
