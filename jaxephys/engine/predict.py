"""predict and score: what trained runs say about rows, for all runs at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from jaxephys.engine import devices
from jaxephys.engine.rows import over_blocks
from jaxephys.engine.task import PyTree, RowSet, Task, Variables

Run = tuple[Variables, RowSet, PyTree]


def predict(
    task: Task, data: PyTree, variables: Variables, rows: RowSet, constants: PyTree = (), *, block: int = 256
) -> PyTree:
    """``task.outputs`` of every run on its own rows: a tree of [run, row, ...], padding rows included."""
    return _apply(_say, (task, block), data, (variables, rows, constants))


def score(
    task: Task, data: PyTree, variables: Variables, rows: RowSet, constants: PyTree = ()
) -> dict[str, Float[np.ndarray, "run"]]:
    """``task.validate`` of every run on its own rows, such as the test rows that ``fit`` has never seen."""
    return _apply(_judge, (task,), data, (variables, rows, constants))


def _say(task: Task, block: int, data: PyTree, run: Run) -> PyTree:
    variables, rows, constants = run
    return over_blocks(lambda some: task.outputs(variables, task.gather(data, constants, some, None)), rows, block)


def _judge(task: Task, data: PyTree, run: Run) -> dict[str, PyTree]:
    variables, rows, constants = run
    return task.validate(variables, data, constants, rows)


def _apply(what: Callable, bound: tuple, data: PyTree, stacked: Run) -> PyTree:
    """Each host computes its share, split over its devices; the results meet on every host."""
    devices.use_all_cores()
    total = len(jax.tree.leaves(stacked)[0])
    local_runs = devices.local_run_indices(total)
    mesh = devices.make_mesh(len(local_runs))
    slots = np.resize(local_runs, -(-len(local_runs) // mesh.size) * mesh.size)  # the last device may repeat a run
    stacked = jax.tree.map(lambda leaf: np.asarray(leaf)[slots], stacked)
    out = _program(what, bound, mesh)(devices.place(data, mesh, split=False), devices.place(stacked, mesh, split=True))
    return devices.gather_hosts(jax.tree.map(lambda leaf: np.asarray(leaf)[: len(local_runs)], out), local_runs, total)


@lru_cache(maxsize=8)  # asking again of other cells, as the attention maps do fifty times, compiles nothing
def _program(what: Callable, bound: tuple, mesh: Mesh) -> Callable:
    return devices.map_over_runs(partial(what, *bound), mesh, execution="map")
