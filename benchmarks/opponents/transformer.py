"""PyTorch baselines of the spike transformer: the published layer as its authors call it, and with PyTorch's fused kernel.

Both are one post-norm encoder layer (128 units, 16 heads, 128 hidden) and a linear readout. The first one attends to all bins with
dropout of attention weights, which excludes the fused kernels; the second one is causal by the fused kernel, without that dropout.
"""

from __future__ import annotations

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.runner import time_calls, wait_for_torch

DROPOUT = 0.1


class Original(nn.Module):
    """The layer as published: attention to all bins, with dropout of attention weights.

    Parameters
    ----------
    units, heads, hidden : int
        Sizes of the layer.
    """

    def __init__(self, units: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(units, heads, hidden, DROPOUT, batch_first=True)
        self.fc = nn.Linear(units, units)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Return the logits of all bins.

        Parameters
        ----------
        spikes : tensor, shape (batch, bins, units)
            0 and 1.

        Returns
        -------
        tensor, shape (batch, bins, units)
            Logits.
        """
        return self.fc(self.layer(spikes))


class Fused(nn.Module):
    """The same layer, causal, with PyTorch's fused kernel.

    Parameters
    ----------
    units, heads, hidden : int
        Sizes of the layer.
    """

    def __init__(self, units: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.out = nn.Linear(units, 3 * units), nn.Linear(units, units)
        self.first, self.second = nn.Linear(units, hidden), nn.Linear(hidden, units)
        self.norm_1, self.norm_2 = nn.LayerNorm(units), nn.LayerNorm(units)
        self.fc = nn.Linear(units, units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next bin.

        Parameters
        ----------
        x : tensor, shape (batch, bins, units)
            0 and 1.

        Returns
        -------
        tensor, shape (batch, bins, units)
            Logits.
        """
        batch, bins, units = x.shape
        q, k, v = self.project(x).view(batch, bins, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        attended = self.out(attended.transpose(1, 2).reshape(batch, bins, units))
        x = self.norm_1(x + functional.dropout(attended, DROPOUT, self.training))
        y = self.second(functional.dropout(functional.relu(self.first(x)), DROPOUT, self.training))
        return self.fc(self.norm_2(x + functional.dropout(y, DROPOUT, self.training)))


def dice(logits: torch.Tensor, spikes: torch.Tensor) -> torch.Tensor:
    """Return the Dice loss.

    Parameters
    ----------
    logits, spikes : tensor
        Logits, and 0 or 1, of the same shape.

    Returns
    -------
    tensor
        Scalar loss.
    """
    p = logits.sigmoid()
    return 1 - (2 * (p * spikes).sum() + 1) / (p.sum() + spikes.sum() + 1)


def time_attention(bins: int, heads: int, width: int, steps: int) -> list[float]:
    """Return the time of forward and backward passes of the fused causal kernel after a first one.

    Parameters
    ----------
    bins, heads, width : int
        Length of the window, number of heads, and numbers per head.
    steps : int
        Number of passes.

    Returns
    -------
    list of float
        Seconds of each pass.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    q, k, v, cotangent = (torch.randn(1, heads, bins, width, device=device, dtype=dtype) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()

    def forward_and_backward() -> None:
        functional.scaled_dot_product_attention(q, k, v, is_causal=True).backward(cotangent)

    return time_calls(forward_and_backward, steps, wait_for_torch)
