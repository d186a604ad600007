"""The opponent: the published LayerNorm + BiLSTM + attention in PyTorch, seeds one after the other, as its users run it.

Fused AdamW, data on the device, cuDNN's LSTM on a GPU: nothing here is slower than it need be.
"""

from __future__ import annotations

import time
from typing import NamedTuple

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


def train_seeds(
    x: np.ndarray,
    y: np.ndarray,
    *,
    runs: int,
    steps: int,
    batch: int,
    hidden: int,
    device: str,
    epochs: int = 1,
    valid: int = 0,
) -> float:
    """Seconds for ``epochs`` of ``steps`` of every seed, one seed after the other, after a warm-up.

    The last ``valid`` cells are left out of training and validated after each epoch.
    """
    data, label = torch.tensor(x, device=device), torch.tensor(y, device=device)
    train = _Training(data, label, batch, hidden, valid)
    train.seed(1000, min(steps, 5), 1)
    _wait(device)
    began = time.perf_counter()
    for seed in range(runs):
        train.seed(seed, steps, epochs)
    _wait(device)
    return time.perf_counter() - began


class _Training(NamedTuple):
    data: torch.Tensor
    label: torch.Tensor
    batch: int
    hidden: int
    valid: int

    def seed(self, seed: int, steps: int, epochs: int) -> None:
        torch.manual_seed(seed)
        kept = len(self.data) - self.valid
        model = BiLSTMAttention(self.data.shape[-1], self.hidden, int(self.label.max()) + 1).to(self.data.device)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
        loss_of = nn.CrossEntropyLoss()
        for _ in range(epochs):
            model.train()
            order = torch.randperm(kept, device=self.data.device)
            for step in range(steps):
                rows = order[step * self.batch : (step + 1) * self.batch]
                optimiser.zero_grad(set_to_none=True)
                loss_of(model(self.data[rows]), self.label[rows]).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                optimiser.step()
            if self.valid:
                model.eval()
                with torch.no_grad():
                    (model(self.data[kept:]).argmax(dim=1) == self.label[kept:]).float().mean().item()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
