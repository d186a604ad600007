"""The task: input and target of a row, sampled entries, several losses in one program, and learning a known dependence."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import fit
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.rows import plain_rows
from jaxephys.engine.search import add_levels
from jaxephys.spikes import losses
from jaxephys.spikes.history import Filters
from jaxephys.spikes.network import PopulationTransformer, PublishedLayer
from jaxephys.spikes.preprocessing import make_data
from jaxephys.spikes.task import (
    Objective,
    make_run_inputs,
    make_task,
    sample_entries,
    saved_objective,
    window_indices,
)
from tests.spikes.synthetic import synthetic_recording

LENGTH, UNITS = 100, 6
RECORDINGS = [synthetic_recording(0), synthetic_recording(1, bins=4000)]
FILTERS = Filters(tau_ms=(2.0, 30.0, 3000.0))
NETWORK = PopulationTransformer(width=8, depth=0, hidden=8, unit_width=8, dropout=0.0, filters=FILTERS)
LAYER = PublishedLayer(UNITS, heads=3, hidden=4, dropout=0.0, window=0)
DATA = make_data(RECORDINGS, NETWORK.filters, LENGTH)


def constants_of(objective, source=0, others=()):
    runs = make_run_inputs(RECORDINGS, [source, *[0] * len(others)], [objective, *others], LENGTH, batch_size=4)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), runs.constants)


def gathered(task, rows, source=0):
    rows = jax.tree.map(jnp.asarray, plain_rows(rows))
    return jax.jit(task.gather, static_argnums=3)(DATA, constants_of(Objective(), source), rows, None)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_predicted_bins_lie_in_their_split(split):
    for recording in RECORDINGS:
        start, stop = recording.span(split)
        some = window_indices(recording, split, LENGTH)
        first, last = some[0] * LENGTH + 1, (some[-1] + 1) * LENGTH
        assert start <= first < start + LENGTH and stop - LENGTH <= last < stop
        assert np.diff(some).tolist() == [1] * (len(some) - 1)


def test_targets_are_the_bins_after_the_input():
    batch = gathered(make_task(NETWORK, UNITS, length=LENGTH, n_entries=None), [3, 7], source=1)
    bins = RECORDINGS[1].bits(0, 2000)
    np.testing.assert_array_equal(batch.spikes[1], bins[700:800])
    np.testing.assert_array_equal(batch.target[1], bins[701:801])
    legacy = make_task(replace(LAYER, legacy=True), UNITS, length=LENGTH)
    batch = gathered(legacy, [3])
    np.testing.assert_array_equal(batch.spikes, batch.target)


def test_a_window_starts_from_the_whole_past():
    """Without a transformer the filters are the whole memory: a window gives the logits of one long stream."""
    task = make_task(NETWORK, UNITS, length=LENGTH, n_entries=None)
    variables = jax.jit(task.init)(jax.random.key(0))
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    spikes = jnp.asarray(RECORDINGS[0].bits(0, 1000), jnp.float32)
    whole, _ = jax.jit(NETWORK.apply)(variables, spikes)
    logits = jax.jit(task.outputs)(variables, gathered(task, [6]))
    np.testing.assert_allclose(logits[0], whole[600:700], atol=1e-4)


def test_sampled_entries_are_unbiased():
    target = jnp.asarray(RECORDINGS[0].bits(0, 200), jnp.float32)
    value = jnp.asarray(np.random.default_rng(0).normal(1, 1, target.shape), jnp.float32)
    draw = jax.jit(jax.vmap(lambda key: sample_entries(key, target, 64)))
    where, counted = draw(jax.random.split(jax.random.key(1), 2000))
    for some, total in ((target, target.sum()), (1 - target, (1 - target).sum()), (value, value.sum())):
        sums = np.asarray((counted * some[where.bin, where.unit]).sum(axis=1))
        assert abs(sums.mean() - total) < 4 * sums.std() / np.sqrt(len(sums))
    assert target[where.bin, where.unit].mean() > 0.25 > 5 * target.mean()


def test_entries_of_a_silent_window_are_unbiased():
    _, counted = jax.jit(lambda: sample_entries(jax.random.key(0), jnp.zeros((50, 4)), 64))()
    assert counted.sum() == pytest.approx(200, rel=1e-5) and counted.min() == 0


@pytest.mark.parametrize("name", ["focal", "dice", "dice_bce"])
def test_each_run_uses_its_loss(name):
    options = {
        "focal": {"gamma": 1.5, "alpha": 0.8},
        "dice": {"smooth": 4.0},
        "dice_bce": {"dice_share": 0.3, "smooth": 4.0},
    }
    given: dict[str, Any] = options[name]
    objective = Objective(name, **given)
    others = [Objective("bce"), Objective("dice")]
    task = make_task(LAYER, UNITS, [objective, *others], LENGTH)
    variables = jax.jit(task.init)(jax.random.key(0))
    rows = jax.tree.map(jnp.asarray, plain_rows([2, 5, 0]))._replace(weight=jnp.array([1.0, 1.0, 0.0]))
    batch = task.gather(DATA, constants_of(objective, 0, others), rows, None)
    logits = jax.jit(task.outputs)(variables, batch)
    found, _ = jax.jit(task.loss)(variables, batch, jax.random.key(0))
    wanted = losses.LOSSES[name](logits[:2], batch.target[:2], **given)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5), "the third row is padding"


def test_the_published_loss_uses_the_density_of_the_training_bins():
    objective = Objective("published_dice")
    task = make_task(LAYER, UNITS, [objective], LENGTH)
    variables = jax.jit(task.init)(jax.random.key(0))
    density = RECORDINGS[0].bits(*RECORDINGS[0].span("train")).mean()
    constants = constants_of(objective)
    assert constants.density == pytest.approx(density, rel=1e-6)
    batch = task.gather(DATA, constants, jax.tree.map(jnp.asarray, plain_rows([2, 5])), None)
    wanted = losses.published_dice(jax.jit(task.outputs)(variables, batch), batch.target, density)
    assert float(jax.jit(task.loss)(variables, batch, jax.random.key(0))[0]) == pytest.approx(float(wanted), rel=1e-5)


def test_windows_in_the_order_of_time_come_once():
    objectives = [Objective()] * 2
    runs = make_run_inputs(RECORDINGS, [0, 1], objectives, LENGTH, batch_size=7, whole_batches=False)
    repeated = make_run_inputs(RECORDINGS, [0, 1], objectives, LENGTH, batch_size=7)
    for run, recording in enumerate(RECORDINGS):
        windows = window_indices(recording, "train", LENGTH)
        real = runs.train.weight[run] > 0
        np.testing.assert_array_equal(runs.train.index[run][real], windows)
        assert set(repeated.train.index[run]) == set(windows) and len(repeated.train.index[run]) % 7 == 0
    assert runs.train.weight[1].min() == 0 and repeated.train.weight.min() == 1, "the second recording is shorter"


def test_a_run_may_have_a_dropout_rate_that_differs_from_that_of_the_network():
    def gradient(rate_of_network, rate):
        task = make_task(replace(LAYER, dropout=rate_of_network), UNITS, length=LENGTH)
        variables = jax.jit(task.init)(jax.random.key(0))
        constants = constants_of(Objective())._replace(dropout=jnp.float32(rate))
        rows = jax.tree.map(jnp.asarray, plain_rows([2, 5]))

        def loss(variables):
            return task.loss(variables, task.gather(DATA, constants, rows, None), jax.random.key(1))[0]

        return jax.jit(jax.value_and_grad(loss))(variables)

    jax.tree.map(np.testing.assert_array_equal, gradient(0.1, 0.3), gradient(0.3, -1.0))
    jax.tree.map(np.testing.assert_array_equal, gradient(0.1, 0.0), gradient(0.0, -1.0))
    jax.tree.map(np.testing.assert_array_equal, gradient(0.0, 0.5), gradient(0.0, -1.0))
    assert gradient(0.1, -1.0)[0] != gradient(0.1, 0.3)[0]


def test_a_grid_can_search_the_constants_that_its_losses_use():
    names = {"bce": (), "focal": ("gamma", "alpha"), "dice": ("smooth",), "dice_bce": ("dice_share", "smooth")}
    for loss, wanted in names.items():
        assert make_task(LAYER, UNITS, [Objective(loss)]).searchable == wanted
    task = make_task(replace(LAYER, dropout=0.1), UNITS, [Objective("dice")], LENGTH)
    assert task.searchable == ("smooth", "dropout")
    runs = make_run_inputs(RECORDINGS, [0, 1], [Objective("dice")] * 2, LENGTH, batch_size=4)
    levels = {"smooth": (1.0, 10.0), "dropout": (0.1, 0.3)}
    _, searched, _ = add_levels(RunGrid.cross(source=(0, 1), seed=(0,)), runs, None, levels)
    assert searched.constants.smooth.tolist() == [1, 1, 10, 10] * 2
    np.testing.assert_allclose(searched.constants.dropout, [0.1, 0.3] * 4)


def test_padding_does_not_change_a_validation_score():
    task = make_task(NETWORK, UNITS, length=LENGTH, n_entries=32)
    variables = jax.jit(task.init)(jax.random.key(0))
    runs = make_run_inputs(RECORDINGS, [0], [Objective()], LENGTH, batch_size=4)
    rows, constants = (
        jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), part) for part in (runs.validation, runs.constants)
    )
    longer = jax.tree.map(lambda column: jnp.pad(column, (0, 7)), rows)
    validate = jax.jit(task.validate)
    one, other = validate(variables, DATA, constants, rows), validate(variables, DATA, constants, longer)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5, err_msg=name)


def test_recordings_and_losses_train_as_one_program_and_learn_the_dependence():
    objectives = [Objective("bce"), Objective("bce"), Objective("dice")]
    runs = make_run_inputs(RECORDINGS, [0, 1, 0], objectives, LENGTH, batch_size=4)
    task = make_task(NETWORK, UNITS, objectives, LENGTH, n_entries=200)
    plan = TrainConfig(6, None, monitor="loss", mode="min", batch_size=4, learning_rate=0.03, chunk_epochs=6)
    axis = RunGrid(("source", "loss", "seed"), ((0, "bce", 0), (1, "bce", 0), (0, "dice", 0)))
    history = fit(task, DATA, runs, axis, plan).history
    assert (history["valid_bits_per_spike"][:2, -1] > 1.5).all(), "the dependence is worth about two bits per spike"
    assert (history["valid_average_precision"][:, -1] > 0.35).all()
    assert history["valid_objective"][2, -1] < 0.6 < history["valid_objective"][2, 0]


def test_invalid_inputs_are_refused():
    with pytest.raises(ValueError, match=r"recordings of \[6, 7\] units"):
        make_data([RECORDINGS[0], synthetic_recording(2, units=7)], NETWORK.filters, LENGTH)
    with pytest.raises(ValueError, match="no window of 1600 bins lies in validation of synthetic 0"):
        window_indices(RECORDINGS[0], "validation", 1600)
    with pytest.raises(ValueError, match="loss 'huber' is unknown"):
        Objective("huber")
    with pytest.raises(ValueError, match="gamma is 1.0, but the loss 'bce' has none: leave it out, or choose focal"):
        Objective("bce", gamma=1.0)
    with pytest.raises(ValueError, match="smooth is 2.0, but the loss 'focal' has none: .* or choose dice or dice_bce"):
        Objective("focal", smooth=2.0)


def test_saved_options_without_effect_on_the_loss_are_left_out():
    assert saved_objective("dice", gamma=1.0, alpha=0.2, smooth=3.0) == Objective("dice", smooth=3.0)
