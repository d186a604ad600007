"""The published layout: every array of it is in the network, each modality in its own slice."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxephys.hippie.network.cvae import STACKED, ConditionalVAE
from jaxephys.hippie.network.initialization import variable_shapes
from jaxephys.hippie.network.published_layout import from_published, published_paths

NETWORK = ConditionalVAE((("wave", 6), ("isi", 9), ("acg", 9)), 3, 1, sources=2, classes=3)


def published_state(network, leading=()):
    """Distinct numbers for every array of the published layout, under the leading axes."""
    flat, start = {}, 0
    for (collection, *path), leaf in traverse_util.flatten_dict(variable_shapes(network)).items():
        shape = leaf.shape[1:] if path[0].startswith(STACKED) else leaf.shape
        for published in published_paths(tuple(path), network):
            values = start + np.arange(np.prod(leading + shape, dtype=int), dtype=np.float32)
            flat[collection, *published] = values.reshape(leading + shape)
            start += values.size
    return traverse_util.unflatten_dict(flat)


@pytest.mark.parametrize("trunk", ["resnet", "dense"])
@pytest.mark.parametrize("leading", [(), (2,)])
def test_every_modality_has_its_slice(trunk, leading):
    network, axis = NETWORK.clone(trunk=trunk), len(leading)
    state = published_state(network, leading)
    variables = from_published(state, network, axis)
    shapes = jax.tree.map(lambda leaf: (*leading, *leaf.shape), variable_shapes(network))
    assert jax.tree.map(np.shape, variables) == shapes
    for position, name in enumerate(("isi", "acg")):
        inner = ("trunk", "linear") if trunk == "dense" else ("layer2_0", "conv1")
        outer = ("output", "linear") if trunk == "dense" else inner
        theirs = state["params"][f"encoders_{name}"][inner[0]][inner[1]]["kernel"]
        ours = variables["params"]["encoders_isi_acg"][outer[0]][outer[1]]["kernel"]
        np.testing.assert_array_equal(np.take(ours, position, axis), theirs)
    np.testing.assert_array_equal(
        np.take(variables["batch_stats"]["decoder_fcs"]["norm_3"]["mean"], 0, axis),
        state["batch_stats"]["decoder_fcs_wave"]["norm_3"]["mean"],
    )
    everything = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(variables)])
    assert len(np.unique(everything)) == everything.size == sum(np.size(leaf) for leaf in jax.tree.leaves(state))


def test_a_training_state_is_changed_inside_and_a_current_one_stays():
    variables = published_state(NETWORK, (4,))
    state = {
        "params": variables["params"],
        "opt_state": {"1": {"0": {"mu": variables["params"], "count": np.arange(4)}}},
    }
    changed = from_published(state, NETWORK, 1)
    jax.tree.map(np.testing.assert_array_equal, changed["opt_state"]["1"]["0"]["mu"], changed["params"])
    np.testing.assert_array_equal(changed["opt_state"]["1"]["0"]["count"], np.arange(4))
    jax.tree.map(np.testing.assert_array_equal, from_published(changed, NETWORK, 1), changed)
