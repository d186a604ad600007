"""An interrupted training continues to the same numbers; a checkpoint that cannot be read is reported in one sentence."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxephys.engine import devices
from jaxephys.engine.checkpoint import Checkpointer, CheckpointError, restore
from jaxephys.engine.config import StepDecay
from jaxephys.engine.fit import fit
from jaxephys.engine.run_stack import CompiledGrid
from tests.engine.linear_task import DATA, TASK, TRAIN_CONFIG, assert_same_runs, make_grid

# Orbax leaves a thread behind where a read fails: it finds its event loop closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

GRID, INPUTS = make_grid(range(5))
LONG = replace(TRAIN_CONFIG, max_epochs=60, chunk_epochs=2, patience=4)
BATCHED = replace(LONG, run_batch=2)


class Interrupted(Exception):
    pass


def interrupt_after(chunk):
    """Return a callback that ends the training after a number of events."""
    events = []

    def callback(event):
        events.append(event)
        if len(events) == chunk:
            raise Interrupted

    return callback


class WaitingCheckpointer(Checkpointer):
    """A checkpointer that waits for every write, so that a test knows which steps exist."""

    def __call__(self, event):
        super().__call__(event)
        self._manager.wait_until_finished()


def train(folder, config=LONG, interrupt=None, resume=None):
    checkpointer = WaitingCheckpointer(folder, GRID, config)
    callbacks = [checkpointer] if interrupt is None else [checkpointer, interrupt_after(interrupt)]
    try:
        return fit(TASK, DATA, INPUTS, GRID, config, callbacks=callbacks, resume=resume)
    except Interrupted:
        return None
    finally:
        checkpointer.close()


def steps(folder):
    return sorted(int(path.name) for path in (folder / "host0" / "live").iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def uninterrupted():
    return fit(TASK, DATA, INPUTS, GRID, LONG)


@pytest.fixture(scope="module")
def batched():
    return fit(TASK, DATA, INPUTS, GRID, BATCHED)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Interrupted after the fourth chunk: steps 3 and 4 are there."""
    folder = tmp_path_factory.mktemp("interrupted")
    assert train(folder, interrupt=4) is None
    return folder


@pytest.fixture
def copy(interrupted, tmp_path):
    return Path(shutil.copytree(interrupted, tmp_path / "copy"))


def assert_one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert 20 < len(text) < 400


# ---- stop, restore, continue -----------------------------------------------------------------------------------------


def test_interrupted_run_continues_to_the_same_numbers(copy, uninterrupted):
    snapshot = restore(copy, GRID, LONG)
    assert snapshot.state["epoch"][np.flatnonzero(snapshot.ids == 0)] == 8
    assert_same_runs(train(copy, resume=snapshot), uninterrupted)


@pytest.mark.parametrize("interruptions", [(1,), (3, 2, 4)])
def test_runs_in_batches_continue_to_the_same_numbers(tmp_path, batched, interruptions):
    archived = 0
    for interrupt in interruptions:
        assert train(tmp_path, BATCHED, interrupt, restore(tmp_path, GRID, BATCHED)) is None
        archived = len(restore(tmp_path, GRID, BATCHED).finished)
    snapshot = restore(tmp_path, GRID, BATCHED)
    result = train(tmp_path, BATCHED, resume=snapshot)
    assert_same_runs(result, batched)
    assert archived > 0 or interruptions == (1,)


def test_resuming_a_finished_training_gives_the_same_result(tmp_path, batched):
    train(tmp_path, BATCHED)
    assert_same_runs(train(tmp_path, BATCHED, resume=restore(tmp_path, GRID, BATCHED)), batched)


def test_training_continues_with_smaller_stacks(copy, uninterrupted):
    small = replace(LONG, run_batch=2, execution="vmap")
    assert_same_runs(train(copy, small, resume=restore(copy, GRID, small)), uninterrupted, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"freeze": ("body",), "warmup_steps": 9},
        {"optimizer": "adam", "weight_decay": 0.0, "decay": StepDecay(0.5, 3, 1e-3), "shuffle": False},
    ],
    ids=["frozen modules and warm-up", "Adam with decay"],
)
def test_training_options_survive_a_restore(tmp_path, changes):
    config = replace(LONG, max_epochs=8, **changes)
    train(tmp_path, config, interrupt=2)
    result = train(tmp_path, config, resume=restore(tmp_path, GRID, config))
    assert_same_runs(result, fit(TASK, DATA, INPUTS, GRID, config))


def test_padding_between_the_runs_of_a_snapshot_loses_none(copy, monkeypatch):
    """Joined checkpoints of several hosts have padding in the middle."""
    whole = devices.make_mesh
    monkeypatch.setattr(devices, "make_mesh", lambda n_runs: whole(1))
    snapshot = restore(copy, GRID, LONG)
    slots = np.array([0, 1, 0, 2, 3, 4])
    ids = np.array([0, 1, -1, 2, 3, 4], np.int32)
    compiled = CompiledGrid(TASK, replace(LONG, run_batch=5), DATA, INPUTS, GRID.seeds, {}, 5)
    stack = compiled.restore(ids, jax.tree.map(lambda leaf: leaf[slots], snapshot.state), np.arange(5))
    np.testing.assert_array_equal(stack.ids, ids)
    np.testing.assert_array_equal(stack.state.epoch, snapshot.state["epoch"][slots])
    np.testing.assert_array_equal(stack.state.done, (ids == -1) | (snapshot.state["status"][slots] > 0))


def test_only_the_last_two_steps_are_kept(interrupted):
    assert steps(interrupted) == [3, 4]


def test_nothing_saved_yet_is_none(tmp_path):
    assert restore(tmp_path, GRID, LONG) is None
    Checkpointer(tmp_path, GRID, LONG).close()
    assert restore(tmp_path, GRID, LONG) is None


def test_leftovers_of_an_interrupted_save_are_ignored(copy, uninterrupted):
    live = copy / "host0" / "live"
    half = live / "5.orbax-checkpoint-tmp"
    shutil.copytree(live / "4", half)
    (half / "live" / "_METADATA").write_text("{")
    (copy / "host0" / "finished" / "1.orbax-checkpoint-tmp").mkdir()
    assert_same_runs(train(copy, resume=restore(copy, GRID, LONG)), uninterrupted)


# ---- other devices ---------------------------------------------------------------------------------------------------

SAVE_ON_FOUR = """
import sys, jax
from tests.engine.test_checkpoint import LONG, train
assert jax.device_count() == 4
assert train(sys.argv[1], LONG, interrupt=3) is None
"""


def test_checkpoint_of_four_devices_continues_on_this_machine(tmp_path, uninterrupted):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    code = f"import pathlib\n{SAVE_ON_FOUR.replace('sys.argv[1]', 'pathlib.Path(sys.argv[1])')}"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, cwd=root, env={**os.environ, **flags})
    snapshot = restore(tmp_path, GRID, LONG)
    assert len(snapshot.ids) == 8
    assert_same_runs(fit(TASK, DATA, INPUTS, GRID, LONG, resume=snapshot), uninterrupted, atol=1e-6)


# ---- damage ----------------------------------------------------------------------------------------------------------


def files_of(step):
    return sorted(str(path.relative_to(step)) for path in step.rglob("*") if path.is_file())


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_truncated_file_costs_a_step_at_most(copy, keep):
    live = copy / "host0" / "live"
    newest = restore(copy, GRID, LONG)
    kept = copy / "kept"
    os.replace(live / "4", kept)
    before = restore(copy, GRID, LONG)
    assert (newest.state["epoch"] > before.state["epoch"]).any()
    fell_back = 0
    for name in files_of(kept):
        shutil.rmtree(live / "4", ignore_errors=True)
        shutil.copytree(kept, live / "4")
        os.truncate(live / "4" / name, int(keep * (live / "4" / name).stat().st_size))
        found = restore(copy, GRID, LONG)
        expected = newest if found.state["epoch"].sum() == newest.state["epoch"].sum() else before
        fell_back += expected is before
        jax.tree.map(np.testing.assert_array_equal, found.state, expected.state)
        jax.tree.map(np.testing.assert_array_equal, found.history, expected.history)
        np.testing.assert_array_equal(found.ids, expected.ids)
    assert fell_back >= 2


def test_a_lost_file_costs_a_step_at_most(copy):
    live = copy / "host0" / "live"
    newest, kept = restore(copy, GRID, LONG), copy / "kept"
    os.replace(live / "4", kept)
    before = restore(copy, GRID, LONG)
    for name in files_of(kept):
        shutil.rmtree(live / "4", ignore_errors=True)
        shutil.copytree(kept, live / "4")
        (live / "4" / name).unlink()
        found = restore(copy, GRID, LONG)
        expected = newest if found.state["epoch"].sum() == newest.state["epoch"].sum() else before
        jax.tree.map(np.testing.assert_array_equal, found.state, expected.state)


def test_training_continues_from_the_step_before_a_damaged_one(copy, uninterrupted):
    for path in (copy / "host0" / "live" / "4").rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
    snapshot = restore(copy, GRID, LONG)
    assert_same_runs(train(copy, resume=snapshot), uninterrupted)
    assert restore(copy, GRID, LONG).state["epoch"].sum() > snapshot.state["epoch"].sum()


def test_all_steps_damaged_is_one_sentence(copy):
    for path in (copy / "host0" / "live").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CheckpointError, match="is damaged or was not written by jaxephys") as error:
        restore(copy, GRID, LONG)
    assert_one_sentence(error)


def test_damaged_archive_is_one_sentence(tmp_path):
    train(tmp_path, BATCHED)
    for path in (tmp_path / "host0" / "finished").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    for read in (restore, Checkpointer):
        with pytest.raises(CheckpointError, match="finished.*is damaged or was not written by jaxephys") as error:
            read(tmp_path, GRID, BATCHED)
        assert_one_sentence(error)


def test_foreign_folder_is_one_sentence(tmp_path):
    foreign = tmp_path / "host0" / "live" / "7" / "live"
    foreign.mkdir(parents=True)
    (foreign / "notes.txt").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match=r"live/7/live is damaged or was not written by jaxephys") as error:
        restore(tmp_path, GRID, LONG)
    assert_one_sentence(error)


@pytest.mark.parametrize(
    "grid, config, words",
    [
        (GRID, replace(LONG, learning_rate=1e-3), "learning_rate was 0.03 and is 0.001"),
        (GRID, replace(LONG, shuffle=False), "shuffle was None and is False"),
        (GRID, replace(LONG, freeze=("body",)), r"freeze was \[\] and is \['body'\]"),
        (make_grid(range(4))[0], LONG, "it has 5 runs and this command 4"),
        (make_grid([0, 1, 2, 3, 9])[0], LONG, "or they have other names"),
    ],
)
def test_another_grid_is_one_sentence(interrupted, grid, config, words):
    with pytest.raises(
        CheckpointError, match=rf"is of another grid: .*{words}.*; resume with the same settings"
    ) as error:
        restore(interrupted, grid, config)
    assert_one_sentence(error)


def test_how_runs_are_executed_may_change(interrupted):
    assert restore(interrupted, GRID, replace(LONG, run_batch=2, execution="vmap")) is not None


def wider(key):
    variables = TASK.init(key)
    params = {**variables["params"], "head": {"w": jax.numpy.zeros(4)}}
    return {**variables, "params": params}


def renamed(key):
    variables = TASK.init(key)
    params = {"trunk": variables["params"]["body"], "head": variables["params"]["head"]}
    return {**variables, "params": params}


def with_missing_array(key):
    variables = TASK.init(key)
    return {**variables, "stats": {"steps": variables["stats"]["steps"], "partial": variables["stats"]["partial"]}}


@pytest.mark.parametrize("init", [wider, renamed, with_missing_array])
def test_another_model_is_one_sentence(interrupted, init):
    compiled = CompiledGrid(TASK._replace(init=init), replace(LONG, run_batch=5), DATA, INPUTS, GRID.seeds, {}, 5)
    snapshot = restore(interrupted, GRID, LONG)
    with pytest.raises(ValueError, match="the checkpoint is of another model") as error:
        compiled.restore(snapshot.ids, snapshot.state, np.arange(5))
    assert_one_sentence(error)
