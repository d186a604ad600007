"""The task: which rows and labels a run receives, what each setting does, and a simulated latent that only one objective finds.

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
from jaxephys.engine.search import add_levels
from jaxephys.engine.task import Task
from jaxephys.evaluation.splits import Split
from jaxephys.hippie.imputation import decoding_task
from jaxephys.hippie.network.cvae import ConditionalVAE
from jaxephys.hippie.network.initialization import initialize_variables
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.task import (
    OURS,
    PUBLISHED,
    Objective,
    UnitArrays,
    even_batch_size,
    explained_variance,
    fill_missing,
    make_data,
    make_run_inputs,
    make_task,
    mask_curves,
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


def simulate():
    """Four factors: the first three shape the waveform, the last three the intervals. The second makes the class."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(COUNT, FACTORS))
    wave = z[:, :3] @ cosines(40) + 0.1 * rng.normal(size=(COUNT, 40))
    isi = np.exp(3 + 0.7 * z[:, 1:] @ cosines(50) + 0.05 * rng.normal(size=(COUNT, 50)))
    raw = {"wave": wave.astype(np.float32), "isi": isi.astype(np.float32), "acg": np.zeros((COUNT, 0), np.float32)}
    label = np.where(z[:, 1] > 0, "fast", "regular")
    label[SPLIT.train[:20]] = ""
    return UnitTable(raw, np.arange(COUNT).astype(str), {"label": label}), z


TABLE, FACTOR = simulate()
PREPARATION = Preparation(lengths=LENGTHS)
DATA = make_data(TABLE, PREPARATION)


class Setting(NamedTuple):
    network: ConditionalVAE
    task: Task
    data: UnitArrays
    variables: dict
    gather: Callable  # compiled methods of the task: without compilation they take minutes
    loss: Callable
    apply: Callable  # the network without conditions


@pytest.fixture(scope="module")
def setting():
    network = ConditionalVAE(LENGTHS, latent=LATENT, width=4, classes=2, trunk="dense")
    task = make_task(network)

    def apply(variables, curves, present, noise):
        return network.apply(variables, curves, present=present, noise=noise, train=True, mutable=["batch_stats"])[0]

    data, compiled = jax.tree.map(jnp.asarray, DATA), (jax.jit(task.gather), jax.jit(task.loss), jax.jit(apply))
    return Setting(network, task, data, jax.jit(task.init)(KEY), *compiled)


def make_constants(objective, table=TABLE):
    stacked = make_run_inputs(table.codes(), [SPLIT], [objective], batch_size=BATCH).constants
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), stacked)


def batch_of(setting, objective, key: jax.Array | None = KEY, count=BATCH):
    return setting.gather(setting.data, make_constants(objective), plain_rows(SPLIT.train[:count]), key)


def loss_of(setting, objective, steps=0.0, **changed):
    """The loss of one batch, with the same random numbers every time."""
    variables = {**setting.variables, "tally": {**setting.variables["tally"], "steps": jnp.float32(steps)}}
    return float(setting.loss(variables, batch_of(setting, objective)._replace(**changed), KEY)[0])


# Rows and labels.


def test_a_run_has_the_labels_of_its_training_rows_and_no_other():
    label = np.asarray(make_constants(OURS).label)
    np.testing.assert_array_equal(label[SPLIT.train], TABLE.codes()[SPLIT.train])
    assert (np.delete(label, SPLIT.train) == -1).all() and (label[SPLIT.train] >= 0).sum() == len(SPLIT.train) - 20
    assert not any(name in UnitArrays._fields for name in ("label", "labels"))


def test_no_constant_changes_with_the_labels_of_other_rows():
    label = TABLE.label.copy()
    label[SPLIT.test], label[SPLIT.validation] = "fast", "regular"
    for ours, again in zip(
        *map(jax.tree.leaves, (make_constants(OURS), make_constants(OURS, replace(TABLE, about={"label": label})))),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, again)


def test_without_a_key_nothing_is_augmented_masked_or_labelled(setting):
    batch = batch_of(setting, replace(PUBLISHED, mask_probability=0.9, augmentation="strong"), key=None)
    for name, curve in batch.curves.items():
        np.testing.assert_array_equal(curve, DATA.curves[name][SPLIT.train[:BATCH]])
    assert batch.visible.all() and (np.asarray(batch.label) == -1).all()


def test_only_the_decoder_of_a_conditioned_run_receives_the_label(setting):
    label = batch_of(setting, PUBLISHED).label
    flipped = jnp.where(label >= 0, 1 - label, -1)
    changed = loss_of(setting, PUBLISHED, label=flipped)
    assert np.isfinite(changed) and changed != loss_of(setting, PUBLISHED)
    assert loss_of(setting, OURS) == loss_of(setting, OURS, label=flipped)


def test_padding_changes_no_score(setting):
    constants, rows = make_constants(OURS), plain_rows(SPLIT.validation)
    evaluate = jax.jit(setting.task.validate)
    ours, again = (
        evaluate(setting.variables, setting.data, constants, pad_rows(rows, n)) for n in (len(rows.index), 150)
    )
    for name, value in ours.items():
        np.testing.assert_allclose(again[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


def test_padding_changes_no_loss_of_the_resnets():
    task, count = make_task(ConditionalVAE(LENGTHS[:1], latent=LATENT, width=2)), 6
    variables, constants = (
        jax.jit(task.init)(KEY),
        make_constants(replace(OURS, augmentation="off", mask_probability=0.0)),
    )
    waves = DATA._replace(curves={"wave": DATA.curves["wave"]}, present=DATA.present[:, :1])
    batch = jax.jit(task.gather)(
        jax.tree.map(jnp.asarray, waves), constants, pad_rows(plain_rows(SPLIT.train[:count]), 9), None
    )
    evaluate = jax.jit(lambda batch: task.loss(variables, batch, KEY))
    value, (moved, measured) = evaluate(batch)
    changed = {name: curve.at[count:].set(3.0) for name, curve in batch.targets.items()}
    there = batch.present.at[count:].set(True)
    again = evaluate(batch._replace(targets=changed, curves=changed, present=there, visible=there))
    np.testing.assert_allclose(again[0], value, rtol=1e-5)
    for ours, theirs in zip(*map(jax.tree.leaves, ((moved, measured), again[1])), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


# Validation as in training.


@pytest.fixture(scope="module")
def noisy(setting):
    """The validation of the published protocol, and the same without its noise, as functions of objective, steps and labels."""
    tasks = {kind: make_task(setting.network, noisy_validation=kind == "noisy") for kind in ("noisy", "clean")}
    compiled = {kind: jax.jit(task.validate) for kind, task in tasks.items()}

    def validate(kind, objective, steps=0.0, flipped=False):
        split, codes = SPLIT._replace(validation=SPLIT.validation[:40]), TABLE.codes()
        codes = np.where(flipped & (codes >= 0), 1 - codes, codes)
        inputs = make_run_inputs(codes, [split], [objective], batch_size=BATCH, label_validation=kind == "noisy")
        constants = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), inputs.constants)
        variables = {**setting.variables, "tally": {**setting.variables["tally"], "steps": jnp.float32(steps)}}
        scores = compiled[kind](variables, setting.data, constants, plain_rows(split.validation))
        return {name: float(value) for name, value in scores.items()}

    return validate


def test_published_validation_is_augmented_sampled_and_labelled(noisy):
    plain = replace(PUBLISHED, augmentation="off")
    assert noisy("noisy", plain, steps=3.0) == noisy("noisy", plain, steps=3.0), "the same numbers at the same step"
    assert noisy("noisy", plain, 3.0)["loss"] != noisy("noisy", plain, 4.0)["loss"], "the latent is sampled"
    assert noisy("noisy", plain)["kl"] == noisy("noisy", plain, 4.0)["kl"], "of curves that are not augmented"
    augmented = replace(PUBLISHED, augmentation="strong")
    assert noisy("noisy", augmented)["kl"] != noisy("noisy", augmented, 4.0)["kl"] != noisy("noisy", plain)["kl"]
    assert noisy("noisy", plain)["loss"] != noisy("noisy", plain, flipped=True)["loss"], "the decoder has the class"
    assert noisy("clean", augmented) == noisy("clean", plain, 4.0, flipped=True), "by default none of it"


def test_the_published_validation_loss_is_its_formula(setting, noisy):
    plain = replace(PUBLISHED, augmentation="off", conditioned=False, beta=0.7)
    rows, steps = SPLIT.validation[:40], 5
    key = jax.random.split(jax.random.fold_in(jax.random.key(rows[0]), steps))[1]
    curves = {name: curve[rows] for name, curve in DATA.curves.items()}
    output = setting.network.apply(setting.variables, curves, noise=jax.random.normal(key, (len(rows), LATENT)))
    mu, log_var = output.latent.mu, output.latent.log_var
    expected = sum(float(jnp.mean((output.curves[name] - curves[name]) ** 2)) for name, _ in LENGTHS)
    expected += 0.7 * float(jnp.mean(jnp.sum(-0.5 * (1 + log_var - mu**2 - jnp.exp(log_var)), axis=1)))
    assert noisy("noisy", plain, float(steps))["loss"] == pytest.approx(expected, rel=1e-4)


def test_labels_of_validation_rows_are_known_only_where_they_are_requested():
    for labelled in (False, True):
        inputs = make_run_inputs(TABLE.codes(), [SPLIT], [PUBLISHED], batch_size=BATCH, label_validation=labelled)
        label = np.asarray(inputs.constants.label[0])
        assert (label[SPLIT.validation] >= 0).any() == labelled and (label[SPLIT.test] == -1).all()


def test_filled_curves_are_present_constants():
    partly = DATA._replace(present=DATA.present.copy())
    partly.present[:5, 0] = False
    filled = fill_missing(partly)
    assert filled.present.all() and not partly.present.all()
    raw = {**TABLE.raw, "wave": np.where(np.arange(COUNT)[:, None] < 5, np.nan, TABLE.raw["wave"])}
    missing = fill_missing(make_data(replace(TABLE, raw=raw), PREPARATION))
    assert (
        missing.present.all() and (missing.curves["wave"][:5] == -1).all() and (missing.curves["wave"][5:] != -1).any()
    )


# Settings of the objective.


def test_curves_are_masked_with_the_given_probability_and_one_is_always_kept():
    present = jnp.asarray(np.random.default_rng(0).random((6000, 3)) < 0.8)
    present = present & present.any(axis=1, keepdims=True)
    visible = np.asarray(mask_curves(present, jnp.float32(0.3), KEY))
    assert not (visible & ~np.asarray(present)).any(), "an absent curve does not appear"
    assert (visible.any(axis=1) == np.asarray(present).any(axis=1)).all()
    whole = np.asarray(present).all(axis=1)
    assert (~visible[whole]).mean() == pytest.approx(
        0.3 - 0.3**3 / 3, abs=0.02
    )  # of three that would all be masked, one is kept
    np.testing.assert_array_equal(mask_curves(present, jnp.float32(0.0), KEY), present)


def test_our_target_is_the_measured_curve_and_the_published_one_the_augmented(setting):
    for objective, same in ((OURS, "measured"), (replace(OURS, clean_target=False), "augmented")):
        batch = batch_of(setting, replace(objective, augmentation="strong"))
        measured = DATA.curves["wave"][SPLIT.train[:BATCH]]
        assert (np.asarray(batch.curves["wave"]) != measured).any()
        np.testing.assert_array_equal(batch.targets["wave"], measured if same == "measured" else batch.curves["wave"])
    assert not batch.visible.all() and batch.present.all(), "a masked curve counts in the error"


def test_the_published_loss_is_its_formula(setting):
    plain = replace(PUBLISHED, augmentation="off", consistency=0.0, conditioned=False, beta=0.7)
    batch = batch_of(setting, plain)
    noise = jax.random.normal(jax.random.split(KEY, 3)[0], (BATCH, LATENT))
    reading = setting.apply(setting.variables, batch.curves, batch.visible, noise)
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


def test_contrast_uses_labels_where_it_is_on(setting):
    flipped = batch_of(setting, OURS).label.at[:9].set(0)
    on = replace(OURS, contrast=1.0)
    assert loss_of(setting, on) > loss_of(setting, OURS)
    assert loss_of(setting, on) != loss_of(setting, on, label=flipped)


def test_the_running_error_of_masked_and_of_visible_curves_is_updated_and_steps_are_counted(setting):
    batch = batch_of(setting, OURS)
    batch = batch._replace(present=jnp.ones((BATCH, 2), bool).at[:, 1].set(False))
    batch = batch._replace(visible=batch.present & (jnp.arange(BATCH) < 20)[:, None])
    before = setting.variables["tally"]
    _, (moved, _) = setting.loss(setting.variables, batch, KEY)
    after = moved["tally"]
    assert after["steps"] == before["steps"] + 1
    np.testing.assert_array_equal(after["variance"][:, 1], 1.0)  # no row has the second curve
    # The dense network has no batch statistics but those of fusion and expansion: the error is computed anew here.
    noise = jax.random.normal(jax.random.split(KEY, 3)[0], (BATCH, LATENT))
    reading = setting.apply(setting.variables, batch.curves, batch.visible, noise)
    errors = np.mean((np.asarray(reading.curves["wave"]) - batch.targets["wave"]) ** 2, axis=1)
    for position, some in enumerate((errors[20:], errors[:20])):
        assert float(after["variance"][position, 0]) == pytest.approx(1 + 0.1 * (float(some.mean()) - 1), rel=1e-4)


def test_a_technology_is_masked_as_often_as_a_curve(setting):
    data = setting.data._replace(source=jnp.zeros(COUNT, int))
    index = plain_rows(np.resize(SPLIT.train, 4000))
    for objective, share in ((OURS, 0.3), (PUBLISHED, 0.0)):
        source = np.asarray(setting.gather(data, make_constants(objective), index, KEY).source)
        assert (source == -1).mean() == pytest.approx(share, abs=0.03)
    assert (np.asarray(setting.gather(data, make_constants(OURS), index, None).source) == 0).all()


def test_explained_variance_is_that_of_scikit_learn(setting):
    batch = batch_of(setting, OURS, key=None)._replace(weight=jnp.ones(BATCH).at[20:].set(0.0))
    drawn = jax.jit(decoding_task(setting.network).outputs)(setting.variables, batch).mean
    errors = jnp.stack([jnp.mean((drawn[name] - batch.targets[name]) ** 2, axis=1) for name, _ in LENGTHS], axis=1)
    ours = explained_variance(errors, batch, NAMES)
    for position, (name, _) in enumerate(LENGTHS):
        wanted = r2_score(
            np.asarray(batch.targets[name])[:20], np.asarray(drawn[name])[:20], multioutput="variance_weighted"
        )
        assert float(ours[position]) == pytest.approx(wanted, abs=1e-5)
    nobody = explained_variance(errors, batch._replace(present=batch.present.at[:, 0].set(False)), NAMES)
    assert np.isnan(nobody[0]) and nobody[1] == ours[1]


def test_initial_weights_are_distributed_as_those_of_flax():
    network = ConditionalVAE(LENGTHS[:1], latent=LATENT, width=4, sources=300, trunk="dense")
    curves = {"wave": jnp.zeros((1, 24))}
    theirs = jax.jit(lambda key: network.init(key, curves))(KEY)
    ours = jax.jit(lambda key: initialize_variables(network, key))(KEY)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (ours, theirs)), strict=True):
        assert one.shape == other.shape
        if not np.std(other):
            np.testing.assert_array_equal(one, other)
        elif one.size >= 200:
            assert np.std(one) == pytest.approx(np.std(other), rel=0.15) and abs(np.mean(one)) < 0.2 * np.std(one)
            assert np.abs(one).max() == pytest.approx(np.abs(other).max(), rel=0.3)


def test_only_the_used_dimensions_have_an_effect(setting):
    scores = jax.jit(setting.task.validate)
    rows = plain_rows(SPLIT.validation)

    def scores_of(objective, factor):
        params = setting.variables["params"]
        last = {"z_mean": {**params["z_mean"], "kernel": params["z_mean"]["kernel"].at[:, 3:].multiply(factor)}}
        variables = {**setting.variables, "params": {**params, **last}}
        return {
            name: float(value)
            for name, value in scores(variables, setting.data, make_constants(objective), rows).items()
        }

    assert scores_of(replace(OURS, latent=3), 1.0) == scores_of(replace(OURS, latent=3), 9.0)
    assert scores_of(OURS, 1.0) != scores_of(OURS, 9.0)
    assert scores_of(replace(OURS, latent=3), 1.0)["kl"] < scores_of(OURS, 1.0)["kl"]


@pytest.mark.parametrize(
    ("rows", "near", "size"),
    [([257], 128, 129), ([250], 32, 25), ([20], 128, 20), ([190], 128, 95), ([72, 73], 64, 73), ([1], 64, 1)],
)
def test_batches_are_even(rows, near, size):
    assert even_batch_size(rows, near) == size
    assert all((count - 1) % size + 1 > size / 2 for count in rows)


def test_several_tables_are_concatenated():
    parts = [TABLE.rows(ROWS[:9]), TABLE.rows(ROWS[9:15])]
    joined, whole = make_data(parts, PREPARATION), make_data(TABLE.rows(ROWS[:15]), PREPARATION)
    for ours, again in zip(*map(jax.tree.leaves, (joined, whole)), strict=True):
        np.testing.assert_array_equal(ours, again)


def test_invalid_objectives_are_refused():
    with pytest.raises(ValueError, match="augmentation 'heavy' is unknown: choose one of off, light, strong"):
        Objective(augmentation="heavy")
    with pytest.raises(ValueError, match=r"mask_probability is 1.0"):
        Objective(mask_probability=1.0)


# A simulated latent.


@pytest.fixture(scope="module")
def trained(setting):
    """Both objectives in one program. Test rows are NaN in training: a run that used one would diverge."""
    objectives = {"published": PUBLISHED, "ours": OURS}
    masked = {name: curve.copy() for name, curve in DATA.curves.items()}
    for curve in masked.values():
        curve[SPLIT.test] = np.nan
    config = TrainConfig(
        max_epochs=120, patience=None, monitor="loss", mode="min", batch_size=BATCH, learning_rate=5e-3,
        weight_decay=0.01, clip_norm=1.0, chunk_epochs=20, execution="map",
    )  # fmt: skip
    inputs = make_run_inputs(TABLE.codes(), [SPLIT] * 2, list(objectives.values()), batch_size=BATCH)
    result = fit(
        setting.task, DATA._replace(curves=masked), inputs, RunGrid.cross(objective=objectives, seed=[0]), config
    )
    return result, inputs.constants


def test_no_run_uses_a_test_row(trained):
    assert trained[0].diverged() == []


def test_the_published_objective_collapses_and_ours_does_not(setting, trained):
    result, constants = trained
    rows = stack_rows([plain_rows(SPLIT.test)] * 2)
    scores = score(setting.task, DATA, result.best, rows, constants)
    published, ours = ({name: float(value[run]) for name, value in scores.items()} for run in (0, 1))
    assert published["active"] == 0 and published["kl"] < 0.1 and published["r2"] < 0.1
    assert ours["active"] >= 0.5
    assert ours["r2_wave"] > 0.5 and ours["r2_isi"] > 0.5


def test_the_simulated_factors_are_in_the_embedding_of_new_units(setting, trained):
    result, constants = trained
    both = [
        predict(setting.task, DATA, result.best, stack_rows([plain_rows(part)] * 2), constants) for part in SPLIT[::2]
    ]
    line = LinearRegression().fit(both[0].mu[1], FACTOR[SPLIT.train])
    assert line.score(both[1].mu[1], FACTOR[SPLIT.test]) > 0.5


def test_a_masked_curve_is_predicted_better_than_by_the_mean(setting, trained):
    result, constants = trained
    best, local = (jax.tree.map(lambda leaf: jnp.asarray(leaf[1]), tree) for tree in (result.best, constants))
    batch = setting.gather(setting.data, local, plain_rows(SPLIT.test), None)
    drawn = jax.jit(decoding_task(setting.network).outputs)(
        best, batch._replace(visible=batch.visible.at[:, 1].set(False))
    ).mean["isi"]
    mean = DATA.curves["isi"][SPLIT.train].mean(axis=0)
    target = batch.targets["isi"]
    assert float(jnp.mean((drawn - target) ** 2)) < 0.8 * float(jnp.mean((mean - target) ** 2))


@pytest.mark.parametrize("objective", [OURS, PUBLISHED])
def test_the_weights_of_the_losses_can_be_searched(objective):
    network = ConditionalVAE((("wave", 12),), latent=2, width=1)
    inputs = make_run_inputs(
        np.full(6, -1), [Split(np.arange(4), np.array([4]), np.array([5]))], [objective], batch_size=4
    )
    task = make_task(network, [objective])
    assert ("consistency" in task.searchable) == (objective is PUBLISHED)
    for name in task.searchable:
        _, crossed, _ = add_levels(RunGrid.cross(seed=[0]), inputs, None, {name: (0.25, 0.75)})
        np.testing.assert_array_equal(getattr(crossed.constants.objective, name), [0.25, 0.75])
