"""The real systems at benchmark size: what is trained, ready for the engine. All benchmarks of training take their cases from here.

`build` returns the task, data, inputs, grid and config of a system. `Problem.compiled_grid` is the training program of the engine on the
devices of this machine; `benchmarks.compiled` compiles the same program for a device that is not at hand.

patchseq            LayerNorm + BiLSTM + attention on the family widths of the paper, batch 64
hippie              the published architecture and objective, batch 128
hippie-ours         the same network with our objective
spikes-published    the published layer on windows of 3,125 bins, batch 16
spikes-population   the population network on windows of 512 bins, batch 8
embedding           HIPPIE's embedding of units, without training
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxephys.engine import devices
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import _prepare
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.packing import StatePacking
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.run_stack import CompiledGrid
from jaxephys.engine.step import init_run, run_chunk
from jaxephys.engine.task import Backend, PyTree, RunInputs, Task
from jaxephys.evaluation.splits import Split
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.recording import Recording

PAPER_WIDTHS = (150, 149, 100, 150, 150, 150, 150, 150, 150, 420, 140, 150)  # features of the families
PADDED = 498  # width that the published layer normalization assumes for every family
LENGTHS = {"wave": 50, "isi": 100, "acg": 100}
EPOCHS = 10_000  # no run ends while it is measured


class Problem(NamedTuple):
    """What a system trains.

    Parameters
    ----------
    task : Task
        Its functions.
    data : tree of arrays
        Data that all runs share.
    inputs : RunInputs (n_runs, ...)
        Rows and constants of the runs.
    grid : RunGrid
        The runs.
    config : TrainConfig
        Settings of training.
    steps : int
        Optimizer steps of an epoch, the same for all runs; for an embedding, blocks of units.
    one_copy : tuple of tuples of int
        Shapes of the parts of the data of which a program should not hold a copy for each run.
    """

    task: Task
    data: PyTree
    inputs: RunInputs
    grid: RunGrid
    config: TrainConfig
    steps: int
    one_copy: tuple[tuple[int, ...], ...]

    def compiled_grid(self) -> CompiledGrid:
        """Return the training of all runs at once on the devices of this machine.

        Returns
        -------
        CompiledGrid
            ``start`` gives a stack of runs, and ``advance`` trains a chunk of epochs.
        """
        return CompiledGrid(self.task, self.config, self.data, self.inputs, self.grid.seeds, {}, len(self.grid))


def build(
    system: str,
    runs: int = 1,
    execution: str = "auto",
    precision: str = "auto",
    *,
    small: bool = False,
    **sizes: int,
) -> Problem:
    """Build a system at benchmark size.

    Parameters
    ----------
    system : str
        One of `SYSTEMS`.
    runs : int
        Number of runs, which differ in their seed.
    execution, precision : str
        As in `TrainConfig`.
    small : bool
        Whether the sizes are by default those of tests, which compile and run in seconds on a CPU.
    **sizes : int
        Sizes that replace those of `SIZES` or `SMALL_SIZES`, such as ``width``, ``batch``, ``steps`` or ``chunk`` (epochs of a call).

    Returns
    -------
    Problem
        The system with random data.

    Raises
    ------
    ValueError
        If the system is unknown or has no such size.
    """
    if system not in SYSTEMS:
        raise ValueError(f"there is no system {system!r}: choose from {', '.join(SYSTEMS)}")
    known = SIZES[system] | (SMALL_SIZES[system] if small else {})
    if unknown := set(sizes) - set(known):
        raise ValueError(f"{system} has no size {unknown.pop()!r}: it has {', '.join(known)}")
    chosen = known | sizes
    options: dict[str, Any] = {"execution": execution, "precision": precision, "run_batch": runs}
    options |= {"max_epochs": EPOCHS, "patience": None, "chunk_epochs": chosen["chunk"], "batch_size": chosen["batch"]}
    problem = SYSTEMS[system](runs, chosen, TrainConfig(**options))
    return problem._replace(inputs=_prepare(problem.inputs, problem.grid, problem.config, None))


def _build_patchseq(runs: int, sizes: Mapping[str, int], config: TrainConfig) -> Problem:
    from jaxephys.patchseq.network.classifier import SubclassNetwork
    from jaxephys.patchseq.network.ragged_layout import RaggedLayout
    from jaxephys.patchseq.task import Variant, make_data, make_run_inputs, make_task

    rng, widths = np.random.default_rng(0), PAPER_WIDTHS[: sizes["families"]]
    widths = tuple(max(1, width * sizes["features"] // 100) for width in widths)
    values = rng.normal(size=(sizes["cells"], sum(widths))).astype(np.float32)
    codes = np.resize(np.arange(5), len(values)).astype(np.int32)
    table = FeatureTable.from_arrays(values, {f"family_{i}": width for i, width in enumerate(widths)}, codes)
    layout = RaggedLayout.from_widths(table.widths, max(PADDED * sizes["features"] // 100, max(widths)))
    rows = np.arange(sizes["steps"] * sizes["batch"])
    splits = [Split(rows, rows[-sizes["batch"] :], rows[:0])] * runs
    variants = [Variant()] * runs
    inputs = make_run_inputs(table, splits, variants, range(runs))
    task = make_task(SubclassNetwork(layout, len(table.classes), sizes["width"]))
    data = make_data(table)
    grid = RunGrid.cross(seed=range(runs))
    return Problem(task, data, inputs, grid, config, sizes["steps"], (data.packed.shape,))


def _make_units(n_units: int) -> tuple[Any, np.ndarray]:
    """Units with random curves, and their classes."""
    from jaxephys.hippie.task import UnitArrays

    rng = np.random.default_rng(0)
    curves = {name: rng.uniform(-1, 1, (n_units, length)).astype(np.float32) for name, length in LENGTHS.items()}
    data = UnitArrays(curves, np.ones((n_units, 3), bool), np.zeros(n_units, np.int32))
    return data, rng.integers(5, size=n_units).astype(np.int32)


def _make_network(sizes: Mapping[str, int]) -> Any:
    from jaxephys.hippie.network.cvae import ConditionalVAE

    return ConditionalVAE(latent=sizes["latent"], width=sizes["width"], sources=4, classes=5, mask_token=False)


def _build_hippie(runs: int, sizes: Mapping[str, int], config: TrainConfig, *, published: bool = True) -> Problem:
    from jaxephys.hippie.task import OURS, PUBLISHED, make_run_inputs, make_task

    # Augmentation is left out of the published objective, as in the measurement of PyTorch.
    objective = replace(PUBLISHED, warm_up=0.0, augmentation="off") if published else OURS
    rows = np.arange(sizes["steps"] * sizes["batch"])
    data, codes = _make_units(
        len(rows) + 7
    )  # not a multiple of the batch: copies of the data are recognized by their size
    splits, objectives = [Split(rows, rows[: sizes["batch"]], rows[:0])] * runs, [objective] * runs
    inputs = make_run_inputs(codes, splits, objectives, batch_size=sizes["batch"])
    task = make_task(_make_network(sizes), objectives)
    config = replace(config, monitor="loss", mode="min", weight_decay=0.01, clip_norm=1.0)
    shapes = tuple(curve.shape for curve in data.curves.values())
    return Problem(task, data, inputs, RunGrid.cross(seed=range(runs)), config, sizes["steps"], shapes)


def _build_embedding(runs: int, sizes: Mapping[str, int], config: TrainConfig) -> Problem:
    from jaxephys.hippie.task import make_task

    data, _ = _make_units(sizes["units"])
    rows = stack_rows([plain_rows(np.arange(sizes["units"]))] * runs)
    task = make_task(_make_network(sizes))
    steps = -(-sizes["units"] // sizes["batch"])
    shapes = tuple(curve.shape for curve in data.curves.values())
    return Problem(task, data, RunInputs(rows, rows), RunGrid.cross(seed=range(runs)), config, steps, shapes)


def _build_spikes(runs: int, sizes: Mapping[str, int], config: TrainConfig, *, published: bool) -> Problem:
    from jaxephys.spikes.network import PopulationTransformer, PublishedLayer
    from jaxephys.spikes.preprocessing import make_data
    from jaxephys.spikes.task import Objective, make_run_inputs, make_task

    network: Any = PopulationTransformer(width=sizes["width"])
    if published:
        network = PublishedLayer(sizes["units"], sizes["heads"], sizes["width"])
    length, n_validation = sizes["length"], 4
    train_bins = length * sizes["batch"] * sizes["steps"] + 1
    stop = train_bins + (n_validation + 2) * length
    splits = np.array([[0, train_bins], [train_bins, stop], [stop, stop + length]])
    # One recording less than runs, so that the data can be distinguished by their size from a copy of a recording for each run.
    rng, sources = np.random.default_rng(0), np.arange(runs) % np.clip(runs - 1, 1, 11)
    recordings = [
        Recording.from_array((rng.random((stop + length, sizes["units"])) < 0.01).astype(np.uint8), splits=splits)
        for _ in range(sources.max() + 1)
    ]
    objectives = [Objective("dice" if published else "bce")] * runs
    inputs = make_run_inputs(recordings, sources.tolist(), objectives, length, batch_size=sizes["batch"])
    data = make_data(recordings, network.filters, length)
    task = make_task(network, sizes["units"], objectives, length)
    config = replace(config, monitor="bits_per_spike", learning_rate=0.005, weight_decay=0.0)
    grid, steps = RunGrid.cross(seed=range(runs)), inputs.train.index.shape[1] // sizes["batch"]
    return Problem(task, data, inputs, grid, config, steps, (data.packed.shape[1:],))


SYSTEMS: dict[str, Callable[[int, Mapping[str, int], TrainConfig], Problem]] = {
    "patchseq": _build_patchseq,
    "hippie": _build_hippie,
    "hippie-ours": partial(_build_hippie, published=False),
    "spikes-published": partial(_build_spikes, published=True),
    "spikes-population": partial(_build_spikes, published=False),
    "embedding": _build_embedding,
}
_HIPPIE_SIZES = {"width": 16, "latent": 30, "batch": 128, "steps": 8, "chunk": 2}
_SMALL_HIPPIE = {"width": 2, "latent": 4, "batch": 16, "steps": 2}
SIZES: dict[str, dict[str, int]] = {
    "patchseq": {"width": 128, "families": 12, "features": 100, "cells": 3699, "batch": 64, "steps": 50, "chunk": 5},
    "hippie": _HIPPIE_SIZES,
    "hippie-ours": _HIPPIE_SIZES,
    "spikes-published": {"width": 128, "heads": 16, "units": 128, "length": 3125, "batch": 16, "steps": 4, "chunk": 2},
    "spikes-population": {"width": 32, "units": 128, "length": 512, "batch": 8, "steps": 4, "chunk": 2},
    "embedding": {"width": 64, "latent": 30, "units": 100_000, "batch": 256, "chunk": 1},
}
SMALL_SIZES: dict[str, dict[str, int]] = {
    "patchseq": {"width": 8, "families": 3, "features": 5, "cells": 101, "batch": 16, "steps": 3},
    "hippie": _SMALL_HIPPIE,
    "hippie-ours": _SMALL_HIPPIE,
    "spikes-published": {"width": 16, "heads": 2, "units": 16, "length": 40, "batch": 2, "steps": 2},
    "spikes-population": {"width": 8, "units": 16, "length": 40, "batch": 2, "steps": 2},
    "embedding": {"width": 2, "latent": 4, "units": 101, "batch": 32},
}


def embedding_variables(problem: Problem) -> PyTree:
    """Return untrained variables for the embedding of every run.

    Parameters
    ----------
    problem : Problem
        The system ``embedding``.

    Returns
    -------
    dict of arrays (n_runs, ...)
        Variables.
    """
    keys = jax.vmap(jax.random.key)(problem.grid.seeds)
    return jax.device_get(jax.jit(jax.vmap(problem.task.init))(keys))


def trace_chunk(problem: Problem, backend: Backend) -> Any:
    """Trace the engine's program of a chunk of epochs of one run, without compiling it.

    Parameters
    ----------
    problem : Problem
        What is trained.
    backend : Backend
        What the program is traced for.

    Returns
    -------
    jax.extend.core.ClosedJaxpr
        The program.
    """
    chunk, inputs, state = chunk_program(problem, backend)
    return jax.make_jaxpr(chunk)(problem.data, inputs, state)


def chunk_program(problem: Problem, backend: Backend) -> tuple[Callable, PyTree, PyTree]:
    """Return the function of one run that the engine compiles to train a chunk of epochs.

    Parameters
    ----------
    problem : Problem
        What is trained.
    backend : Backend
        What the program is compiled for.

    Returns
    -------
    function : callable
        ``function(data, inputs, state)``.
    inputs, state : tree of arrays
        Inputs of the first run, and the shapes of its packed state.
    """
    task = devices.task_for_backend(problem.task, backend)
    inputs, seed = jax.tree.map(lambda leaf: leaf[0], (problem.inputs, problem.grid.seeds))
    state = jax.eval_shape(partial(init_run, task, problem.config), seed, {})
    packing = StatePacking(state, problem.config)
    return partial(run_chunk, packing.task(task), problem.config), inputs, jax.eval_shape(packing.pack, state)
