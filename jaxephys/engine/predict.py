"""Outputs and scores of all trained runs of a grid, computed in one program: :func:`predict` and :func:`score`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from jaxephys.engine import devices
from jaxephys.engine.compile_cache import padded_length, use_persistent_cache
from jaxephys.engine.plan import active_planner, stand_in
from jaxephys.engine.rows import map_row_blocks, pad_rows
from jaxephys.engine.task import Backend, PyTree, RowSet, Task, Variables

RunArrays = tuple[Variables, RowSet, PyTree]  # variables, rows and constants of one run, or of all with a run axis


def predict(
    task: Task, data: PyTree, variables: Variables, rows: RowSet, constants: PyTree = (), *, block: int = 256
) -> PyTree:
    """Compute the outputs of every run for its rows, by ``task.outputs``.

    Parameters
    ----------
    task : Task
        The functions of the system.
    data : tree of arrays (n_samples, ...)
        The data that ``rows`` index.
    variables : dict of arrays (n_runs, ...)
        Variables of each run, such as ``FitResult.best``.
    rows : RowSet (n_runs, n_rows)
        The rows that each run predicts, padded to one length.
    constants : tree of arrays (n_runs, ...)
        The constants that each run was trained with.
    block : int
        Number of rows that are computed at once; smaller blocks need less memory.

    Returns
    -------
    tree of arrays (n_runs, n_rows, ...)
        Outputs, those of padding rows included.
    """
    n_rows = rows.index.shape[-1]
    padded = pad_rows(rows, padded_length(n_rows))
    outputs = _map_runs(_predict_run, task, (block,), data, (variables, padded, constants))
    return jax.tree.map(lambda leaf: leaf[:, :n_rows], outputs)


def score(
    task: Task, data: PyTree, variables: Variables, rows: RowSet, constants: PyTree = ()
) -> dict[str, Float[np.ndarray, "run"]]:
    """Compute the scores of every run on its rows, by ``task.validate``, for example on test rows, which ``fit`` does not receive.

    Parameters
    ----------
    task, data, variables, rows, constants : see predict
        As in :func:`predict`.

    Returns
    -------
    dict of arrays (n_runs,)
        By name of the score, its value for each run.
    """
    padded = pad_rows(rows, padded_length(rows.index.shape[-1]))
    return _map_runs(_score_run, task, (), data, (variables, padded, constants))


def _predict_run(task: Task, block: int, data: PyTree, run: RunArrays) -> PyTree:
    variables, rows, constants = run

    def predict_block(block_rows: RowSet) -> PyTree:
        batch = task.gather(data, constants, block_rows, None)  # without a random key there is no augmentation
        return task.outputs(variables, batch)

    return map_row_blocks(predict_block, rows, block)


def _score_run(task: Task, data: PyTree, run: RunArrays) -> dict[str, PyTree]:
    variables, rows, constants = run
    return task.validate(variables, data, constants, rows)


def _map_runs(function: Callable, task: Task, options: tuple, data: PyTree, runs: RunArrays) -> PyTree:
    """Return ``function(task, *options, data, run)`` for every run, stacked.

    Each host computes a part of the runs, split over its devices, and receives the results of the other hosts.
    """
    devices.use_all_cores()
    use_persistent_cache()
    n_runs = len(jax.tree.leaves(runs)[0])
    if active_planner() is not None:
        return stand_in(partial(function, task, *options), data, runs)
    local_runs = devices.local_run_indices(n_runs)
    mesh = devices.make_mesh(len(local_runs))
    # All devices must have equally many runs: the first runs are repeated, and dropped from the outputs.
    padded_runs = np.resize(local_runs, -(-len(local_runs) // mesh.size) * mesh.size)
    runs = jax.tree.map(lambda leaf: np.asarray(leaf)[padded_runs], runs)
    backend = devices.choose_backend(mesh.devices.flat[0])
    program = _compiled_program(function, devices.task_for_backend(task, backend), options, mesh, backend)
    outputs = program(devices.put_on_mesh(data, mesh, split=False), devices.put_on_mesh(runs, mesh, split=True))
    outputs = jax.tree.map(lambda leaf: np.asarray(leaf)[: len(local_runs)], outputs)
    return devices.gather_hosts(outputs, local_runs, n_runs)


@lru_cache(maxsize=8)  # so that repeated predictions by the same task compile once
def _compiled_program(function: Callable, task: Task, options: tuple, mesh: Mesh, backend: Backend) -> Callable:
    return devices.map_over_runs(partial(function, task, *options), mesh, backend=backend)
