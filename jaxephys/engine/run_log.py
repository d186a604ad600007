"""RunLog: the history, status and results of all runs of a grid, kept on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.run_stack import RunStack
from jaxephys.engine.step import Record, join_variables
from jaxephys.engine.task import PyTree, RunState, Variables


class RunResult(NamedTuple):
    """What is kept of a finished run. Stacked, every leaf has a leading run axis."""

    best: Variables  # the weights of the best epoch
    best_score: Float[AnyArray, "*run"]
    best_epoch: Int[AnyArray, "*run"]
    epochs: Int[AnyArray, "*run"]
    status: Int[AnyArray, "*run"]


class Snapshot(NamedTuple):
    """All that is needed to go on: the live stack, the outcomes of finished runs and the history of both."""

    ids: Int[np.ndarray, "slot"]  # the run in each slot, -1 for padding
    state: PyTree  # RunState with a leading slot axis
    finished: dict[int, RunResult]
    history: dict[str, Float[np.ndarray, "run epoch"]]


class ProgressEvent(NamedTuple):
    """What watchers hear after each chunk."""

    live: int
    waiting: int
    status: Int[np.ndarray, "run"]
    best_score: Float[np.ndarray, "run"]  # NaN until a run has one
    epochs: int  # epochs trained so far, over all runs
    most_epochs: int  # at most so many remain if no run stops early
    run_seconds: float
    compile_seconds: float
    monitor: str
    snapshot: Snapshot | None  # for watchers that set ``needs_state``


Callback = Callable[[ProgressEvent], None]


@dataclass
class RunLog:
    """The host's account of all runs: what was measured, how each stands, what the finished ones left."""

    runs: int
    max_epochs: int
    history: dict[str, Float[np.ndarray, "run epoch"]] = field(default_factory=dict)
    finished: dict[int, RunResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.status = np.zeros(self.runs, np.int32)
        self.best_score = np.full(self.runs, np.nan, np.float32)
        for place, run_results in self.finished.items():
            self.status[place], self.best_score[place] = run_results.status, run_results.best_score

    def record_chunk(self, ids: Int[np.ndarray, "slot"], record: Record) -> None:
        """Enter a chunk's record. Waits for the chunk, if it still runs."""
        record = jax.device_get(record)
        held = ids >= 0
        self.status[ids[held]] = record.status[held, -1]
        self.best_score[ids[held]] = np.where(np.isfinite(record.best_score), record.best_score, np.nan)[held, -1]
        slots, steps = np.nonzero((record.epoch > 0) & held[:, None])
        for name, values in record.measured.items():
            empty = np.full((self.runs, self.max_epochs), np.nan, np.float32)
            table = self.history.setdefault(name, empty)
            table[ids[slots], record.epoch[slots, steps] - 1] = values[slots, steps]

    def collect_finished(self, stack: RunStack) -> dict[int, RunState]:
        """Keep the outcomes of the runs that have ended, and return the living."""
        living = stack.read()
        for place in [place for place, state in living.items() if state.done]:
            state = living.pop(place)
            best = join_variables(state.best_params, state.best_mutables)
            self.finished[place] = RunResult(best, state.best_score, state.best_epoch, state.epoch, state.status)
        return living

    def epochs(self) -> int:
        return int(sum(np.isfinite(table).sum() for table in list(self.history.values())[:1]))
