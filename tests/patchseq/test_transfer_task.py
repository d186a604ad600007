"""The transfer task: each species has its own scale, head and term of the loss, and nothing leaks from human test cells."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import f1_score

from data_prep.patchseq.feature_csv import read_cells
from experiments.patchseq_transfer import FILE
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import fit, initial_variables, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.optimizer import make_optimizer
from jaxephys.engine.rows import pad_rows, plain_rows
from jaxephys.patchseq.losses import inverse_frequency_weights
from jaxephys.patchseq.network.classifier import SHARED_MODULES, TwoSpeciesNetwork
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.transfer_task import (
    TransferRun,
    human_cells_first,
    is_mouse,
    make_transfer_data,
    make_transfer_inputs,
    make_transfer_task,
    training_rows,
)
from jaxephys.schemas.feature_table import FeatureTable
from tests.patchseq.example_cells import CLASSES, write_both

FAMILIES = {"isi": 3, "width": 2}
LAYOUT = RaggedLayout.from_widths(tuple(FAMILIES.values()))
CELLS = 90
SPECIES = np.array(["human", "mouse", "mouse"])[np.arange(CELLS) % 3]
LABEL = np.array(["Pvalb", "Sst", "Sst", "Vip"])[np.random.default_rng(1).permutation(CELLS) % 4]
HUMAN, MOUSE = (np.flatnonzero([of_species == name for of_species in SPECIES]) for name in ("human", "mouse"))
TRAIN, VALID, TEST = HUMAN[10:22], HUMAN[22:], HUMAN[:10]  # the test part holds row 0, at which padding points
JOINT = TransferRun(VALID, TRAIN, MOUSE, alpha=0.5)
PLAN = TrainConfig(max_epochs=3, batch_size=16, patience=None, monitor="selection")


def make_table(change=None, label=LABEL) -> FeatureTable:
    values = np.random.default_rng(0).normal(2.0, 3.0, size=(CELLS, 5)).astype(np.float32)
    values[MOUSE] = 10 * values[MOUSE] - 70  # other units
    values[::7, 1] = np.nan
    if change is not None:
        change(values)
    return FeatureTable.from_arrays(values, FAMILIES, label, species=SPECIES)


TASK = make_transfer_task(TwoSpeciesNetwork(LAYOUT, 3, hidden=4))
VARIABLES = jax.jit(TASK.init)(jax.random.key(0))
gather = jax.jit(lambda data, constants, rows: TASK.gather(data, constants, rows, None))
gradient = jax.jit(jax.value_and_grad(lambda variables, batch: TASK.loss(variables, batch, jax.random.key(1))[0]))
outputs, validate = jax.jit(TASK.outputs), jax.jit(TASK.validate)


def one(tree):
    """The only run of a stacked tree, on the device."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), tree)


def batch_of(rows, mixture=JOINT):
    table = make_table()
    constants = one(make_transfer_inputs(table, [mixture], dropout=0.0).constants)
    return gather(make_transfer_data(table), constants, plain_rows(rows))


def train(table, mixtures, config=PLAN, start=None):
    grid = RunGrid.cross(seed=range(len(mixtures)))
    inputs = make_transfer_inputs(table, mixtures, dropout=0.0)
    paired = bool(len(mixtures[0].human) and len(mixtures[0].mouse))
    return fit(
        make_transfer_task(TwoSpeciesNetwork(LAYOUT, 3, hidden=4), paired),
        make_transfer_data(table),
        inputs,
        grid,
        config,
        initial=start,
    )


@pytest.fixture(scope="module")
def trained():
    return train(make_table(), [JOINT])


def assert_same(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


# What is fitted.


def test_each_species_is_scaled_by_its_training_cells():
    table = make_table()
    constants = one(make_transfer_inputs(table, [JOINT]).constants)
    for species, rows in ((constants.human, TRAIN), (constants.mouse, MOUSE)):
        median = np.nanmedian(table.values[rows], axis=0)
        filled = np.where(np.isnan(table.values[rows]), median, table.values[rows])
        np.testing.assert_allclose(species.scale.median, LAYOUT.pack(median), rtol=1e-5)
        np.testing.assert_allclose(species.scale.sd, LAYOUT.pack(filled.std(axis=0), fill=1.0), rtol=1e-4)
        counts = np.bincount(table.codes()[rows], minlength=3)
        np.testing.assert_allclose(species.class_weight, inverse_frequency_weights(counts), rtol=1e-6)


def test_mouse_cells_are_never_in_the_human_scale():
    def move(values):
        values[MOUSE] += 100.0

    ours, moved = (one(make_transfer_inputs(table, [JOINT]).constants) for table in (make_table(), make_table(move)))
    assert_same(ours.human, moved.human)
    assert not np.array_equal(ours.mouse.scale.median, moved.mouse.scale.median)


def test_training_cells_of_both_species_come_out_standardised():
    real = LAYOUT.source_column >= 0
    for rows in (TRAIN, MOUSE):
        x = np.asarray(batch_of(rows).x)[:, real]
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(x.std(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("poison", [1e6, np.nan])
def test_a_poisoned_test_cell_changes_nothing_that_is_fitted(trained, poison):
    def change(values):
        values[TEST, 1:] = poison

    poisoned = train(make_table(change), [JOINT])
    assert poisoned.diverged() == []
    assert_same((trained.best, trained.history), (poisoned.best, poisoned.history))


def test_a_poisoned_training_cell_does_change_it(trained):
    def change(values):
        values[TRAIN[0], 1:] = 1e6

    poisoned = train(make_table(change), [JOINT])
    assert not np.array_equal(trained.history["train_loss"], poisoned.history["train_loss"])


# The loss.


def test_the_loss_is_that_of_each_species_alone():
    """Against the formula in NumPy, from the probabilities of each head."""
    rows = np.concatenate([TRAIN, MOUSE[:12]])
    batch, codes, terms = batch_of(rows), make_table().codes(), []
    output = outputs(VARIABLES, batch)
    for probability, chosen, fitted in ((output.human, slice(12), TRAIN), (output.mouse, slice(12, 24), MOUSE)):
        of_species = codes[rows[chosen]]
        weight = inverse_frequency_weights(np.bincount(codes[fitted], minlength=3))[of_species]
        price = -np.log(np.asarray(probability)[chosen][np.arange(12), of_species])
        terms.append((weight * price).sum() / weight.sum())
    assert float(gradient(VARIABLES, batch)[0]) == pytest.approx(terms[0] + 0.5 * terms[1], rel=1e-5)


@pytest.mark.parametrize(("rows", "silent", "other"), [(MOUSE[:24], "human", "mouse"), (HUMAN[:24], "mouse", "human")])
def test_a_head_gets_no_gradient_from_the_other_species(rows, silent, other):
    by_module = gradient(VARIABLES, batch_of(rows))[1]["params"]
    largest = {name: max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree)) for name, tree in by_module.items()}
    assert largest[silent] == 0
    assert largest[other] > 0 and largest["encoder"] > 0


def test_alpha_0_is_training_on_human_cells_alone():
    """Four steps of the optimiser on mixed batches: the same weights, to the bit, as when mouse rows are padding."""
    optimiser = make_optimizer(PLAN)

    @jax.jit
    def step(params, state, batch):
        updates, state = optimiser.update(gradient({"params": params}, batch)[1]["params"], state, params)
        return optax.apply_updates(params, updates), state

    def after(alpha: float, mouse_weight: float):
        params, state = VARIABLES["params"], optimiser.init(VARIABLES["params"])
        for number in range(4):
            rows = np.concatenate([np.roll(TRAIN, number), np.roll(MOUSE, 3 * number)[:12]])
            batch = batch_of(rows, TransferRun(VALID, TRAIN, MOUSE, alpha))
            weight = np.repeat(np.array([1.0, mouse_weight], np.float32), 12)
            params, state = step(params, state, batch._replace(weight=weight))
        return {name: tree for name, tree in params.items() if name != "mouse"}

    assert_same(after(0.0, 1.0), after(0.5, 0.0))
    assert not np.array_equal(after(0.0, 1.0)["encoder"]["kernel"], after(0.5, 1.0)["encoder"]["kernel"])


def test_in_one_grid_alpha_0_knows_nothing_of_the_mouse():
    shuffled = LABEL.copy()
    shuffled[MOUSE] = np.roll(shuffled[MOUSE], 1)
    grid = [TransferRun(VALID, TRAIN, MOUSE, alpha) for alpha in (0.0, 1.0)]
    ours, other = (train(make_table(label=label), grid) for label in (LABEL, shuffled))
    of_species, again = (
        {name: tree for name, tree in result.best["params"].items() if name != "mouse"} for result in (ours, other)
    )
    assert_same(take_runs(of_species, [0]), take_runs(again, [0]))
    assert not np.array_equal(of_species["encoder"]["kernel"][1], again["encoder"]["kernel"][1])


# Rows, selection, phases.


def test_every_mouse_cell_is_paired_with_a_human_training_cell():
    rows = training_rows(JOINT)
    assert len(rows.index) == len(MOUSE) and (rows.weight == 1).all()
    times = np.bincount(np.concatenate([rows.index, rows.partner]), minlength=CELLS)
    assert set(times[MOUSE]) == {1} and set(times[TRAIN]) == {5} and not times[np.union1d(VALID, TEST)].any()
    np.testing.assert_array_equal(rows.index, MOUSE)
    np.testing.assert_array_equal(training_rows(TransferRun(VALID, TRAIN)).index, TRAIN)
    np.testing.assert_array_equal(training_rows(TransferRun(VALID, mouse=MOUSE)).index, MOUSE)


def test_a_step_of_joint_training_has_a_batch_of_each_species():
    """The paired task gathers both cells of each pair for training, and single cells otherwise."""
    table, task = make_table(), make_transfer_task(TwoSpeciesNetwork(LAYOUT, 3, hidden=4), paired=True)
    constants, data = one(make_transfer_inputs(table, [JOINT], dropout=0.0).constants), make_transfer_data(table)
    pairs = pad_rows(jax.tree.map(lambda column: column[:10], training_rows(JOINT)), 12)
    batch = task.gather(data, constants, pairs, jax.random.key(0))
    cells = np.concatenate([MOUSE[:10], [0, 0], TRAIN[:10], [0, 0]])
    expected = TASK.gather(data, constants, plain_rows(cells)._replace(weight=np.tile(pairs.weight, 2)), None)
    assert_same(batch._replace(constants=()), expected._replace(constants=()))
    assert np.asarray(batch.mouse)[:10].all() and not np.asarray(batch.mouse)[12:22].any()
    assert len(task.gather(data, constants, pairs, None).x) == 12, "validation and prediction are of single cells"


@pytest.mark.parametrize("species", ["human", "mouse"])
@pytest.mark.parametrize("selection", ["accuracy", "macro_f1"])
def test_validation_is_by_the_head_of_the_species_and_selects_by_one_score(species, selection):
    table, rows = make_table(), (HUMAN if species == "human" else MOUSE)[:24]
    mixture = TransferRun(VALID, TRAIN, MOUSE, by_accuracy=selection == "accuracy")
    constants = one(make_transfer_inputs(table, [mixture], dropout=0.0).constants)
    data = make_transfer_data(table)
    found = validate(VARIABLES, jax.tree.map(jnp.asarray, data), constants, plain_rows(rows))
    guess = np.asarray(getattr(outputs(VARIABLES, gather(data, constants, plain_rows(rows))), species)).argmax(axis=1)
    expected = {"macro_f1": f1_score(table.codes()[rows], guess, average="macro", labels=range(3), zero_division=0)}
    expected["accuracy"] = (guess == table.codes()[rows]).mean()
    assert expected["accuracy"] != pytest.approx(expected["macro_f1"])
    assert float(found["selection"]) == pytest.approx(expected[selection], abs=1e-6)


def test_our_encoder_trains_on_pairs_too():
    task = make_transfer_task(TwoSpeciesNetwork(LAYOUT, 3, hidden=4, token=3), paired=True)
    table, config = make_table(), replace(PLAN, max_epochs=1)
    result = fit(
        task, make_transfer_data(table), make_transfer_inputs(table, [JOINT]), RunGrid.cross(seed=(0,)), config
    )
    initial = jax.jit(task.init)(jax.random.fold_in(jax.random.key(0), 0))["params"]
    for name in (*SHARED_MODULES, "human", "mouse"):
        pairs = zip(jax.tree.leaves(result.best["params"][name]), jax.tree.leaves(initial[name]), strict=True)
        assert any(not np.array_equal(after[0], before) for after, before in pairs), name


def test_pretraining_then_a_head_alone_leaves_the_encoder_as_it_was():
    table = make_table()
    pretrained = train(table, [TransferRun(MOUSE[:12], mouse=MOUSE[12:])])
    start = initial_variables(take_runs(pretrained.best, [0, 0]), drop=("human",))
    warm = train(table, [TransferRun(VALID, TRAIN)] * 2, replace(PLAN, freeze=SHARED_MODULES), start)
    for name in SHARED_MODULES:
        assert_same(warm.best["params"][name], start["params"][name])
    kernels = warm.best["params"]["human"]["dense"]["kernel"]
    fresh = jax.jit(jax.vmap(lambda seed: TASK.init(jax.random.fold_in(jax.random.key(seed), 0))))(jnp.arange(2))
    apart = np.abs(kernels - fresh["params"]["human"]["dense"]["kernel"])
    assert 0 < apart.max() < 0.1, "the head began anew, by its own seed, and has moved"


def test_a_table_of_one_species_is_refused():
    alone = FeatureTable.from_arrays(np.ones((4, 5)), FAMILIES, LABEL[:4], species=np.full(4, "mouse"))
    with pytest.raises(ValueError, match="4 of 4 cells are from a mouse: give a table of both species"):
        is_mouse(alone)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned")
    write_both(folder / "mouse_human_aligned.csv")
    return folder


def test_human_cells_come_first_and_sncg_is_labelled_as_requested(tables):
    for released, name in ((False, "Vip"), (True, "Lamp5")):
        table = read_cells(tables, FILE, "subclass5" if released else "subclass4")
        both = human_cells_first(table, sncg_as_lamp5=released)
        mouse = is_mouse(both)
        assert not mouse[:96].any() and mouse[96:].all() and set(both.classes) == set(CLASSES)
        assert set(both.label[both.about["subclass5"] == "Sncg"]) == {name}
