"""Invariants of the stack: the numbers of a run do not depend on the runs that train beside it."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxephys.engine import devices, memory
from jaxephys.engine.callbacks import describe
from jaxephys.engine.config import StepDecay
from jaxephys.engine.fit import fit, initial_variables, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict, score
from jaxephys.engine.run_stack import CompiledGrid
from jaxephys.engine.task import Status
from tests.engine.linear_task import DATA, GARBAGE, TASK, TRAIN_CONFIG, assert_same_runs, make_grid, train_length

SHORT = replace(TRAIN_CONFIG, max_epochs=2, patience=None)
EXECUTIONS = ("map", "vmap")


def fit_grid(indices=range(5), config=TRAIN_CONFIG, **rest):
    grid, inputs = make_grid(indices)
    return fit(TASK, DATA, inputs, grid, config, **rest)


def only(result, *indices):
    """Some runs of a result, as if they had been the whole grid."""
    return replace(
        result,
        run_results=take_runs(result.run_results, list(indices)),
        history=take_runs(result.history, list(indices)),
    )


@pytest.fixture(scope="module")
def short():
    return {execution: fit_grid(config=replace(SHORT, execution=execution)) for execution in EXECUTIONS}


@pytest.fixture(scope="module")
def seven():
    return {
        execution: fit_grid(range(7), config=replace(TRAIN_CONFIG, execution=execution)) for execution in EXECUTIONS
    }


@pytest.fixture
def one_device(monkeypatch):
    """Stack sizes are whole numbers of devices: with one device they are the same on every machine."""
    whole = devices.make_mesh
    monkeypatch.setattr(devices, "make_mesh", lambda n_runs: whole(1))


# ---- a run is independent of the others ------------------------------------------------------------------------------


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("run", [0, 3])
def test_stacked_run_equals_the_run_alone(short, execution, run):
    alone = fit_grid([run], config=replace(SHORT, execution=execution))
    assert_same_runs(only(short[execution], run), alone, atol=1e-6)


def test_map_equals_vmap(short):
    assert_same_runs(short["map"], short["vmap"], atol=1e-6)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_decaying_rates_of_runs_stacked_and_alone(execution):
    """Runs of different rates and lengths; the decay falls inside a chunk."""
    grid = RunGrid(("learning_rate", "seed"), tuple((0.01 * (1 + seed), seed) for seed in range(3)))
    decay = StepDecay(0.5, 1, floor=0.004)
    config = replace(SHORT, max_epochs=3, optimizer="adam", weight_decay=0.0, decay=decay, execution=execution)
    inputs = make_grid(range(3))[1]
    together = fit(TASK, DATA, inputs, grid, config)
    alone = fit(TASK, DATA, take_runs(inputs, [2]), RunGrid(grid.factors, (grid.levels[2],)), config)
    assert_same_runs(only(together, 2), alone, atol=1e-6)
    constant = fit(TASK, DATA, inputs, grid, replace(config, decay=None))
    losses, others = (result.history["train_loss"] for result in (together, constant))
    np.testing.assert_array_equal(losses[:, 0], others[:, 0])
    assert (losses[:, 2] != others[:, 2]).all()


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_slot_in_the_stack_changes_nothing(short, execution):
    turned = fit_grid([4, 2, 0, 1, 3], config=replace(SHORT, execution=execution))
    assert_same_runs(only(turned, 2, 3, 1, 4, 0), short[execution], atol=1e-6)


def test_runs_differ_from_one_another(short):
    assert len(np.unique(short["map"].run_results.best_score)) == 5


def test_same_fit_twice_is_bit_equal(seven):
    assert_same_runs(fit_grid(range(7)), seven["map"])


# ---- early stopping --------------------------------------------------------------------------------------------------


def sequential_stop(scores, patience, min_delta, mode, max_epochs):
    """Early stopping written as a plain loop: epochs, best epoch, best score, status."""
    sign = np.float32(1 if mode == "max" else -1)
    best, best_epoch, epoch = None, 0, 0
    while epoch < max_epochs:
        epoch += 1
        value = np.float32(scores[epoch - 1])
        if best is None or (value - best) * sign > np.float32(min_delta):
            best, best_epoch = value, epoch
        if patience is not None and epoch - best_epoch >= patience:
            return epoch, best_epoch, best, Status.STOPPED_EARLY
    return epoch, best_epoch, best, Status.FINISHED


def assert_stops_like_the_oracle(result, config):
    full = result.history[f"valid_{config.monitor}"]
    assert full.shape == (len(result.grid), config.max_epochs)
    found = zip(
        result.run_results.epochs,
        result.run_results.best_epoch,
        result.run_results.best_score,
        result.run_results.status,
        strict=True,
    )
    for scores, (epochs, best_epoch, best, status) in zip(full, found, strict=True):
        oracle = sequential_stop(scores, config.patience, config.min_delta, config.mode, config.max_epochs)
        assert (epochs, best_epoch, best, status) == oracle


def assert_best_weights_are_of_the_best_epoch(result, monitor="mse"):
    _grid, inputs = make_grid(range(len(result.grid)))
    again = score(TASK, DATA, result.best, inputs.validation, inputs.constants)
    np.testing.assert_allclose(again[monitor], result.run_results.best_score, rtol=1e-6)
    np.testing.assert_array_equal(
        result.best["stats"]["steps"],
        [-(-train_length(i) // 16) * e for i, e in enumerate(result.run_results.best_epoch)],
    )


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_stops_like_a_sequential_loop(seven, execution):
    result = seven[execution]
    assert len(np.unique(result.run_results.epochs)) > 2
    assert (result.run_results.status == Status.STOPPED_EARLY).any()
    assert_stops_like_the_oracle(result, TRAIN_CONFIG)
    assert_best_weights_are_of_the_best_epoch(result)


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "max", "monitor": "skill", "min_delta": 0.02, "patience": 2},
        {"mode": "min", "monitor": "mse", "min_delta": 0.02, "patience": 2, "max_epochs": 7},
        {"patience": None, "max_epochs": 12},
    ],
)
def test_stops_like_a_sequential_loop_under_other_configs(changes):
    config = replace(TRAIN_CONFIG, **changes)
    result = fit_grid(config=config)
    assert_stops_like_the_oracle(result, config)
    assert_best_weights_are_of_the_best_epoch(result, config.monitor)
    if config.patience is None:
        assert (result.run_results.epochs == 12).all()
        assert (result.run_results.status == Status.FINISHED).all()


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_history_is_whole_up_to_the_end_and_nan_after(seven, execution):
    result = seven[execution]
    assert set(result.history) == {"train_loss", "train_mae", "valid_mse", "valid_skill"}
    for table in result.history.values():
        for line, epochs in zip(table, result.run_results.epochs, strict=True):
            assert np.isfinite(line[:epochs]).all()
            assert np.isnan(line[epochs:]).all()


class EventRecorder:
    """Keep every event and the state of every run that is on the devices."""

    needs_state = True

    def __init__(self):
        self.states, self.events = [], []

    def __call__(self, event):
        state = jax.device_get(event.snapshot.state)
        slots = [(run, slot) for slot, run in enumerate(event.snapshot.ids) if run >= 0]
        self.states.append({int(run): jax.tree.map(lambda leaf, s=slot: leaf[s], state) for run, slot in slots})
        self.events.append(event)


@pytest.fixture(scope="module")
def recorded():
    recorder = EventRecorder()
    return recorder, fit_grid(range(7), callbacks=[recorder])


def test_callbacks_change_no_number(seven, recorded):
    assert_same_runs(recorded[1], seven["map"])


def test_stopped_run_stays_frozen_while_others_go_on(recorded):
    compared = 0
    for earlier, later in zip(recorded[0].states[:-1], recorded[0].states[1:], strict=True):
        for run in earlier.keys() & later.keys():
            if earlier[run].done:
                jax.tree.map(np.testing.assert_array_equal, earlier[run], later[run])
                compared += 1
            else:
                assert later[run].epoch > earlier[run].epoch
    assert compared > 5


def test_snapshots_agree_with_the_events_and_the_result(recorded):
    recorder, result = recorded
    for states, event in zip(recorder.states, recorder.events, strict=True):
        trained = (
            np.isfinite(event.snapshot.history["train_loss"]).sum(axis=1) if event is recorder.events[-1] else None
        )
        for run, state in states.items():
            assert state.status == event.status[run]
            assert state.best_score == event.best_score[run]
            if trained is not None:
                assert state.epoch == trained[run] == result.run_results.epochs[run]


def test_events_count_runs_and_epochs(recorded):
    recorder, result = recorded
    counted = [event.epochs for event in recorder.events]
    assert counted[0] == 7 * TRAIN_CONFIG.chunk_epochs
    assert counted == sorted(counted)
    assert counted[-1] == result.run_results.epochs.sum()
    for event in recorder.events:
        ended = int((event.status != Status.RUNNING).sum())
        assert event.live + ended + event.waiting == 7
        assert f"{event.live} runs live, {ended} ended" in describe(event)
    assert (recorder.events[0].live, recorder.events[-1].live) == (7, 0)
    np.testing.assert_array_equal(recorder.events[-1].status, result.run_results.status)
    np.testing.assert_array_equal(recorder.events[-1].best_score, result.run_results.best_score)


# ---- padding ---------------------------------------------------------------------------------------------------------


def with_garbage(rows, wider):
    """The same tables with more rows of weight 0, which point at a row of NaN."""

    def pad(column, value):
        return np.pad(column, [(0, 0), (0, wider)], constant_values=value)

    padded = rows._replace(
        index=pad(rows.index, GARBAGE),
        weight=pad(rows.weight, 0),
        partner=pad(rows.partner, GARBAGE),
        mix=pad(rows.mix, 0),
    )
    empty = padded.weight == 0
    return padded._replace(index=np.where(empty, GARBAGE, padded.index))


def test_padding_changes_no_number(short):
    grid, inputs = make_grid()
    inputs = inputs._replace(train=with_garbage(inputs.train, 37), validation=with_garbage(inputs.validation, 9))
    padded = fit(TASK, DATA, inputs, grid, SHORT)
    assert_same_runs(padded, short["map"], atol=1e-6)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_steps_are_the_batches_of_the_run_and_only_the_last_is_partial(short, execution):
    result = short[execution]
    lengths = np.array([train_length(run) for run in range(5)])
    assert len(np.unique(-(-lengths // 16))) > 1
    np.testing.assert_array_equal(result.best["stats"]["steps"], -(-lengths // 16) * result.run_results.best_epoch)
    np.testing.assert_array_equal(result.best["stats"]["partial"], (lengths % 16 > 0) * result.run_results.best_epoch)


# ---- run batches and memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_runs_in_batches_equal_all_at_once(seven, execution):
    recorder = EventRecorder()
    result = fit_grid(range(7), config=replace(TRAIN_CONFIG, execution=execution, run_batch=3), callbacks=[recorder])
    assert_same_runs(result, seven[execution], atol=1e-5)
    assert max(len(states) for states in recorder.states) <= 4
    assert recorder.events[0].waiting >= 3


class Sizes:
    """The sizes of the stacks that were run, chunk by chunk."""

    def __init__(self, monkeypatch):
        self.seen, advance = [], CompiledGrid.advance

        def spy(compiled, stack):
            self.seen.append((len(stack.ids), len(stack.run_ids())))
            return advance(compiled, stack)

        monkeypatch.setattr(CompiledGrid, "advance", spy)


def test_stack_shrinks_as_runs_finish(seven, one_device, monkeypatch):
    sizes = Sizes(monkeypatch)
    result = fit_grid(range(7), config=replace(TRAIN_CONFIG, execution="vmap", chunk_epochs=2))
    assert_same_runs(result, seven["vmap"], atol=1e-5)
    slots = [size for size, _ in sizes.seen]
    assert slots[0] == 7
    assert slots == sorted(slots, reverse=True)
    assert set(slots) == {7, 2}
    assert all(held <= size for size, held in sizes.seen)


def test_finished_runs_make_room_for_waiting_ones(one_device, monkeypatch):
    sizes = Sizes(monkeypatch)
    result = fit_grid(range(7), config=replace(TRAIN_CONFIG, run_batch=3))
    assert {size for size, _ in sizes.seen} == {3}
    chunks = -(-result.run_results.epochs // TRAIN_CONFIG.chunk_epochs)
    assert len(sizes.seen) < 2 * sum(sorted(chunks)[-3:]), "waiting runs waited for a whole batch to end"


def test_little_memory_gives_small_stacks_and_the_same_numbers(seven, one_device, monkeypatch):
    sizes = Sizes(monkeypatch)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1)
    result = fit_grid(range(7))
    assert {size for size, _ in sizes.seen} == {1}
    assert_same_runs(result, seven["map"], atol=1e-5)


def test_capacity_shrinks_until_the_compiled_program_fits(one_device, monkeypatch):
    grid, inputs = make_grid()
    inspected = []

    def excess(device, compiled):
        inspected.append(compiled)
        return 1.4 if len(inspected) < 3 else 0.9

    monkeypatch.setattr(memory, "excess", excess)
    compiled = CompiledGrid(TASK, TRAIN_CONFIG, DATA, inputs, grid.seeds, {}, 5)
    assert (compiled.capacity, len(inspected)) == (2, 3)  # 5 -> 3 -> 2


# ---- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("bad", [np.nan, 1e30])
def test_diverged_run_is_named_and_leaves_the_others_alone(short, execution, bad):
    grid, inputs = make_grid()
    scale = inputs.constants["scale"].copy()
    scale[2] = bad
    inputs = inputs._replace(constants={"scale": scale})
    result = fit(TASK, DATA, inputs, grid, replace(SHORT, execution=execution))
    assert result.diverged() == ["seed=2"]
    assert result.run_results.status[2] == Status.DIVERGED
    assert (result.run_results.epochs[2], result.run_results.best_epoch[2]) == (1, 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.best))
    assert_same_runs(only(result, 0, 1, 3, 4), only(short[execution], 0, 1, 3, 4), atol=1e-6)
    assert short[execution].diverged() == []


# ---- constants and errors -------------------------------------------------------------------------------------------


def test_constants_reach_gather_run_by_run():
    grid, inputs = make_grid([0, 1])
    same = jax.tree.map(lambda leaf: np.stack([leaf[0], leaf[0]]), inputs)
    config = replace(SHORT, max_epochs=1)
    result = fit(TASK, DATA, same._replace(constants={"scale": np.array([1.0, 3.0], np.float32)}), grid, config)
    zero = jax.tree.map(lambda leaf: np.zeros_like(leaf), result.best)
    mse = score(TASK, DATA, zero, same.validation, {"scale": np.array([1.0, 3.0], np.float32)})["mse"]
    assert mse[1] == pytest.approx(9 * mse[0])
    assert result.history["train_loss"][1, 0] > 3 * result.history["train_loss"][0, 0]


def test_predict_uses_the_rows_of_each_run(short):
    _grid, inputs = make_grid()
    found = predict(TASK, DATA, short["map"].best, inputs.validation, inputs.constants, block=16)
    assert found.shape == inputs.validation.index.shape
    best = short["map"].best
    x = DATA["x"][inputs.validation.index[3]] - 0.1 * best["stats"]["mean"][3]
    expected = np.tanh(x @ best["params"]["body"]["w"][3]) @ best["params"]["head"]["w"][3]
    real = inputs.validation.weight[3] > 0
    np.testing.assert_allclose(found[3][real], expected[real], atol=1e-5)


@pytest.mark.parametrize("scale", [np.float32(1.0), np.ones(4, np.float32)])
def test_constant_without_a_run_axis_is_refused(scale):
    grid, inputs = make_grid()
    with pytest.raises(ValueError, match="its first axis must be the 5 runs"):
        fit(TASK, DATA, inputs._replace(constants={"scale": scale}), grid, TRAIN_CONFIG)


@pytest.mark.parametrize("name", ["train", "validation"])
def test_wrong_number_of_tables_is_refused(name):
    grid, inputs = make_grid()
    short = jax.tree.map(lambda leaf: leaf[:4], getattr(inputs, name))
    with pytest.raises(ValueError, match=f"inputs.{name} has tables for 4 runs, but the grid has 5"):
        fit(TASK, DATA, inputs._replace(**{name: short}), grid, TRAIN_CONFIG)


@pytest.mark.parametrize("name, word", [("train", "training"), ("validation", "validation")])
def test_run_without_rows_is_named(name, word):
    grid, inputs = make_grid()
    rows = getattr(inputs, name)
    weight = rows.weight.copy()
    weight[3] = 0
    with pytest.raises(ValueError, match=f"the run seed=3 has no {word} rows"):
        fit(TASK, DATA, inputs._replace(**{name: rows._replace(weight=weight)}), grid, TRAIN_CONFIG)


def test_unknown_monitor_lists_what_validation_gives():
    with pytest.raises(ValueError, match=r"config.monitor is 'msee', but validation gives mse, skill"):
        fit_grid(config=replace(TRAIN_CONFIG, monitor="msee"))


@pytest.mark.parametrize(
    "changes",
    [
        {"max_epochs": 0},
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"run_batch": 0},
        {"mode": "up"},
        {"execution": "pmap"},
        {"optimizer": "sgd"},
    ],
)
def test_impossible_config_is_refused(changes):
    with pytest.raises(ValueError, match=f"TrainConfig.{next(iter(changes))} is "):
        replace(TRAIN_CONFIG, **changes)


# ---- phases ----------------------------------------------------------------------------------------------------------


def test_initial_variables_without_the_dropped_module_are_drawn_anew(short):
    initial = initial_variables(short["map"].best, drop=("head",))
    recorder = EventRecorder()
    still = replace(SHORT, freeze=("body", "head"), chunk_epochs=1)
    fit_grid(config=still, initial=initial, callbacks=[recorder])
    for run, state in recorder.states[0].items():
        np.testing.assert_array_equal(state.params["body"]["w"], short["map"].best["params"]["body"]["w"][run])
        drawn = TASK.init(jax.random.fold_in(jax.random.key(run), 0))["params"]["head"]["w"]
        np.testing.assert_allclose(state.params["head"]["w"], drawn, rtol=1e-6)
        assert state.mutables["stats"]["steps"] > short["map"].best["stats"]["steps"][run]


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_frozen_module_stays_bit_equal_and_the_other_moves(short, execution):
    initial = initial_variables(short["map"].best)
    result = fit_grid(config=replace(SHORT, freeze=("body",), execution=execution), initial=initial)
    np.testing.assert_array_equal(result.best["params"]["body"]["w"], initial["params"]["body"]["w"])
    assert (result.best["params"]["head"]["w"] != initial["params"]["head"]["w"]).all()


def test_unknown_module_names_are_refused(short):
    best = short["map"].best
    with pytest.raises(ValueError, match="cannot drop 'haed': the model's modules are body, head"):
        initial_variables(best, drop=("haed",))
    with pytest.raises(ValueError, match=r"config.freeze names 'bdoy', but the model's modules are body, head"):
        fit_grid(config=replace(SHORT, freeze=("bdoy",)))
    with pytest.raises(ValueError, match="initial holds 'tail', which the model does not have: it has body, head"):
        fit_grid(config=SHORT, initial={"params": {"tail": best["params"]["head"]}})


def test_initial_variables_of_another_shape_or_number_of_runs_are_refused(short):
    best = short["map"].best
    narrow = {"params": {"head": {"w": best["params"]["head"]["w"][:, :2]}}}
    with pytest.raises(ValueError, match=r"initial holds an array of shape \(2,\) where the model has \(3,\)"):
        fit_grid(config=SHORT, initial=narrow)
    with pytest.raises(ValueError, match="initial has 5 runs, but the grid has 4"):
        fit_grid(range(4), config=SHORT, initial=initial_variables(best))


def test_take_runs_repeats_a_run(short):
    taken = take_runs(short["map"].best, [4, 4, 0])
    w = short["map"].best["params"]["body"]["w"]
    np.testing.assert_array_equal(taken["params"]["body"]["w"], w[[4, 4, 0]])
