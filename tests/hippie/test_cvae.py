"""The network: only the decoder receives classes, absent curves have no effect, and the published sizes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.hippie.network.cvae import STACKED, ConditionalVAE, Conditions, network_config, network_from_config
from jaxephys.hippie.network.initialization import variable_shapes
from jaxephys.hippie.network.resnet1d import ComputeForm

TINY = {"modalities": (("wave", 6), ("acg", 9)), "latent": 3, "width": 1, "sources": 2, "classes": 3}
UNITS = 4


def random_variables(network):
    """Variables at random, none of them 0: an init would be compiled for longer than all else here."""
    rng = np.random.default_rng(5)

    def draw(path, leaf):
        shape = leaf.shape[1:] if path[1].key.startswith(STACKED) else leaf.shape
        inputs = np.prod(shape[:-1]) if len(shape) > 1 else 1
        return jnp.asarray(
            rng.uniform(0.5, 1.5, leaf.shape) * rng.choice([-1, 1], leaf.shape) / inputs**0.5, jnp.float32
        )

    variables = jax.tree_util.tree_map_with_path(draw, variable_shapes(network))
    return {**variables, "batch_stats": jax.tree.map(jnp.abs, variables["batch_stats"])}


@pytest.fixture(scope="module")
def curves():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(UNITS, length)).astype(np.float32) for name, length in TINY["modalities"]}


@pytest.fixture(scope="module")
def tiny(curves):
    """A network, its variables, and every use of it as one compiled function."""
    network = ConditionalVAE(**TINY)
    variables = random_variables(network)

    read = jax.jit(network.apply)
    return network, variables, lambda *given: read(variables, *given)


def labels(source=0, label=0):
    return Conditions(jnp.full(UNITS, source), jnp.full(UNITS, label))


ALL = jnp.ones((UNITS, 2), bool)


def differ(a, b):
    return not np.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("classes, sources, parameters", [(2, 4, 24_327_317), (4, 13, 24_327_372)])
def test_the_published_network_has_the_published_number_of_parameters(classes, sources, parameters):
    shapes = variable_shapes(ConditionalVAE(classes=classes, sources=sources, mask_token=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters
    assert shapes["params"]["fusion_encoder"]["dense_0"]["kernel"].shape == (190, 60)
    assert shapes["params"]["decoder_fcs"]["dense_0"]["kernel"].shape == (3, 40, 60)


def test_a_mask_token_is_two_latents_a_modality_and_a_slot_is_five_more_inputs():
    shapes = variable_shapes(ConditionalVAE(**{**TINY, "classes": 0, "regions": 4}))["params"]
    assert shapes["mask_token_acg"].shape == (6,)
    assert shapes["region_embedding"].shape == (4, 5) and "label_embedding" not in shapes
    assert shapes["fusion_encoder"]["dense_0"]["kernel"].shape == (2 * 6 + 5 + 5, 6)


def test_reconstructions_have_the_shape_of_the_input_and_are_decoded_from_mu_plus_noise(tiny, curves):
    _, _, read = tiny
    out = read(curves, labels(), ALL)
    assert {name: curve.shape for name, curve in out.curves.items()} == {"wave": (UNITS, 6), "acg": (UNITS, 9)}
    np.testing.assert_array_equal(out.z, out.latent.mu)
    noise = jnp.asarray(np.random.default_rng(1).normal(size=(UNITS, 3)), jnp.float32)
    noisy = read(curves, labels(), ALL, noise)
    np.testing.assert_allclose(noisy.z, out.latent.mu + noise * np.exp(out.latent.log_var / 2), rtol=1e-5)
    assert differ(noisy.curves["acg"], out.curves["acg"])


def test_only_the_decoder_receives_the_class_and_both_receive_the_source(tiny, curves):
    _, _, read = tiny
    out, other = read(curves, labels(label=0), ALL), read(curves, labels(label=2), ALL)
    np.testing.assert_array_equal(out.latent.hidden, other.latent.hidden)
    np.testing.assert_array_equal(out.latent.log_var, other.latent.log_var)
    assert all(differ(out.curves[name], other.curves[name]) for name in curves)
    moved = read(curves, labels(source=1), ALL)
    assert differ(out.latent.mu, moved.latent.mu) and differ(out.curves["wave"], moved.curves["wave"])


def test_an_unknown_class_is_a_vector_of_zeros_and_one_past_the_table_is_nan(tiny, curves):
    network, variables, _ = tiny
    emptied = {**variables["params"], "label_embedding": jnp.zeros((3, 5))}
    decode = jax.jit(lambda params, z, c: network.apply({**variables, "params": params}, z, c, method="decode"))
    z = jnp.ones((UNITS, 3))
    unknown, zero = decode(variables["params"], z, labels(label=-1)), decode(emptied, z, labels(label=1))
    np.testing.assert_array_equal(unknown["acg"], zero["acg"])
    assert differ(unknown["acg"], decode(variables["params"], z, labels(label=1))["acg"])
    blind = network.clone(class_dropout=1.0)
    rngs = {"dropout": jax.random.key(0)}
    dropped = blind.apply(variables, z, labels(label=1), deterministic=False, rngs=rngs, method="decode")
    np.testing.assert_allclose(dropped["acg"], unknown["acg"], atol=1e-5)
    assert np.isnan(decode(variables["params"], z, labels(label=3))["acg"]).all()


def test_the_content_of_an_absent_curve_has_no_effect(tiny, curves):
    _, _, read = tiny
    present = ALL.at[1, 1].set(False)
    out = read(curves, labels(), present)
    changed = {**curves, "acg": curves["acg"].copy()}
    changed["acg"][1] = np.nan
    np.testing.assert_array_equal(read(changed, labels(), present).latent.mu, out.latent.mu)
    assert differ(out.latent.mu[1], read(curves, labels(), ALL).latent.mu[1]), "the token is not the encoding"
    changed["acg"] = curves["acg"] + np.float32(1) * (np.arange(UNITS) == 2)[:, None]
    moved = read(changed, labels(), present).latent.mu
    assert differ(moved[2], out.latent.mu[2]), "a present curve has an effect"
    rest = jnp.array([0, 1, 3])
    np.testing.assert_allclose(moved[rest], out.latent.mu[rest], atol=1e-6)


def test_without_a_token_an_absent_curve_is_the_constant_of_the_original(curves):
    network = ConditionalVAE(**{**TINY, "modalities": (("acg", 9),), "mask_token": False})
    encode = jax.jit(lambda *given: network.apply(random_variables(network), *given, method="encode"))
    present = ALL[:, :1].at[1].set(False)
    constant, hidden = curves["acg"].copy(), curves["acg"].copy()
    constant[1], hidden[1] = -1, np.nan
    np.testing.assert_array_equal(
        encode({"acg": hidden}, labels(), present).mu, encode({"acg": constant}, labels(), ALL[:, :1]).mu
    )


def test_in_training_absent_curves_and_padding_change_neither_statistics_nor_gradient(curves):
    network = ConditionalVAE(**{**TINY, "modalities": (("acg", 9),)})
    variables, acg = random_variables(network), curves["acg"]
    present, rows = jnp.array([[True], [False], [True], [True]]), jnp.array([True, True, True, False])

    @jax.jit
    def step(acg):
        def loss(params):
            given = {**variables, "params": params}
            out, moved = network.apply(
                given, {"acg": acg}, labels(), present, rows=rows, train=True, mutable=["batch_stats"]
            )
            return (out.curves["acg"][:3] ** 2).sum(), (moved["batch_stats"], out.latent.mu[:3])

        return jax.grad(loss, has_aux=True)(variables["params"])

    changed = acg.copy()
    changed[1], changed[3] = np.nan, -9
    (gradient, (moved, mu)), (other, (moved_other, mu_other)) = step(acg), step(changed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), moved, moved_other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), gradient, other)
    np.testing.assert_allclose(mu, mu_other, atol=1e-5)
    assert (
        np.abs(gradient["mask_token_acg"]).max() > 0 and np.abs(gradient["encoders_acg"]["conv1"]["kernel"]).max() > 0
    )
    assert differ(moved["encoders_acg"]["bn1"]["mean"], variables["batch_stats"]["encoders_acg"]["bn1"]["mean"])
    slot = gradient["fusion_encoder"]["dense_0"]["kernel"][-5:]
    np.testing.assert_array_equal(slot, 0, "the class slot of the encoder receives zeros")


def test_inputs_that_do_not_fit_are_named(curves):
    network = ConditionalVAE(**TINY)
    with pytest.raises(ValueError, match="this network reads"):
        jax.eval_shape(network.init, jax.random.key(0), {"wave": curves["wave"]})
    with pytest.raises(ValueError, match="conditions give a region, for which this network has no table"):
        jax.eval_shape(network.init, jax.random.key(0), curves, Conditions(region=jnp.zeros(UNITS, int)))


def test_a_network_is_restored_from_its_config():
    network = ConditionalVAE(**TINY, mask_token=False, form=ComputeForm("shifted", frozen_biases=True))
    again = network_from_config(json.loads(json.dumps(network_config(network))))
    assert again == network.clone(form=ComputeForm()), "the form depends on the device, not on the model"
