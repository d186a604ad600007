"""The PyTorch baseline of benchmarks/hippie_training.py is the same network and trains."""

import jax
import numpy as np
import pytest

from benchmarks import hippie_training
from jaxephys.hippie.network.cvae import ConditionalVAE
from jaxephys.hippie.network.initialization import variable_shapes

torch = pytest.importorskip("torch")

from benchmarks.opponents.hippie import TriModalVAE, embed_units, train_runs  # noqa: E402


@pytest.mark.parametrize("width", [4, 64])
def test_both_networks_have_as_many_parameters(width):
    ours = variable_shapes(ConditionalVAE(width=width, sources=4, classes=5, mask_token=False))["params"]
    if width != 64:  # PyTorch's last layer reads 64 positions whatever the width, as ours does
        assert ours["decoders_acg"]["linear_out"]["kernel"].shape == (64, 100)
    theirs = TriModalVAE(list(hippie_training.LENGTHS.values()), 30, width, 4, 5)
    assert sum(p.numel() for p in theirs.parameters()) == sum(
        int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(ours)
    )


def test_pytorch_baseline_trains_and_embeds():
    curves, label = hippie_training.make_synthetic_units(24)
    local = {"batch": 8, "width": 2, "latent": 3, "device": "cpu"}
    assert train_runs(curves, label, runs=2, steps=2, **local) > 0
    assert embed_units(curves, **local) > 0
    model = TriModalVAE([50, 100, 100], 3, 2, 4, 5)
    some = [torch.tensor(curve) for curve in curves]
    codes = torch.tensor(label.astype(np.int64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model.loss(some, torch.zeros_like(codes), codes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_summary_has_the_ratio_to_pytorch(capsys):
    rows = [
        {"what": what, "kind": "one", "units_per_second": speed, "peak_mb": 100.0}
        for what, speed in (("torch", 10.0), ("torch", 12.0), ("jaxephys", 33.0))
    ]
    hippie_training.summarize(rows)
    assert "3.00" in capsys.readouterr().out
