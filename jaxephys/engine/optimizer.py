"""The optimizer of a run: clipping, AdamW, warm-up and frozen modules."""

from __future__ import annotations

import optax

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.task import PyTree


def make_optimizer(plan: TrainConfig) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW; modules named in ``plan.freeze`` receive no update."""
    rate = plan.learning_rate
    if plan.warmup_steps:
        rate = optax.linear_schedule(0.0, plan.learning_rate, plan.warmup_steps)
    moves = optax.adamw(rate, weight_decay=plan.weight_decay)
    if plan.clip_norm is not None:
        moves = optax.chain(optax.clip_by_global_norm(plan.clip_norm), moves)
    if not plan.freeze:
        return moves

    def label(params: PyTree) -> PyTree:
        unknown = set(plan.freeze) - set(params)
        if unknown:
            raise ValueError(f"plan.freeze names {unknown.pop()!r}, but the model's modules are {', '.join(params)}")
        return {name: "frozen" if name in plan.freeze else "moving" for name in params}

    return optax.multi_transform({"moving": moves, "frozen": optax.set_to_zero()}, label)
