"""fit: train every run of a grid on the available devices.

Start reading at ``fit``. The host loop keeps a stack of runs on the devices, dispatches a chunk of epochs, and reads the
measurements of the previous chunk (history, progress, checkpoint) while the devices compute. Finished runs leave the stack
and waiting runs take their slots, so memory is bounded by ``run_batch`` for a grid of any size.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxephys.engine import devices
from jaxephys.engine.callbacks import ProgressBar
from jaxephys.engine.checkpoint import Checkpointer, restore
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.rows import pad_rows
from jaxephys.engine.run_log import Callback, ProgressEvent, RunLog, RunResult, Snapshot
from jaxephys.engine.run_stack import CompiledGrid
from jaxephys.engine.task import PyTree, RunInputs, Status, Task, Variables

log = logging.getLogger("jaxephys")


@dataclass
class FitResult:
    """The best weights of each run of a grid and the record of its training."""

    grid: RunGrid
    run_results: RunResult
    history: dict[str, Float[np.ndarray, "run epoch"]]  # NaN after a run has ended
    execution: str  # "map" or "vmap", on how many devices
    compile_seconds: float
    run_seconds: float

    @property
    def best(self) -> Variables:
        """Variables of the best epoch of each run, with a leading run axis."""
        return self.run_results.best

    def diverged(self) -> list[str]:
        """Return the names of the runs that met a NaN; their best weights are those of the epochs before it."""
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
    """Train every run of a grid: its rows and constants are in ``inputs``, its random numbers follow from its seed.

    ``initial`` (see ``transplant``) gives initial variables with a leading run axis. With a ``folder``, training writes a
    checkpoint after every chunk and continues from the one that an interrupted training of the same grid has left there;
    ``resume`` continues from a snapshot without a folder. With a ``title``, a progress bar of that name is shown.
    """
    devices.use_all_cores()  # must precede every other use of JAX
    if title is not None:
        with ProgressBar(title) as bar:
            return fit(
                task,
                data,
                inputs,
                grid,
                config,
                initial=initial,
                callbacks=[bar, *callbacks],
                resume=resume,
                folder=folder,
            )
    if folder is not None:
        return _fit_with_checkpoints(Path(folder), task, data, inputs, grid, config, initial, callbacks)
    inputs = _prepare(inputs, grid, config, initial)
    local_runs = devices.local_run_indices(len(grid))
    compiled = CompiledGrid(task, config, data, inputs, grid.seeds, {} if initial is None else initial, len(local_runs))
    run_log = RunLog(len(grid), config.max_epochs, *(({}, {}) if resume is None else _local_part(resume, local_runs)))
    waiting = [run for run in local_runs.tolist() if run not in run_log.finished]
    if resume is not None and np.isin(resume.ids, local_runs).any():
        stack = compiled.restore(resume.ids, resume.state, local_runs)
        waiting = [run for run in waiting if run not in stack.ids]
    else:
        stack, waiting = compiled.fill({}, waiting)
    needs_state = any(getattr(callback, "needs_state", False) for callback in callbacks)
    start_time, compiled_before, in_flight = time.perf_counter(), compiled.compile_seconds, None

    while stack is not None:
        copy = jax.tree.map(jnp.copy, stack.state) if needs_state and in_flight is not None else None  # before donation
        ids, record = stack.ids, compiled.advance(stack)
        if in_flight is not None:
            run_log.record_chunk(*in_flight)  # the devices already compute the next chunk
            seconds = time.perf_counter() - start_time - (compiled.compile_seconds - compiled_before)
            snapshot = None if copy is None else Snapshot(ids, copy, run_log.finished, run_log.history)
            event = _progress_event(
                run_log, config, local_runs, stack, waiting, seconds, compiled.compile_seconds, snapshot
            )
            for callback in callbacks:
                callback(event)
            ended = run_log.status[stack.held()] != Status.RUNNING
            if compiled.should_repack(stack, int(ended.sum()), len(waiting)):
                run_log.record_chunk(ids, record)
                stack, waiting = compiled.fill(run_log.collect_finished(stack), waiting)
                in_flight = None
                continue
        in_flight = (ids, record)

    seconds = time.perf_counter() - start_time - (compiled.compile_seconds - compiled_before)
    run_results = jax.tree.map(
        lambda *leaves: np.stack(leaves), *(run_log.finished[run] for run in local_runs.tolist())
    )
    history = {name: table[local_runs] for name, table in run_log.history.items()}
    run_results, history = devices.gather_hosts((run_results, history), local_runs, len(grid))
    return FitResult(grid, run_results, history, compiled.describe(), compiled.compile_seconds, seconds)


def _fit_with_checkpoints(folder, task, data, inputs, grid, config, initial, callbacks) -> FitResult:
    resume = restore(folder, grid, config)
    if resume is not None:
        log.warning("resuming from the last checkpoint: %d of %d runs have ended", len(resume.finished), len(grid))
    checkpointer = Checkpointer(folder, grid, config)
    result = fit(task, data, inputs, grid, config, initial=initial, callbacks=[*callbacks, checkpointer], resume=resume)
    checkpointer.close()
    return result


def transplant(best: Variables, *, drop: Sequence[str] = ()) -> PyTree:
    """The weights of finished runs as the ``start`` of the next phase, without the modules named in ``drop``."""
    unknown = set(drop) - set(best["params"])
    if unknown:
        raise ValueError(
            f"transplant cannot drop {unknown.pop()!r}: the model's modules are {', '.join(best['params'])}"
        )
    return {part: {name: leaf for name, leaf in tree.items() if name not in drop} for part, tree in best.items()}


def take_runs(tree: PyTree, places: Sequence[int] | Int[np.ndarray, "run"]) -> PyTree:
    """Some runs of a stacked tree, in this order; a run may be taken more than once (one pretraining, five folds)."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[np.asarray(places)], tree)


def _prepare(inputs: RunInputs, grid: RunGrid, config: TrainConfig, initial: PyTree) -> RunInputs:
    """Check that every run has its table, and pad the training tables to whole batches."""
    for name, leaf in (("train", inputs.train.index), ("validation", inputs.validation.index)):
        if len(leaf) != len(grid):
            raise ValueError(f"inputs.{name} has tables for {len(leaf)} runs, but the grid has {len(grid)}")
    for leaf in jax.tree.leaves(inputs.constants):
        if np.ndim(leaf) == 0 or len(leaf) != len(grid):
            raise ValueError(f"a constant has shape {np.shape(leaf)}: its first axis must be the {len(grid)} runs")
    for leaf in jax.tree.leaves(initial):
        if np.ndim(leaf) == 0 or len(leaf) != len(grid):
            have = len(leaf) if np.ndim(leaf) else "no"
            raise ValueError(f"initial has {have} runs, but the grid has {len(grid)}: choose them with take_runs")
    if len(grid) < jax.process_count():
        raise ValueError(f"{len(grid)} runs for {jax.process_count()} hosts: use at most as many hosts as runs")
    for name, rows in (("training", inputs.train), ("validation", inputs.validation)):
        if (empty := np.flatnonzero(np.sum(rows.weight, axis=-1) <= 0)).size:
            raise ValueError(f"the run {grid.name(int(empty[0]))} has no {name} rows")
    length = inputs.train.index.shape[-1]
    return inputs._replace(train=pad_rows(inputs.train, -(-length // config.batch_size) * config.batch_size))


def _local_part(resume: Snapshot, local_runs: np.ndarray) -> tuple[dict, dict]:
    history = {name: np.array(table) for name, table in resume.history.items()}
    return history, {place: run_results for place, run_results in resume.finished.items() if place in local_runs}


def _progress_event(run_log, config, local_runs, stack, waiting, seconds, compile_seconds, snapshot) -> ProgressEvent:
    status = run_log.status[local_runs]
    live = int((run_log.status[stack.held()] == Status.RUNNING).sum())
    return ProgressEvent(
        live=live,
        waiting=len(waiting),
        status=status,
        best_score=run_log.best_score[local_runs],
        epochs=run_log.epochs(),
        most_epochs=(live + len(waiting)) * config.max_epochs,
        run_seconds=seconds,
        compile_seconds=compile_seconds,
        monitor=config.monitor,
        snapshot=snapshot,
    )
