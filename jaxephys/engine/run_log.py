"""RunLog: history, status and results of all runs of a grid, kept on the host while they train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.packing import StatePacking
from jaxephys.engine.run_stack import RunStack
from jaxephys.engine.step import EpochRecord, join_variables
from jaxephys.engine.task import PyTree, Status, Variables


class RunResult(NamedTuple):
    """Result of a run that has ended. For all runs of a grid, every array has a leading run axis.

    Parameters
    ----------
    best : dict
        Variables of the best epoch.
    best_score : array of float, scalar or (n_runs,)
        The monitored score at the best epoch.
    best_epoch : array of int, scalar or (n_runs,)
        The best epoch, counted from 1; 0 if the run diverged before its first score.
    epochs : array of int, scalar or (n_runs,)
        Number of epochs trained.
    status : array of int, scalar or (n_runs,)
        A :class:`~jaxephys.engine.task.Status`.
    """

    best: Variables
    best_score: Float[AnyArray, "*run"]
    best_epoch: Int[AnyArray, "*run"]
    epochs: Int[AnyArray, "*run"]
    status: Int[AnyArray, "*run"]


class Snapshot(NamedTuple):
    """Everything that is needed to continue the training of a grid.

    Parameters
    ----------
    ids : array of int (n_slots,)
        Index of the run in each slot of the stack, -1 for padding.
    state : RunState or dict
        State of the stack, with a leading slot axis.
    finished : dict of int to RunResult
        Results of the runs that have left the stack.
    history : dict of arrays (n_runs, max_epochs)
        Measurements of each run and epoch; NaN where there is none.
    """

    ids: Int[np.ndarray, "slot"]
    state: PyTree
    finished: dict[int, RunResult]
    history: dict[str, Float[np.ndarray, "run epoch"]]


class ProgressEvent(NamedTuple):
    """State of the training that callbacks receive after each chunk.

    Parameters
    ----------
    live : int
        Number of runs that train.
    waiting : int
        Number of runs that have not started.
    status : array of int (n_runs,)
        Status of the runs of this host.
    best_score : array of float (n_runs,)
        Best monitored score so far; NaN until a run has one.
    epochs : int
        Epochs trained so far, over all runs.
    most_epochs : int
        Epochs that remain if no run stops early.
    run_seconds : float
        Time spent so far, without compilation.
    compile_seconds : float
        Time spent on compilation.
    monitor : str
        Name of the monitored score.
    snapshot : Snapshot or None
        Present if an attribute ``needs_state`` of a callback is True when the next chunk is dispatched.
    """

    live: int
    waiting: int
    status: Int[np.ndarray, "run"]
    best_score: Float[np.ndarray, "run"]
    epochs: int
    most_epochs: int
    run_seconds: float
    compile_seconds: float
    monitor: str
    snapshot: Snapshot | None


Callback = Callable[[ProgressEvent], None]


@dataclass
class RunLog:
    """History, status and results of all runs of a grid.

    Parameters
    ----------
    n_runs : int
        Number of runs of the grid.
    max_epochs : int
        Largest number of epochs of a run.
    history : dict of arrays (n_runs, max_epochs)
        Measurements so far, from a resumed training.
    finished : dict of int to RunResult
        Results so far, from a resumed training.
    """

    n_runs: int
    max_epochs: int
    history: dict[str, Float[np.ndarray, "run epoch"]] = field(default_factory=dict)
    finished: dict[int, RunResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.status = np.zeros(self.n_runs, np.int32)
        self.best_score = np.full(self.n_runs, np.nan, np.float32)
        for run, result in self.finished.items():
            self.status[run], self.best_score[run] = result.status, result.best_score

    def record_chunk(self, ids: Int[np.ndarray, "slot"], record: EpochRecord) -> None:
        """Enter the measurements of a chunk. Waits until the chunk has been computed.

        Parameters
        ----------
        ids : array of int (n_slots,)
            Index of the run in each slot, -1 for padding.
        record : EpochRecord (n_slots, chunk_epochs)
            What the chunk has returned.
        """
        record = jax.device_get(record)
        held = ids >= 0
        self.status[ids[held]] = record.status[held, -1]
        self.best_score[ids[held]] = np.where(np.isfinite(record.best_score), record.best_score, np.nan)[held, -1]
        slots, steps = np.nonzero((record.epoch > 0) & held[:, None])
        for name, values in record.measured.items():
            empty = np.full((self.n_runs, self.max_epochs), np.nan, np.float32)
            table = self.history.setdefault(name, empty)
            table[ids[slots], record.epoch[slots, steps] - 1] = values[slots, steps]

    def collect_finished(self, stack: RunStack, packing: StatePacking) -> Int[np.ndarray, "slot"]:
        """Keep the results of the runs of a stack that have ended. Only their states are read from the devices.

        Parameters
        ----------
        stack : RunStack
            The stack after the chunk that was recorded last.
        packing : StatePacking
            Packing of its states.

        Returns
        -------
        array of int
            The slots whose runs still train.
        """
        done = self.status[stack.ids] != Status.RUNNING
        states = stack.read(ended := np.flatnonzero(done & (stack.ids >= 0)))
        for index, slot in enumerate(ended):
            state = packing.unpack(jax.tree.map(lambda leaf, index=index: np.array(leaf[index]), states))
            best = join_variables(state.best_params, state.best_mutables)
            result = RunResult(best, state.best_score, state.best_epoch, state.epoch, state.status)
            self.finished[int(stack.ids[slot])] = result
        return np.flatnonzero(~done & (stack.ids >= 0))

    def epochs(self, runs: Int[np.ndarray, "run"] | None = None) -> int:
        """Return the number of epochs trained so far.

        Parameters
        ----------
        runs : array of int, optional
            Runs to count; by default all.

        Returns
        -------
        int
            The number of finite entries of the first table of the history.
        """
        tables = list(self.history.values())[:1]
        return int(sum(np.isfinite(table if runs is None else table[runs]).sum() for table in tables))
