"""Init, epoch and chunk of ONE run. The run axis is added in ``fit`` and ``shard`` and appears nowhere here.

Loops whose length is data (`steps of this run's epoch`) are `while` loops: where runs go one after the other a shorter
run is simply shorter, and a finished run costs nothing; under `vmap` JAX turns them into masked loops with the same
numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.optimizer import make_optimizer
from jaxephys.engine.task import PyTree, RowSet, RunInputs, RunState, Status, Task, Variables

Metrics = dict[str, Float[Array, ""]]
Moving = tuple[PyTree, PyTree, PyTree]  # params, mutables and optimiser state: what a step moves


class Record(NamedTuple):
    """What the host learns of an epoch: its number (0 where the run had ended), how the run stands, what was measured."""

    epoch: Int[Array, "*slot_epoch"]
    status: Int[Array, "*slot_epoch"]
    best_score: Float[Array, "*slot_epoch"]
    measured: dict[str, Float[Array, "*slot_epoch"]]


def split_variables(variables: Variables) -> tuple[PyTree, PyTree]:
    """Parameters, which the optimiser moves, and mutables, which the forward pass moves."""
    mutables = {name: tree for name, tree in variables.items() if name != "params"}
    return variables["params"], mutables


def join_variables(params: PyTree, mutables: PyTree) -> Variables:
    return {"params": params, **mutables}


def start_run(task: Task, plan: TrainConfig, seed: Int[Array, ""], start: PyTree) -> RunState:
    """A fresh run. ``start`` is a partial tree of variables that replaces what init drew (see ``transplant``)."""
    variables = _overlay(task.init(jax.random.fold_in(jax.random.key(seed), 0)), start)
    params, mutables = split_variables(variables)
    worst = jnp.float32(-jnp.inf if plan.mode == "max" else jnp.inf)
    zero = jnp.int32(0)
    opt_state = make_optimizer(plan).init(params)
    best = jax.tree.map(jnp.copy, params), jax.tree.map(jnp.copy, mutables)  # donated buffers must not be shared
    return RunState(seed, zero, params, mutables, opt_state, best[0], best[1], worst, zero, jnp.int32(Status.RUNNING))


def _overlay(tree: PyTree, start: PyTree) -> PyTree:
    if not isinstance(start, dict):
        if jnp.shape(start) != jnp.shape(tree):
            raise ValueError(
                f"initial holds an array of shape {jnp.shape(start)} where the model has {jnp.shape(tree)}"
            )
        return start
    unknown = set(start) - set(tree)
    if unknown:
        raise ValueError(f"initial holds {unknown.pop()!r}, which the model does not have: it has {', '.join(tree)}")
    return {name: _overlay(leaf, start[name]) if name in start else leaf for name, leaf in tree.items()}


def shuffle_rows(rows: RowSet, key: Array) -> RowSet:
    """A random order in which padding comes last, so that no batch but the last holds any."""
    order = jnp.argsort(jax.random.uniform(key, rows.weight.shape) + 2.0 * (rows.weight == 0))
    return jax.tree.map(lambda column: column[order], rows)


def train_epoch(task: Task, plan: TrainConfig, data: PyTree, run: RunInputs, state: RunState) -> tuple[Moving, Metrics]:
    """One pass over the run's training rows; a finished run takes no step. Returns the weighted mean of the metrics."""
    optimiser = make_optimizer(plan)
    shuffle_key, steps_key = jax.random.split(jax.random.fold_in(jax.random.key(state.seed), state.epoch + 1))
    rows = shuffle_rows(run.train, shuffle_key)
    steps = (jnp.sum(rows.weight > 0) + plan.batch_size - 1) // plan.batch_size

    def step(i: Int[Array, ""], moving: Moving) -> tuple[Moving, Metrics]:
        params, mutables, opt_state = moving
        gather_key, loss_key = jax.random.split(jax.random.fold_in(steps_key, i))
        some = jax.tree.map(lambda column: lax.dynamic_slice_in_dim(column, i * plan.batch_size, plan.batch_size), rows)
        batch = task.gather(data, run.constants, some, gather_key)

        def objective(params: PyTree):
            return task.loss(join_variables(params, mutables), batch, loss_key)

        (loss, (mutables, metrics)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = optimiser.update(gradient, opt_state, params)
        weight = jnp.sum(some.weight)
        sums = {name: weight * value for name, value in {"loss": loss, **metrics}.items()}
        return (optax.apply_updates(params, updates), mutables, opt_state), {**sums, "weight": weight}

    def advance(i: Int[Array, ""], carry: tuple[Moving, Metrics]) -> tuple[Moving, Metrics]:
        moving, sums = step(i, carry[0])
        return moving, jax.tree.map(jnp.add, carry[1], sums)

    moving = (state.params, state.mutables, state.opt_state)
    nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(step, jnp.int32(0), moving)[1])
    moving, sums = lax.fori_loop(0, jnp.where(state.done, 0, steps), advance, (moving, nothing))
    weight = jnp.maximum(sums.pop("weight"), 1e-9)
    return moving, {f"train_{name}": total / weight for name, total in sums.items()}


def run_epoch(task: Task, plan: TrainConfig, data: PyTree, run: RunInputs, state: RunState) -> tuple[RunState, Record]:
    """Train an epoch, validate, keep the best, stop when patience is spent. A finished run stays as it is."""
    (params, mutables, opt_state), trained = train_epoch(task, plan, data, run, state)

    def validate(_: None) -> Metrics:
        return task.validate(join_variables(params, mutables), data, run.constants, run.validation)

    def skip(_: None) -> Metrics:
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), jax.eval_shape(validate, None))

    scores = lax.cond(state.done, skip, validate, None)
    if plan.monitor not in scores:
        raise ValueError(f"plan.monitor is {plan.monitor!r}, but validation gives {', '.join(scores)}")
    score, epoch = scores[plan.monitor], state.epoch + 1
    gain = (score - state.best_score) * (1 if plan.mode == "max" else -1)
    better = gain > plan.min_delta
    best_epoch = jnp.where(better, epoch, state.best_epoch)
    status = jnp.where(epoch >= plan.max_epochs, int(Status.FINISHED), int(Status.RUNNING))
    if plan.patience is not None:
        status = jnp.where(epoch - best_epoch >= plan.patience, int(Status.STOPPED_EARLY), status)
    finite = jnp.isfinite(trained["train_loss"]) & jnp.isfinite(score)
    new = RunState(
        seed=state.seed,
        epoch=epoch,
        params=params,
        mutables=mutables,
        opt_state=opt_state,
        best_params=choose(better, params, state.best_params),
        best_mutables=choose(better, mutables, state.best_mutables),
        best_score=jnp.where(better, score, state.best_score),
        best_epoch=best_epoch,
        status=status.astype(jnp.int32),
    )
    # A diverged run keeps the state before the epoch that broke it; the others know nothing of it.
    new = choose(finite, new, state._replace(epoch=epoch, status=jnp.int32(Status.DIVERGED)))
    new = choose(state.done, state, new)
    measured = {**trained, **{f"valid_{name}": value for name, value in scores.items()}}
    return new, Record(jnp.where(state.done, 0, epoch), new.status, new.best_score, measured)


def choose(condition: Bool[Array, ""], yes: PyTree, no: PyTree) -> PyTree:
    """A branch, not a ``where`` a leaf: for a network of hundreds of arrays those take longer to compile than its gradient."""
    return lax.cond(condition, lambda: yes, lambda: no)


def run_chunk(task: Task, plan: TrainConfig, data: PyTree, run: RunInputs, state: RunState) -> tuple[RunState, Record]:
    """``plan.chunk_epochs`` epochs in one program: what the host dispatches at a time."""

    def epoch(state: RunState, _: None) -> tuple[RunState, Record]:
        return run_epoch(task, plan, data, run, state)

    return lax.scan(epoch, state, None, length=plan.chunk_epochs)
