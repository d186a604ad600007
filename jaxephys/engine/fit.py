"""fit: train every run of a grid on the devices at hand.

The host loop is short. It keeps a stack of runs on the devices, dispatches a chunk of epochs, and while the devices
work on it reads what the chunk before has measured: history, progress, checkpoint. Finished runs leave the stack and
waiting ones take their places, so memory is bounded by ``run_batch`` whatever the size of the grid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxephys.dims import AnyArray
from jaxephys.engine import shard
from jaxephys.engine.axis import RunAxis
from jaxephys.engine.rows import pad_rows
from jaxephys.engine.stack import Programs, Stack
from jaxephys.engine.step import Record, join_variables
from jaxephys.engine.types import PyTree, Runs, RunState, Status, Task, TrainPlan, Variables

Watcher = Callable[["Report"], None]


class Outcome(NamedTuple):
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
    finished: dict[int, Outcome]
    history: dict[str, Float[np.ndarray, "run epoch"]]


class Report(NamedTuple):
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


@dataclass
class FitResult:
    """For each run of the axis the weights of its best epoch, and how it got there."""

    axis: RunAxis
    outcome: Outcome
    history: dict[str, Float[np.ndarray, "run epoch"]]  # NaN after a run has ended
    execution: str  # "map" or "vmap", on how many devices
    compile_seconds: float
    run_seconds: float

    @property
    def best(self) -> Variables:
        return self.outcome.best

    def diverged(self) -> list[str]:
        """The names of the runs that met a NaN; their best weights are those of the epochs before."""
        return [self.axis.name(int(place)) for place in np.flatnonzero(self.outcome.status == Status.DIVERGED)]


@dataclass
class Ledger:
    """The host's account of all runs: what was measured, how each stands, what the finished ones left."""

    runs: int
    max_epochs: int
    history: dict[str, Float[np.ndarray, "run epoch"]] = field(default_factory=dict)
    finished: dict[int, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.status = np.zeros(self.runs, np.int32)
        self.best_score = np.full(self.runs, np.nan, np.float32)
        for place, outcome in self.finished.items():
            self.status[place], self.best_score[place] = outcome.status, outcome.best_score

    def book(self, ids: Int[np.ndarray, "slot"], record: Record) -> None:
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

    def harvest(self, stack: Stack) -> dict[int, RunState]:
        """Keep the outcomes of the runs that have ended, and return the living."""
        living = stack.read()
        for place in [place for place, state in living.items() if state.done]:
            state = living.pop(place)
            best = join_variables(state.best_params, state.best_mutables)
            self.finished[place] = Outcome(best, state.best_score, state.best_epoch, state.epoch, state.status)
        return living

    def epochs(self) -> int:
        return int(sum(np.isfinite(table).sum() for table in list(self.history.values())[:1]))


def fit(
    task: Task,
    data: PyTree,
    runs: Runs,
    axis: RunAxis,
    plan: TrainPlan,
    *,
    start: PyTree = None,
    watchers: Sequence[Watcher] = (),
    resume: Snapshot | None = None,
) -> FitResult:
    """Train every run of ``axis``: its rows and constants from ``runs``, its randomness from its seed.

    ``start`` (see ``transplant``) gives initial weights, with a leading run axis; ``resume`` is a checkpoint's snapshot.
    """
    shard.use_all_cores()  # before the first word to JAX
    runs = _prepare(runs, axis, plan, start)
    mine = shard.own_share(len(axis))
    programs = Programs(task, plan, data, runs, axis.seeds, {} if start is None else start, len(mine))
    ledger = Ledger(len(axis), plan.max_epochs, *(({}, {}) if resume is None else _own(resume, mine)))
    waiting = [place for place in mine.tolist() if place not in ledger.finished]
    if resume is not None and np.isin(resume.ids, mine).any():
        stack = programs.restore(resume.ids, resume.state, mine)
        waiting = [place for place in waiting if place not in stack.ids]
    else:
        stack, waiting = programs.fill({}, waiting)
    needs_state = any(getattr(watcher, "needs_state", False) for watcher in watchers)
    began, compiled_before, flight = time.perf_counter(), programs.compile_seconds, None

    while stack is not None:
        copy = jax.tree.map(jnp.copy, stack.state) if needs_state and flight is not None else None  # before donation
        ids, record = stack.ids, programs.advance(stack)
        if flight is not None:
            ledger.book(*flight)  # the devices already work on the next chunk
            seconds = time.perf_counter() - began - (programs.compile_seconds - compiled_before)
            snapshot = None if copy is None else Snapshot(ids, copy, ledger.finished, ledger.history)
            report = _report(ledger, plan, mine, stack, waiting, seconds, programs.compile_seconds, snapshot)
            for watcher in watchers:
                watcher(report)
            ended = ledger.status[stack.held()] != Status.RUNNING
            if programs.should_repack(stack, int(ended.sum()), len(waiting)):
                ledger.book(ids, record)
                stack, waiting = programs.fill(ledger.harvest(stack), waiting)
                flight = None
                continue
        flight = (ids, record)

    seconds = time.perf_counter() - began - (programs.compile_seconds - compiled_before)
    outcome = jax.tree.map(lambda *leaves: np.stack(leaves), *(ledger.finished[place] for place in mine.tolist()))
    history = {name: table[mine] for name, table in ledger.history.items()}
    outcome, history = shard.gather_hosts((outcome, history), mine, len(axis))
    return FitResult(axis, outcome, history, programs.describe(), programs.compile_seconds, seconds)


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


def _prepare(runs: Runs, axis: RunAxis, plan: TrainPlan, start: PyTree) -> Runs:
    """Check that every run has its table, and pad the training tables to whole batches."""
    for name, leaf in (("train", runs.train.index), ("validation", runs.validation.index)):
        if len(leaf) != len(axis):
            raise ValueError(f"runs.{name} has tables for {len(leaf)} runs, but the axis has {len(axis)}")
    for leaf in jax.tree.leaves(runs.constants):
        if np.ndim(leaf) == 0 or len(leaf) != len(axis):
            raise ValueError(f"a constant has shape {np.shape(leaf)}: its first axis must be the {len(axis)} runs")
    for leaf in jax.tree.leaves(start):
        if np.ndim(leaf) == 0 or len(leaf) != len(axis):
            have = len(leaf) if np.ndim(leaf) else "no"
            raise ValueError(f"start has {have} runs, but the axis has {len(axis)}: choose them with take_runs")
    if len(axis) < jax.process_count():
        raise ValueError(f"{len(axis)} runs for {jax.process_count()} hosts: use at most as many hosts as runs")
    for name, rows in (("training", runs.train), ("validation", runs.validation)):
        if (empty := np.flatnonzero(np.sum(rows.weight, axis=-1) <= 0)).size:
            raise ValueError(f"the run {axis.name(int(empty[0]))} has no {name} rows")
    length = runs.train.index.shape[-1]
    return runs._replace(train=pad_rows(runs.train, -(-length // plan.batch_size) * plan.batch_size))


def _own(resume: Snapshot, mine: np.ndarray) -> tuple[dict, dict]:
    history = {name: np.array(table) for name, table in resume.history.items()}
    return history, {place: outcome for place, outcome in resume.finished.items() if place in mine}


def _report(ledger, plan, mine, stack, waiting, seconds, compile_seconds, snapshot) -> Report:
    status = ledger.status[mine]
    live = int((ledger.status[stack.held()] == Status.RUNNING).sum())
    return Report(
        live=live,
        waiting=len(waiting),
        status=status,
        best_score=ledger.best_score[mine],
        epochs=ledger.epochs(),
        most_epochs=(live + len(waiting)) * plan.max_epochs,
        run_seconds=seconds,
        compile_seconds=compile_seconds,
        monitor=plan.monitor,
        snapshot=snapshot,
    )
