"""fit: train every run of a grid on the available devices.

Start reading at ``fit``. The host loop keeps a stack of runs on the devices, dispatches a chunk of epochs, and reads the
measurements of the previous chunk (history, progress, checkpoint) while the devices compute. Finished runs leave the stack
and waiting runs take their slots, so memory is bounded by ``run_batch`` for a grid of any size.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine import compile_cache, devices
from jaxephys.engine.callbacks import ProgressBar
from jaxephys.engine.checkpoint import Checkpointer, restore
from jaxephys.engine.config import PER_RUN, TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.plan import active_planner
from jaxephys.engine.rows import pad_rows
from jaxephys.engine.run_log import Callback, ProgressEvent, RunLog, RunResult, Snapshot
from jaxephys.engine.run_stack import CompiledGrid, RunStack
from jaxephys.engine.task import PyTree, RunInputs, Status, Task, Variables

log = logging.getLogger("jaxephys")


@dataclass
class FitResult:
    """The best variables of each run of a grid and the record of its training.

    Parameters
    ----------
    grid : RunGrid
        The runs.
    run_results : RunResult (n_runs, ...)
        Best variables, best score, epochs and status of each run.
    history : dict of arrays (n_runs, max_epochs)
        ``train_loss``, ``valid_<score>`` and others after each epoch; NaN after a run has ended.
    execution : str
        How and on how many devices the runs were computed.
    compile_seconds : float
        Time spent on compilation.
    run_seconds : float
        Time spent on training, without compilation.
    """

    grid: RunGrid
    run_results: RunResult
    history: dict[str, Float[np.ndarray, "run epoch"]]
    execution: str
    compile_seconds: float
    run_seconds: float

    @property
    def best(self) -> Variables:
        """Variables of the best epoch of each run, with a leading run axis."""
        return self.run_results.best

    def diverged(self) -> list[str]:
        """Return the names of the runs that met a NaN. Their best variables are those of the epochs before it.

        Returns
        -------
        list of str
            Names as ``RunGrid.name`` gives them.
        """
        return [self.grid.name(int(run)) for run in np.flatnonzero(self.run_results.status == Status.DIVERGED)]


def fit(
    task: Task,
    data: PyTree,
    inputs: RunInputs,
    grid: RunGrid,
    config: TrainConfig,
    *,
    initial: PyTree = None,
    callbacks: Sequence[Callback] = (),
    resume: Snapshot | None = None,
    folder: str | Path | None = None,
    title: str | None = None,
) -> FitResult:
    """Train every run of a grid.

    The numbers of a run depend on its seed, rows and constants only: not on the other runs, nor on the number of devices.

    Parameters
    ----------
    task : Task
        The functions of the system.
    data : tree of arrays (n_samples, ...)
        The data of all runs. Every device holds one copy.
    inputs : RunInputs (n_runs, ...)
        Training rows, validation rows and constants of each run.
    grid : RunGrid
        The runs. All random numbers of a run follow from its level of ``seed``. Factors ``learning_rate`` and ``weight_decay``
        replace the options of the config in each run.
    config : TrainConfig
        Settings of training, the same for all runs.
    initial : tree of arrays (n_runs, ...), optional
        Initial variables that replace what ``task.init`` draws; a part of the tree is enough. See :func:`initial_variables`.
    callbacks : sequence of callable
        Each receives a :class:`~jaxephys.engine.run_log.ProgressEvent` after every chunk.
    resume : Snapshot, optional
        Continue from this state.
    folder : str or Path, optional
        Write a checkpoint to this folder after every chunk, and continue from the one that an interrupted training of the same
        grid has left there. By default nothing is written.
    title : str, optional
        Show a progress bar with this title.

    Returns
    -------
    FitResult
        Best variables and history of each run.

    Raises
    ------
    ValueError
        If inputs, grid, config and initial variables do not agree, or a run has no rows.
    CheckpointError
        If ``folder`` holds a checkpoint of another grid or config, or cannot be read or written.

    Examples
    --------
    Two linear regressions that differ in their seed:

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxephys.engine.config import TrainConfig
    >>> from jaxephys.engine.fit import fit
    >>> from jaxephys.engine.grid import RunGrid
    >>> from jaxephys.engine.rows import plain_rows, stack_rows, take_rows
    >>> from jaxephys.engine.task import RunInputs, Task
    >>> def init(key):
    ...     return {"params": {"slope": jax.random.normal(key, (3,))}}
    >>> def gather(data, constants, rows, key):
    ...     return {"x": take_rows(data["x"], rows), "y": take_rows(data["y"], rows), "weight": rows.weight}
    >>> def outputs(variables, batch):
    ...     return batch["x"] @ variables["params"]["slope"]
    >>> def mean_squared_error(variables, batch):
    ...     squared = (outputs(variables, batch) - batch["y"]) ** 2
    ...     return jnp.sum(batch["weight"] * squared) / jnp.sum(batch["weight"])
    >>> def loss(variables, batch, key):
    ...     return mean_squared_error(variables, batch), ({}, {})
    >>> def validate(variables, data, constants, rows):
    ...     return {"mse": mean_squared_error(variables, gather(data, constants, rows, None))}
    >>> x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    >>> data = {"x": x, "y": x @ np.array([1.0, -2.0, 0.5], np.float32)}
    >>> grid = RunGrid.cross(seed=range(2))
    >>> inputs = RunInputs(stack_rows([plain_rows(range(40))] * 2), stack_rows([plain_rows(range(40, 60))] * 2))
    >>> config = TrainConfig(monitor="mse", mode="min", batch_size=10, learning_rate=0.1, weight_decay=0.0)
    >>> result = fit(Task(init, gather, loss, outputs, validate), data, inputs, grid, config)
    >>> bool(np.abs(result.best["params"]["slope"] - [1.0, -2.0, 0.5]).max() < 0.05)
    True
    >>> result.history["valid_mse"].shape
    (2, 50)
    """
    devices.use_all_cores()  # must precede every other use of JAX
    compile_cache.use_persistent_cache()
    inputs = _prepare(inputs, grid, config, initial)
    if (planner := active_planner()) is not None:
        planned = planner.add(title or "training", task, data, inputs, grid, config, initial)
        return FitResult(grid, *planned, execution="not trained", compile_seconds=0.0, run_seconds=0.0)
    callbacks, checkpointer, announce = list(callbacks), None, log.debug
    with ExitStack() as stack:
        if title is not None:
            bar = stack.enter_context(ProgressBar(title))
            callbacks.insert(0, bar)
            announce = bar.announce
        if folder is not None:
            resume = restore(folder, grid, config)
            if resume is not None:
                message = "resuming from the last checkpoint: %d of %d runs have ended"
                log.warning(message, len(resume.finished), len(grid))
            checkpointer = Checkpointer(folder, grid, config)
            callbacks.append(checkpointer)
        result = _train(task, data, inputs, grid, config, initial, callbacks, resume, announce)
        if checkpointer is not None:
            results = {
                run: jax.tree.map(lambda leaf, run=run: leaf[run], result.run_results)
                for run in devices.local_run_indices(len(grid)).tolist()
            }
            checkpointer.save_results(results, result.history)
            checkpointer.close()
    return result


def initial_variables(best: Variables, *, drop: Sequence[str] = ()) -> PyTree:
    """Return the variables of finished runs as the ``initial`` of the next phase of training.

    Parameters
    ----------
    best : dict of arrays (n_runs, ...)
        Variables, such as ``FitResult.best``.
    drop : sequence of str
        Top-level modules that are left out, so that the next phase draws them anew.

    Returns
    -------
    dict of arrays (n_runs, ...)
        The remaining variables.

    Raises
    ------
    ValueError
        If the model has no module of a name in ``drop``.
    """
    unknown = set(drop) - set(best["params"])
    if unknown:
        raise ValueError(f"cannot drop {unknown.pop()!r}: the model's modules are {', '.join(best['params'])}")
    return {part: {name: leaf for name, leaf in tree.items() if name not in drop} for part, tree in best.items()}


def take_runs(tree: PyTree, indices: Sequence[int] | Int[np.ndarray, "run"]) -> PyTree:
    """Return some runs of a stacked tree.

    Parameters
    ----------
    tree : tree of arrays (n_runs, ...)
        Variables, constants or predictions of all runs.
    indices : sequence of int
        Indices of the runs, in any order. A run may occur more than once: one pretraining, five folds.

    Returns
    -------
    tree of arrays (len(indices), ...)
        The selected runs.
    """

    def take(leaf: AnyArray) -> np.ndarray:
        leaf = np.asarray(leaf)
        if leaf.strides[0] == 0:  # a view of one run, as in a plan, stays one
            return np.broadcast_to(leaf[0], (len(indices), *leaf.shape[1:]))
        return leaf[np.asarray(indices)]

    return jax.tree.map(take, tree)


def _train(
    task: Task,
    data: PyTree,
    inputs: RunInputs,
    grid: RunGrid,
    config: TrainConfig,
    initial: PyTree,
    callbacks: Sequence[Callback],
    resume: Snapshot | None,
    announce: Callable[[str], None],
) -> FitResult:
    """The host loop: dispatch a chunk, read the one before, replace finished runs by waiting ones."""
    local_runs = devices.local_run_indices(len(grid))
    initial = {} if initial is None else initial
    compiled = CompiledGrid(task, config, data, inputs, grid.seeds, initial, len(local_runs), announce)
    run_log = RunLog(
        len(grid), config.max_epochs, *(({}, {}) if resume is None else _local_part(resume, local_runs, task))
    )
    waiting = [run for run in local_runs.tolist() if run not in run_log.finished]
    if resume is not None and np.isin(resume.ids, local_runs).any():
        stack = compiled.restore(resume.ids, resume.state, local_runs)
        waiting = [run for run in waiting if run not in stack.ids]
    else:
        stack, waiting = compiled.fill(waiting)
    start_time, compiled_before, in_flight = time.perf_counter(), compiled.compile_seconds, None

    def run_seconds() -> float:
        return time.perf_counter() - start_time - (compiled.compile_seconds - compiled_before)

    while stack is not None:
        needs_state = any(getattr(callback, "needs_state", False) for callback in callbacks)
        copy = jax.tree.map(jnp.copy, stack.state) if needs_state and in_flight is not None else None  # before donation
        ids, record = stack.ids, compiled.advance(stack)
        if in_flight is not None:
            run_log.record_chunk(*in_flight)  # the devices already compute the next chunk
            snapshot = None
            if copy is not None:
                state = compiled.packing.unpack(jax.device_get(copy))
                snapshot = Snapshot(ids, state, run_log.finished, run_log.history)
            seconds = run_seconds(), compiled.compile_seconds
            event = _progress_event(run_log, config, local_runs, stack, len(waiting), seconds, snapshot)
            for callback in callbacks:
                callback(event)
            ended = run_log.status[stack.run_ids()] != Status.RUNNING
            compiled.prepare_smaller(stack, int(ended.sum()))
            if compiled.should_repack(stack, int(ended.sum()), len(waiting)):
                run_log.record_chunk(ids, record)
                running = run_log.collect_finished(stack, compiled.packing)
                stack, waiting = compiled.refill(stack, running, waiting)
                in_flight = None
                continue
        in_flight = (ids, record)

    seconds = run_seconds()
    run_results = jax.tree.map(
        lambda *leaves: np.stack(leaves), *(run_log.finished[run] for run in local_runs.tolist())
    )
    history = {name: table[local_runs] for name, table in run_log.history.items()}
    run_results, history = devices.gather_hosts((run_results, history), local_runs, len(grid))
    return FitResult(grid, run_results, history, compiled.describe(), compiled.compile_seconds, seconds)


def _prepare(inputs: RunInputs, grid: RunGrid, config: TrainConfig, initial: PyTree) -> RunInputs:
    """Check that inputs and initial variables have all runs of the grid, and pad the training tables to whole batches."""
    for name, leaf in (("train", inputs.train.index), ("validation", inputs.validation.index)):
        if len(leaf) != len(grid):
            raise ValueError(f"inputs.{name} has tables for {len(leaf)} runs, but the grid has {len(grid)}")
    for leaf in jax.tree.leaves(inputs.constants):
        if np.ndim(leaf) == 0 or len(leaf) != len(grid):
            raise ValueError(f"a constant has shape {np.shape(leaf)}: its first axis must be the {len(grid)} runs")
    for leaf in jax.tree.leaves(initial):
        if np.ndim(leaf) == 0 or len(leaf) != len(grid):
            found = len(leaf) if np.ndim(leaf) else "no"
            raise ValueError(f"initial has {found} runs, but the grid has {len(grid)}: select them with take_runs")
    if len(grid) < jax.process_count():
        raise ValueError(f"{len(grid)} runs for {jax.process_count()} hosts: use at most as many hosts as runs")
    for name, rows in (("training", inputs.train), ("validation", inputs.validation)):
        if (empty := np.flatnonzero(np.sum(rows.weight, axis=-1) <= 0)).size:
            raise ValueError(f"the run {grid.name(int(empty[0]))} has no {name} rows")
    n_train, n_validation = (rows.index.shape[-1] for rows in (inputs.train, inputs.validation))
    hyperparameters = {name: np.asarray(grid.column(name), np.float32) for name in PER_RUN if name in grid.factors}
    train = pad_rows(inputs.train, compile_cache.padded_length(n_train, config.batch_size))
    validation = pad_rows(inputs.validation, compile_cache.padded_length(n_validation))
    return inputs._replace(train=train, validation=validation, hyperparameters=hyperparameters)


def _local_part(resume: Snapshot, local_runs: np.ndarray, task: Task) -> tuple[dict, dict]:
    """The history, and the results of the finished runs of this host."""
    history = {name: np.array(table) for name, table in resume.history.items()}
    finished = {run: result for run, result in resume.finished.items() if run in local_runs}
    return history, {run: result._replace(best=task.upgrade(result.best, 0)) for run, result in finished.items()}


def _progress_event(
    run_log: RunLog,
    config: TrainConfig,
    local_runs: np.ndarray,
    stack: RunStack,
    waiting: int,
    seconds: tuple[float, float],
    snapshot: Snapshot | None,
) -> ProgressEvent:
    live_runs = stack.run_ids()[run_log.status[stack.run_ids()] == Status.RUNNING]
    live = len(live_runs)
    return ProgressEvent(
        live=live,
        waiting=waiting,
        status=run_log.status[local_runs],
        best_score=run_log.best_score[local_runs],
        epochs=run_log.epochs(),
        most_epochs=(live + waiting) * config.max_epochs - run_log.epochs(live_runs),
        run_seconds=seconds[0],
        compile_seconds=seconds[1],
        monitor=config.monitor,
        snapshot=snapshot,
    )
