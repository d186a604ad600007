"""The interface between a system and the engine: ``Task`` holds the functions of a system, the other classes the data of a run.

All functions of a ``Task`` are written for ONE run. The engine adds the leading run axis.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray

PyTree = Any
Key = Array
Variables = dict[str, PyTree]  # a flax collection dict: {"params": ..., and mutables such as "batch_stats"}


class RowSet(NamedTuple):
    """A table of samples: sample i is ``x[index] + mix * (x[partner] - x[index])`` and counts ``weight`` times.

    A plain row has ``mix`` 0. A synthetic minority sample (SMOTE) is an anchor, a neighbour and a mix. Tables hold indices
    rather than features, so the data are on the device once for all runs. A row of weight 0 is padding and has no effect on any result.

    Parameters
    ----------
    index : array of int (n_rows,) or (n_runs, n_rows)
        Index of the sample in the data.
    weight : array of float (n_rows,) or (n_runs, n_rows)
        How often the sample counts; 0 for padding.
    partner : array of int (n_rows,) or (n_runs, n_rows)
        Index of the neighbour that a synthetic sample is mixed with; ``index`` itself for a plain row.
    mix : array of float (n_rows,) or (n_runs, n_rows)
        Position between the sample (0) and its partner (1).
    """

    index: Int[AnyArray, "*run row"]  # pyright: ignore[reportIncompatibleMethodOverride]
    weight: Float[AnyArray, "*run row"]
    partner: Int[AnyArray, "*run row"]
    mix: Float[AnyArray, "*run row"]


class RunInputs(NamedTuple):
    """Everything in which the runs of a grid differ besides their seed. All arrays have a leading run axis.

    There is no field for test rows: :func:`~jaxephys.engine.fit.fit` cannot see them.

    Parameters
    ----------
    train : RowSet (n_runs, n_train)
        Training rows of each run, padded to the longest table.
    validation : RowSet (n_runs, n_validation)
        Rows that select the best epoch of each run.
    constants : tree of arrays (n_runs, ...)
        Scalars or small arrays of each run: the mean and standard deviation of its fold, a switch that selects its variant,
        the weight of a loss term.
    hyperparameters : dict of arrays (n_runs,), optional
        Options of the optimizer by name, from `jaxephys.engine.config.PER_RUN`, that replace those of the config. `fit` takes
        them from the factors of the grid that have these names.
    """

    train: RowSet
    validation: RowSet
    constants: PyTree = ()
    hyperparameters: dict[str, Float[AnyArray, "*run"]] = {}  # noqa: RUF012 (a field of a tuple, never changed)


class Backend(NamedTuple):
    """What a program is compiled for. The fastest form of an operation depends on it.

    Parameters
    ----------
    platform : {"cpu", "gpu", "tpu"}
        Kind of the devices.
    execution : {"map", "vmap"}
        Whether the runs of a device are computed one after the other or stacked.
    precision : {"float32", "tf32", "bfloat16"}
        Precision of matrix products and, for ``"bfloat16"``, of activations. Parameters, optimizer state, reductions and losses are
        float32 with every choice.
    """

    platform: str
    execution: str
    precision: str


class Task(NamedTuple):
    """The five pure functions that a system supplies to the engine, each written for one run.

    Parameters
    ----------
    init : callable
        ``init(key) -> variables``. Draws initial variables: a dict with ``"params"`` and any mutable collections.
    gather : callable
        ``gather(data, constants, rows, key) -> batch``. Takes the samples of a ``RowSet`` from the data. ``key`` is None
        outside training: no augmentation. It may put constants into the batch for ``loss`` and ``outputs`` to use.
    loss : callable
        ``loss(variables, batch, key) -> (loss, (mutables, metrics))``. The weighted mean loss of a batch, the updated mutable
        collections, and scalars that are averaged over the epoch for the history.
    outputs : callable
        ``outputs(variables, batch) -> tree of (n_rows, ...)``. Predictions for each row, without noise.
    validate : callable
        ``validate(variables, data, constants, rows) -> dict of scalars``. Scores on a table of rows; ``TrainConfig.monitor``
        must be among them.
    upgrade : callable, optional
        ``upgrade(tree, axis) -> tree``. Brings variables, or a training state that contains them, from the layout of an earlier
        version of the system to the current one. ``axis`` is the number of leading axes of all arrays, such as that of runs.
    for_backend : callable, optional
        ``for_backend(backend) -> Task``. Returns the same task with the operations of its network in the form and the precision that
        suit a `Backend`. Parameters have the same names and shapes. None: there is one form for all.
    searchable : tuple of str, optional
        Names of scalars in the constants that a grid may search, see `jaxephys.engine.search`: they affect training and not the
        outputs of given variables.
    """

    init: Callable[[Key], Variables]
    gather: Callable[[PyTree, PyTree, RowSet, Key | None], PyTree]
    loss: Callable[[Variables, PyTree, Key], tuple[Float[Array, ""], tuple[PyTree, dict[str, Float[Array, ""]]]]]
    outputs: Callable[[Variables, PyTree], PyTree]
    validate: Callable[[Variables, PyTree, PyTree, RowSet], dict[str, Float[Array, ""]]]
    upgrade: Callable[[PyTree, int], PyTree] = lambda tree, axis: tree
    for_backend: Callable[[Backend], Task] | None = None
    searchable: tuple[str, ...] = ()


class Status(IntEnum):
    """The status of a run. Every run that is not ``RUNNING`` has ended: its state is frozen."""

    RUNNING = 0
    STOPPED_EARLY = 1
    FINISHED = 2
    DIVERGED = 3


class RunState(NamedTuple):
    """The training state of one run. In a stack every array has a leading slot axis.

    Parameters
    ----------
    seed : array of int, scalar or (n_slots,)
        Seed of all random numbers of the run.
    epoch : array of int, scalar or (n_slots,)
        Number of epochs trained so far.
    params, mutables : tree of arrays
        Current parameters, and collections that the forward pass updates.
    opt_state : tree of arrays
        State of the optimizer.
    best_params, best_mutables : tree of arrays
        Parameters and mutables of the best epoch.
    best_score : array of float, scalar or (n_slots,)
        Value of the monitored score at the best epoch; infinite before the first epoch.
    best_epoch : array of int, scalar or (n_slots,)
        The best epoch, counted from 1; 0 before the first.
    status : array of int, scalar or (n_slots,)
        A :class:`Status`.
    """

    seed: Int[AnyArray, "*slot"]
    epoch: Int[AnyArray, "*slot"]
    params: PyTree
    mutables: PyTree
    opt_state: PyTree
    best_params: PyTree
    best_mutables: PyTree
    best_score: Float[AnyArray, "*slot"]
    best_epoch: Int[AnyArray, "*slot"]
    status: Int[AnyArray, "*slot"]

    @property
    def done(self) -> Bool[AnyArray, "*slot"]:
        """Whether the run has ended."""
        return self.status != Status.RUNNING
