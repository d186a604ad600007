"""Conversion of the published state dict: parity with reference arrays, and every name is accounted for.

The arrays of ``tests/parity/make_hippie.py`` are in the repository; those of PyTorch itself lie beside the data, if they are there.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.network.cvae import ConditionalVAE, Conditions, network_from_config
from jaxephys.hippie.network.initialization import variable_shapes
from jaxephys.hippie.torch_checkpoint import (
    convert_state_dict,
    infer_network,
    published_shapes,
    torch_name,
    torch_shape,
)
from jaxephys.models.saved_model import read_model
from tests.hippie.torch_file import tensors, write
from tests.parity import make_hippie

DATA = Path(os.environ.get("JAXEPHYS_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
PARITY = DATA.parent / "parity" / "hippie_width8.npz"
CURVES = ("wave", "isi", "acg")
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}  # the arrays of the equations reach 26
TINY = ConditionalVAE((("wave", 6), ("acg", 9)), 3, 1, sources=2, classes=3, mask_token=False)


def read(path):
    if not path.exists():
        pytest.skip(f"{path.name} is not here: put it into a folder parity beside that of JAXEPHYS_DATA")
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module", params=[make_hippie.FILE, PARITY], ids=["equations", "PyTorch"])
def parity(request):
    return read(request.param)


def state_in(arrays):
    return {name.removeprefix("sd/"): array for name, array in arrays.items() if name.startswith("sd/")}


@pytest.fixture(scope="module")
def converted(parity):
    network, variables = convert_state_dict(state_in(parity))
    curves = {name: jnp.asarray(parity[f"in/{name}"][:, 0]) for name in CURVES}
    source = jnp.asarray(parity["in/source"].astype(np.int32))

    @jax.jit
    def evaluate(variables, label):
        """Encodings, latent, and curves of all three labellings at once: in evaluation rows do not affect each other."""
        encodings = network.apply(variables, curves, method="encode_curves")
        latent = network.apply(variables, curves, Conditions(source), method="encode")
        thrice = Conditions(jnp.tile(source, 3), label)
        return encodings, latent, network.apply(variables, jnp.tile(latent.mu, (3, 1)), thrice, method="decode")

    known, half = parity["in/class"], parity["in/class_halfmasked"]
    label = np.concatenate([known, np.full_like(known, -1), half]).astype(np.int32)
    encodings, latent, drawn = evaluate(variables, jnp.asarray(label))
    return network, encodings, latent, {name: np.split(np.asarray(curve), 3) for name, curve in drawn.items()}


def test_sizes_are_inferred_from_the_tensors(parity, converted):
    network = converted[0]
    assert network.modalities == (("wave", 50), ("isi", 100), ("acg", 100))
    assert (network.latent, network.condition, network.mask_token) == (30, 5, False)
    sizes = (network.width, network.sources, network.classes, network.regions, network.layers)
    assert sizes == ((8, 13, 4, 0, 0) if len(parity["in/source"]) > make_hippie.UNITS else (2, 4, 6, 0, 0))


def test_the_latent_is_that_of_the_reference(parity, converted):
    encodings, latent = converted[1:3]
    for name, encoding in encodings.items():
        np.testing.assert_allclose(encoding, parity[f"enc/{name}"], **TOLERANCE)
    np.testing.assert_allclose(latent.hidden, parity["h"], **TOLERANCE)
    np.testing.assert_allclose(latent.mu, parity["mu"], **TOLERANCE)
    np.testing.assert_allclose(latent.log_var, parity["logvar"], **TOLERANCE)
    assert np.ptp(parity["mu"], axis=0).max() > 1e-3, "units differ by far more than the tolerance"


@pytest.mark.parametrize("index, name", list(enumerate(["rec_class", "rec_noclass", "rec_halfmasked"])))
def test_the_reconstructions_are_those_of_the_reference(parity, converted, index, name):
    for curve, drawn in converted[3].items():
        np.testing.assert_allclose(drawn[index], parity[f"{name}/{curve}"][:, 0], **TOLERANCE)
    assert np.abs(parity["rec_class/wave"] - parity["rec_noclass/wave"]).max() > 1e-3, "the class has an effect"


def test_every_tensor_of_the_parity_state_is_one_of_the_786(parity):
    assert set(state_in(parity)) == set(published_names())


def test_the_equations_are_those_of_pytorch():
    arrays = read(PARITY)
    curves = {name: arrays[f"in/{name}"][:, 0] for name in CURVES}
    labels = (arrays["in/class"], arrays["in/class_halfmasked"])
    for name, array in make_hippie.compute(state_in(arrays), curves, arrays["in/source"], *labels).items():
        np.testing.assert_allclose(array, arrays[name], atol=1e-5, err_msg=name)


def test_the_script_makes_the_file_of_the_repository():
    made, stored = make_hippie.make(), read(make_hippie.FILE)
    assert made.keys() == stored.keys()
    for name, array in made.items():
        np.testing.assert_allclose(array, stored[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_published_network_has_the_published_shapes():
    """Names, shapes and parameters of the checkpoint of the card, against those that the converter expects."""
    network = ConditionalVAE(width=64, sources=4, classes=2, mask_token=False)
    described = {name: shape for name, shape in make_hippie.state_shapes(64, 30, 4, 2).items() if shape}
    expected = {torch_name(path): torch_shape(path, shape) for path, shape in published_shapes(network).items()}
    assert expected == described and len(make_hippie.state_shapes(64, 30, 4, 2)) == 786
    sizes = {name: int(np.prod(shape)) for name, shape in described.items() if "running" not in name}
    assert len(sizes) == 423 and sum(sizes.values()) == 24_327_317


def test_a_file_of_the_exact_layout_is_converted_and_embeds_as_the_equations(tmp_path):
    arrays = read(make_hippie.FILE)
    state = state_in(arrays)
    assert len(state) == 786
    content = {"state_dict": OrderedDict(tensors(state)), "epoch": 99, "hyper_parameters": {"z_dim": 30}}
    model = Hippie.from_checkpoint(write(tmp_path / "hippie_techcond_v1.ckpt", content))
    source = int(arrays["in/source"][1])
    same = arrays["in/source"] == source
    curves = {name: arrays[f"in/{name}"][same, 0] for name in CURVES}
    np.testing.assert_allclose(model.get_embeddings(**curves, tech_id=source), arrays["mu"][same], **TOLERANCE)
    assert model.describe().startswith("1 network of ") and model.classes_.size == 0


def published_names():
    """The 786 names of a trimodal checkpoint, written out from its description."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    both = ("weight", "bias")
    blocks = [(layer, block) for layer in (1, 2, 3, 4) for block in (0, 1)]
    tree = {"z_mean": both, "z_log_var": both, "source_embedding": ("weight",), "class_embedding": ("weight",)}
    tree |= {"fusion_encoder.0": both, "fusion_encoder.1": norm, "fusion_encoder.3": both}
    for curve in CURVES:
        enc, dec, fc = f"encoders.{curve}", f"decoders.{curve}", f"decoder_fcs.{curve}"
        tree |= {f"{enc}.conv1": ("weight",), f"{enc}.bn1": norm, f"{enc}.linear": both}
        tree |= {f"{dec}.conv1.conv": both, f"{dec}.linear": both, f"{dec}.linear_out": both}
        tree |= {f"{fc}.0": both, f"{fc}.2": both, f"{fc}.3": norm}
        for layer, block in blocks:
            for half in (f"{enc}.layer{layer}.{block}", f"{dec}.layer{layer}.{block}"):
                tree |= {f"{half}.bn1": norm, f"{half}.bn2": norm, f"{half}.conv2": ("weight",)}
            tree[f"{enc}.layer{layer}.{block}.conv1"] = ("weight",)
            up = layer > 1 and block == 1
            tree[f"{dec}.layer{layer}.{block}.conv1{'.conv' * up}"] = both if up else ("weight",)
        for layer in (2, 3, 4):
            tree |= {f"{enc}.layer{layer}.0.shortcut.0": ("weight",), f"{enc}.layer{layer}.0.shortcut.1": norm}
            tree |= {f"{dec}.layer{layer}.1.shortcut.0.conv": both, f"{dec}.layer{layer}.1.shortcut.1": norm}
    return [f"model.{module}.{leaf}" for module, leaves in tree.items() for leaf in leaves]


def random_state_dict(network):
    """A random state dict of a network, with numbers so small that the variance of its latent is finite."""
    rng = np.random.default_rng(0)
    state = {}
    for path, shape in published_shapes(network).items():
        name = f"model.{torch_name(path)}"
        state[name] = 0.3 * rng.normal(size=torch_shape(path, shape)).astype(np.float32)
        if name.endswith("running_var"):
            state[name] = 1 + np.abs(state[name])
        if name.endswith("running_mean"):
            state[name.replace("running_mean", "num_batches_tracked")] = np.array(30)
    return state


def test_the_published_network_has_the_published_names():
    names = published_names()
    assert len(names) == len(set(names)) == 786
    state = random_state_dict(ConditionalVAE(width=1, sources=4, classes=6, mask_token=False))
    assert sorted(state) == sorted(names)
    assert sum(name.endswith("num_batches_tracked") for name in names) == 121
    assert state["model.fusion_encoder.0.weight"].shape == (60, 190)
    assert state["model.decoders.isi.layer4.1.shortcut.0.conv.weight"].shape == (4, 8, 3)
    assert state["model.encoders.acg.layer2.0.shortcut.0.weight"].shape == (2, 1, 1)


def test_a_random_checkpoint_is_converted_completely(tmp_path):
    state = random_state_dict(TINY)
    path = write(tmp_path / "tiny.ckpt", {"state_dict": OrderedDict(tensors(state)), "epoch": 4})
    model = Hippie.from_checkpoint(path)
    model.save(tmp_path / "model")
    variables, config = read_model(tmp_path / "model")
    assert config["kind"] == "Hippie" and network_from_config(config["network"]) == TINY
    noise = variables.pop("noise")
    assert all(np.isnan(values).all() for values in noise.values()), "the checkpoint has no measurement of it"
    shapes = jax.tree.map(lambda leaf: (1, *leaf.shape), variable_shapes(TINY))
    assert jax.tree.map(np.shape, variables) == shapes
    kernel = variables["params"]["encoders_acg"]["layer2_0"]["conv1"]["kernel"][0, 0]
    np.testing.assert_array_equal(kernel, state["model.encoders.acg.layer2.0.conv1.weight"].transpose(2, 1, 0))
    np.testing.assert_array_equal(
        variables["params"]["label_embedding"][0], state["model.class_embedding.weight"], "a table is not transposed"
    )
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(variables["params"]))
    assert f"1 network of {parameters:,} parameters" in model.describe()


def test_a_state_without_prefix_with_regions_and_without_sources_is_recognized_by_its_tensors():
    network = TINY.clone(sources=0, regions=4, layers=2)
    state = {name.removeprefix("model."): array for name, array in random_state_dict(network).items()}
    assert "super_region_embedding.weight" in state and "layer_embedding.weight" in state
    assert convert_state_dict(state)[0] == network


def test_missing_superfluous_and_misshapen_tensors_are_named():
    state = random_state_dict(TINY)
    missing_name, misshapen_name = "model.encoders.wave.layer3.1.bn2.running_var", "model.decoder_fcs.acg.2.weight"
    counter = "model.encoders.wave.bn1.num_batches_tracked"
    del state[missing_name], state[counter]
    state |= {misshapen_name: np.zeros((6, 7), np.float32), "model.teacher.weight": np.zeros(2, np.float32)}
    state |= {"model.encoders.wave.layer9.num_batches_tracked": np.array(1)}
    with pytest.raises(CheckpointError) as caught:
        convert_state_dict(state)
    missing, superfluous, shape = str(caught.value).split("; ")
    assert missing.endswith("missing: encoders.wave.layer3.1.bn2.running_var")
    assert superfluous == "not used: teacher.weight, encoders.wave.layer9.num_batches_tracked"
    assert shape == "of another shape: decoder_fcs.acg.2.weight (6, 7) instead of (6, 6)"


@pytest.mark.parametrize(
    "broken, message",
    [
        (lambda state: {}, "no encoder of a modality"),
        (lambda state: {name.replace("acg", "lfp"): array for name, array in state.items()}, "an encoder of 'lfp'"),
        (lambda state: {name: array for name, array in state.items() if "z_mean" not in name}, "lacks z_mean.weight"),
        (lambda state: {**state, "class_embedding.weight": np.float32(1)}, "lacks class_embedding.weight"),
    ],
)
def test_a_state_whose_sizes_cannot_be_inferred_is_refused(broken, message):
    state = {name.removeprefix("model."): array for name, array in random_state_dict(TINY).items()}
    with pytest.raises(CheckpointError, match=message):
        infer_network(broken(state))


@dataclass
class CVAEConfig:
    """A class like those that a checkpoint names and that are not needed to read it."""

    z_dim: int = 30


def test_a_file_of_torch_itself_equals_its_arrays(parity, tmp_path):
    torch = pytest.importorskip("torch")
    state = state_in(parity)
    as_torch = OrderedDict((name, torch.from_numpy(array.copy())) for name, array in state.items())
    transposed = "model.z_mean.weight"
    as_torch[transposed] = as_torch[transposed].T.contiguous().T  # the same numbers, not contiguous
    assert not as_torch[transposed].is_contiguous()
    content = {
        "epoch": 4,
        "state_dict": as_torch,
        "hyper_parameters": {"config": CVAEConfig(), "size": torch.Size([2])},
    }
    torch.save(
        {**content, "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}]},
        tmp_path / "a.ckpt",
    )
    read = Hippie.from_checkpoint(tmp_path / "a.ckpt").variables_
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b), read, convert_state_dict(state)[1])
