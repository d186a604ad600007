"""Our layers against arrays that PyTorch made from the published formulas. Tolerance 1e-5."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.patchseq.losses import effective_number_weights, focal
from jaxephys.patchseq.network.classifier import NetworkSwitches, SubclassNetwork
from jaxephys.patchseq.network.encoder import AdditiveAttention, FamilyEncoder
from jaxephys.patchseq.network.heads import SoftmaxHead, arcface_logits, unit_vectors
from jaxephys.patchseq.network.ragged_layout import RaggedLayout

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="module")
def torch_arrays():
    return np.load(PARITY / "bilstm.npz")


def params_of(arrays) -> dict:
    """The torch state dict in our layout: both directions stacked, kernels transposed, the two biases added."""

    def both(name: str) -> list[np.ndarray]:
        return [arrays[f"sd/lstm.{name}_l0{end}"] for end in ("", "_reverse")]

    biases = [a + b for a, b in zip(both("bias_ih"), both("bias_hh"), strict=True)]
    params = {
        "encoder": {
            "norm_scale": arrays["sd/in_norm.weight"],
            "norm_shift": arrays["sd/in_norm.bias"],
            "kernel": np.stack([w.T for w in both("weight_ih")]),
            "bias": np.stack(biases),
            "recurrent": np.stack([w.T for w in both("weight_hh")]),
        },
        "attention": {
            "kernel": arrays["sd/attn_hidden.weight"].T,
            "bias": arrays["sd/attn_hidden.bias"],
            "score": arrays["sd/attn_score.weight"][0],
        },
        "softmax": {
            "norm": {"scale": arrays["sd/head_norm.weight"], "bias": arrays["sd/head_norm.bias"]},
            "dense": {"kernel": arrays["sd/head.weight"].T, "bias": arrays["sd/head.bias"]},
        },
        "arcface": {"kernel": np.zeros((32, 5), np.float32)},
    }
    return jax.tree.map(jnp.asarray, params)


def close(ours, theirs) -> None:
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


def test_bilstm_layers_match_torch(torch_arrays):
    x = torch_arrays["x"]
    layout = RaggedLayout.from_widths([37] * 12)
    packed = jnp.asarray(layout.pack(x.reshape(9, -1)))
    params = params_of(torch_arrays)
    states = FamilyEncoder(layout, 16).apply({"params": params["encoder"]}, packed)
    close(states, torch_arrays["states"])
    attention = AdditiveAttention(16).apply({"params": params["attention"]}, states)
    close(attention, torch_arrays["attention"])
    pooled = jnp.einsum("bf,bfp->bp", attention, states)
    close(pooled, torch_arrays["pooled"])
    head = SoftmaxHead(5)
    close(head.apply({"params": params["softmax"]}, pooled, train=False), torch_arrays["logits"])
    close(head.apply({"params": params["softmax"]}, states[:, -1], train=False), torch_arrays["logits_last_step"])


@pytest.mark.parametrize("attention, name", [(True, "logits"), (False, "logits_last_step")])
def test_switches_choose_the_published_variant(torch_arrays, attention, name):
    layout = RaggedLayout.from_widths([37] * 12)
    network = SubclassNetwork(layout, 5, hidden=16)
    switches = NetworkSwitches(jnp.asarray(attention), jnp.asarray(False))
    packed = jnp.asarray(layout.pack(torch_arrays["x"].reshape(9, -1)))
    readout = network.apply({"params": params_of(torch_arrays)}, packed, 0 * packed, switches, train=False)
    close(readout.linear, torch_arrays[name])


def test_arcface_and_class_balanced_focal_match_torch():
    arrays = np.load(PARITY / "arcface.npz")
    cosine = unit_vectors(jnp.asarray(arrays["embedding"]), axis=-1) @ unit_vectors(
        jnp.asarray(arrays["weight"].T), axis=0
    )
    scale, margin, label = float(arrays["s"]), float(arrays["m"]), jnp.asarray(arrays["label"].astype(np.int32))
    assert np.arccos(cosine[0, label[0]]) + margin > np.pi, "row 0 is meant to reach the fallback branch"
    close(scale * cosine, arrays["logits_eval"])
    logits = arcface_logits(cosine, label, scale, margin)
    close(logits, arrays["logits_train"])
    weights = jnp.asarray(effective_number_weights(arrays["class_counts"].astype(np.int32)))
    close(weights, arrays["class_weights"])
    rows = weights[label] * focal(logits, label, 2.0)
    close(rows, arrays["cb_focal_per_row"])
    close(rows.mean(), arrays["cb_focal_mean"])
