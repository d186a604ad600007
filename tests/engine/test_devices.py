"""Four devices give the numbers of one, and their programs do not communicate."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxephys.engine import devices
from jaxephys.engine.fit import fit
from jaxephys.engine.predict import score
from jaxephys.engine.run_stack import CompiledGrid
from tests.engine.linear_task import DATA, TASK, TRAIN_CONFIG, make_grid

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
EXECUTIONS = ("map", "vmap")
FIVE = make_grid(range(5))


def config_for(execution):
    return replace(TRAIN_CONFIG, execution=execution, max_epochs=6, chunk_epochs=3)


def train(execution):
    """Every number of a fit of five runs and of their scores, by name."""
    grid, inputs = FIVE
    result = fit(TASK, DATA, inputs, grid, config_for(execution))
    scores = score(TASK, DATA, result.best, inputs.validation, inputs.constants)
    trees = {"run_results": result.run_results._asdict(), "history": result.history, "score": scores}
    return {f"{execution}{jax.tree_util.keystr(n)}": v for n, v in jax.tree_util.tree_leaves_with_path(trees)}


def train_and_save(path):
    """For a fresh interpreter: the numbers, and the text of the programs that made them."""
    grid, inputs = FIVE
    kept = {"devices": jax.device_count()}
    for execution in EXECUTIONS:
        kept |= train(execution)
        compiled = CompiledGrid(
            TASK, replace(config_for(execution), run_batch=5), DATA, inputs, grid.seeds, {}, len(grid)
        )
        kept[f"{execution} text"] = compiled.lower(compiled.capacity).compile().as_text()
        kept[f"{execution} capacity"] = compiled.capacity
        kept[f"{execution} how"] = compiled.describe()
    np.savez(path, **kept)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    environment = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    path = folder / "numbers.npz"
    code = f"from tests.engine.test_devices import train_and_save; train_and_save({str(path)!r})"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env={**os.environ, **environment})
    with np.load(path) as file:
        return dict(file)


def test_five_runs_are_split_over_four_devices(four):
    assert (four["devices"], four["map capacity"], four["vmap capacity"]) == (4, 8, 8)
    assert str(four["map how"]) == "runs one after the other (lax.map) on 4 cpu devices in float32"
    assert str(four["vmap how"]) == "runs stacked (vmap) on 4 cpu devices in float32"


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_four_devices_give_the_numbers_of_one(four, execution, monkeypatch):
    whole = devices.make_mesh
    monkeypatch.setattr(devices, "make_mesh", lambda n_runs: whole(1))
    one = train(execution)
    assert len(one) > 12
    for name, numbers in one.items():
        np.testing.assert_allclose(four[name], numbers, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_program_on_four_devices_holds_no_collective(four, execution):
    text = str(four[f"{execution} text"])
    assert "num_partitions=4" in text
    assert not [word for word in COLLECTIVES if word in text]


def test_mesh_has_at_most_one_device_a_run():
    assert devices.make_mesh(1).size == 1
    assert devices.make_mesh(1000).size == len(jax.local_devices())
    assert devices.make_mesh(0).size == 1


def test_unknown_device_is_refused():
    with pytest.raises(ValueError, match="unknown device 'cuda': choose cpu, gpu or tpu"):
        devices.choose_platform("cuda")


def test_half_a_cluster_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
    with pytest.raises(ValueError, match="set both JAX_NUM_PROCESSES and JAX_PROCESS_ID"):
        devices.initialize_distributed()


def test_results_are_returned_in_the_order_of_the_grid():
    tree = {"a": np.array([[2.0], [0.0], [1.0]])}
    np.testing.assert_array_equal(devices.gather_hosts(tree, np.array([2, 0, 1]), 3)["a"], [[0.0], [1.0], [2.0]])
    np.testing.assert_array_equal(devices.local_run_indices(3), [0, 1, 2])
    assert devices.is_first_host()
    assert devices.broadcast_text("runs/a") == "runs/a"
