"""The stack of runs that is on the devices, and the compiled programs that train it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from jaxtyping import Array, Int

from jaxephys.engine import compile_cache, devices, memory
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.packing import StatePacking
from jaxephys.engine.step import EpochRecord, init_run, run_chunk
from jaxephys.engine.task import PyTree, RunInputs, RunState, Status, Task

log = logging.getLogger("jaxephys")
PADDING = -1
_background = ThreadPoolExecutor(1, "jaxephys-compile")  # its thread starts with the first task


@dataclass
class RunStack:
    """Runs side by side on the devices: slot i holds run ``ids[i]``.

    Padding slots repeat another run with the status finished; they are not read and do not affect results.

    Parameters
    ----------
    ids : array of int (n_slots,)
        Index of the run in each slot, ``PADDING`` (-1) for padding.
    state : RunState (n_slots, ...)
        State of each slot, on the devices, packed (see `jaxephys.engine.packing`).
    inputs : RunInputs (n_slots, ...)
        Rows and constants of each slot, on the devices.
    """

    ids: Int[np.ndarray, "slot"]
    state: RunState
    inputs: RunInputs

    def run_ids(self) -> Int[np.ndarray, "run"]:
        """Return the indices of the runs in the stack.

        Returns
        -------
        array of int
            ``ids`` without padding.
        """
        return self.ids[self.ids != PADDING]

    def read(self, slots: Int[np.ndarray, "slot"]) -> RunState:
        """Copy the states of some slots to the host. Waits for the chunk in flight.

        Parameters
        ----------
        slots : array of int
            The slots.

        Returns
        -------
        RunState (len(slots), ...)
            Their states, packed.
        """
        if len(slots) < len(self.ids):
            return jax.device_get(jax.tree.map(lambda leaf: leaf[slots], self.state))
        return jax.device_get(self.state)


class CompiledGrid:
    """Initialization and chunk of a grid, compiled once for each stack size.

    Parameters
    ----------
    task : Task
        The functions of the system.
    config : TrainConfig
        Settings of training.
    data : tree of arrays
        The data, copied to every device.
    inputs : RunInputs (n_runs, ...)
        Rows and constants of all runs, on the host.
    seeds : array of int (n_runs,)
        Seeds of all runs.
    initial : tree of arrays (n_runs, ...)
        Variables that replace what ``task.init`` draws; ``{}`` for none.
    max_runs : int
        Largest number of runs that can be on the devices at once.
    announce : callable, optional
        Receives a line of text before a program is compiled.

    Attributes
    ----------
    capacity : int
        Number of slots of the largest stack: what ``config.run_batch`` or the memory allows.
    backend : Backend
        How each device computes its runs.
    compile_seconds : float
        Time spent on compilation so far.
    """

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        data: PyTree,
        inputs: RunInputs,
        seeds: Int[np.ndarray, "run"],
        initial: PyTree,
        max_runs: int,
        announce: Callable[[str], None] = log.debug,
    ) -> None:
        self.announce = announce
        self.config, self.host_inputs, self.seeds, self.initial = config, inputs, seeds, initial
        self.mesh = devices.make_mesh(min(max_runs, config.run_batch or max_runs))
        self.device = self.mesh.devices.flat[0]
        self.data = devices.put_on_mesh(data, self.mesh, split=False)
        self.backend = devices.choose_backend(self.device, config.execution, config.precision)
        self.task = devices.task_for_backend(task, self.backend)
        self.compile_seconds = 0.0
        self._chunks: dict[int, jax.stages.Compiled | Future] = {}
        self.packing = StatePacking(self._one_run[1], config)
        self.capacity = self._choose_capacity(max_runs)

    def describe(self) -> str:
        """Describe how and where the runs are computed.

        Returns
        -------
        str
            For example ``runs stacked (vmap) on 4 gpu devices in tf32``.
        """
        how = "one after the other (lax.map)" if self.backend.execution == "map" else "stacked (vmap)"
        where = f"{self.mesh.size} {self.device.platform} device{'s' * (self.mesh.size > 1)}"
        return f"runs {how} on {where} in {self.backend.precision}"

    def start(self, ids: Sequence[int]) -> RunStack:
        """Return a stack of runs before their first epoch.

        Parameters
        ----------
        ids : sequence of int
            Indices of the runs.

        Returns
        -------
        RunStack
            The stack, padded to one of the sizes that are compiled.
        """
        padded = np.full(self._stack_size(len(ids)), PADDING, np.int32)
        padded[: len(ids)] = ids
        indices = np.maximum(padded, 0)
        initial = jax.tree.map(lambda leaf: np.asarray(leaf)[indices], self.initial)
        program = devices.map_over_runs(self._init_packed, self.mesh, backend=self.backend._replace(execution="vmap"))
        arguments = None, self.seeds[indices], initial
        initialize = self._compiled("initialization", len(padded), lambda: program.lower(*arguments))
        return self._put(padded, initialize(*arguments))

    def restore(self, ids: Int[np.ndarray, "slot"], state: PyTree, local_runs: Int[np.ndarray, "run"]) -> RunStack:
        """Return the stack of a checkpoint, in the same layout where the devices allow it, so that numbers are bit-equal.

        Parameters
        ----------
        ids : array of int (n_slots,)
            Index of the run in each saved slot.
        state : RunState or dict (n_slots, ...)
            The saved states.
        local_runs : array of int
            Indices of the runs that this host trains; the others are left out.

        Returns
        -------
        RunStack
            The stack.

        Raises
        ------
        ValueError
            If the checkpoint belongs to another model.
        """
        state = self._typed(self.task.upgrade(state, 1))
        wanted = np.isin(ids, local_runs)
        held = np.flatnonzero(wanted)
        same = len(ids) % self.mesh.size == 0 and np.all(wanted | (ids == PADDING))
        size = len(ids) if same else self._round_up(max(len(held), 1))
        slots = np.arange(size) if same else np.pad(held, (0, size - len(held)))
        taken = wanted if same else np.arange(size) < len(held)
        new_ids = np.where(taken, ids[slots], PADDING).astype(np.int32)
        packed = self.packing.pack(jax.tree.map(np.asarray, state), 1, np)
        return self._put(new_ids, jax.tree.map(lambda leaf: leaf[slots], packed))

    def advance(self, stack: RunStack) -> EpochRecord:
        """Dispatch one chunk of epochs and return at once: ``stack.state`` becomes the state after the chunk.

        Parameters
        ----------
        stack : RunStack
            The stack. Its previous state is consumed.

        Returns
        -------
        EpochRecord (n_slots, chunk_epochs)
            The measurements; reading them waits for the chunk.
        """
        stack.state, record = self._chunk(len(stack.ids))(self.data, stack.inputs, stack.state)
        return record

    def should_repack(self, stack: RunStack, ended: int, waiting: int) -> bool:
        """Return whether runs that have ended should leave the stack now.

        They should where no run trains any more, where waiting runs could fill a quarter of the slots, and where a quarter of the
        stack would do. The last saves time only under ``vmap``: under ``map`` a finished run takes no time.

        Parameters
        ----------
        stack : RunStack
            The stack.
        ended : int
            Number of its runs that have ended.
        waiting : int
            Number of runs that have not started.

        Returns
        -------
        bool
            Whether to call :meth:`refill`.
        """
        running = len(stack.run_ids()) - ended
        if running == 0:
            return True
        if waiting and running < self.capacity:
            return ended >= max(1, len(stack.ids) // 4)
        return self.backend.execution == "vmap" and self._stack_size(running) < len(stack.ids)

    def fill(self, waiting: list[int]) -> tuple[RunStack | None, list[int]]:
        """Return a stack of as many waiting runs as there is room for.

        Parameters
        ----------
        waiting : list of int
            Indices of the runs that have not started.

        Returns
        -------
        stack : RunStack or None
            The stack; None where no run waits.
        waiting : list of int
            The runs that still wait.
        """
        fresh, waiting = waiting[: self.capacity], waiting[self.capacity :]
        return (self.start(fresh) if fresh else None), waiting

    def refill(
        self, stack: RunStack, running: Int[np.ndarray, "slot"], waiting: list[int]
    ) -> tuple[RunStack | None, list[int]]:
        """Return a stack of the runs that still train and of as many waiting runs as there is room for.

        The states stay on the devices.

        Parameters
        ----------
        stack : RunStack
            The stack.
        running : array of int
            Its slots whose runs still train.
        waiting : list of int
            Indices of the runs that have not started.

        Returns
        -------
        stack : RunStack or None
            The new stack; None where no run is left.
        waiting : list of int
            The runs that still wait.
        """
        if not len(running):
            return self.fill(waiting)
        room = max(self.capacity - len(running), 0)
        fresh, waiting = waiting[:room], waiting[room:]
        kept, states, slots = stack.ids[running], [stack.state], running
        if fresh:
            started = self.start(fresh)
            states.append(started.state)
            slots = np.concatenate([running, len(stack.ids) + np.arange(len(fresh))])
        ids = np.full(self._stack_size(len(slots)), PADDING, np.int32)
        ids[: len(slots)] = [*kept, *fresh]
        slots = np.pad(slots, (0, len(ids) - len(slots)), mode="edge")
        return self._put(ids, self._select_slots(states, slots)), waiting

    def prepare_smaller(self, stack: RunStack, ended: int) -> None:
        """Start to compile the program of the smaller stack in the background, so that training need not wait for it.

        It has an effect where runs are stacked by ``vmap`` and half of them have ended.

        Parameters
        ----------
        stack : RunStack
            The stack.
        ended : int
            Number of its runs that have ended.
        """
        smaller, half_ended = self._stack_size(1), 2 * ended >= len(stack.run_ids())
        if self.backend.execution == "vmap" and half_ended and smaller < len(stack.ids) and smaller not in self._chunks:
            self._chunks[smaller] = _background.submit(self._program, "training", smaller, partial(self.lower, smaller))

    def lower(self, size: int) -> jax.stages.Lowered:
        """Return the chunk program for a stack of a given size, before compilation.

        Parameters
        ----------
        size : int
            Number of slots.

        Returns
        -------
        jax.stages.Lowered
            The program.
        """
        run_one_chunk = partial(run_chunk, self.packing.task(self.task), self.config)
        program = devices.map_over_runs(run_one_chunk, self.mesh, backend=self.backend, donate=2)
        inputs, state = self._one_run
        packed = jax.eval_shape(self.packing.pack, state)
        runs = (devices.abstract_runs(tree, self.mesh, size) for tree in (inputs, packed))
        return program.lower(self.data, *runs)

    @cached_property
    def _select_slots(self) -> Callable[[list[RunState], np.ndarray], RunState]:
        """The program that collects slots of one or two stacks. Runs may move to another device."""

        def select(states: list[RunState], slots: Int[Array, "slot"]) -> RunState:
            return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[slots], *states)

        return jax.jit(select, out_shardings=devices.run_sharding(self.mesh))

    def _put(self, ids: np.ndarray, state: PyTree) -> RunStack:
        """Put a stack on the devices. Padding slots count as finished."""
        status = np.where(ids == PADDING, int(Status.FINISHED), np.asarray(state.status)).astype(np.int32)
        inputs = jax.tree.map(lambda leaf: np.asarray(leaf)[np.maximum(ids, 0)], self.host_inputs)
        state = devices.put_on_mesh(state._replace(status=status), self.mesh, split=True)
        return RunStack(ids, state, devices.put_on_mesh(inputs, self.mesh, split=True))

    def _chunk(self, size: int) -> jax.stages.Compiled:
        if size not in self._chunks:
            self._chunks[size] = self._compiled("training", size, lambda: self.lower(size))
        program = self._chunks[size]
        if isinstance(program, Future):
            start = time.perf_counter()
            program = self._chunks[size] = program.result()[0]
            self.compile_seconds += time.perf_counter() - start  # the time for which training waited
        return program

    def _compiled(self, name: str, size: int, lower: Callable[[], jax.stages.Lowered]) -> jax.stages.Compiled:
        program, seconds = self._program(name, size, lower)
        self.compile_seconds += seconds
        return program

    def _program(
        self, name: str, size: int, lower: Callable[[], jax.stages.Lowered]
    ) -> tuple[jax.stages.Compiled, float]:
        """A program for a stack of some size: of an earlier fit with the same task, config and shapes, or compiled now."""
        inputs, state = self._one_run
        leaves, structure = jax.tree.flatten((self.data, inputs, state, self.initial))
        shapes = tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)
        functions = tuple(compile_cache.function_key(part) for part in self.task if callable(part))
        key = (name, size, functions, self.config, self.mesh, self.backend, shapes, structure)
        return compile_cache.compiled_program(key, self._title(name, size), lower, self.announce)

    def _title(self, name: str, size: int) -> str:
        """The name of a program, under which the time of its compilation is recorded."""
        count = sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(self._one_run[1].params))
        return f"{name} of {size} run{'s' * (size > 1)} of {count:,} parameters"

    @cached_property
    def _one_run(self) -> tuple[RunInputs, RunState]:
        """The inputs of the first run and the shapes of its state."""
        run = jax.tree.map(lambda leaf: np.asarray(leaf)[0], (self.host_inputs, self.seeds, self.initial))
        inputs, seed, initial = run
        return inputs, jax.eval_shape(partial(init_run, self.task, self.config), seed, initial)

    def _init_packed(self, _: None, seed: Int[Array, ""], initial: PyTree) -> RunState:
        return self.packing.pack(init_run(self.task, self.config, seed, initial))

    def _choose_capacity(self, max_runs: int) -> int:
        """As many runs at once as the memory holds: first by the size of their states, then by the compiler's analysis."""
        if self.config.run_batch is not None:
            return self._round_up(min(max_runs, self.config.run_batch))
        inputs, state = self._one_run
        fitting = self.mesh.size * memory.runs_that_fit(self.device, state, inputs, self.data)
        capacity = self._round_up(min(max_runs, fitting))
        while capacity > self.mesh.size and (over := memory.excess(self.device, self._chunk(capacity))) > 1:
            capacity = self._round_up(max(1, min(int(capacity / over), capacity - self.mesh.size)))
        if capacity < max_runs:
            log.info(
                "memory holds %d of the %d runs at once: the others wait until runs have ended", capacity, max_runs
            )
        return capacity

    def _typed(self, state: PyTree) -> RunState:
        """A state read from disk as plain dicts, in the types that this model and config give it."""
        wanted = self._one_run[1]
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

    def _round_up(self, n_runs: int) -> int:
        return -(-n_runs // self.mesh.size) * self.mesh.size

    def _stack_size(self, n_runs: int) -> int:
        """A quarter of the capacity if it holds the runs, else the capacity: two sizes, so at most two compilations.

        A stack restored from a larger machine may hold more than the capacity until enough of its runs have ended.
        """
        size = self._round_up(-(-self.capacity // 4))
        size = size if size >= n_runs else self.capacity
        while size < n_runs:
            size *= 2
        return size
