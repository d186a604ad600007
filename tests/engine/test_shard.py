"""Four devices give the numbers of one, and never speak to one another."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxephys.engine import shard
from jaxephys.engine.apply import score
from jaxephys.engine.fit import fit
from jaxephys.engine.stack import Programs
from tests.engine.toy import DATA, PLAN, TASK, make_grid

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
EXECUTIONS = ("map", "vmap")
FIVE = make_grid(range(5))


def train_and_save(path):
    """Runs in a fresh interpreter too: fits of five runs, their test scores and the programs' text."""
    axis, runs = FIVE
    kept = {"devices": jax.device_count()}
    for execution in EXECUTIONS:
        plan = replace(PLAN, execution=execution, max_epochs=6, chunk_epochs=3)
        result = fit(TASK, DATA, runs, axis, plan)
        scores = score(TASK, DATA, result.best, runs.validation, runs.constants)
        outcome = result.outcome._replace(best=())
        trees = {"outcome": outcome._asdict(), "history": result.history, "best": result.best, "score": scores}
        for name, leaf in jax.tree_util.tree_leaves_with_path(trees):
            kept[f"{execution}{jax.tree_util.keystr(name)}"] = leaf
        programs = Programs(TASK, replace(plan, run_batch=5), DATA, runs, axis.seeds, {}, len(axis))
        kept[f"{execution} text"] = programs.lower(programs.capacity).compile().as_text()
        kept[f"{execution} capacity"] = programs.capacity
        kept[f"{execution} how"] = result.execution
    np.savez(path, **kept)


def in_fresh_interpreter(devices, folder):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    path = folder / f"{devices}.npz"
    code = f"from tests.engine.test_shard import train_and_save; train_and_save({str(path)!r})"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env={**os.environ, **flags})
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    return {devices: in_fresh_interpreter(devices, folder) for devices in (1, 4)}


def test_the_interpreters_had_one_and_four_devices(fits):
    assert [int(fits[devices]["devices"]) for devices in (1, 4)] == [1, 4]
    assert [int(fits[devices]["map capacity"]) for devices in (1, 4)] == [5, 8]
    assert str(fits[4]["vmap how"]) == "runs stacked (vmap) on 4 cpu devices"
    assert str(fits[1]["map how"]) == "runs one after the other (lax.map) on 1 cpu device"


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_four_devices_give_the_numbers_of_one(fits, execution):
    names = [name for name in fits[1] if name.startswith(execution) and "[" in name]
    assert len(names) > 12
    for name in names:
        np.testing.assert_allclose(fits[4][name], fits[1][name], rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_program_on_four_devices_holds_no_collective(fits, execution):
    text = str(fits[4][f"{execution} text"])
    assert "num_partitions=4" in text
    assert not [word for word in COLLECTIVES if word in text]


def test_mesh_has_at_most_one_device_a_run():
    assert shard.make_mesh(1).size == 1
    assert shard.make_mesh(1000).size == len(jax.local_devices())
    assert shard.make_mesh(0).size == 1


def test_unknown_device_is_refused():
    with pytest.raises(ValueError, match="unknown device 'cuda': choose cpu, gpu or tpu"):
        shard.choose_platform("cuda")


def test_half_a_cluster_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
    with pytest.raises(ValueError, match="set both JAX_NUM_PROCESSES and JAX_PROCESS_ID"):
        shard.join_hosts()


def test_results_come_back_in_the_order_of_the_axis():
    tree = {"a": np.array([[2.0], [0.0], [1.0]])}
    np.testing.assert_array_equal(shard.gather_hosts(tree, np.array([2, 0, 1]), 3)["a"], [[0.0], [1.0], [2.0]])
    np.testing.assert_array_equal(shard.own_share(3), [0, 1, 2])
    assert shard.is_first_host()
    assert shard.agree("runs/a") == "runs/a"
