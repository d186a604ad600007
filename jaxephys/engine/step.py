"""Initialization, epoch and chunk of ONE run. The run axis is added in ``run_stack`` and ``devices`` and does not appear here.

The number of steps of an epoch depends on the run's rows, so it is the bound of a ``while`` loop. Where runs are trained one
after the other, a shorter run takes less time and a finished run none; under ``vmap`` JAX turns the loops into masked loops
with the same numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.optimizer import make_optimizer, split_frozen
from jaxephys.engine.task import Key, PyTree, RowSet, RunInputs, RunState, Status, Task, Variables

Metrics = dict[str, Float[Array, ""]]
Trained = tuple[PyTree, PyTree, PyTree]  # params, mutables and optimizer state: what an optimizer step changes


class EpochRecord(NamedTuple):
    """Record of one epoch of a run for the host. For a chunk of a stack, all arrays have the shape (n_slots, chunk_epochs).

    Parameters
    ----------
    epoch : array of int
        The epoch, counted from 1; 0 where the run had already ended.
    status : array of int
        The :class:`~jaxephys.engine.task.Status` after the epoch.
    best_score : array of float
        The best monitored score up to this epoch.
    measured : dict of arrays of float
        ``train_loss`` and other means over the epoch's training batches, and the validation scores as ``valid_<name>``.
    """

    epoch: Int[Array, "*slot_epoch"]
    status: Int[Array, "*slot_epoch"]
    best_score: Float[Array, "*slot_epoch"]
    measured: dict[str, Float[Array, "*slot_epoch"]]


def init_run(task: Task, config: TrainConfig, seed: Int[Array, ""], initial: PyTree) -> RunState:
    """Return the state of a run before its first epoch.

    Parameters
    ----------
    task : Task
        Its ``init`` draws the initial variables.
    config : TrainConfig
        Settings of the optimizer.
    seed : array of int, scalar
        Seed of the run.
    initial : tree of arrays
        A partial tree of variables that replaces what ``init`` has drawn; ``{}`` for none.

    Returns
    -------
    RunState
        The state at epoch 0.
    """
    variables = _replace_initial(task.init(jax.random.fold_in(jax.random.key(seed), 0)), initial)
    params, mutables = split_variables(variables)
    worst = jnp.float32(-jnp.inf if config.mode == "max" else jnp.inf)
    zero = jnp.int32(0)
    opt_state = make_optimizer(config).init(split_frozen(params, config)[0])
    best = jax.tree.map(jnp.copy, params), jax.tree.map(jnp.copy, mutables)  # donated buffers must not be shared
    return RunState(seed, zero, params, mutables, opt_state, best[0], best[1], worst, zero, jnp.int32(Status.RUNNING))


def run_chunk(
    task: Task, config: TrainConfig, data: PyTree, inputs: RunInputs, state: RunState
) -> tuple[RunState, EpochRecord]:
    """Train ``config.chunk_epochs`` epochs of a run: the program that the host dispatches.

    Parameters
    ----------
    task : Task
        The functions of the system.
    config : TrainConfig
        Settings of training.
    data : tree of arrays
        The data of all runs.
    inputs : RunInputs
        Rows and constants of this run.
    state : RunState
        The state before the chunk.

    Returns
    -------
    state : RunState
        The state after the chunk; unchanged where the run had ended.
    record : EpochRecord (chunk_epochs,)
        Measurements of each epoch.
    """

    def epoch(state: RunState, _: None) -> tuple[RunState, EpochRecord]:
        return run_epoch(task, config, data, inputs, state)

    return lax.scan(epoch, state, None, length=config.chunk_epochs)


def run_epoch(
    task: Task, config: TrainConfig, data: PyTree, inputs: RunInputs, state: RunState
) -> tuple[RunState, EpochRecord]:
    """Train and validate one epoch, keep the best variables, and end the run when it has finished, stopped or diverged.

    Parameters
    ----------
    task, config, data, inputs, state : see run_chunk
        As in :func:`run_chunk`.

    Returns
    -------
    state : RunState
        The state after the epoch; unchanged where the run had ended. A run with a NaN loss keeps the variables of the epoch
        before, with status ``DIVERGED``.
    record : EpochRecord
        Measurements of the epoch.
    """
    (params, mutables, opt_state), trained = train_epoch(task, config, data, inputs, state)

    def validate(_: None) -> Metrics:
        return task.validate(join_variables(params, mutables), data, inputs.constants, inputs.validation)

    def skip(_: None) -> Metrics:
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), jax.eval_shape(validate, None))

    scores = lax.cond(state.done, skip, validate, None)
    if config.monitor not in scores:
        raise ValueError(f"config.monitor is {config.monitor!r}, but validation gives {', '.join(scores)}")
    score, epoch = scores[config.monitor], state.epoch + 1
    gain = (score - state.best_score) * (1 if config.mode == "max" else -1)
    better = gain > config.min_delta
    best_epoch = jnp.where(better, epoch, state.best_epoch)
    status = jnp.where(epoch >= config.max_epochs, int(Status.FINISHED), int(Status.RUNNING))
    if config.patience is not None:
        status = jnp.where(epoch - best_epoch >= config.patience, int(Status.STOPPED_EARLY), status)
    finite = jnp.isfinite(trained["train_loss"]) & jnp.isfinite(score)
    new = RunState(
        seed=state.seed,
        epoch=epoch,
        params=params,
        mutables=mutables,
        opt_state=opt_state,
        best_params=_select(better, params, state.best_params),
        best_mutables=_select(better, mutables, state.best_mutables),
        best_score=jnp.where(better, score, state.best_score),
        best_epoch=best_epoch,
        status=status.astype(jnp.int32),
    )
    # A diverged run keeps the state before the epoch in which it diverged; other runs are not affected.
    new = _select(finite, new, state._replace(epoch=epoch, status=jnp.int32(Status.DIVERGED)))
    new = _select(state.done, state, new)
    measured = {**trained, **{f"valid_{name}": value for name, value in scores.items()}}
    return new, EpochRecord(jnp.where(state.done, 0, epoch), new.status, new.best_score, measured)


def train_epoch(
    task: Task, config: TrainConfig, data: PyTree, inputs: RunInputs, state: RunState
) -> tuple[Trained, Metrics]:
    """Take the optimizer steps of one epoch: one pass over the training rows, in random order unless ``config.shuffle`` is False.

    Parameters
    ----------
    task, config, data, inputs, state : see run_chunk
        As in :func:`run_chunk`. The training table is padded to a whole number of batches. A finished run takes no step.

    Returns
    -------
    trained : tuple
        Parameters, mutables and optimizer state after the epoch.
    metrics : dict of scalars
        ``train_loss`` and the other metrics of the loss, as means over the epoch, weighted by the rows' weights.
    """
    optimizer = make_optimizer(config, inputs.hyperparameters, state.epoch)
    shuffle_key, steps_key = jax.random.split(jax.random.fold_in(jax.random.key(state.seed), state.epoch + 1))
    rows = shuffle_rows(inputs.train, shuffle_key) if config.shuffle else padding_last(inputs.train)
    size = config.batch_size
    n_steps = (jnp.sum(rows.weight > 0) + size - 1) // size

    def step(i: Int[Array, ""], trained: Trained) -> tuple[Trained, Metrics]:
        params, mutables, opt_state = trained
        gather_key, loss_key = jax.random.split(jax.random.fold_in(steps_key, i))
        batch_rows = jax.tree.map(lambda column: lax.dynamic_slice_in_dim(column, i * size, size), rows)
        batch = task.gather(data, inputs.constants, batch_rows, gather_key)

        def objective(params: PyTree):
            return task.loss(join_variables(params, mutables), batch, loss_key)

        (loss, (mutables, metrics)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        weight = jnp.sum(batch_rows.weight)
        sums = {name: weight * value for name, value in {"loss": loss, **metrics}.items()}
        return (optax.apply_updates(params, updates), mutables, opt_state), {**sums, "weight": weight}

    def step_and_add(i: Int[Array, ""], carry: tuple[Trained, Metrics]) -> tuple[Trained, Metrics]:
        trained, sums = step(i, carry[0])
        return trained, jax.tree.map(jnp.add, carry[1], sums)

    trained = (state.params, state.mutables, state.opt_state)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(step, jnp.int32(0), trained)[1])
    trained, sums = lax.fori_loop(0, jnp.where(state.done, 0, n_steps), step_and_add, (trained, zeros))
    weight = jnp.maximum(sums.pop("weight"), 1e-9)
    return trained, {f"train_{name}": total / weight for name, total in sums.items()}


def shuffle_rows(rows: RowSet, key: Key) -> RowSet:
    """Put the rows of a table into random order, padding last, so that only the last batch contains padding.

    Parameters
    ----------
    rows : RowSet (n_rows,)
        The table.
    key : jax.random key
        The order of the rows of positive weight does not depend on the amount of padding.

    Returns
    -------
    RowSet (n_rows,)
        The same rows in another order.
    """
    order = jnp.argsort(jax.random.uniform(key, rows.weight.shape) + 2.0 * (rows.weight == 0))
    return jax.tree.map(lambda column: column[order], rows)


def padding_last(rows: RowSet) -> RowSet:
    """Move the padding of a table to its end, and keep the order of the other rows.

    Parameters
    ----------
    rows : RowSet (n_rows,)
        The table.

    Returns
    -------
    RowSet (n_rows,)
        The same rows, those of weight 0 last.
    """
    order = jnp.argsort(rows.weight == 0, stable=True)
    return jax.tree.map(lambda column: column[order], rows)


def split_variables(variables: Variables) -> tuple[PyTree, PyTree]:
    """Split variables into parameters, which the optimizer updates, and mutables, which the forward pass updates.

    Parameters
    ----------
    variables : dict
        ``{"params": ..., other collections}``.

    Returns
    -------
    params : tree of arrays
        The collection ``"params"``.
    mutables : dict
        All other collections.
    """
    mutables = {name: tree for name, tree in variables.items() if name != "params"}
    return variables["params"], mutables


def join_variables(params: PyTree, mutables: PyTree) -> Variables:
    """Join parameters and mutables into variables: the inverse of :func:`split_variables`.

    Parameters
    ----------
    params : tree of arrays
        The collection ``"params"``.
    mutables : dict
        All other collections.

    Returns
    -------
    dict
        The variables.
    """
    return {"params": params, **mutables}


def _replace_initial(tree: PyTree, initial: PyTree) -> PyTree:
    if not isinstance(initial, dict):
        if jnp.shape(initial) != jnp.shape(tree):
            raise ValueError(
                f"initial holds an array of shape {jnp.shape(initial)} where the model has {jnp.shape(tree)}"
            )
        return initial
    unknown = set(initial) - set(tree)
    if unknown:
        raise ValueError(f"initial holds {unknown.pop()!r}, which the model does not have: it has {', '.join(tree)}")
    return {name: _replace_initial(leaf, initial[name]) if name in initial else leaf for name, leaf in tree.items()}


def _select(condition: Bool[Array, ""], yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
