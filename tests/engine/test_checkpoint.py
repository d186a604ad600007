"""A run that is killed goes on as if nothing had happened; what cannot be read says so in one sentence."""

import json
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
from jaxephys.engine.checkpoint import Checkpointer, CheckpointError, export, read_export, restore
from jaxephys.engine.fit import fit
from jaxephys.engine.run_stack import CompiledGrid
from tests.engine.linear_task import DATA, PLAN, TASK, assert_same_runs, make_grid

# Orbax leaves a thread behind where a read fails: it finds its event loop closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

AXIS, RUNS = make_grid(range(5))
LONG = replace(PLAN, max_epochs=60, chunk_epochs=2, patience=4)
BATCHED = replace(LONG, run_batch=2)


class Killed(Exception):
    pass


def kill_at(chunk):
    """A watcher that ends the training after so many reports."""
    heard = []

    def callback(report):
        heard.append(report)
        if len(heard) == chunk:
            raise Killed

    return callback


class Patient(Checkpointer):
    """Waits for every write, so that a test knows which steps exist."""

    def __call__(self, report):
        super().__call__(report)
        self._manager.wait_until_finished()


def train(folder, plan=LONG, kill=None, resume=None):
    checkpointer = Patient(folder, AXIS, plan)
    callbacks = [checkpointer] if kill is None else [checkpointer, kill_at(kill)]
    try:
        return fit(TASK, DATA, RUNS, AXIS, plan, callbacks=callbacks, resume=resume)
    except Killed:
        return None
    finally:
        checkpointer.close()


def steps(folder):
    return sorted(int(path.name) for path in (folder / "host0" / "live").iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def uninterrupted():
    return fit(TASK, DATA, RUNS, AXIS, LONG)


@pytest.fixture(scope="module")
def batched():
    return fit(TASK, DATA, RUNS, AXIS, BATCHED)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Killed after the fourth chunk: steps 3 and 4 are there."""
    folder = tmp_path_factory.mktemp("killed")
    assert train(folder, kill=4) is None
    return folder


@pytest.fixture
def copy(killed, tmp_path):
    return Path(shutil.copytree(killed, tmp_path / "copy"))


def assert_one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert 20 < len(text) < 400


# ---- stop, restore, continue -----------------------------------------------------------------------------------------


def test_killed_run_goes_on_to_the_same_numbers(copy, uninterrupted):
    snapshot = restore(copy, AXIS, LONG)
    assert snapshot.state["epoch"][np.flatnonzero(snapshot.ids == 0)] == 8
    assert_same_runs(train(copy, resume=snapshot), uninterrupted)


@pytest.mark.parametrize("kills", [(1,), (3, 2, 4)])
def test_killed_in_batches_goes_on_to_the_same_numbers(tmp_path, batched, kills):
    archived = 0
    for kill in kills:
        assert train(tmp_path, BATCHED, kill, restore(tmp_path, AXIS, BATCHED)) is None
        archived = len(restore(tmp_path, AXIS, BATCHED).finished)
    snapshot = restore(tmp_path, AXIS, BATCHED)
    result = train(tmp_path, BATCHED, resume=snapshot)
    assert_same_runs(result, batched)
    assert archived > 0 or kills == (1,)


def test_killed_after_the_last_epoch_gives_the_same_result(tmp_path, batched):
    train(tmp_path, BATCHED)
    assert_same_runs(train(tmp_path, BATCHED, resume=restore(tmp_path, AXIS, BATCHED)), batched)


def test_stack_of_all_runs_goes_on_where_less_memory_is(copy, uninterrupted):
    small = replace(LONG, run_batch=2, execution="vmap")
    assert_same_runs(train(copy, small, resume=restore(copy, AXIS, small)), uninterrupted, atol=1e-4)


def test_frozen_modules_and_warm_up_survive_a_restore(tmp_path):
    plan = replace(LONG, freeze=("body",), warmup_steps=9, max_epochs=8)
    train(tmp_path, plan, kill=2)
    result = train(tmp_path, plan, resume=restore(tmp_path, AXIS, plan))
    assert_same_runs(result, fit(TASK, DATA, RUNS, AXIS, plan))


def test_padding_between_the_runs_of_a_snapshot_loses_none(copy, monkeypatch):
    """Joined checkpoints of several hosts have padding in the middle."""
    whole = devices.make_mesh
    monkeypatch.setattr(devices, "make_mesh", lambda runs: whole(1))
    snapshot = restore(copy, AXIS, LONG)
    slots = np.array([0, 1, 0, 2, 3, 4])
    ids = np.array([0, 1, -1, 2, 3, 4], np.int32)
    compiled = CompiledGrid(TASK, replace(LONG, run_batch=5), DATA, RUNS, AXIS.seeds, {}, 5)
    stack = compiled.restore(ids, jax.tree.map(lambda leaf: leaf[slots], snapshot.state), np.arange(5))
    np.testing.assert_array_equal(stack.ids, ids)
    np.testing.assert_array_equal(stack.state.epoch, snapshot.state["epoch"][slots])
    np.testing.assert_array_equal(stack.state.done, (ids == -1) | (snapshot.state["status"][slots] > 0))


def test_only_the_last_two_steps_are_kept(killed):
    assert steps(killed) == [3, 4]


def test_nothing_saved_yet_is_none(tmp_path):
    assert restore(tmp_path, AXIS, LONG) is None
    Checkpointer(tmp_path, AXIS, LONG).close()
    assert restore(tmp_path, AXIS, LONG) is None


def test_leftover_of_a_killed_save_does_no_harm(copy, uninterrupted):
    live = copy / "host0" / "live"
    half = live / "5.orbax-checkpoint-tmp"
    shutil.copytree(live / "4", half)
    (half / "live" / "_METADATA").write_text("{")
    (copy / "host0" / "finished" / "1.orbax-checkpoint-tmp").mkdir()
    assert_same_runs(train(copy, resume=restore(copy, AXIS, LONG)), uninterrupted)


# ---- other devices ---------------------------------------------------------------------------------------------------

SAVE_ON_FOUR = """
import sys, jax
from tests.engine.test_checkpoint import LONG, train
assert jax.device_count() == 4
assert train(sys.argv[1], LONG, kill=3) is None
"""


def test_saved_on_four_devices_goes_on_here(tmp_path, uninterrupted):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    code = f"import pathlib\n{SAVE_ON_FOUR.replace('sys.argv[1]', 'pathlib.Path(sys.argv[1])')}"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, cwd=root, env={**os.environ, **flags})
    snapshot = restore(tmp_path, AXIS, LONG)
    assert len(snapshot.ids) == 8
    assert_same_runs(fit(TASK, DATA, RUNS, AXIS, LONG, resume=snapshot), uninterrupted, atol=1e-6)


# ---- damage ----------------------------------------------------------------------------------------------------------


def files_of(step):
    return sorted(str(path.relative_to(step)) for path in step.rglob("*") if path.is_file())


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_truncated_file_costs_a_step_at_most(copy, keep):
    live = copy / "host0" / "live"
    newest = restore(copy, AXIS, LONG)
    kept = copy / "kept"
    os.replace(live / "4", kept)
    before = restore(copy, AXIS, LONG)
    assert (newest.state["epoch"] > before.state["epoch"]).any()
    fell_back = 0
    for name in files_of(kept):
        shutil.rmtree(live / "4", ignore_errors=True)
        shutil.copytree(kept, live / "4")
        os.truncate(live / "4" / name, int(keep * (live / "4" / name).stat().st_size))
        found = restore(copy, AXIS, LONG)
        expected = newest if found.state["epoch"].sum() == newest.state["epoch"].sum() else before
        fell_back += expected is before
        jax.tree.map(np.testing.assert_array_equal, found.state, expected.state)
        jax.tree.map(np.testing.assert_array_equal, found.history, expected.history)
        np.testing.assert_array_equal(found.ids, expected.ids)
    assert fell_back >= 2


def test_a_lost_file_costs_a_step_at_most(copy):
    live = copy / "host0" / "live"
    newest, kept = restore(copy, AXIS, LONG), copy / "kept"
    os.replace(live / "4", kept)
    before = restore(copy, AXIS, LONG)
    for name in files_of(kept):
        shutil.rmtree(live / "4", ignore_errors=True)
        shutil.copytree(kept, live / "4")
        (live / "4" / name).unlink()
        found = restore(copy, AXIS, LONG)
        expected = newest if found.state["epoch"].sum() == newest.state["epoch"].sum() else before
        jax.tree.map(np.testing.assert_array_equal, found.state, expected.state)


def test_training_goes_on_beside_a_damaged_step(copy, uninterrupted):
    for path in (copy / "host0" / "live" / "4").rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
    snapshot = restore(copy, AXIS, LONG)
    assert_same_runs(train(copy, resume=snapshot), uninterrupted)
    assert restore(copy, AXIS, LONG).state["epoch"].sum() > snapshot.state["epoch"].sum()


def test_all_steps_damaged_is_one_sentence(copy):
    for path in (copy / "host0" / "live").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CheckpointError, match="is damaged or not one of ours") as error:
        restore(copy, AXIS, LONG)
    assert_one_sentence(error)


def test_damaged_archive_is_one_sentence(tmp_path):
    train(tmp_path, BATCHED)
    for path in (tmp_path / "host0" / "finished").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    for read in (restore, Checkpointer):
        with pytest.raises(CheckpointError, match="finished.*is damaged or not one of ours") as error:
            read(tmp_path, AXIS, BATCHED)
        assert_one_sentence(error)


def test_foreign_folder_is_one_sentence(tmp_path):
    foreign = tmp_path / "host0" / "live" / "7" / "live"
    foreign.mkdir(parents=True)
    (foreign / "notes.txt").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match=r"live/7/live is damaged or not one of ours") as error:
        restore(tmp_path, AXIS, LONG)
    assert_one_sentence(error)


@pytest.mark.parametrize(
    "axis, plan, words",
    [
        (AXIS, replace(LONG, learning_rate=1e-3), "learning_rate was 0.03 and is 0.001"),
        (AXIS, replace(LONG, freeze=("body",)), r"freeze was \[\] and is \['body'\]"),
        (make_grid(range(4))[0], LONG, "it has 5 runs and this command 4"),
        (make_grid([0, 1, 2, 3, 9])[0], LONG, "or they have other names"),
    ],
)
def test_another_grid_is_one_sentence(killed, axis, plan, words):
    with pytest.raises(
        CheckpointError, match=rf"is of another grid: .*{words}.*; resume with the same settings"
    ) as error:
        restore(killed, axis, plan)
    assert_one_sentence(error)


def test_how_runs_are_executed_may_change(killed):
    assert restore(killed, AXIS, replace(LONG, run_batch=2, execution="vmap")) is not None


def wider(key):
    variables = TASK.init(key)
    params = {**variables["params"], "head": {"w": jax.numpy.zeros(4)}}
    return {**variables, "params": params}


def renamed(key):
    variables = TASK.init(key)
    params = {"trunk": variables["params"]["body"], "head": variables["params"]["head"]}
    return {**variables, "params": params}


def poorer(key):
    variables = TASK.init(key)
    return {**variables, "stats": {"steps": variables["stats"]["steps"], "partial": variables["stats"]["partial"]}}


@pytest.mark.parametrize("init", [wider, renamed, poorer])
def test_another_model_is_one_sentence(killed, init):
    compiled = CompiledGrid(TASK._replace(init=init), replace(LONG, run_batch=5), DATA, RUNS, AXIS.seeds, {}, 5)
    snapshot = restore(killed, AXIS, LONG)
    with pytest.raises(ValueError, match="the checkpoint is of another model") as error:
        compiled.restore(snapshot.ids, snapshot.state, np.arange(5))
    assert_one_sentence(error)


# ---- the portable export ---------------------------------------------------------------------------------------------

CONFIG = {"task": "toy", "hidden": 3, "classes": ["Lamp5", "Pvalb"]}


@pytest.fixture
def variables():
    rng = np.random.default_rng(0)
    return {
        "params": {
            "body": {"w": rng.normal(size=(2, 5, 3)).astype(np.float32)},
            "head": {"w": np.ones((2, 3), np.float16)},
        },
        "stats": {"steps": np.array([3, 4], np.int32)},
    }


def test_export_and_back(tmp_path, variables):
    folder = export(tmp_path / "deep" / "model", jax.tree.map(jax.numpy.asarray, variables), CONFIG)
    found, config = read_export(folder)
    assert config == CONFIG
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, variables)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_export_is_plain_numpy_and_json(tmp_path, variables):
    folder = export(tmp_path / "model", variables, CONFIG)
    with np.load(folder / "params.npz", allow_pickle=False) as file:
        assert set(file.files) == {"params/body/w", "params/head/w", "stats/steps"}
    assert json.loads((folder / "config.json").read_text()) == CONFIG


def test_export_overwrites_only_when_told(tmp_path, variables):
    export(tmp_path / "model", variables, CONFIG)
    with pytest.raises(ValueError, match="exists: choose another name or pass overwrite=True"):
        export(tmp_path / "model", variables, {"task": "other"})
    assert read_export(tmp_path / "model")[1] == CONFIG
    export(tmp_path / "model", variables, {"task": "other"}, overwrite=True)
    assert read_export(tmp_path / "model")[1] == {"task": "other"}


def test_failed_export_leaves_the_old_model_and_no_litter(tmp_path, variables):
    export(tmp_path / "model", variables, CONFIG)
    with pytest.raises(TypeError):
        export(tmp_path / "model", variables, {"not": object()}, overwrite=True)
    assert read_export(tmp_path / "model")[1] == CONFIG
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["params.npz", "config.json"])
def test_truncated_export_is_one_sentence(tmp_path, variables, name):
    folder = export(tmp_path / "model", variables, CONFIG)
    whole = (folder / name).read_bytes()
    for length in range(0, len(whole) - 2, max(1, len(whole) // 40)):
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is damaged: save it again") as error:
            read_export(folder)
        assert_one_sentence(error)


def test_export_with_a_flipped_byte_is_refused_or_harmless(tmp_path, variables):
    folder = export(tmp_path / "model", variables, CONFIG)
    whole = (folder / "params.npz").read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for place in rng.choice(len(whole), 300, replace=False):
        (folder / "params.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            found = read_export(folder)[0]
        except CheckpointError:
            refused += 1
        else:
            for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(variables), strict=True):
                np.testing.assert_array_equal(left, right)
    assert refused > 100


@pytest.mark.parametrize("name", ["params.npz", "config.json"])
def test_missing_part_of_an_export_is_named(tmp_path, variables, name):
    folder = export(tmp_path / "model", variables, CONFIG)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"is no saved model: {name} is missing"):
        read_export(folder)


def test_folder_that_is_no_model_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"is no saved model: config.json is missing"):
        read_export(tmp_path / "nowhere")
