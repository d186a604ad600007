"""A new table of classes: nothing else changes, and training with labels makes the decoder depend on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import jaxephys
from data_prep.units.simulate import simulate_units
from jaxephys.hippie.class_table import TABLE, with_class_table
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.network.cvae import ConditionalVAE, Conditions
from jaxephys.hippie.network.initialization import initialize_variables, variable_shapes

LENGTHS = (("wave", 6), ("acg", 9))
BARE = ConditionalVAE(LENGTHS, 3, 2, sources=2, regions=2, trunk="dense", mask_token=False)
SEEDS = (4, 5)
SETTINGS = {"width": 4, "trunk": "dense", "max_epochs": 3, "batch_size": 32, "progress": False}


def stacked(network):
    """Two runs of a network with random variables."""
    runs = [initialize_variables(network, jax.random.key(seed)) for seed in SEEDS]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *runs)


def decode(network, variables, label):
    rng = np.random.default_rng(0)
    source, region = np.array([0, 1, 1, -1]), np.array([1, 0, -1, 1])
    conditions = Conditions(source, None if label is None else np.full(4, label), region)
    z = rng.normal(size=(4, network.latent)).astype(np.float32)
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), variables)
    return network.apply(first, z, conditions, method="decode")


def test_a_table_is_added_and_nothing_else_changes():
    variables = stacked(BARE)
    network, widened = with_class_table(BARE, variables, 3, SEEDS)
    assert network == BARE.clone(classes=3)
    shapes = jax.tree.map(lambda leaf: (2, *leaf.shape), variable_shapes(network))
    assert jax.tree.map(np.shape, widened) == shapes
    for curve, rows in decode(network, widened, None).items():
        np.testing.assert_allclose(rows, decode(BARE, variables, None)[curve], atol=1e-6)
        assert np.abs(rows - decode(network, widened, 1)[curve]).max() > 1e-3, "the class has an effect"
    rng = np.random.default_rng(0)
    curves = {name: rng.uniform(-1, 1, (4, n)).astype(np.float32) for name, n in LENGTHS}
    mu = [
        net.apply(
            jax.tree.map(lambda leaf: jnp.asarray(leaf[1]), tree), curves, Conditions(np.zeros(4, int)), method="encode"
        ).mu
        for net, tree in ((BARE, variables), (network, widened))
    ]
    np.testing.assert_allclose(*mu, atol=1e-6)
    old, new = (traverse_util.flatten_dict(tree["params"], sep="/") for tree in (variables, widened))
    changed = {name for name in new if name not in old or old[name].shape != new[name].shape}
    assert changed == {TABLE, "fusion_encoder/dense_0/kernel", "decoder_fcs/dense_0/kernel"}
    assert all(np.array_equal(old[name], new[name]) for name in set(new) - changed)


def test_an_existing_table_is_drawn_anew_by_seed():
    network = BARE.clone(classes=2)
    variables = stacked(network)
    other, changed = with_class_table(network, variables, 4, SEEDS)
    assert other.classes == 4 and changed["params"][TABLE].shape == (2, 4, 5)
    assert not np.array_equal(changed["params"][TABLE][0], changed["params"][TABLE][1])
    again = with_class_table(network, variables, 4, SEEDS[1:])[1]["params"][TABLE]
    np.testing.assert_array_equal(again[0], changed["params"][TABLE][1], "a run depends on its seed alone")
    rest = {name: leaf for name, leaf in changed["params"].items() if name != TABLE}
    jax.tree.map(np.testing.assert_array_equal, rest, {name: variables["params"][name] for name in rest})


@pytest.fixture(scope="module")
def units():
    return simulate_units(90, 6, seed=1)


@pytest.fixture(scope="module")
def unlabelled(units):
    return Hippie(4, **SETTINGS, objective="published").fit(units)


@pytest.fixture(scope="module")
def labelled(units, unlabelled):
    return Hippie(**SETTINGS, objective="published", seeds=2, learning_rate=1e-2).fit(
        units, units.label, initial=unlabelled
    )


def test_labels_with_an_unlabelled_model_add_the_class_to_the_decoder(units, unlabelled, labelled):
    assert unlabelled.network_.classes == 0 and unlabelled.classes_.size == 0
    assert labelled.classes_.tolist() == units.classes.tolist() and labelled.n_networks_ == 2
    assert labelled.network_ == unlabelled.network_.clone(classes=len(units.classes))
    latent = labelled.embed(units)[:5]
    curves = [labelled.decode(latent, label=label)["wave"] for label in (*units.classes[:2], None)]
    assert min(np.abs(curves[i] - curves[j]).max() for i, j in ((0, 1), (0, 2))) > 1e-3
    with pytest.raises(ValueError, match="the decoder has no class 'PV'"):
        unlabelled.decode(latent, label="PV")


def test_the_names_of_the_classes_are_saved(units, labelled, tmp_path):
    loaded = jaxephys.load(labelled.save(tmp_path / "model"))
    assert loaded.classes_.tolist() == labelled.classes_.tolist()
    latent, label = labelled.embed(units)[:3], units.classes[-1]
    for name, curve in loaded.decode(latent, label=label, network=1).items():
        np.testing.assert_array_equal(curve, labelled.decode(latent, label=label, network=1)[name])


def test_a_table_of_the_same_classes_is_kept_and_one_of_others_replaced(units, labelled):
    seeds, table = [0, 1], labelled.variables_["params"][TABLE]
    network, variables, classes = labelled.start_runs(seeds, units.classes)
    assert network == labelled.network_ and classes.tolist() == units.classes.tolist()
    np.testing.assert_array_equal(variables["params"][TABLE], table)
    network, variables, classes = labelled.start_runs(seeds, np.array(["A", "B", *units.classes]))
    assert network.classes == variables["params"][TABLE].shape[1] == len(classes) == len(units.classes) + 2
    kept = labelled.start_runs(seeds, np.array([], str))
    assert kept[0] == labelled.network_ and kept[2].tolist() == units.classes.tolist()
