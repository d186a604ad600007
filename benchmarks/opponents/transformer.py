"""The opponents in PyTorch: the published layer as its authors call it, and as a good PyTorch user would write it.

Both are one post-norm encoder layer (128 units, 16 heads, 128 hidden) and a linear head. The first attends to all bins, with
attention weights dropped, which rules out the fused kernels; the second is causal through the fused kernel, without that dropout.
"""

from __future__ import annotations

import time

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

DROPOUT = 0.1


class Original(nn.Module):
    def __init__(self, units: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(units, heads, hidden, DROPOUT, batch_first=True)
        self.fc = nn.Linear(units, units)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer(spikes))


class Fused(nn.Module):
    def __init__(self, units: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.out = nn.Linear(units, 3 * units), nn.Linear(units, units)
        self.first, self.second = nn.Linear(units, hidden), nn.Linear(hidden, units)
        self.norm_1, self.norm_2 = nn.LayerNorm(units), nn.LayerNorm(units)
        self.fc = nn.Linear(units, units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, bins, units = x.shape
        q, k, v = self.project(x).view(batch, bins, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        seen = self.out(seen.transpose(1, 2).reshape(batch, bins, units))
        x = self.norm_1(x + functional.dropout(seen, DROPOUT, self.training))
        y = self.second(functional.dropout(functional.relu(self.first(x)), DROPOUT, self.training))
        return self.fc(self.norm_2(x + functional.dropout(y, DROPOUT, self.training)))


def dice(logits: torch.Tensor, spikes: torch.Tensor) -> torch.Tensor:
    p = logits.sigmoid()
    return 1 - (2 * (p * spikes).sum() + 1) / (p.sum() + spikes.sum() + 1)


def time_steps(spikes: np.ndarray, *, fused: bool, heads: int, hidden: int, steps: int) -> list[float]:
    """Seconds of each training step on windows [batch, bin, unit] that hold one bin more than is predicted, after one step more."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = (Fused if fused else Original)(spikes.shape[-1], heads, hidden).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005, fused=True)
    data = torch.tensor(spikes, device=device)
    seconds = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        dice(model(data[:, :-1]), data[:, 1:]).backward()
        optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def time_attention(bins: int, heads: int, width: int, steps: int) -> list[float]:
    """Seconds of forward and backward of the fused causal kernel alone, after one more."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    q, k, v, bar = (torch.randn(1, heads, bins, width, device=device, dtype=dtype) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()
    seconds = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        functional.scaled_dot_product_attention(q, k, v, is_causal=True).backward(bar)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]
