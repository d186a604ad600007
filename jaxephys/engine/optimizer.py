"""The optimizer of a run: gradient clipping, AdamW, warm-up and frozen modules."""

from __future__ import annotations

import optax

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.task import PyTree


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Return the optimizer that a config describes: clipping by global norm, then AdamW.

    Parameters
    ----------
    config : TrainConfig
        ``learning_rate``, ``weight_decay``, ``clip_norm``, ``warmup_steps`` and ``freeze`` are used.

    Returns
    -------
    optax.GradientTransformation
        Parameters of the modules named in ``config.freeze`` receive no update. Its ``init`` raises a ValueError where
        the model has no module of such a name.
    """
    rate = config.learning_rate
    if config.warmup_steps:
        rate = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    optimizer = optax.adamw(rate, weight_decay=config.weight_decay)
    if config.clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    if not config.freeze:
        return optimizer

    def label(params: PyTree) -> PyTree:
        unknown = set(config.freeze) - set(params)
        if unknown:
            raise ValueError(f"config.freeze names {unknown.pop()!r}, but the model's modules are {', '.join(params)}")
        return {name: "frozen" if name in config.freeze else "moving" for name in params}

    # The labels are keys of the optimizer state inside checkpoints.
    return optax.multi_transform({"moving": optimizer, "frozen": optax.set_to_zero()}, label)
