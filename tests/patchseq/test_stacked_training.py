"""Training of each network in a stack of runs, as on an accelerator: equal to the runs one after the other, and to each run alone."""

from functools import cache, partial

import jax
import numpy as np
import pytest

from jaxephys.engine import devices
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import fit, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.packing import StatePacking
from jaxephys.engine.rows import pad_rows
from jaxephys.engine.step import init_run, run_chunk
from jaxephys.engine.task import Backend, Status
from jaxephys.evaluation.splits import hold_out
from jaxephys.patchseq.network.classifier import SubclassNetwork, TabularNetwork, TwoSpeciesNetwork
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.preprocessing import fit_signed_log, fit_z_score
from jaxephys.patchseq.task import (
    ABLATION,
    CellData,
    make_data,
    make_run_inputs,
    make_tabular_inputs,
    make_tabular_task,
    make_task,
)
from jaxephys.patchseq.transfer_task import TransferRun, make_transfer_data, make_transfer_inputs, make_transfer_task
from jaxephys.schemas.feature_table import FeatureTable

FAMILIES, CELLS, RUNS, SLOTS = {"isi": 4, "psth": 3, "width": 5}, 60, 3, 8
STEPS = TrainConfig(batch_size=32, chunk_epochs=1, monitor="macro_f1")  # an epoch of two steps
NETWORKS = ("published", "ours", "tabular", "two species")
LONG = [pytest.param(name, marks=[pytest.mark.slow] * (name in ("tabular", "two species"))) for name in NETWORKS]


@cache
def setting(name):
    """Task, data and inputs of three runs: with and without attention, and with ArcFace where there is a choice."""
    rng = np.random.default_rng(0)
    values = rng.normal(2, 3, size=(CELLS, sum(FAMILIES.values()))).astype(np.float32)
    values[::7, 1] = np.nan
    label = np.array(["Pvalb", "Sst", "Vip"])[np.arange(CELLS) % 3]
    species = np.array(["human", "mouse", "mouse"])[np.arange(CELLS) % 3 - 1]
    table = FeatureTable.from_arrays(values, FAMILIES, label, species=species)
    layout = RaggedLayout.from_widths(table.widths)
    splits = [hold_out(table.codes(), seed, validation=0.2, test=0.2) for seed in range(RUNS)]
    if name == "tabular":
        network, data = TabularNetwork(3, hidden=8), CellData(table.values, table.codes())
        return make_tabular_task(network, values.shape[1]), data, make_tabular_inputs(table, splits)
    if name == "two species":
        human, mouse = np.flatnonzero(species == "human"), np.flatnonzero(species == "mouse")
        runs = [TransferRun(human[:8], human[8:], mouse[:32], alpha) for alpha in (0.0, 0.5, 1.0)]
        inputs = make_transfer_inputs(table, runs)
        return make_transfer_task(TwoSpeciesNetwork(layout, 3, hidden=4)), make_transfer_data(table), inputs
    token = 6 if name == "ours" else None
    variants = [ABLATION[name] for name in ("bilstm", "attention", "arcface+smote")]
    fit_scale = fit_z_score if token is None else fit_signed_log
    inputs = make_run_inputs(table, splits, variants, range(RUNS), fit_scale=fit_scale)
    return make_task(SubclassNetwork(layout, 3, hidden=4, token=token)), make_data(table), inputs


def train(name, slots, execution, ended=()):
    """Train one epoch of the runs in the slots, in the form for accelerators. Return the states before and after, and the record."""
    task, data, inputs = setting(name)
    backend = Backend("cpu", execution, "float32")
    task = devices.task_for_backend(task, Backend("gpu", "vmap", "float32"))
    inputs = take_runs(inputs._replace(train=pad_rows(inputs.train, 64)), slots)
    mesh = devices.make_mesh(1)
    start = devices.map_over_runs(lambda _, seed: init_run(task, STEPS, seed, {}), mesh, backend=backend)
    before = start(None, np.asarray(slots, np.int32))
    status = np.where(np.isin(np.arange(len(slots)), ended), int(Status.FINISHED), int(Status.RUNNING))
    before = before._replace(status=status.astype(np.int32))
    program = devices.map_over_runs(partial(run_chunk, task, STEPS), mesh, backend=backend)
    after, record = program(data, inputs, before)
    return jax.tree.map(np.asarray, (before, after, record))


@cache
def stack(name):
    """Three runs in a stack of eight slots; the others have ended."""
    return train(name, [0, 1, 2, *[0] * (SLOTS - RUNS)], "vmap", ended=range(RUNS, SLOTS))


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", LONG)
def test_a_padded_stack_trains_as_runs_one_after_the_other(name):
    _, after, record = stack(name)
    _, one_by_one, each = train(name, [0, 1, 2], "map")
    assert (np.asarray(each.epoch) == 1).all()
    assert_close(take_runs((after, record), range(RUNS)), (one_by_one, each))


@pytest.mark.parametrize("name", LONG)
def test_a_run_of_a_stack_is_the_run_alone(name):
    _, after, record = stack(name)
    _, alone, its_record = train(name, [2], "vmap")
    assert_close(take_runs((after, record), [2]), (alone, its_record))


@pytest.mark.parametrize("name", NETWORKS)
def test_ended_runs_of_a_stack_stay_as_they_are(name):
    before, after, _ = stack(name)
    rest = range(RUNS, SLOTS)
    jax.tree.map(np.testing.assert_array_equal, take_runs(before, rest), take_runs(after, rest))
    changed = jax.tree.map(
        lambda a, b: (a != b).any(), *(take_runs(some.params, range(RUNS)) for some in (before, after))
    )
    assert any(jax.tree.leaves(changed))


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_program_of_a_gpu_has_no_scatter(name, precision):
    """A scatter-add sums in any order, so that a run would not give the same bits twice."""
    task, data, inputs = setting(name)
    backend = Backend("gpu", "vmap", precision)
    task, one = devices.task_for_backend(task, backend), jax.tree.map(lambda leaf: leaf[0], inputs)
    one = one._replace(train=pad_rows(one.train, 64))
    state = jax.eval_shape(partial(init_run, task, STEPS), np.int32(0), {})
    packing, mesh = StatePacking(state, STEPS), devices.make_mesh(1)
    program = devices.map_over_runs(partial(run_chunk, packing.task(task), STEPS), mesh, backend=backend)
    runs = (devices.abstract_runs(tree, mesh, 4) for tree in (one, jax.eval_shape(packing.pack, state)))
    text = program.lower(data, *runs).as_text()
    assert "stablehlo.dot_general" in text and text.count("stablehlo.scatter") == 0
    assert ("bf16" in text) == (precision == "bfloat16")


def test_runs_of_different_dropout_are_one_program_and_each_is_as_alone():
    task, data, inputs = setting("ours")
    inputs, config = take_runs(inputs, [0, 0, 0]), TrainConfig(max_epochs=2, batch_size=32, chunk_epochs=2)
    rates = np.float32([0.0, 0.2, 0.7])
    inputs = inputs._replace(constants=inputs.constants._replace(dropout=rates))
    together = fit(
        task, data, inputs, RunGrid(("dropout", "seed"), tuple((rate, 0) for rate in rates.tolist())), config
    )
    loss = together.history["train_loss"]
    assert len(np.unique(loss[:, 0])) == 3
    alone = fit(task, data, take_runs(inputs, [1]), RunGrid.cross(seed=[0]), config)
    np.testing.assert_array_equal(alone.history["train_loss"][0], loss[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_searchable_hyperparameters_are_numbers_of_the_runs(name):
    task, _, inputs = setting(name)
    assert "dropout" in task.searchable
    assert task.searchable == devices.task_for_backend(task, Backend("gpu", "vmap", "tf32")).searchable
    for field in task.searchable:
        assert getattr(inputs.constants, field).shape == (RUNS,)
