"""HIPPIE: training and embedding speed of the published architecture and objective, here and in PyTorch.

    python -m benchmarks.hippie_training                                  on the fastest device of this machine
    python -m benchmarks.hippie_training --units 10000 --rounds 3         fewer units to embed

    one      width 64, batch 128, three modalities, consistency term, one run: units per second in training
    grid     5 folds x 5 seeds of width 16 in one program, and as a loop over runs in PyTorch
    embed    100,000 units, width 64

Each measurement runs in a separate process, whose peak memory is stored beside the time (on a GPU that of the device). Compile time
is stored in a column of its own. The time of PyTorch's loop is proportional to its runs: two are run and extrapolated. The
comparison needs PyTorch: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.runner import Row, make_parser, run_benchmark, select, torch_device

LENGTHS = {"wave": 50, "isi": 100, "acg": 100}
LATENT, CLASSES = 30, 5
KINDS = ("one", "grid", "embed")
TORCH_RUNS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, write the results and print a summary.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = make_parser("hippie_training", __doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--width", type=int, default=64, help="width of the single run and of embedding (%(default)s)")
    parser.add_argument("--small", type=int, default=16, help="width of the grid (%(default)s)")
    parser.add_argument("--runs", type=int, default=25, help="runs of the grid (%(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="units of a batch (%(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="training steps of a run (%(default)s)")
    parser.add_argument("--units", type=int, default=100_000, help="units to embed (%(default)s)")
    options = parser.parse_args(arguments)
    n_trained = options.steps * options.batch
    sizes = {
        "one": (options.width, 1, n_trained),
        "grid": (options.small, options.runs, n_trained),
        "embed": (options.width, 1, options.units),
    }
    columns = ("what", "kind", "width", "runs", "units")
    run_benchmark(
        options,
        [
            dict(zip(columns, (what, kind, *sizes[kind]), strict=True))
            for kind in options.kinds
            for what in ("torch", "jaxephys")
        ],
        _measure,
        summarize,
        fixed={"batch": options.batch},
        extend=lambda row: {"units_per_second": row["runs"] * row["units"] / row["seconds"]},
        describe=lambda row: (
            f"{row['kind']:5} {row['what']:8} {row['units_per_second']:10.1f} units per second, "
            f"{row['peak_mb']:7.0f} MB, compiled in {row['compile_seconds']:.0f} s"
        ),
    )


def summarize(rows: Sequence[Row]) -> None:
    """Print the median and range of the units per second, the ratio to PyTorch, and the peak memory.

    Parameters
    ----------
    rows : sequence of dict
        Measurements.
    """
    print(f"\n{'':16} units per second (min to max)      times PyTorch    peak MB")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        torch = [row["units_per_second"] for row in select(rows, kind=kind, what="torch")]
        for what in ("torch", "jaxephys"):
            case_rows = select(rows, kind=kind, what=what)
            if not case_rows:
                continue
            values = [row["units_per_second"] for row in case_rows]
            median, memory = statistics.median(values), max(row["peak_mb"] for row in case_rows)
            ratio = f"{median / statistics.median(torch):.2f}" if torch else "-"
            spread = f"({min(values):.1f} to {max(values):.1f})"
            print(f"{kind:6} {what:9} {median:10.1f} {spread:24} {ratio:>10} {memory:12.0f}")


def make_synthetic_units(n_units: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return units with random curves.

    Parameters
    ----------
    n_units : int
        Number of units.

    Returns
    -------
    curves : list of array of float32, shape (n_units, length)
        Waveform, inter-spike-interval histogram and autocorrelogram.
    codes : array of int32, shape (n_units,)
        Classes.
    """
    rng = np.random.default_rng(0)
    curves = [rng.uniform(-1, 1, (n_units, length)).astype(np.float32) for length in LENGTHS.values()]
    return curves, rng.integers(CLASSES, size=n_units).astype(np.int32)


def time_jaxephys(kind: str, width: int, runs: int, n_units: int, batch: int) -> Row:
    """Return the time of training or embedding in this package.

    Parameters
    ----------
    kind : {"one", "grid", "embed"}
        What is measured.
    width : int
        Width of the network.
    runs : int
        Number of runs. The engine also computes a validation of one batch for each.
    n_units : int
        Number of units to train on for one epoch, or to embed.
    batch : int
        Units of a batch.

    Returns
    -------
    dict
        ``seconds``, ``compile_seconds`` and ``device``.
    """
    import jax

    from jaxephys.engine.config import TrainConfig
    from jaxephys.engine.devices import use_all_cores
    from jaxephys.engine.fit import fit
    from jaxephys.engine.grid import RunGrid
    from jaxephys.engine.predict import predict
    from jaxephys.engine.rows import plain_rows, stack_rows
    from jaxephys.evaluation.splits import Split
    from jaxephys.hippie.network.cvae import ConditionalVAE
    from jaxephys.hippie.task import PUBLISHED, UnitArrays, make_run_inputs, make_task

    use_all_cores()
    curves, codes = make_synthetic_units(n_units)
    data = UnitArrays(dict(zip(LENGTHS, curves, strict=True)), np.ones((n_units, 3), bool), np.zeros(n_units, np.int32))
    network: Any = ConditionalVAE(latent=LATENT, width=width, sources=4, classes=CLASSES, mask_token=False)
    task = make_task(network)
    rows, device = np.arange(n_units), jax.devices()[0].device_kind
    if kind == "embed":
        variables = jax.tree.map(lambda leaf: np.asarray(leaf)[None], jax.jit(task.init)(jax.random.key(0)))
        table, seconds = stack_rows([plain_rows(rows)]), []
        for _ in range(2):  # the first call compiles
            start = time.perf_counter()
            predict(task, data, variables, table, block=batch)
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds[1], "compile_seconds": max(0.0, seconds[0] - seconds[1]), "device": device}
    objective = replace(PUBLISHED, warm_up=0.0, augmentation="off")
    split = Split(rows, rows[:batch], rows[:0])
    inputs = make_run_inputs(codes, [split] * runs, [objective] * runs, batch_size=batch)
    config = TrainConfig(
        1, None, monitor="loss", mode="min", batch_size=batch, weight_decay=0.01, clip_norm=1.0, chunk_epochs=1
    )
    result = fit(task, data, inputs, RunGrid.cross(seed=range(runs)), config)
    device = f"{device}, {result.execution}"
    return {"seconds": result.run_seconds, "compile_seconds": result.compile_seconds, "device": device}


def time_torch(kind: str, width: int, runs: int, n_units: int, batch: int) -> Row:
    """Return the time of training or embedding in PyTorch.

    Parameters
    ----------
    kind : {"one", "grid", "embed"}
        What is measured.
    width : int
        Width of the network.
    runs : int
        Number of runs.
    n_units : int
        Number of units to train on for one epoch, or to embed.
    batch : int
        Units of a batch.

    Returns
    -------
    dict
        ``seconds``, ``compile_seconds`` and ``device``.
    """
    from benchmarks.opponents.hippie import embed_units, train_runs

    curves, codes = make_synthetic_units(n_units)
    device, name = torch_device()
    sizes: Any = {"batch": batch, "width": width, "latent": LATENT, "device": device}
    if kind == "embed":
        seconds = embed_units(curves, **sizes)
    else:
        n_timed = min(runs, TORCH_RUNS)
        seconds = train_runs(curves, codes, runs=n_timed, steps=n_units // batch, **sizes) * runs / n_timed
    return {"seconds": seconds, "compile_seconds": 0.0, "device": name}


def peak_mb(what: str) -> float:
    """Return the peak memory of the GPU or, without one, of this process.

    Parameters
    ----------
    what : {"jaxephys", "torch"}
        Which library allocates the memory of the GPU.

    Returns
    -------
    float
        Memory in MiB.
    """
    if what == "torch":
        import torch  # pyright: ignore[reportMissingImports]

        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() / 2**20
    else:
        import jax

        stats = jax.devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in stats:
            return stats["peak_bytes_in_use"] / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss counts bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _measure(what: str, kind: str, width: int, runs: int, units: int, batch: int) -> Row:
    measure = {"jaxephys": time_jaxephys, "torch": time_torch}[what]
    return measure(kind, width, runs, units, batch) | {"peak_mb": round(peak_mb(what), 1)}


if __name__ == "__main__":
    main()
