"""The published layer and losses against arrays that PyTorch made. Tolerance 1e-5."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes import losses
from jaxephys.spikes.attention import blocked_attention
from jaxephys.spikes.network import PublishedLayer

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="module")
def torch_arrays():
    with np.load(PARITY / "spike_transformer.npz") as file:
        return {name: file[name] for name in file.files}


def params_of(arrays) -> dict:
    """The torch state dict in our layout: kernels transposed."""

    def dense(name: str, between: str = ".") -> dict:
        return {"kernel": arrays[f"sd/{name}{between}weight"].T, "bias": arrays[f"sd/{name}{between}bias"]}

    layer = {
        "self_attn": {
            "in_proj": dense("layer.self_attn.in_proj", "_"),
            "out_proj": dense("layer.self_attn.out_proj"),
        },
        **{f"linear{i}": dense(f"layer.linear{i}") for i in (1, 2)},
        **{
            f"norm{i}": {"scale": arrays[f"sd/layer.norm{i}.weight"], "bias": arrays[f"sd/layer.norm{i}.bias"]}
            for i in (1, 2)
        },
    }
    return {"params": {"layer": layer, "fc": dense("fc")}}


@pytest.mark.parametrize("form", ["bidirectional", "causal"])
def test_logits_are_those_of_torch(torch_arrays, form):
    network, variables = PublishedLayer(legacy=form == "bidirectional"), params_of(torch_arrays)
    drawn = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((4, 128)))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, drawn), "every parameter, and no other"
    logits = jax.vmap(lambda spikes: network.apply(variables, spikes)[0])(jnp.asarray(torch_arrays["spikes"]))
    np.testing.assert_allclose(logits, torch_arrays[f"logits_{form}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["bidirectional", "causal"])
def test_attention_weights_are_those_of_torch(torch_arrays, form):
    """Read off with one-hot values: what attention makes of them is the weights themselves."""
    inner = params_of(torch_arrays)["params"]["layer"]["self_attn"]["in_proj"]
    read = jax.jit(partial(blocked_attention, causal=form == "causal", block=16))
    for spikes, wanted in zip(torch_arrays["spikes"], torch_arrays[f"attention_{form}"], strict=True):
        q, k, _ = jnp.moveaxis((spikes @ inner["kernel"] + inner["bias"]).reshape(48, 3, 16, 8), 1, 0)
        for part in range(0, 48, 8):
            one_hot = jnp.broadcast_to(jnp.eye(48)[:, None, part : part + 8], (48, 16, 8))
            weights = read(q, k, one_hot)
            np.testing.assert_allclose(weights, np.moveaxis(wanted, 0, 1)[..., part : part + 8], atol=1e-5)


def test_losses_are_those_of_torch(torch_arrays):
    logits, target = torch_arrays["logits_causal"], torch_arrays["target"]
    plain = {
        "soft_dice_causal": losses.dice(logits, target),
        "focal_gamma2_causal": losses.focal(logits, target, 2.0),
    }
    for name, value in plain.items():
        np.testing.assert_allclose(value, torch_arrays[name], rtol=1e-5, err_msg=name)
    found = [
        (
            float(losses.published_dice_term(logits_of, target)),
            float(losses.published_dice(logits_of, target, density=1.0)),
        )
        for logits_of in (torch_arrays["logits_bidirectional"], logits)
    ]
    wanted = float(torch_arrays["published_dice_D0"]), float(torch_arrays["published_loss_without_penalty"])
    assert any(np.allclose(pair, wanted, rtol=1e-6) for pair in found), (found, wanted)
