"""TrainConfig: how the runs of a grid are trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """How runs are trained. Per-run differences belong in ``RunInputs.constants``, not here."""

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
                raise ValueError(f"TrainConfig.{name} is {getattr(self, name)}: give a number above 0")
        if self.run_batch is not None and self.run_batch < 1:
            raise ValueError(f"TrainConfig.run_batch is {self.run_batch}: give at least 1, or None to fit the memory")
        for name, allowed in {"mode": ("max", "min"), "execution": ("auto", "vmap", "map")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"TrainConfig.{name} is {getattr(self, name)!r}: choose one of {', '.join(allowed)}")
