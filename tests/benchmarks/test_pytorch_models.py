"""The PyTorch baselines are the same networks, and their steps train them."""

import jax
import numpy as np
import pytest

from benchmarks.cases import LENGTHS, SMALL_SIZES
from jaxephys.hippie.network.cvae import ConditionalVAE
from jaxephys.hippie.network.initialization import variable_shapes

torch = pytest.importorskip("torch")

from benchmarks.opponents import steps  # noqa: E402
from benchmarks.opponents.hippie import TriModalVAE  # noqa: E402


@pytest.mark.parametrize("width", [4, 64])
def test_both_networks_have_as_many_parameters(width):
    ours = variable_shapes(ConditionalVAE(width=width, sources=4, classes=5, mask_token=False))["params"]
    if width != 64:  # PyTorch's last layer reads 64 positions whatever the width, as ours does
        assert ours["outputs_acg"]["linear_out"]["kernel"].shape == (64, 100)
    theirs = TriModalVAE(list(LENGTHS.values()), 30, width, 4, 5)
    assert sum(p.numel() for p in theirs.parameters()) == sum(
        int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(ours)
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("system", steps.MODELS)
def test_steps_train_the_baseline(system, precision, monkeypatch):
    """The parameters change, and the loss falls. An embedding changes nothing."""
    made = []
    make = steps.MODELS[system]
    monkeypatch.setitem(steps.MODELS, system, lambda sizes, device: made.append(make(sizes, device)) or made[0])
    sizes = SMALL_SIZES[system.removesuffix("-original")]
    step, _, n_blocks = steps.make_step(system, sizes, "eager", precision)
    model, rows = made[0], torch.arange(8) % made[0].n_rows
    before = model.work(rows).detach().clone()
    for _ in range(20):
        step()
    after = model.work(rows).detach()
    if system == "embedding":
        assert torch.equal(before, after) and n_blocks == 4
    else:
        assert after < before and n_blocks == 0


def test_a_graph_needs_a_gpu_and_a_system_needs_an_equivalent():
    with pytest.raises(ValueError, match="no equivalent in PyTorch"):
        steps.make_step("spikes-population", SMALL_SIZES["spikes-population"], "eager", "float32")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="needs a GPU"):
            steps.make_step("patchseq", SMALL_SIZES["patchseq"], "graph", "float32")
