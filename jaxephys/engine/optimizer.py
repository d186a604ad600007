"""The optimizer of a run: gradient clipping, Adam or AdamW, its learning rate, and the modules that are not trained."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxephys.engine.config import StepDecay, TrainConfig
from jaxephys.engine.task import PyTree

Scalar = float | Float[Array, ""]


def make_optimizer(
    config: TrainConfig, hyperparameters: Mapping[str, Scalar] | None = None, epoch: Int[Array, ""] | int = 0
) -> optax.GradientTransformation:
    """Return the optimizer that a config describes: clipping by global norm, then Adam or AdamW.

    Parameters
    ----------
    config : TrainConfig
        ``optimizer``, ``learning_rate``, ``weight_decay``, ``clip_norm``, ``warmup_steps`` and ``decay`` are used.
    hyperparameters : dict of scalars, optional
        Learning rate and weight decay of this run by name, instead of those of the config.
    epoch : int, scalar
        The epoch that is trained, counted from 0, on which the rate depends if it decays.

    Returns
    -------
    optax.GradientTransformation
        The optimizer of the parameters that are trained, see `split_frozen`. Its state has the same form in all epochs.

    Raises
    ------
    ValueError
        If a run has a weight decay of its own and the optimizer is Adam.
    """
    options = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay} | dict(hyperparameters or {})
    if config.optimizer == "adam" and "weight_decay" in (hyperparameters or {}):
        raise ValueError("the runs of the grid differ in weight_decay, but Adam has none: choose the optimizer 'adamw'")
    rate = options["learning_rate"] if config.decay is None else _decayed(options["learning_rate"], config.decay, epoch)
    if config.warmup_steps:
        rate = optax.linear_schedule(0.0, rate, config.warmup_steps)
    optimizer = (
        optax.adam(rate) if config.optimizer == "adam" else optax.adamw(rate, weight_decay=options["weight_decay"])
    )
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


def _decayed(rate: Scalar, decay: StepDecay, epoch: Int[Array, ""] | int) -> Scalar:
    n_steps = jnp.asarray(epoch // decay.epochs, jnp.float32)
    return jnp.minimum(rate, jnp.maximum(rate * decay.factor**n_steps, decay.floor))
