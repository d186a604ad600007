"""What trainings will need, found out without training: runs, parameters, memory, operations.

Inside the context of a `Planner`, `jaxephys.engine.fit.fit` does not train: it records a `TrainingPlan` and returns a result whose arrays are
all ones. `predict` and `score` return ones as well. So a program that trains, predicts and trains again can be run as it is, and its plan is
complete after seconds. `jaxephys.engine.plan_times` estimates times from plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxephys.engine import compile_cache, memory
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.operations import OperationCounts, count_operations
from jaxephys.engine.run_log import RunResult
from jaxephys.engine.run_stack import CompiledGrid
from jaxephys.engine.step import EpochRecord, init_run, join_variables, run_epoch
from jaxephys.engine.task import Backend, PyTree, RunInputs, RunState, Status, Task

_active: ContextVar[Planner | None] = ContextVar("planner", default=None)


class PlanComplete(BaseException):  # no Exception, which an experiment might catch
    """Raised by `fit` when all runs that a planner expects have been planned."""


@dataclass(frozen=True)
class TrainingPlan:
    """What one training of a grid needs.

    Parameters
    ----------
    title : str
        Title of the training.
    n_runs : int
        Number of runs.
    n_parameters : int
        Parameters of a run.
    run_bytes : int
        Memory of a run: its state, with the optimizer's and the best parameters, and its inputs.
    data_bytes : int
        Memory of the data, of which each device holds a copy.
    capacity : int
        Slots of the largest stack: runs that are on the devices at once, by the size of their states. The engine puts fewer there if
        the compiled program needs much memory itself.
    n_devices : int
        Number of devices that share the runs.
    backend : Backend
        How the runs are computed.
    config : TrainConfig
        Settings of the training.
    steps : array of int (n_runs,)
        Optimizer steps of an epoch of each run.
    epoch : OperationCounts
        Operations of an epoch of a run: ``loop`` is an optimizer step, ``once`` the rest, which is mostly validation.
    init_equations : int
        Size of the program that draws the initial variables.
    recorded_seconds : float or None
        Time that compilation took last time, if it is known.
    memory_share : float
        Memory that the data and one run need on a device, as a multiple of what is usable there.
    """

    title: str
    n_runs: int
    n_parameters: int
    run_bytes: int
    data_bytes: int
    capacity: int
    n_devices: int
    backend: Backend
    config: TrainConfig
    steps: Int[np.ndarray, "run"]
    epoch: OperationCounts
    init_equations: int
    recorded_seconds: float | None
    memory_share: float

    @property
    def n_batches(self) -> int:
        """Number of stacks that are trained one after the other if all runs take equally long."""
        return -(-self.n_runs // self.capacity)

    @property
    def shortest_epochs(self) -> int:
        """Epochs of a run whose first score is its best."""
        config = self.config
        return config.max_epochs if config.patience is None else min(config.max_epochs, config.patience + 1)


@dataclass
class Planner:
    """Collects the plans of all trainings of a program.

    Parameters
    ----------
    expected_runs : int, optional
        When this number of runs has been planned, ``fit`` raises `PlanComplete`. It may be set while the program runs.
    plans : list of TrainingPlan
        The plans so far.

    Examples
    --------
    >>> from jaxephys.engine.plan import Planner
    >>> planner = Planner()
    >>> with planner.active():
    ...     pass  # calls of fit
    >>> planner.plans
    []
    """

    expected_runs: int | None = None
    plans: list[TrainingPlan] = field(default_factory=list)

    @property
    def n_runs(self) -> int:
        """Number of runs that have been planned."""
        return sum(plan.n_runs for plan in self.plans)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Plan the trainings inside this context instead of computing them.

        Yields
        ------
        None
            Nothing.
        """
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def add(
        self,
        title: str,
        task: Task,
        data: PyTree,
        inputs: RunInputs,
        grid: RunGrid,
        config: TrainConfig,
        initial: PyTree,
    ) -> tuple[RunResult, dict[str, Float[np.ndarray, "run epoch"]]]:
        """Plan a training. The arguments are those of `jaxephys.engine.fit.fit`, which calls this.

        Parameters
        ----------
        title : str
            Title of the training.
        task, data, inputs, grid, config, initial : see jaxephys.engine.fit.fit
            The training.

        Returns
        -------
        run_results : RunResult (n_runs, ...)
            Ones in the shapes of the variables.
        history : dict of arrays (n_runs, max_epochs)
            Ones under the names of the measurements.

        Raises
        ------
        PlanComplete
            If no training is expected after this one.
        """
        sizes = _GridSizes(task, config, data, inputs, grid.seeds, {} if initial is None else initial, len(grid))
        plan, record, state = sizes.plan(title)
        self.plans.append(plan)
        if self.expected_runs is not None and self.n_runs >= self.expected_runs:
            raise PlanComplete
        n_runs, best = len(grid), join_variables(state.params, state.mutables)
        best_score, best_epoch = np.ones(n_runs, np.float32), np.ones(n_runs, np.int32)
        epochs, status = np.full(n_runs, config.max_epochs, np.int32), np.full(n_runs, int(Status.FINISHED), np.int32)
        history = {name: np.ones((n_runs, config.max_epochs), np.float32) for name in record.measured}
        return RunResult(_ones(best, n_runs), best_score, best_epoch, epochs, status), history


def active_planner() -> Planner | None:
    """Return the planner in whose context this is called.

    Returns
    -------
    Planner or None
        None where trainings are computed.
    """
    return _active.get()


def stand_in(function: Callable, data: PyTree, runs: PyTree) -> PyTree:
    """Return ones in the shape of the results of a function, which is not computed.

    Parameters
    ----------
    function : callable
        ``function(data, run)``, which computes one run.
    data : tree of arrays
        The data.
    runs : tree of arrays (n_runs, ...)
        Its other argument for all runs.

    Returns
    -------
    tree of arrays (n_runs, ...)
        Ones.
    """
    one_run = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf)[1:], leaf.dtype), runs)
    return _ones(jax.eval_shape(function, data, one_run), len(jax.tree.leaves(runs)[0]))


class _GridSizes(CompiledGrid):
    """A grid of which nothing is compiled."""

    def plan(self, title: str) -> tuple[TrainingPlan, EpochRecord, RunState]:
        """Return the plan, the shapes of an epoch's record and those of a run's state."""
        inputs, state = self._one_run
        train = partial(run_epoch, self.packing.task(self.task), self.config)
        epoch, (_, record) = jax.make_jaxpr(train, return_shape=True)(
            self.data, inputs, jax.eval_shape(self.packing.pack, state)
        )
        seed, initial = jax.tree.map(lambda leaf: np.asarray(leaf)[0], (self.seeds, self.initial))
        init = jax.make_jaxpr(partial(init_run, self.task, self.config))(seed, initial)
        n_rows = np.sum(self.host_inputs.train.weight > 0, axis=-1)
        size = self._stack_size(min(self.capacity, len(self.seeds)))
        times = [compile_cache.recorded_seconds(self._title(name, size)) for name in ("initialization", "training")]
        plan = TrainingPlan(
            title=title,
            n_runs=len(self.seeds),
            n_parameters=sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state.params)),
            run_bytes=memory.size_in_bytes(state) + memory.size_in_bytes(inputs),
            data_bytes=memory.size_in_bytes(self.data),
            capacity=self.capacity,
            n_devices=self.mesh.size,
            backend=self.backend,
            config=self.config,
            steps=-(-n_rows // self.config.batch_size),
            epoch=count_operations(epoch),
            init_equations=count_operations(init).equations,
            recorded_seconds=None if None in times else sum(filter(None, times)),
            memory_share=memory.needed_share(self.device, state, inputs, self.data),
        )
        return plan, record, state

    def _choose_capacity(self, max_runs: int) -> int:
        """As many runs as the memory holds by the size of their states alone."""
        if self.config.run_batch is not None:
            return self._round_up(min(max_runs, self.config.run_batch))
        fitting = memory.runs_that_fit(self.device, self._one_run[1], self._one_run[0], self.data)
        return self._round_up(min(max_runs, self.mesh.size * fitting))


def _ones(shapes: PyTree, n_runs: int) -> PyTree:
    """Views of a single 1, which need no memory: the variables of a hundred large networks would not fit."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.ones((), leaf.dtype), (n_runs, *leaf.shape)), shapes)
