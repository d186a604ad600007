"""Stacks of runs of the real networks with their real losses: vmap and map, alone and together, padded, ended; and their programs."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.devices import put_on_mesh
from jaxephys.engine.run_stack import PADDING, CompiledGrid, RunStack
from jaxephys.engine.task import Backend, RunInputs, Status
from jaxephys.spikes import attention
from jaxephys.spikes.backend import network_for_backend
from jaxephys.spikes.history import Filters
from jaxephys.spikes.network import PopulationTransformer, PublishedLayer
from jaxephys.spikes.preprocessing import make_data
from jaxephys.spikes.task import Objective, make_run_inputs, make_task
from tests.spikes.synthetic import synthetic_recording

UNITS, LENGTH, RUNS = 6, 40, 8
RECORDINGS = [synthetic_recording(seed, bins=800) for seed in range(2)]
SOURCES = [run % 2 for run in range(RUNS)]
FILTERS = Filters(tau_ms=(2.0, 30.0, 3000.0))
POPULATION: dict[str, Any] = dict(width=8, heads=2, window=20, hidden=12, unit_width=8, filters=FILTERS)
NETWORKS = {
    "published": (PublishedLayer(UNITS, heads=3, hidden=8), ["dice", "focal", "published_dice"]),
    "population": (PopulationTransformer(**POPULATION), ["bce", "focal", "dice_bce"]),
    "units": (PopulationTransformer(UNITS, **POPULATION), ["bce"]),
}
BATCH = 5  # two optimizer steps an epoch
CONFIG = TrainConfig(
    1, None, monitor="average_precision", batch_size=BATCH, learning_rate=0.01, warmup_steps=2, chunk_epochs=1
)


def run_inputs(kind: str) -> RunInputs:
    losses = NETWORKS[kind][1]
    names = [losses[run % len(losses)] for run in range(RUNS)]
    focal = [{"gamma": 1.0 + run / 4, "alpha": 0.6} if name == "focal" else {} for run, name in enumerate(names)]
    objectives = [Objective(name, **options) for name, options in zip(names, focal, strict=True)]
    inputs = make_run_inputs(RECORDINGS, SOURCES, objectives, LENGTH, batch_size=BATCH)
    dropout = np.array([-1, 0.3, -1, 0.0] * (RUNS // 4), np.float32)
    return inputs._replace(constants=inputs.constants._replace(dropout=dropout))


@cache
def compiled(kind: str, execution: str, runs: tuple[int, ...] = tuple(range(RUNS))) -> CompiledGrid:
    network, losses = NETWORKS[kind]
    task = make_task(network, UNITS, [Objective(loss) for loss in losses], LENGTH, n_entries=32)
    inputs = jax.tree.map(lambda leaf: leaf[np.array(runs)], run_inputs(kind))
    data = jax.tree.map(jnp.asarray, make_data(RECORDINGS, network.filters, LENGTH))
    config = replace(CONFIG, execution=execution, run_batch=len(runs))
    return CompiledGrid(task, config, data, inputs, np.array(runs, np.int32), {}, len(runs))


def trained(kind: str, execution: str, runs: tuple[int, ...] = tuple(range(RUNS))) -> dict[int, Any]:
    """State of each run after an epoch of two steps, and its record."""
    grid = compiled(kind, execution, runs)
    stack = grid.start(range(len(runs)))
    record = jax.device_get(grid.advance(stack))
    states = jax.device_get(stack.state)
    return {run: jax.tree.map(lambda leaf, i=i: np.array(leaf[i]), (states, record)) for i, run in enumerate(runs)}


def assert_close(kind: str, found: Any, wanted: Any) -> None:
    """Compare by the loss of training and by validation, and parameters where their gradient is not rounding alone."""
    for name, value in wanted[1].measured.items():
        np.testing.assert_allclose(found[1].measured[name], value, rtol=2e-4, atol=2e-5, err_msg=f"{kind} {name}")
    np.testing.assert_allclose(found[0].params["float32"], wanted[0].params["float32"], atol=1e-5)


@pytest.mark.parametrize("kind", ["published", "population"])
def test_two_steps_stacked_equal_two_steps_one_run_after_the_other(kind):
    stacked, one_by_one = trained(kind, "vmap"), trained(kind, "map")
    for run in range(RUNS):
        assert_close(kind, stacked[run], one_by_one[run])


@pytest.mark.parametrize("kind", ["published", "population"])
def test_a_run_of_a_stack_equals_the_same_run_alone(kind):
    together, alone = trained(kind, "vmap"), trained(kind, "vmap", (5,))
    assert_close(kind, together[5], alone[5])
    assert not np.allclose(together[5][0].params["float32"], together[3][0].params["float32"])


@pytest.mark.parametrize("kind", ["published", "population"])
def test_padding_slots_change_nothing_and_stay_frozen(kind):
    grid, full = compiled(kind, "vmap"), trained(kind, "vmap")
    ids = np.array([0, 1, 2] + [PADDING] * (RUNS - 3), np.int32)
    started = grid.start(range(RUNS))
    before = jax.tree.map(lambda leaf: np.array(leaf)[np.maximum(ids, 0)], jax.device_get(started.state))
    before = before._replace(status=np.where(ids == PADDING, int(Status.FINISHED), before.status).astype(np.int32))
    stack = RunStack(ids, put_on_mesh(before, grid.mesh, split=True), started.inputs)
    grid.advance(stack)
    after = jax.device_get(stack.state)
    for run in range(3):
        jax.tree.map(lambda a, b, run=run: np.testing.assert_array_equal(a[run], b), after, full[run][0])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[3:], b[3:]), after, before)


@pytest.mark.parametrize("kind", ["published", "population"])
def test_ended_runs_stay_frozen(kind):
    grid = compiled(kind, "vmap")
    stack = grid.start(range(RUNS))
    grid.advance(stack)
    ended = jax.tree.map(np.array, jax.device_get(stack.state))
    assert (ended.status == Status.FINISHED).all()
    record = jax.device_get(grid.advance(stack))
    assert (record.epoch == 0).all()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(stack.state), ended)


def scatter_adds(text: str) -> int:
    """Number of scatters that add in a program. Those that only write, as an updated slice under vmap does, are harmless."""
    return sum("stablehlo.add" in part.split("}) :")[0] for part in text.split('"stablehlo.scatter"')[1:])


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_program_of_a_gpu_adds_nothing_by_scatter(kind, precision, monkeypatch):
    """A parallel scatter adds in an order that differs from call to call."""
    monkeypatch.setattr(attention, "cudnn_attention", attention.blocked_attention)
    network, losses = NETWORKS[kind]
    task = make_task(network, UNITS, [Objective(loss) for loss in losses], LENGTH, n_entries=32)
    assert task.for_backend is not None
    data = jax.tree.map(jnp.asarray, make_data(RECORDINGS, network.filters, LENGTH))
    inputs, counts = jax.tree.map(jnp.asarray, run_inputs(kind)), {}
    for platform in ("cpu", "gpu"):
        special = task.for_backend(Backend(platform, "vmap", precision))

        def step(rows, constants, key, special=special):
            variables, batch = special.init(key), special.gather(data, constants, rows, key)
            gradient = jax.grad(lambda variables: special.loss(variables, batch, key)[0])(variables)
            return gradient, special.validate(variables, data, constants, rows)

        keys = jax.random.split(jax.random.key(0), RUNS)
        lowered = jax.jit(jax.vmap(step)).lower(inputs.validation, inputs.constants, keys)
        counts[platform] = scatter_adds(lowered.as_text())
    assert counts["gpu"] == 0 < counts["cpu"]


@pytest.mark.parametrize("kind", ["published", "units"])
@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-4), ("bfloat16", 0.15)])
def test_forms_of_a_network_compute_the_same(kind, precision, tolerance, monkeypatch):
    """Logits, gradients and validation scores, in float32 and within the rounding of bfloat16."""
    monkeypatch.setattr(attention, "cudnn_attention", attention.blocked_attention)
    network, losses = NETWORKS[kind]
    inputs = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), run_inputs(kind))
    data = jax.tree.map(jnp.asarray, make_data(RECORDINGS, network.filters, LENGTH))
    task = make_task(network, UNITS, [Objective(loss) for loss in losses], LENGTH, n_entries=32)
    assert task.for_backend is not None
    variables = jax.jit(task.init)(jax.random.key(1))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), variables)
    rows = jax.tree.map(lambda leaf: leaf[:BATCH], inputs.train)

    def measure(task):
        batch = task.gather(data, inputs.constants, rows, jax.random.key(2))
        gradient = jax.grad(lambda variables: task.loss(variables, batch, jax.random.key(3))[0])(variables)
        scores = task.validate(variables, data, inputs.constants, inputs.validation)
        return task.outputs(variables, batch), gradient, scores

    wanted = jax.jit(lambda: measure(task))()
    special = task.for_backend(Backend("gpu", "vmap", precision))
    logits, gradient, scores = jax.jit(lambda: measure(special))()
    assert logits.dtype == jnp.float32 and all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose(logits, wanted[0], atol=tolerance)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted[1]))
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted[1]), strict=True):
        np.testing.assert_allclose(one / scale, other / scale, atol=tolerance)
    for name in scores:
        np.testing.assert_allclose(scores[name], wanted[2][name], atol=tolerance, rtol=tolerance, err_msg=name)


def test_a_wrapped_network_gets_the_form_too():
    from jaxephys.spikes.attribution import AlteredAttention

    network = network_for_backend(AlteredAttention(NETWORKS["published"][0], "none"), Backend("gpu", "vmap", "tf32"))
    assert network.network.form.attention == "cudnn" and network.network.form.dtype == "float32"
