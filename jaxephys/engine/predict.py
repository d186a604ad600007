"""predict and score: outputs and scores of all runs of a grid at once, on any rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from jaxephys.engine import devices
from jaxephys.engine.rows import map_row_blocks
from jaxephys.engine.task import PyTree, RowSet, Task, Variables

Stacked = tuple[Variables, RowSet, PyTree]  # variables, rows and constants


def predict(
    task: Task, data: PyTree, variables: Variables, rows: RowSet, constants: PyTree = (), *, block: int = 256
) -> PyTree:
    """Return ``task.outputs`` of every run on its rows.

    Parameters
    ----------
    task : Task
        The functions of the system.
    data : tree of arrays (n_samples, ...)
        The data that ``rows`` index.
    variables : dict of arrays (n_runs, ...)
        Variables of each run, such as ``FitResult.best``.
    rows : RowSet (n_runs, n_rows)
        The rows of each run, padded to one length.
    constants : tree of arrays (n_runs, ...)
        The constants that each run was trained with.
    block : int
        Rows that are computed at once; smaller blocks need less memory.

    Returns
    -------
    tree of arrays (n_runs, n_rows, ...)
        Outputs, those of padding rows included.
    """
    return _apply(_predict_one, (task, block), data, (variables, rows, constants))


def score(
    task: Task, data: PyTree, variables: Variables, rows: RowSet, constants: PyTree = ()
) -> dict[str, Float[np.ndarray, "run"]]:
    """Return ``task.validate`` of every run on its rows, for example on the test rows, which ``fit`` does not receive.

    Parameters
    ----------
    task, data, variables, rows, constants : see predict
        As in :func:`predict`.

    Returns
    -------
    dict of arrays (n_runs,)
        Value of each score.
    """
    return _apply(_score_one, (task,), data, (variables, rows, constants))


def _predict_one(task: Task, block: int, data: PyTree, run: Stacked) -> PyTree:
    variables, rows, constants = run
    return map_row_blocks(lambda some: task.outputs(variables, task.gather(data, constants, some, None)), rows, block)


def _score_one(task: Task, data: PyTree, run: Stacked) -> dict[str, PyTree]:
    variables, rows, constants = run
    return task.validate(variables, data, constants, rows)


def _apply(function: Callable, bound: tuple, data: PyTree, stacked: Stacked) -> PyTree:
    """Each host computes its share of the runs, split over its devices; every host returns the results of all."""
    devices.use_all_cores()
    n_runs = len(jax.tree.leaves(stacked)[0])
    local_runs = devices.local_run_indices(n_runs)
    mesh = devices.make_mesh(len(local_runs))
    slots = np.resize(local_runs, -(-len(local_runs) // mesh.size) * mesh.size)  # the last device may repeat a run
    stacked = jax.tree.map(lambda leaf: np.asarray(leaf)[slots], stacked)
    program = _program(function, bound, mesh)
    out = program(devices.put_on_mesh(data, mesh, split=False), devices.put_on_mesh(stacked, mesh, split=True))
    out = jax.tree.map(lambda leaf: np.asarray(leaf)[: len(local_runs)], out)
    return devices.gather_hosts(out, local_runs, n_runs)


@lru_cache(maxsize=8)  # repeated predictions of the same model compile once; attention maps make fifty
def _program(function: Callable, bound: tuple, mesh: Mesh) -> Callable:
    return devices.map_over_runs(partial(function, *bound), mesh, execution="map")
