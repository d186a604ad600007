"""Training steps in PyTorch, as a careful user writes them: data on the device, fused AdamW, cuDNN's LSTM, the same precision as ours.

eager      each operation is launched by Python
compile    forward and backward pass by torch.compile(mode="reduce-overhead"), which replays them as CUDA graphs
graph      the whole step, optimizer included, captured once as a CUDA graph by hand and replayed: nothing is launched by Python
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from benchmarks.cases import LENGTHS, PADDED
from benchmarks.opponents.bilstm import BiLSTMAttention
from benchmarks.opponents.hippie import TriModalVAE
from benchmarks.opponents.transformer import Fused, Original, dice

MODES = ("eager", "compile", "graph")
Work = Callable[[torch.Tensor], torch.Tensor]


class Model(NamedTuple):
    """What is trained.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    work : callable
        Loss of some rows; of an embedding, its output.
    n_rows : int
        Number of rows of the data.
    clip : float
        Largest norm of the gradient; 0 for an embedding, which is not trained.
    options : dict
        Options of AdamW.
    """

    module: nn.Module
    work: Work
    n_rows: int
    clip: float
    options: dict[str, float]


def make_step(system: str, sizes: Mapping[str, int], mode: str, precision: str) -> tuple[Callable[[], None], str, int]:
    """Construct the training of a system.

    Parameters
    ----------
    system : str
        One of `MODELS`.
    sizes : dict
        Sizes of `benchmarks.cases`.
    mode : {"eager", "compile", "graph"}
        See above.
    precision : {"float32", "tf32", "bfloat16"}
        Precision of products; ``"bfloat16"`` by autocast.

    Returns
    -------
    step : callable
        Function that takes the next training step, or embeds the next units.
    device : str
        Name of the device.
    n_blocks : int
        Steps that embed all units; 0 where a network is trained.

    Raises
    ------
    ValueError
        If the system has no equivalent in PyTorch, or a CUDA graph is requested without a GPU.
    """
    if system not in MODELS:
        raise ValueError(f"{system} has no equivalent in PyTorch: choose from {', '.join(MODELS)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if mode == "graph" and device == "cpu":
        raise ValueError("a CUDA graph needs a GPU")
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    model = MODELS[system](sizes, device)

    def autocast_work(rows: torch.Tensor) -> torch.Tensor:
        enabled = precision == "bfloat16"
        with torch.autocast(device, torch.bfloat16, enabled=enabled, cache_enabled=mode != "graph"):
            return model.work(rows)

    work: Work = torch.compile(autocast_work, mode="reduce-overhead") if mode == "compile" else autocast_work
    update = _make_update(model, work, capturable=mode == "graph")
    batches = _batches(model.n_rows, sizes["batch"], device)
    if mode == "graph":
        step = _capture(update, batches)
    else:

        def step() -> None:
            if mode == "compile":
                torch.compiler.cudagraph_mark_step_begin()
            update(next(batches))

    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return step, name, 0 if model.clip else -(-sizes["units"] // sizes["batch"])


def wait() -> None:
    """Return when PyTorch has finished all computations."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def memory_gib() -> float:
    """Return the peak memory that PyTorch has allocated on the GPU.

    Returns
    -------
    float
        GiB.
    """
    return torch.cuda.max_memory_allocated() / 2**30


def _make_update(model: Model, work: Work, *, capturable: bool) -> Callable[[torch.Tensor], object]:
    """The function of some rows that changes the parameters, or embeds the rows."""
    if not model.clip:
        return torch.inference_mode()(work)
    optimizer = torch.optim.AdamW(model.module.parameters(), fused=True, capturable=capturable, **model.options)

    def update(rows: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        work(rows).backward()
        nn.utils.clip_grad_norm_(model.module.parameters(), model.clip)
        optimizer.step()

    return update


def _batches(n_rows: int, batch: int, device: str) -> Iterator[torch.Tensor]:
    """Rows of batches in random order, without end."""
    order = torch.randperm(n_rows, device=device)
    whole = order[: n_rows // batch * batch] if n_rows >= batch else order
    return itertools.cycle(whole.split(batch))


def _capture(update: Callable[[torch.Tensor], object], batches: Iterator[torch.Tensor]) -> Callable[[], None]:
    """Capture a step as a CUDA graph, after a warm-up on another stream as the documentation of PyTorch requires it."""
    rows, stream = next(batches).clone(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            update(rows)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update(rows)

    def step() -> None:
        rows.copy_(next(batches))
        graph.replay()

    return step


def _bilstm(sizes: Mapping[str, int], device: str) -> Model:
    padded = max(1, PADDED * sizes["features"] // 100)  # PyTorch computes the padding of the families as well
    rng, n_cells = np.random.default_rng(0), sizes["steps"] * sizes["batch"]
    x = torch.tensor(rng.normal(size=(n_cells, sizes["families"], padded)).astype(np.float32), device=device)
    label = torch.tensor(np.resize(np.arange(5), n_cells), device=device)
    module = BiLSTMAttention(padded, sizes["width"], 5).to(device)
    options = {"lr": 1e-3, "weight_decay": 1e-4}
    return Model(module, lambda rows: F.cross_entropy(module(x[rows]), label[rows]), n_cells, 2.0, options)


def _hippie(sizes: Mapping[str, int], device: str, *, trained: bool = True) -> Model:
    rng, n_units = np.random.default_rng(0), sizes["steps"] * sizes["batch"] if trained else sizes["units"]
    curves = [
        torch.tensor(rng.uniform(-1, 1, (n_units, length)).astype(np.float32), device=device)
        for length in LENGTHS.values()
    ]
    label = torch.tensor(np.resize(np.arange(5), n_units), device=device)
    source = torch.zeros_like(label)
    module = TriModalVAE(list(LENGTHS.values()), sizes["latent"], sizes["width"], 4, 5).to(device)
    options = {"lr": 1e-3, "weight_decay": 0.01}
    if trained:
        loss: Any = lambda rows: module.loss([curve[rows] for curve in curves], source[rows], label[rows])  # noqa: E731
        return Model(module, loss, n_units, 1.0, options)
    module.eval()
    embed: Any = lambda rows: module.encode([curve[rows] for curve in curves], source[rows])[0]  # noqa: E731
    return Model(module, embed, n_units, 0.0, options)


def _transformer(sizes: Mapping[str, int], device: str, kind: type[nn.Module]) -> Model:
    rng, shape = np.random.default_rng(0), (2 * sizes["batch"], sizes["length"] + 1, sizes["units"])
    spikes = torch.tensor((rng.random(shape) < 0.01).astype(np.float32), device=device)
    module = kind(sizes["units"], sizes["heads"], sizes["width"]).to(device)
    options = {"lr": 0.005, "weight_decay": 0.0}

    def loss(rows: torch.Tensor) -> torch.Tensor:
        return dice(module(spikes[rows, :-1]), spikes[rows, 1:])

    return Model(module, loss, shape[0], 2.0, options)


MODELS: dict[str, Callable[[Mapping[str, int], str], Model]] = {
    "patchseq": _bilstm,
    "hippie": _hippie,
    "embedding": lambda sizes, device: _hippie(sizes, device, trained=False),
    "spikes-published": lambda sizes, device: _transformer(sizes, device, Fused),
    "spikes-published-original": lambda sizes, device: _transformer(sizes, device, Original),
}
