"""The nouns of the engine: what a system supplies (Task), and what one run is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from jaxephys.dims import AnyArray

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


class Runs(NamedTuple):
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
    validate: Callable[[Variables, PyTree, PyTree, RowSet], dict[str, Float[Array, ""]]]  # holds plan.monitor


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


@dataclass(frozen=True)
class TrainPlan:
    """How runs are trained. Per-run differences belong in ``Runs.constants``, not here."""

    max_epochs: int = 50
    patience: int | None = 7  # stop after so many epochs without a better score; None: never
    min_delta: float = 0.0  # an improvement must exceed this
    monitor: str = "macro_f1"  # the validation score that selects the best epoch
    mode: str = "max"  # "max" or "min" of the monitor
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4  # AdamW, decoupled
    clip_norm: float | None = 2.0  # global norm of the gradient
    warmup_steps: int = 0  # linear warm-up of the learning rate
    freeze: tuple[str, ...] = ()  # top-level modules whose parameters stay as they start
    chunk_epochs: int = 5  # epochs a compiled call; history, checkpoint and bar move once a chunk
    run_batch: int | None = None  # runs on the devices at once; None: as many as memory holds
    execution: str = "auto"  # "vmap", "map" (one run after the other), or "auto": map on CPU, vmap elsewhere

    def __post_init__(self) -> None:
        positive = ("max_epochs", "batch_size", "learning_rate", "chunk_epochs")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"TrainPlan.{name} is {getattr(self, name)}: give a number above 0")
        if self.run_batch is not None and self.run_batch < 1:
            raise ValueError(f"TrainPlan.run_batch is {self.run_batch}: give at least 1, or None to fit the memory")
        for name, allowed in {"mode": ("max", "min"), "execution": ("auto", "vmap", "map")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"TrainPlan.{name} is {getattr(self, name)!r}: choose one of {', '.join(allowed)}")
