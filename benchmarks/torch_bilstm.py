"""The opponent: the published LayerNorm + BiLSTM + attention in PyTorch, seeds one after the other, as its users run it.

Fused AdamW, data on the device, cuDNN's LSTM on a GPU: nothing here is slower than it need be.
"""

from __future__ import annotations

import time

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]


class BiLSTMAttention(nn.Module):
    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.head = nn.Sequential(nn.LayerNorm(2 * hidden), nn.Dropout(0.2), nn.Linear(2 * hidden, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(self.norm(x))
        weights = torch.softmax(self.score(torch.tanh(self.attention(states))), dim=1)
        return self.head((weights * states).sum(dim=1))


def train_seeds(x: np.ndarray, y: np.ndarray, *, runs: int, steps: int, batch: int, hidden: int, device: str) -> float:
    """Seconds for ``steps`` of every seed, one seed after the other, after a warm-up."""
    data, label = torch.tensor(x, device=device), torch.tensor(y, device=device)
    _train_seed(data, label, seed=1000, steps=5, batch=batch, hidden=hidden)
    _wait(device)
    began = time.perf_counter()
    for seed in range(runs):
        _train_seed(data, label, seed=seed, steps=steps, batch=batch, hidden=hidden)
    _wait(device)
    return time.perf_counter() - began


def _train_seed(data: torch.Tensor, label: torch.Tensor, *, seed: int, steps: int, batch: int, hidden: int) -> None:
    torch.manual_seed(seed)
    model = BiLSTMAttention(data.shape[-1], hidden, int(label.max()) + 1).to(data.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
    loss_of = nn.CrossEntropyLoss()
    order = torch.randperm(len(data), device=data.device)
    for step in range(steps):
        rows = order[step * batch : (step + 1) * batch]
        optimiser.zero_grad(set_to_none=True)
        loss_of(model(data[rows]), label[rows]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
