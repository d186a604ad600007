"""One run: the shuffle, the epoch against a plain loop, the optimizer, the end of a run."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxephys.engine.config import StepDecay
from jaxephys.engine.optimizer import make_optimizer
from jaxephys.engine.rows import pad_rows
from jaxephys.engine.step import init_run, padding_last, run_epoch, shuffle_rows, train_epoch
from jaxephys.engine.task import RowSet, RunInputs, Status
from tests.engine.linear_task import BATCH, DATA, TASK, TRAIN_CONFIG, train_length, train_table, valid_table

RUN = 3
RUN_INPUTS = RunInputs(pad_rows(train_table(RUN), 4 * BATCH), valid_table(RUN), {"scale": jnp.float32(1.3)})
INITIAL = init_run(TASK, TRAIN_CONFIG, jnp.int32(RUN), {})


def test_shuffle_keeps_every_row_and_puts_padding_last():
    rows = RowSet(
        np.arange(40), (np.arange(40) % 3 > 0).astype(np.float32), 100 + np.arange(40), np.arange(40) / np.float32(40)
    )
    shuffled = shuffle_rows(rows, jax.random.key(0))
    real = int(rows.weight.sum())
    np.testing.assert_array_equal(shuffled.weight, np.arange(40) < real)
    np.testing.assert_array_equal(np.sort(shuffled.index), np.arange(40))
    np.testing.assert_array_equal(shuffled.partner, shuffled.index + 100)
    np.testing.assert_allclose(shuffled.mix, shuffled.index / 40)
    assert (np.diff(shuffled.index[:real]) < 0).any()


def test_shuffle_does_not_depend_on_the_padding():
    rows, key = train_table(RUN), jax.random.key(1)
    length = train_length(RUN)
    np.testing.assert_array_equal(
        shuffle_rows(rows, key).index, shuffle_rows(pad_rows(rows, length + 30), key).index[:length]
    )


def test_rows_in_the_order_of_the_table_end_with_padding():
    rows = train_table(RUN)
    gaps = RowSet(*(np.insert(column, [0, 9], 0) for column in rows))
    ordered = padding_last(gaps)
    for found, wanted in zip(ordered, rows, strict=True):
        np.testing.assert_array_equal(found[: len(wanted)], wanted)
    assert ordered.weight[-2:].tolist() == [0, 0]


def test_every_epoch_has_another_order():
    orders = [shuffle_rows(RUN_INPUTS.train, jax.random.key(seed)).index for seed in range(2)]
    assert (orders[0] != orders[1]).any()


PLAIN_ADAM = replace(
    TRAIN_CONFIG,
    optimizer="adam",
    weight_decay=0.0,
    clip_norm=None,
    decay=StepDecay(0.5, 2, floor=0.009),
    shuffle=False,
)


def plain_loop(state, config):
    """The epoch written as a plain loop: real rows only, ragged last batch."""
    order_key, steps_key = jax.random.split(jax.random.fold_in(jax.random.key(RUN), state.epoch + 1))
    length = train_length(RUN)
    order = shuffle_rows(train_table(RUN), order_key).index
    optimizer = optax.chain(optax.clip_by_global_norm(2.0), optax.adamw(TRAIN_CONFIG.learning_rate, weight_decay=1e-4))
    if config == PLAIN_ADAM:
        order = train_table(RUN).index
        optimizer = optax.adam({0: 0.03, 3: 0.015, 4: 0.009, 100: 0.009}[int(state.epoch)])
    params, stats, opt_state = state.params, state.mutables["stats"], optimizer.init(state.params)
    losses = []
    for number, first in enumerate(range(0, length, BATCH)):
        some = np.asarray(order[first : first + BATCH])
        gather_key, loss_key = jax.random.split(jax.random.fold_in(steps_key, number))
        noise = 0.05 * jax.random.normal(gather_key, (BATCH, 5))[: len(some)]
        keep = jax.random.bernoulli(loss_key, 0.9, (BATCH, 5))[: len(some)]
        x, y = DATA["x"][some] + noise, 1.3 * DATA["y"][some]
        mean = stats["mean"]

        def objective(params, x=x, y=y, keep=keep, mean=mean):
            predicted = jnp.tanh((x * keep - 0.1 * mean) @ params["body"]["w"]) @ params["head"]["w"]
            return jnp.mean((predicted - y) ** 2)

        loss, gradient = jax.value_and_grad(objective)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        stats = {**stats, "mean": 0.9 * mean + 0.1 * x.mean(axis=0)}
        losses += [float(loss)] * len(some)
    return params, stats, np.mean(losses)


@pytest.mark.parametrize("config", [TRAIN_CONFIG, PLAIN_ADAM], ids=["AdamW", "Adam with decay, in order"])
@pytest.mark.parametrize("epoch", [0, 3, 4, 100])
def test_epoch_equals_a_loop_over_ragged_batches(epoch, config):
    state = init_run(TASK, config, jnp.int32(RUN), {})._replace(epoch=jnp.int32(epoch))
    (params, mutables, _), measured = train_epoch(TASK, config, DATA_ON_DEVICE, RUN_INPUTS, state)
    expected, stats, loss = plain_loop(state, config)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, expected)
    np.testing.assert_allclose(mutables["stats"]["mean"], stats["mean"], atol=1e-6)
    assert mutables["stats"]["steps"] == -(-train_length(RUN) // BATCH)
    assert measured["train_loss"] == pytest.approx(loss, rel=1e-5)


DATA_ON_DEVICE = jax.tree.map(jnp.asarray, DATA)


def test_finished_run_takes_no_step_and_records_nothing():
    done = INITIAL._replace(status=jnp.int32(Status.STOPPED_EARLY), epoch=jnp.int32(4))
    state, record = run_epoch(TASK, TRAIN_CONFIG, DATA_ON_DEVICE, RUN_INPUTS, done)
    jax.tree.map(np.testing.assert_array_equal, state, done)
    assert (record.epoch, record.status) == (0, Status.STOPPED_EARLY)
    assert np.isnan(record.measured["valid_mse"])


def test_diverged_run_keeps_the_weights_of_the_epoch_before():
    broken = RUN_INPUTS._replace(constants={"scale": jnp.float32(np.nan)})
    state, record = run_epoch(TASK, TRAIN_CONFIG, DATA_ON_DEVICE, broken, INITIAL)
    assert (state.epoch, state.status, record.epoch) == (1, Status.DIVERGED, 1)
    jax.tree.map(np.testing.assert_array_equal, state.params, INITIAL.params)
    assert np.isnan(record.measured["train_loss"])


def test_a_run_starts_from_its_seed_and_has_no_best_yet():
    other = init_run(TASK, TRAIN_CONFIG, jnp.int32(RUN + 1), {})
    assert (INITIAL.params["body"]["w"] != other.params["body"]["w"]).all()
    assert (INITIAL.best_score, init_run(TASK, replace(TRAIN_CONFIG, mode="max"), jnp.int32(0), {}).best_score) == (
        np.inf,
        -np.inf,
    )
    jax.tree.map(np.testing.assert_array_equal, INITIAL.params, INITIAL.best_params)


@pytest.mark.parametrize("norm", [None, 1.0])
def test_gradient_is_clipped_by_its_global_norm(norm):
    """After two unequal gradients Adam's second step depends on their ratio, which clipping changes."""
    config = replace(TRAIN_CONFIG, clip_norm=norm, weight_decay=0.0)
    optimizer, params = make_optimizer(config), {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    state, plain = optimizer.init(params), optax.adamw(TRAIN_CONFIG.learning_rate, weight_decay=0.0)
    expected_state = plain.init(params)
    for size in (0.1, 100.0):
        gradient = {"a": size * jnp.array([2.0, 1.0]), "b": size * jnp.array([2.0])}
        found, state = optimizer.update(gradient, state, params)
        shrink = 1.0 if norm is None else min(1.0, norm / (3 * size))
        expected, expected_state = plain.update(optax.tree.scale(shrink, gradient), expected_state, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, expected)


def test_warm_up_raises_the_rate_step_by_step():
    optimizer = make_optimizer(replace(TRAIN_CONFIG, warmup_steps=4, weight_decay=0.0, clip_norm=None))
    params = {"a": jnp.zeros(1)}
    state, moved = optimizer.init(params), []
    for _ in range(6):
        updates, state = optimizer.update({"a": jnp.ones(1)}, state, params)
        moved.append(-float(updates["a"][0]) / TRAIN_CONFIG.learning_rate)
    np.testing.assert_allclose(moved, [0, 0.25, 0.5, 0.75, 1, 1], atol=1e-4)


def test_a_decaying_rate_falls_every_few_epochs_to_its_floor():
    config = replace(PLAIN_ADAM, learning_rate=0.005, decay=StepDecay(0.9, 5, 2.5e-5))

    def first_move(config, epoch, **hyperparameters):
        optimizer, params = make_optimizer(config, hyperparameters, epoch), {"a": jnp.zeros(1)}
        updates, _ = optimizer.update({"a": jnp.ones(1)}, optimizer.init(params), params)
        return -float(updates["a"][0])

    moved = [first_move(config, epoch) for epoch in (0, 4, 5, 9, 10, 199, 1000)]
    expected = [0.005, 0.005, 0.0045, 0.0045, 0.00405, 0.005 * 0.9**39, 2.5e-5]
    np.testing.assert_allclose(moved, expected, rtol=1e-4)
    assert first_move(config, 5, learning_rate=0.01) == pytest.approx(0.009, rel=1e-4)
    assert first_move(config, 100, learning_rate=1e-6) == pytest.approx(1e-6, rel=1e-4), "already below the floor"
    assert first_move(replace(config, warmup_steps=4), 5) == 0, "the first step of a warm-up"


def test_weight_decay_of_adam_and_impossible_decays_are_refused():
    with pytest.raises(ValueError, match="TrainConfig.weight_decay is 0.0001, but Adam has no weight decay"):
        replace(TRAIN_CONFIG, optimizer="adam")
    with pytest.raises(ValueError, match="the runs of the grid differ in weight_decay, but Adam has none"):
        make_optimizer(PLAIN_ADAM, {"weight_decay": 0.1})
    for values in ((0.0, 5), (1.1, 5), (0.9, 0), (0.9, 5, -1.0)):
        with pytest.raises(ValueError, match="is impossible: give a factor above 0"):
            StepDecay(*values)
