"""The stack of runs that stands on the devices, and the compiled programs that move it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from flax import serialization
from jaxtyping import Int

from jaxephys.engine import devices, memory
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.step import Record, run_chunk, start_run
from jaxephys.engine.task import PyTree, RunInputs, RunState, Status, Task

log = logging.getLogger("jaxephys")
PADDING = -1


@dataclass
class RunStack:
    """Runs side by side: slot i holds run ``ids[i]``. Padding slots hold a finished copy, which costs and changes nothing."""

    ids: Int[np.ndarray, "slot"]
    state: RunState
    runs: RunInputs

    def held(self) -> Int[np.ndarray, "run"]:
        return self.ids[self.ids != PADDING]

    def read(self) -> dict[int, RunState]:
        """Every run of the stack, on the host. Waits for the chunk in flight."""
        host = jax.device_get(self.state)
        slots = np.flatnonzero(self.ids != PADDING)
        return {int(self.ids[slot]): jax.tree.map(lambda leaf, slot=slot: np.array(leaf[slot]), host) for slot in slots}


class CompiledGrid:
    """Init and chunk, compiled once a stack size, for one task, plan and data set."""

    def __init__(
        self, task: Task, plan: TrainConfig, data: PyTree, runs: RunInputs, seeds: np.ndarray, start: PyTree, most: int
    ) -> None:
        self.task, self.plan, self.host_runs, self.seeds, self.start = task, plan, runs, seeds, start
        self.mesh = devices.make_mesh(min(most, plan.run_batch or most))
        self.device = self.mesh.devices.flat[0]
        self.data = devices.place(data, self.mesh, split=False)
        automatic = "map" if self.device.platform == "cpu" else "vmap"
        self.execution = automatic if plan.execution == "auto" else plan.execution
        self.compile_seconds = 0.0
        self._chunks: dict[int, jax.stages.Compiled] = {}
        self._init = devices.map_over_runs(partial(_start, task, plan), self.mesh, execution="vmap")
        self.capacity = self._choose_capacity(most)

    def describe(self) -> str:
        how = "one after the other (lax.map)" if self.execution == "map" else "stacked (vmap)"
        return f"runs {how} on {self.mesh.size} {self.device.platform} device{'s' * (self.mesh.size > 1)}"

    def launch(self, ids: Sequence[int]) -> RunStack:
        """A stack of fresh runs."""
        padded = np.full(self._size_for(len(ids)), PADDING, np.int32)
        padded[: len(ids)] = ids
        places = np.maximum(padded, 0)
        start = jax.tree.map(lambda leaf: np.asarray(leaf)[places], self.start)
        began = time.perf_counter()
        state = jax.block_until_ready(self._init(None, self.seeds[places], start))
        self.compile_seconds += time.perf_counter() - began  # the init itself takes no time to speak of
        return self._stand(padded, state)

    def restore(self, ids: np.ndarray, state: PyTree, local_runs: np.ndarray) -> RunStack:
        """A stack from a checkpoint: the same layout where the devices allow it, so that the same numbers follow."""
        state = self._typed(state)
        wanted = np.isin(ids, local_runs)
        held = np.flatnonzero(wanted)
        same = len(ids) % self.mesh.size == 0 and np.all(wanted | (ids == PADDING))
        size = len(ids) if same else self._round_up(max(len(held), 1))
        slots = np.arange(size) if same else np.pad(held, (0, size - len(held)))
        taken = wanted if same else np.arange(size) < len(held)
        new = np.where(taken, ids[slots], PADDING).astype(np.int32)
        return self._stand(new, jax.tree.map(lambda leaf: np.asarray(leaf)[slots], state))

    def advance(self, stack: RunStack) -> Record:
        """Dispatch a chunk; the stack's state becomes what it will be. Returns at once."""
        stack.state, record = self._chunk(len(stack.ids))(self.data, stack.runs, stack.state)
        return record

    def should_repack(self, stack: RunStack, ended: int, waiting: int) -> bool:
        """Is it worth moving runs? When none lives, when a quarter of the slots can be refilled, when half the stack will do.

        Shrinking saves nothing where runs go one after the other: a finished run takes no time there.
        """
        live = len(stack.held()) - ended
        if live == 0:
            return True
        if waiting and live < self.capacity:
            return ended >= max(1, len(stack.ids) // 4)
        return self.execution == "vmap" and self._size_for(live) < len(stack.ids)

    def fill(self, living: dict[int, RunState], waiting: list[int]) -> tuple[RunStack | None, list[int]]:
        """A stack of the living runs and as many waiting ones as there is room for; None when there is neither."""
        room = max(self.capacity - len(living), 0)
        fresh, waiting = waiting[:room], waiting[room:]
        if not living:
            return (self.launch(fresh) if fresh else None), waiting
        together = {**living, **(self.launch(fresh).read() if fresh else {})}
        ids = np.full(self._size_for(len(together)), PADDING, np.int32)
        ids[: len(together)] = list(together)
        states = list(together.values())
        states += states[:1] * (len(ids) - len(states))
        return self._stand(ids, jax.tree.map(lambda *leaves: np.stack(leaves), *states)), waiting

    def _stand(self, ids: np.ndarray, state: PyTree) -> RunStack:
        """Put a stack on the devices; padding slots count as finished."""
        status = np.where(ids == PADDING, int(Status.FINISHED), np.asarray(state.status)).astype(np.int32)
        runs = jax.tree.map(lambda leaf: np.asarray(leaf)[np.maximum(ids, 0)], self.host_runs)
        state = state._replace(status=status)
        return RunStack(ids, devices.place(state, self.mesh, split=True), devices.place(runs, self.mesh, split=True))

    def lower(self, size: int) -> jax.stages.Lowered:
        """The chunk program for a stack of ``size`` slots, before compilation."""
        one = partial(_chunk_of_one, self.task, self.plan)
        program = devices.map_over_runs(one, self.mesh, execution=self.execution, donate=2)
        runs, state = (devices.abstract(tree, self.mesh, size) for tree in self._one_run())
        return program.lower(self.data, runs, state)

    def _chunk(self, size: int) -> jax.stages.Compiled:
        if size not in self._chunks:
            began = time.perf_counter()
            self._chunks[size] = self.lower(size).compile()
            self.compile_seconds += time.perf_counter() - began
        return self._chunks[size]

    def _one_run(self) -> tuple[RunInputs, RunState]:
        """The shapes of one run's tables and state."""
        run, seed, start = jax.tree.map(lambda leaf: np.asarray(leaf)[0], (self.host_runs, self.seeds, self.start))
        return run, jax.eval_shape(partial(_start, self.task, self.plan), None, seed, start)

    def _choose_capacity(self, most: int) -> int:
        """As many runs at once as memory holds: first by the size of their states, then by what the compiler plans."""
        if self.plan.run_batch is not None:
            return self._round_up(min(most, self.plan.run_batch))
        run, state = self._one_run()
        fitting = self.mesh.size * memory.runs_that_fit(self.device, state, run, self.data)
        capacity = self._round_up(min(most, fitting))
        while capacity > self.mesh.size and (over := memory.excess(self.device, self._chunk(capacity))) > 1:
            capacity = self._round_up(max(1, min(int(capacity / over), capacity - self.mesh.size)))
        if capacity < most:
            log.info("memory holds %d of the %d runs at once: the others wait for their turn", capacity, most)
        return capacity

    def _typed(self, state: PyTree) -> RunState:
        """A state read from disk, as plain dicts, in the types that this model and plan give it."""
        wanted = self._one_run()[1]
        typed = None
        try:
            typed = serialization.from_state_dict(wanted, state)
            shapes = jax.tree.map(lambda leaf, want: leaf.shape[1:] == want.shape, typed, wanted)
            shapes = shapes, len(jax.tree.leaves(state)) == len(jax.tree.leaves(wanted))
        except (ValueError, KeyError, TypeError):
            shapes = False
        if not isinstance(typed, RunState) or not all(jax.tree.leaves(shapes)):
            raise ValueError(
                "the checkpoint is of another model: its arrays differ in name or shape; resume with the same settings"
            )
        return typed

    def _round_up(self, runs: int) -> int:
        return -(-runs // self.mesh.size) * self.mesh.size

    def _size_for(self, runs: int) -> int:
        """The smallest of capacity, capacity / 2, capacity / 4 ... that holds so many runs: few sizes, few compilations.

        A stack restored from a larger machine may hold more than the capacity until enough of its runs have ended.
        """
        size = self.capacity
        while size < runs:
            size *= 2
        while size // 2 >= max(runs, 1) and self._round_up(size // 2) < size:
            size = self._round_up(size // 2)
        return size


def _start(task: Task, plan: TrainConfig, _: None, seed, start) -> RunState:
    return start_run(task, plan, seed, start)


def _chunk_of_one(
    task: Task, plan: TrainConfig, data: PyTree, run: RunInputs, state: RunState
) -> tuple[RunState, Record]:
    return run_chunk(task, plan, data, run, state)
