"""The optimizer of a run: gradient clipping, AdamW, warm-up, and the modules that are not trained."""

from __future__ import annotations

from collections.abc import Mapping

import optax
from jaxtyping import Array, Float

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.task import PyTree

Scalar = float | Float[Array, ""]


def make_optimizer(
    config: TrainConfig, hyperparameters: Mapping[str, Scalar] | None = None
) -> optax.GradientTransformation:
    """Return the optimizer that a config describes: clipping by global norm, then AdamW.

    Parameters
    ----------
    config : TrainConfig
        ``learning_rate``, ``weight_decay``, ``clip_norm`` and ``warmup_steps`` are used.
    hyperparameters : dict of scalars, optional
        Learning rate and weight decay of this run by name, instead of those of the config.

    Returns
    -------
    optax.GradientTransformation
        The optimizer of the parameters that are trained, see `split_frozen`.
    """
    options = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay} | dict(hyperparameters or {})
    rate = options["learning_rate"]
    if config.warmup_steps:
        rate = optax.linear_schedule(0.0, rate, config.warmup_steps)
    optimizer = optax.adamw(rate, weight_decay=options["weight_decay"])
    if config.clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)


def split_frozen(params: PyTree, config: TrainConfig) -> tuple[PyTree, PyTree]:
    """Split parameters into those that are trained and those of frozen modules.

    Parameters
    ----------
    params : dict of trees
        Parameters by module.
    config : TrainConfig
        ``freeze`` names the frozen modules.

    Returns
    -------
    moving, frozen : dict of trees
        Parameters that are trained, and those that keep their values.

    Raises
    ------
    ValueError
        If the model has no module of a name in ``freeze``.
    """
    if not config.freeze:
        return params, {}
    unknown = set(config.freeze) - set(params)
    if unknown:
        raise ValueError(f"config.freeze names {unknown.pop()!r}, but the model's modules are {', '.join(params)}")
    frozen = {name: tree for name, tree in params.items() if name in config.freeze}
    return {name: tree for name, tree in params.items() if name not in config.freeze}, frozen
