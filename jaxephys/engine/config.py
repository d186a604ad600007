"""TrainConfig: the settings that all runs of a grid share, and StepDecay: how the learning rate falls with the epochs."""

from __future__ import annotations

from dataclasses import dataclass

PER_RUN = ("learning_rate", "weight_decay")  # a factor of a grid with such a name replaces the option in each run
PRECISIONS = ("float32", "tf32", "bfloat16")
OPTIMIZERS = ("adamw", "adam")


@dataclass(frozen=True)
class StepDecay:
    """A learning rate that falls by a factor after every few epochs.

    In epoch e, counted from 0, the rate is ``max(rate * factor ** (e // epochs), floor)``; a rate below the floor stays as it is.

    Parameters
    ----------
    factor : float
        What the rate is multiplied by, above 0 and at most 1.
    epochs : int
        Number of epochs between two multiplications.
    floor : float
        Smallest rate.

    Raises
    ------
    ValueError
        If a value is impossible.

    Examples
    --------
    >>> from jaxephys.engine.config import StepDecay, TrainConfig
    >>> TrainConfig(learning_rate=0.005, decay=StepDecay(0.9, epochs=5, floor=2.5e-5)).decay.floor
    2.5e-05
    """

    factor: float
    epochs: int
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.factor <= 1 and self.epochs >= 1 and self.floor >= 0):
            raise ValueError(
                f"{self} is impossible: give a factor above 0 and up to 1, 1 or more epochs and a floor from 0"
            )


@dataclass(frozen=True)
class TrainConfig:
    """Training options that all runs of a grid share.

    Learning rate and weight decay may differ between runs as factors of the `RunGrid`; what else differs is in ``RunInputs.constants``.

    Parameters
    ----------
    max_epochs : int
        Largest number of epochs of a run.
    patience : int or None
        A run stops after this many epochs without a better score. None: it trains for ``max_epochs``.
    min_delta : float
        An epoch is better if its score exceeds the best one so far by more than this.
    monitor : str
        The validation score that selects the best epoch, one of the names that ``Task.validate`` returns.
    mode : {"max", "min"}
        Whether a larger or a smaller monitored score is better.
    batch_size : int
        Rows of one optimizer step.
    learning_rate : float
        Learning rate, after the warm-up and before its decay.
    weight_decay : float
        Decoupled weight decay of AdamW; Adam requires 0.
    clip_norm : float or None
        Largest global norm of the gradient; None does not clip.
    warmup_steps : int
        Optimizer steps over which the learning rate rises linearly from 0.
    freeze : tuple of str
        Top-level modules whose parameters keep their initial values.
    chunk_epochs : int
        Epochs per compiled call. History, checkpoint and progress bar are updated once per chunk.
    run_batch : int or None
        Largest number of runs on the devices at once. None: as many as the memory holds.
    execution : {"auto", "vmap", "map"}
        Stack the runs of a device with ``vmap``, or train them one after the other with ``lax.map``. ``"auto"`` is ``map`` on
        CPU and ``vmap`` on other devices.
    precision : {"auto", "float32", "tf32", "bfloat16"}
        Precision of matrix products (and of activations with ``"bfloat16"``). Parameters, optimizer state, reductions and losses are
        always float32. ``"auto"`` is ``"float32"`` on CPU and ``"tf32"`` on other devices.
    optimizer : {"adamw", "adam"}
        AdamW, or Adam without weight decay.
    decay : StepDecay or None
        How the learning rate falls with the epochs; None: it is constant after the warm-up.
    shuffle : bool
        Put the training rows into random order in each epoch. False: batches follow the order of the table.

    Raises
    ------
    ValueError
        If a value is impossible, such as a batch size of 0.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from jaxephys.engine.config import TrainConfig
    >>> config = TrainConfig(max_epochs=20, monitor="loss", mode="min")
    >>> replace(config, patience=None).patience is None
    True
    >>> replace(config, batch_size=0)
    Traceback (most recent call last):
    ...
    ValueError: TrainConfig.batch_size is 0: give a number above 0
    """

    max_epochs: int = 50
    patience: int | None = 7
    min_delta: float = 0.0
    monitor: str = "macro_f1"
    mode: str = "max"
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip_norm: float | None = 2.0
    warmup_steps: int = 0
    freeze: tuple[str, ...] = ()
    chunk_epochs: int = 5
    run_batch: int | None = None
    execution: str = "auto"
    precision: str = "auto"
    optimizer: str = "adamw"
    decay: StepDecay | None = None
    shuffle: bool = True

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "learning_rate", "chunk_epochs"):
            if not getattr(self, name) > 0:
                raise ValueError(f"TrainConfig.{name} is {getattr(self, name)}: give a number above 0")
        if self.run_batch is not None and self.run_batch < 1:
            raise ValueError(f"TrainConfig.run_batch is {self.run_batch}: give at least 1, or None to fit the memory")
        choices = {
            "mode": ("max", "min"),
            "execution": ("auto", "vmap", "map"),
            "precision": ("auto", *PRECISIONS),
            "optimizer": OPTIMIZERS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"TrainConfig.{name} is {getattr(self, name)!r}: choose one of {', '.join(allowed)}")
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError(
                f"TrainConfig.weight_decay is {self.weight_decay}, but Adam has no weight decay: give 0, or the optimizer 'adamw'"
            )
