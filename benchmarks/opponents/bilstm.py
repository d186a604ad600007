"""PyTorch baseline of the Patch-seq classifier: LayerNorm + BiLSTM + attention, one seed after the other.

It uses the fast options of PyTorch: fused AdamW, data on the device, and cuDNN's LSTM on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from benchmarks.runner import wait_for_torch


class BiLSTMAttention(nn.Module):
    """The published classifier.

    Parameters
    ----------
    width : int
        Features of a family after padding.
    hidden : int
        Hidden units of one direction.
    classes : int
        Number of classes.
    """

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.head = nn.Sequential(nn.LayerNorm(2 * hidden), nn.Dropout(0.2), nn.Linear(2 * hidden, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch.

        Parameters
        ----------
        x : tensor, shape (batch, n_families, width)
            Features.

        Returns
        -------
        tensor, shape (batch, n_classes)
            Logits.
        """
        states, _ = self.lstm(self.norm(x))
        weights = torch.softmax(self.score(torch.tanh(self.attention(states))), dim=1)
        return self.head((weights * states).sum(dim=1))


def pad_families(values: np.ndarray, widths: Sequence[int], padded: int) -> np.ndarray:
    """Return the features with families padded to one width.

    Parameters
    ----------
    values : array, shape (n_cells, sum(widths))
        Features, one family after the other.
    widths : sequence of int
        Features of each family.
    padded : int
        Common width.

    Returns
    -------
    array of float32, shape (n_cells, n_families, padded)
        Features, with zeros for padding.
    """
    result = np.zeros((len(values), len(widths), padded), np.float32)
    for family, columns in enumerate(np.split(values, np.cumsum(widths)[:-1], axis=1)):
        result[:, family, : columns.shape[1]] = columns
    return result


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
    n_validation: int = 0,
) -> float:
    """Train seeds one after the other and return the time.

    Parameters
    ----------
    x : array, shape (n_cells, n_families, width)
        Features.
    y : array of int, shape (n_cells,)
        Classes.
    runs : int
        Number of seeds.
    steps : int
        Steps of an epoch.
    batch : int
        Cells of a step.
    hidden : int
        Hidden units of one direction.
    device : {"cpu", "cuda"}
        Device.
    epochs : int, default 1
        Number of epochs.
    n_validation : int, default 0
        The last cells, which are not trained on and are validated after each epoch.

    Returns
    -------
    float
        Seconds for all seeds, after a short warm-up run.
    """
    data, label = torch.tensor(x, device=device), torch.tensor(y, device=device)
    training = _Training(data, label, batch, hidden, n_validation)
    training.run(1000, min(steps, 5), 1)
    wait_for_torch()
    start = time.perf_counter()
    for seed in range(runs):
        training.run(seed, steps, epochs)
    wait_for_torch()
    return time.perf_counter() - start


class _Training(NamedTuple):
    """Data and options that all seeds share."""

    data: torch.Tensor
    label: torch.Tensor
    batch: int
    hidden: int
    n_validation: int

    def run(self, seed: int, steps: int, epochs: int) -> None:
        torch.manual_seed(seed)
        n_train = len(self.data) - self.n_validation
        model = BiLSTMAttention(self.data.shape[-1], self.hidden, int(self.label.max()) + 1).to(self.data.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
        loss_of = nn.CrossEntropyLoss()
        for _ in range(epochs):
            model.train()
            order = torch.randperm(n_train, device=self.data.device)
            for step in range(steps):
                rows = order[step * self.batch : (step + 1) * self.batch]
                optimizer.zero_grad(set_to_none=True)
                loss_of(model(self.data[rows]), self.label[rows]).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                optimizer.step()
            if self.n_validation:
                model.eval()
                with torch.no_grad():
                    (model(self.data[n_train:]).argmax(dim=1) == self.label[n_train:]).float().mean().item()
