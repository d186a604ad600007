"""The task: which rows and labels a run sees, what each switch does, and a planted latent that only one objective finds.

Most tests have dense trunks, which compile in seconds.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import fit
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict, score
from jaxephys.engine.rows import pad_rows, plain_rows, stack_rows
from jaxephys.engine.task import Task
from jaxephys.evaluation.splits import Split
from jaxephys.hippie.imputation import drawing
from jaxephys.hippie.network.cvae import ConditionalVAE
from jaxephys.hippie.network.initialization import draw_weights
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.task import (
    OURS,
    PUBLISHED,
    Objective,
    Units,
    even_batches,
    explained_variance,
    hide,
    make_data,
    make_runs,
    make_task,
)
from jaxephys.schemas.unit_table import UnitTable

COUNT, FACTORS, LATENT, BATCH = 400, 4, 6, 32
LENGTHS = (("wave", 24), ("isi", 32))
NAMES = [name for name, _ in LENGTHS]
ROWS = np.random.default_rng(7).permutation(COUNT).astype(np.int32)
# The test part holds row 0, at which padding rows point.
SPLIT = Split(np.setdiff1d(ROWS[:250], [0]), np.setdiff1d(ROWS[250:330], [0]), np.union1d(ROWS[330:], [0]))
KEY = jax.random.key(5)


def cosines(length):
    return np.cos(np.pi * np.outer(np.arange(1, FACTORS), (np.arange(length) + 0.5) / length))


def plant():
    """Four factors: the first three shape the waveform, the last three the intervals. The second makes the class."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(COUNT, FACTORS))
    wave = z[:, :3] @ cosines(40) + 0.1 * rng.normal(size=(COUNT, 40))
    isi = np.exp(3 + 0.7 * z[:, 1:] @ cosines(50) + 0.05 * rng.normal(size=(COUNT, 50)))
    raw = {"wave": wave.astype(np.float32), "isi": isi.astype(np.float32), "acg": np.zeros((COUNT, 0), np.float32)}
    label = np.where(z[:, 1] > 0, "fast", "regular")
    label[SPLIT.train[:20]] = ""
    return UnitTable(raw, np.arange(COUNT).astype(str), {"label": label}), z


TABLE, FACTOR = plant()
PREPARATION = Preparation(lengths=LENGTHS)
DATA = make_data(TABLE, PREPARATION)


class Setting(NamedTuple):
    network: ConditionalVAE
    task: Task
    data: Units
    variables: dict
    gather: Callable  # of the task, compiled: one primitive after the other they take minutes
    loss: Callable
    read: Callable  # the network, told no condition


@pytest.fixture(scope="module")
def setting():
    network = ConditionalVAE(LENGTHS, latent=LATENT, width=4, classes=2, trunk="dense")
    task = make_task(network)

    def read(variables, curves, present, noise):
        return network.apply(variables, curves, present=present, noise=noise, train=True, mutable=["batch_stats"])[0]

    data, compiled = jax.tree.map(jnp.asarray, DATA), (jax.jit(task.gather), jax.jit(task.loss), jax.jit(read))
    return Setting(network, task, data, jax.jit(task.init)(KEY), *compiled)


def constants_of(objective, table=TABLE):
    stacked = make_runs(table.codes(), [SPLIT], [objective], batch_size=BATCH).constants
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), stacked)


def batch_of(setting, objective, key: jax.Array | None = KEY, count=BATCH):
    return setting.gather(setting.data, constants_of(objective), plain_rows(SPLIT.train[:count]), key)


def loss_of(setting, objective, steps=0.0, **changed):
    """The loss of one batch, with draws that are the same every time."""
    variables = {**setting.variables, "tally": {**setting.variables["tally"], "steps": jnp.float32(steps)}}
    return float(setting.loss(variables, batch_of(setting, objective)._replace(**changed), KEY)[0])


# Rows and labels.


def test_a_run_holds_the_labels_of_its_training_rows_and_no_other():
    label = np.asarray(constants_of(OURS).label)
    np.testing.assert_array_equal(label[SPLIT.train], TABLE.codes()[SPLIT.train])
    assert (np.delete(label, SPLIT.train) == -1).all() and (label[SPLIT.train] >= 0).sum() == len(SPLIT.train) - 20
    assert not any(name in Units._fields for name in ("label", "labels"))


def test_no_constant_changes_with_the_labels_of_other_rows():
    label = TABLE.label.copy()
    label[SPLIT.test], label[SPLIT.validation] = "fast", "regular"
    for ours, again in zip(
        *map(jax.tree.leaves, (constants_of(OURS), constants_of(OURS, replace(TABLE, about={"label": label})))),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, again)


def test_without_a_key_nothing_is_drawn_hidden_or_labelled(setting):
    batch = batch_of(setting, replace(PUBLISHED, hidden=0.9, augmentation="strong"), key=None)
    for name, curve in batch.curves.items():
        np.testing.assert_array_equal(curve, DATA.curves[name][SPLIT.train[:BATCH]])
    assert batch.seen.all() and (np.asarray(batch.label) == -1).all()


def test_the_label_reaches_the_decoder_of_a_conditioned_run_alone(setting):
    label = batch_of(setting, PUBLISHED).label
    flipped = jnp.where(label >= 0, 1 - label, -1)
    told = loss_of(setting, PUBLISHED, label=flipped)
    assert np.isfinite(told) and told != loss_of(setting, PUBLISHED)
    assert loss_of(setting, OURS) == loss_of(setting, OURS, label=flipped)


def test_padding_changes_no_score(setting):
    constants, rows = constants_of(OURS), plain_rows(SPLIT.validation)
    look = jax.jit(setting.task.validate)
    ours, again = (look(setting.variables, setting.data, constants, pad_rows(rows, n)) for n in (len(rows.index), 150))
    for name, value in ours.items():
        np.testing.assert_allclose(again[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


def test_padding_changes_no_loss_of_the_resnets():
    task, count = make_task(ConditionalVAE(LENGTHS[:1], latent=LATENT, width=2)), 6
    variables, constants = jax.jit(task.init)(KEY), constants_of(replace(OURS, augmentation="off", hidden=0.0))
    waves = DATA._replace(curves={"wave": DATA.curves["wave"]}, present=DATA.present[:, :1])
    batch = jax.jit(task.gather)(
        jax.tree.map(jnp.asarray, waves), constants, pad_rows(plain_rows(SPLIT.train[:count]), 9), None
    )
    look = jax.jit(lambda batch: task.loss(variables, batch, KEY))
    value, (moved, measured) = look(batch)
    spoilt = {name: curve.at[count:].set(3.0) for name, curve in batch.targets.items()}
    there = batch.counted.at[count:].set(True)
    again = look(batch._replace(targets=spoilt, curves=spoilt, counted=there, seen=there))
    np.testing.assert_allclose(again[0], value, rtol=1e-5)
    for ours, theirs in zip(*map(jax.tree.leaves, ((moved, measured), again[1])), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


# Switches.


def test_curves_are_hidden_as_often_as_told_and_one_always_stays():
    present = jnp.asarray(np.random.default_rng(0).random((6000, 3)) < 0.8)
    present = present & present.any(axis=1, keepdims=True)
    seen = np.asarray(hide(present, jnp.float32(0.3), KEY))
    assert not (seen & ~np.asarray(present)).any(), "an absent curve does not appear"
    assert (seen.any(axis=1) == np.asarray(present).any(axis=1)).all()
    whole = np.asarray(present).all(axis=1)
    assert (~seen[whole]).mean() == pytest.approx(0.3 - 0.3**3 / 3, abs=0.02)  # of three that would all go, one stays
    np.testing.assert_array_equal(hide(present, jnp.float32(0.0), KEY), present)


def test_ours_draws_the_measured_curve_and_the_published_one_the_augmented(setting):
    for objective, same in ((OURS, "measured"), (replace(OURS, clean=False), "augmented")):
        batch = batch_of(setting, replace(objective, augmentation="strong"))
        measured = DATA.curves["wave"][SPLIT.train[:BATCH]]
        assert (np.asarray(batch.curves["wave"]) != measured).any()
        np.testing.assert_array_equal(batch.targets["wave"], measured if same == "measured" else batch.curves["wave"])
    assert not batch.seen.all() and batch.counted.all(), "a hidden curve is drawn and counted"


def test_the_published_loss_is_its_formula(setting):
    plain = replace(PUBLISHED, augmentation="off", consistency=0.0, conditioned=False, beta=0.7)
    batch = batch_of(setting, plain)
    noise = jax.random.normal(jax.random.split(KEY, 3)[0], (BATCH, LATENT))
    reading = setting.read(setting.variables, batch.curves, batch.seen, noise)
    mu, log_var = reading.latent.mu, reading.latent.log_var
    wanted = sum(float(jnp.mean((reading.curves[name] - batch.targets[name]) ** 2)) for name, _ in LENGTHS)
    wanted += 0.7 * float(jnp.mean(jnp.sum(-0.5 * (1 + log_var - mu**2 - jnp.exp(log_var)), axis=1)))
    assert loss_of(setting, plain) == pytest.approx(wanted, rel=1e-4)


def test_the_consistency_term_warms_up_with_the_epochs(setting):
    epoch = -(-len(SPLIT.train) // BATCH)
    without = loss_of(setting, replace(PUBLISHED, consistency=0.0))
    at = [loss_of(setting, PUBLISHED, steps=epoch * n) - without for n in (0, 1, 5, 50)]
    assert at[0] == 0 and at[1] > 1e-4
    assert at[2] == pytest.approx(5 * at[1], rel=1e-2) and at[3] == pytest.approx(at[2], rel=1e-4)
    assert loss_of(setting, PUBLISHED, steps=epoch + epoch - 1) - without == pytest.approx(at[1], rel=1e-3), "by epoch"


def test_contrast_sees_labels_where_it_is_on(setting):
    flipped = batch_of(setting, OURS).label.at[:9].set(0)
    on = replace(OURS, contrast=1.0)
    assert loss_of(setting, on) > loss_of(setting, OURS)
    assert loss_of(setting, on) != loss_of(setting, on, label=flipped)


def test_the_tally_follows_the_error_of_hidden_and_of_seen_curves_and_counts_steps(setting):
    batch = batch_of(setting, OURS)
    batch = batch._replace(counted=jnp.ones((BATCH, 2), bool).at[:, 1].set(False))
    batch = batch._replace(seen=batch.counted & (jnp.arange(BATCH) < 20)[:, None])
    before = setting.variables["tally"]
    _, (moved, _) = setting.loss(setting.variables, batch, KEY)
    after = moved["tally"]
    assert after["steps"] == before["steps"] + 1
    np.testing.assert_array_equal(after["variance"][:, 1], 1.0)  # no row has the second curve
    # The dense network has no batch statistics but those of fusion and expansion: the error is computed anew here.
    noise = jax.random.normal(jax.random.split(KEY, 3)[0], (BATCH, LATENT))
    reading = setting.read(setting.variables, batch.curves, batch.seen, noise)
    errors = np.mean((np.asarray(reading.curves["wave"]) - batch.targets["wave"]) ** 2, axis=1)
    for place, some in enumerate((errors[20:], errors[:20])):
        assert float(after["variance"][place, 0]) == pytest.approx(1 + 0.1 * (float(some.mean()) - 1), rel=1e-4)


def test_a_hidden_technology_is_unknown_as_often_as_a_curve(setting):
    data = setting.data._replace(source=jnp.zeros(COUNT, int))
    index = plain_rows(np.resize(SPLIT.train, 4000))
    for objective, share in ((OURS, 0.3), (PUBLISHED, 0.0)):
        source = np.asarray(setting.gather(data, constants_of(objective), index, KEY).source)
        assert (source == -1).mean() == pytest.approx(share, abs=0.03)
    assert (np.asarray(setting.gather(data, constants_of(OURS), index, None).source) == 0).all()


def test_explained_variance_is_that_of_scikit_learn(setting):
    batch = batch_of(setting, OURS, key=None)._replace(weight=jnp.ones(BATCH).at[20:].set(0.0))
    drawn = jax.jit(drawing(setting.network).outputs)(setting.variables, batch).mean
    errors = jnp.stack([jnp.mean((drawn[name] - batch.targets[name]) ** 2, axis=1) for name, _ in LENGTHS], axis=1)
    ours = explained_variance(errors, batch, NAMES)
    for place, (name, _) in enumerate(LENGTHS):
        wanted = r2_score(
            np.asarray(batch.targets[name])[:20], np.asarray(drawn[name])[:20], multioutput="variance_weighted"
        )
        assert float(ours[place]) == pytest.approx(wanted, abs=1e-5)
    nobody = explained_variance(errors, batch._replace(counted=batch.counted.at[:, 0].set(False)), NAMES)
    assert np.isnan(nobody[0]) and nobody[1] == ours[1]


def test_the_first_weights_are_those_that_the_network_draws():
    network = ConditionalVAE(LENGTHS[:1], latent=LATENT, width=4, sources=300, trunk="dense")
    curves = {"wave": jnp.zeros((1, 24))}
    theirs = jax.jit(lambda key: network.init(key, curves))(KEY)
    ours = jax.jit(lambda key: draw_weights(network, key))(KEY)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (ours, theirs)), strict=True):
        assert one.shape == other.shape
        if not np.std(other):
            np.testing.assert_array_equal(one, other)
        elif one.size >= 200:
            assert np.std(one) == pytest.approx(np.std(other), rel=0.15) and abs(np.mean(one)) < 0.2 * np.std(one)
            assert np.abs(one).max() == pytest.approx(np.abs(other).max(), rel=0.3)


def test_only_the_dimensions_that_are_used_say_anything(setting):
    scores = jax.jit(setting.task.validate)
    rows = plain_rows(SPLIT.validation)

    def look(objective, factor):
        params = setting.variables["params"]
        last = {"z_mean": {**params["z_mean"], "kernel": params["z_mean"]["kernel"].at[:, 3:].multiply(factor)}}
        variables = {**setting.variables, "params": {**params, **last}}
        return {
            name: float(value) for name, value in scores(variables, setting.data, constants_of(objective), rows).items()
        }

    assert look(replace(OURS, latent=3), 1.0) == look(replace(OURS, latent=3), 9.0)
    assert look(OURS, 1.0) != look(OURS, 9.0)
    assert look(replace(OURS, latent=3), 1.0)["kl"] < look(OURS, 1.0)["kl"]


@pytest.mark.parametrize(
    ("rows", "near", "size"),
    [([257], 128, 129), ([250], 32, 25), ([20], 128, 20), ([190], 128, 95), ([72, 73], 64, 73), ([1], 64, 1)],
)
def test_batches_are_even(rows, near, size):
    assert even_batches(rows, near) == size
    assert all((count - 1) % size + 1 > size / 2 for count in rows)


def test_several_tables_stand_one_after_the_other():
    parts = [TABLE.rows(ROWS[:9]), TABLE.rows(ROWS[9:15])]
    joined, whole = make_data(parts, PREPARATION), make_data(TABLE.rows(ROWS[:15]), PREPARATION)
    for ours, again in zip(*map(jax.tree.leaves, (joined, whole)), strict=True):
        np.testing.assert_array_equal(ours, again)


def test_what_is_unknown_is_refused():
    with pytest.raises(ValueError, match="augmentation 'heavy' is unknown: choose one of off, light, strong"):
        Objective(augmentation="heavy")
    with pytest.raises(ValueError, match=r"hidden is 1.0"):
        Objective(hidden=1.0)


# A planted latent.


@pytest.fixture(scope="module")
def trained(setting):
    """Both objectives in one program. Test rows hold NaN in training: had a run looked at one, it would diverge."""
    objectives = {"published": PUBLISHED, "ours": OURS}
    blind = {name: curve.copy() for name, curve in DATA.curves.items()}
    for curve in blind.values():
        curve[SPLIT.test] = np.nan
    plan = TrainConfig(
        max_epochs=120, patience=None, monitor="loss", mode="min", batch_size=BATCH, learning_rate=5e-3,
        weight_decay=0.01, clip_norm=1.0, chunk_epochs=20, execution="map",
    )  # fmt: skip
    runs = make_runs(TABLE.codes(), [SPLIT] * 2, list(objectives.values()), batch_size=BATCH)
    result = fit(setting.task, DATA._replace(curves=blind), runs, RunGrid.cross(objective=objectives, seed=[0]), plan)
    return result, runs.constants


def test_no_run_looks_at_a_test_row(trained):
    assert trained[0].diverged() == []


def test_the_published_objective_collapses_and_ours_does_not(setting, trained):
    result, constants = trained
    rows = stack_rows([plain_rows(SPLIT.test)] * 2)
    scores = score(setting.task, DATA, result.best, rows, constants)
    published, ours = ({name: float(value[run]) for name, value in scores.items()} for run in (0, 1))
    assert published["active"] == 0 and published["kl"] < 0.1 and published["r2"] < 0.1
    assert ours["active"] >= 0.5
    assert ours["r2_wave"] > 0.5 and ours["r2_isi"] > 0.5


def test_the_planted_factors_are_in_the_embedding_of_new_units(setting, trained):
    result, constants = trained
    both = [
        predict(setting.task, DATA, result.best, stack_rows([plain_rows(part)] * 2), constants) for part in SPLIT[::2]
    ]
    line = LinearRegression().fit(both[0].mu[1], FACTOR[SPLIT.train])
    assert line.score(both[1].mu[1], FACTOR[SPLIT.test]) > 0.5


def test_a_hidden_curve_is_drawn_better_than_its_mean(setting, trained):
    result, constants = trained
    best, own = (jax.tree.map(lambda leaf: jnp.asarray(leaf[1]), tree) for tree in (result.best, constants))
    batch = setting.gather(setting.data, own, plain_rows(SPLIT.test), None)
    drawn = jax.jit(drawing(setting.network).outputs)(best, batch._replace(seen=batch.seen.at[:, 1].set(False))).mean[
        "isi"
    ]
    mean = DATA.curves["isi"][SPLIT.train].mean(axis=0)
    target = batch.targets["isi"]
    assert float(jnp.mean((drawn - target) ** 2)) < 0.8 * float(jnp.mean((mean - target) ** 2))
