"""Plans of trainings, made without training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxephys.engine import devices, memory
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.operations import Counts, count
from jaxephys.engine.run_log import RunResult
from jaxephys.engine.run_stack import CompiledGrid
from jaxephys.engine.step import init_run, join_variables, run_epoch
from jaxephys.engine.task import PyTree, RunInputs, Status, Task

_active: ContextVar[list | None] = ContextVar("plans", default=None)


class UncompiledGrid(CompiledGrid):
    def _choose_capacity(self, max_runs):
        if self.config.run_batch is not None:
            return self._round_up(min(max_runs, self.config.run_batch))
        inputs, state = self._one_run
        return self._round_up(min(max_runs, self.mesh.size * memory.runs_that_fit(self.device, state, inputs, self.data)))


@dataclass
class TrainingPlan:
    title: str
    n_runs: int
    n_parameters: int
    state_bytes: int
    input_bytes: int
    data_bytes: int
    capacity: int
    n_devices: int
    backend: Any
    config: TrainConfig
    steps: np.ndarray
    counts: Counts
    init_equations: int
    trace_seconds: float


def active():
    return _active.get()


@contextmanager
def planning():
    plans = []
    token = _active.set(plans)
    try:
        yield plans
    finally:
        _active.reset(token)


def record(title, task, data, inputs, grid, config, initial):
    c = UncompiledGrid(task, config, data, inputs, grid.seeds, {} if initial is None else initial, len(grid))
    one, state = c._one_run
    start = time.perf_counter()
    traced = jax.make_jaxpr(partial(run_epoch, c.packing.task(c.task), config))(c.data, one, jax.eval_shape(c.packing.pack, state))
    seconds = time.perf_counter() - start
    counts = count(traced.jaxpr)
    initjaxpr = jax.make_jaxpr(partial(init_run, c.task, config))(np.int32(0), jax.tree.map(lambda l: np.asarray(l)[0], c.initial))
    steps = -(-np.sum(inputs.train.weight > 0, axis=1) // config.batch_size)
    plan = TrainingPlan(title, len(grid), sum(int(np.prod(x.shape)) for x in jax.tree.leaves(state.params)),
        memory.size_in_bytes(state), memory.size_in_bytes(one), memory.size_in_bytes(c.data), c.capacity, c.mesh.size, c.backend,
        config, steps, counts, count(initjaxpr.jaxpr).equations, seconds)
    _active.get().append(plan)
    variables = join_variables(state.params, state.mutables)
    best = stand_in(jax.tree.map(lambda l: jax.ShapeDtypeStruct((len(grid), *l.shape), l.dtype), variables))
    ones = np.ones(len(grid), np.float32)
    result = RunResult(best, ones, ones.astype(np.int32), ones.astype(np.int32), np.full(len(grid), Status.FINISHED, np.int32))
    epoch = jax.eval_shape(partial(run_epoch, c.packing.task(c.task), config), c.data, one, jax.eval_shape(c.packing.pack, state))[1]
    history = {name: np.ones((len(grid), config.max_epochs), np.float32) for name in epoch.measured}
    return result, history


def stand_in(shapes):
    return jax.tree.map(lambda l: np.ones(l.shape, l.dtype), shapes)
