"""The nouns of the engine: what a system supplies (Task), and what one run is made of."""

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
    """A table of samples: row i of it is ``x[index] + mix * (x[partner] - x[index])``, counted ``weight`` times.

    A plain row has ``mix`` 0. A synthetic minority sample (SMOTE) is an anchor, a neighbour and a mix: rows, not
    features, so that the data stand on the device once. Weight 0 is padding and changes no number.
    """

    index: Int[AnyArray, "*run row"]  # pyright: ignore[reportIncompatibleMethodOverride]
    weight: Float[AnyArray, "*run row"]
    partner: Int[AnyArray, "*run row"]
    mix: Float[AnyArray, "*run row"]


class RunInputs(NamedTuple):
    """All in which runs differ besides their seed, stacked on a leading run axis.

    ``constants`` is any tree of per-run scalars or small arrays: a fold's own mean and sd, a switch that names the
    variant, the weight of a loss term. There is no field for test rows: ``fit`` cannot see them.
    """

    train: RowSet
    validation: RowSet
    constants: PyTree = ()


class Task(NamedTuple):
    """A system as the engine sees it: five pure functions of ONE run. The engine adds the run axis.

    ``gather`` receives the run's constants and may put them into the batch, so that ``loss`` and ``outputs`` need none.
    """

    init: Callable[[Key], Variables]
    gather: Callable[
        [PyTree, PyTree, RowSet, Key | None], PyTree
    ]  # data, constants, rows, key (None: no noise) -> batch
    loss: Callable[[Variables, PyTree, Key], tuple[Float[Array, ""], tuple[PyTree, dict[str, Float[Array, ""]]]]]
    outputs: Callable[[Variables, PyTree], PyTree]  # batch -> a tree of [row, ...]
    validate: Callable[[Variables, PyTree, PyTree, RowSet], dict[str, Float[Array, ""]]]  # holds config.monitor


class Status(IntEnum):
    """How a run stands. A run that is not RUNNING is done: its state is frozen."""

    RUNNING = 0
    STOPPED_EARLY = 1
    FINISHED = 2
    DIVERGED = 3


class RunState(NamedTuple):
    """One run. Stacked, every leaf has a leading slot axis."""

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
        return self.status != Status.RUNNING
