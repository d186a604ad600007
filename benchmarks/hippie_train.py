"""HIPPIE: the published architecture and objective against the same in PyTorch, on the same cores.

    python -m benchmarks.hippie_train                                  on this machine's fastest device
    python -m benchmarks.hippie_train --units 10000 --rounds 3         fewer units to embed, fewer rounds

    one      width 64, batch 128, three modalities, consistency pass, one run: units a second in training
    grid     5 folds x 5 seeds at width 16 in one program, against PyTorch's loop over runs
    embed    100,000 units at width 64

The opponents take turns, a process each; medians over the rounds are printed and every round is written as CSV, with the
greatest memory of its process beside it (on a GPU, of the device). Compile time is reported apart. PyTorch's loop over the grid is linear in runs: two
of them are run, and scaled. Needs PyTorch: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import take_turn, write_turns

LENGTHS = {"wave": 50, "isi": 100, "acg": 100}
LATENT, CLASSES = 30, 5
KINDS = ("one", "grid", "embed")
LOOPED = 2  # runs of PyTorch's loop that are run
COLUMNS = (
    "what",
    "kind",
    "width",
    "runs",
    "units",
    "round",
    "seconds",
    "units_per_second",
    "compile_seconds",
    "peak_mb",
    "device",
)


def make_units(units: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Random curves, and a class each."""
    rng = np.random.default_rng(0)
    curves = [rng.uniform(-1, 1, (units, length)).astype(np.float32) for length in LENGTHS.values()]
    return curves, rng.integers(CLASSES, size=units).astype(np.int32)


def time_ours(kind: str, width: int, runs: int, units: int, batch: int) -> dict[str, Any]:
    """In this package's engine; a validation of one batch, which the engine always has, is not the opponent's."""
    from dataclasses import replace

    import jax

    from jaxephys.engine.config import TrainConfig
    from jaxephys.engine.devices import use_all_cores
    from jaxephys.engine.fit import fit
    from jaxephys.engine.grid import RunGrid
    from jaxephys.engine.predict import predict
    from jaxephys.engine.rows import plain_rows, stack_rows
    from jaxephys.evaluation.splits import Split
    from jaxephys.hippie.network.cvae import ConditionalVAE
    from jaxephys.hippie.task import PUBLISHED, Units, make_runs, make_task

    use_all_cores()
    curves, label = make_units(units)
    data = Units(dict(zip(LENGTHS, curves, strict=True)), np.ones((units, 3), bool), np.zeros(units, np.int32))
    sizes: Any = {"latent": LATENT, "width": width, "sources": 4, "classes": CLASSES, "mask_token": False}
    task = make_task(ConditionalVAE(**sizes))
    rows, device = np.arange(units), jax.devices()[0].device_kind
    if kind == "embed":
        variables = jax.tree.map(lambda leaf: np.asarray(leaf)[None], jax.jit(task.init)(jax.random.key(0)))
        table = stack_rows([plain_rows(rows)])
        began = time.perf_counter()
        predict(task, data, variables, table, block=batch)
        first = time.perf_counter() - began
        began = time.perf_counter()
        predict(task, data, variables, table, block=batch)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "compile_seconds": max(0.0, first - seconds), "device": device}
    objective = replace(PUBLISHED, warm_up=0.0, augmentation="off")
    split = Split(rows, rows[:batch], rows[:0])
    made = make_runs(label, [split] * runs, [objective] * runs, batch_size=batch)
    plan = TrainConfig(
        1, None, monitor="loss", mode="min", batch_size=batch, weight_decay=0.01, clip_norm=1.0, chunk_epochs=1
    )
    result = fit(task, data, made, RunGrid.cross(seed=range(runs)), plan)
    where = f"{device}, {result.execution}"
    return {"seconds": result.run_seconds, "compile_seconds": result.compile_seconds, "device": where}


def time_torch(kind: str, width: int, runs: int, units: int, batch: int) -> dict[str, Any]:
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks.opponents.hippie import embed_units, train_runs

    curves, label = make_units(units)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    own: Any = {"batch": batch, "width": width, "latent": LATENT, "device": device}
    if kind == "embed":
        seconds = embed_units(curves, **own)
    else:
        looped = min(runs, LOOPED)
        seconds = train_runs(curves, label, runs=looped, steps=units // batch, **own) * runs / looped
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    return {"seconds": seconds, "compile_seconds": 0.0, "device": name}


def peak_mb(what: str) -> float:
    """Of this process on CPU, of the device on a GPU."""
    if what == "torch":
        import torch  # pyright: ignore[reportMissingImports]

        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() / 2**20
    else:
        import jax

        stats = jax.devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in stats:
            return stats["peak_bytes_in_use"] / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(what: str, kind: str, width: int, runs: int, units: int, batch: int, turn: int) -> dict[str, Any]:
    """One opponent's turn."""
    row: dict[str, Any] = {"what": what, "kind": kind, "width": width, "runs": runs, "units": units, "round": turn}
    row |= take_turn("benchmarks.hippie_train", what, kind, width, runs, units, batch)
    row["units_per_second"] = runs * units / row["seconds"]
    return {name: row[name] for name in COLUMNS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--width", type=int, default=64, help="of the published architecture")
    parser.add_argument("--small", type=int, default=16, help="width in the grid")
    parser.add_argument("--runs", type=int, default=25, help="of the grid")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="of a run; those of the grid")
    parser.add_argument("--units", type=int, default=100_000, help="to embed")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each opponent")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/hippie_train.csv"))
    parser.add_argument("--worker", nargs=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        what, kind, *numbers = arguments.worker
        timer = {"jaxephys": time_ours, "torch": time_torch}[what]
        print(json.dumps(timer(kind, *map(int, numbers)) | {"peak_mb": round(peak_mb(what), 1)}))
        return
    trained = arguments.steps * arguments.batch
    sizes: dict[str, tuple[int, int, int]] = {
        "one": (arguments.width, 1, trained),
        "grid": (arguments.small, arguments.runs, trained),
        "embed": (arguments.width, 1, arguments.units),
    }
    rows = []
    for turn in range(arguments.rounds):
        for kind in arguments.kinds:
            for what in ("torch", "jaxephys"):
                rows.append(measure(what, kind, *sizes[kind], arguments.batch, turn))
                print(
                    f"round {turn + 1}: {kind:5} {what:8} {rows[-1]['units_per_second']:10.1f} units/s, "
                    f"{rows[-1]['peak_mb']:7.0f} MB, compiled in {rows[-1]['compile_seconds']:.0f} s",
                    flush=True,
                )
                write_turns(rows, arguments.out)
    summarise(rows)
    print(f"every round: {arguments.out}")


def summarise(rows: list[dict[str, Any]]) -> None:
    """Medians and spread, the ratio to PyTorch, and the memory of both."""
    print(f"\n{'':16} units a second (min to max)      times PyTorch    peak MB")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        speeds = {}
        for what in ("torch", "jaxephys"):
            own = [row for row in rows if (row["what"], row["kind"]) == (what, kind)]
            values = [row["units_per_second"] for row in own]
            speeds[what] = statistics.median(values)
            ratio, memory = speeds[what] / speeds["torch"], max(row["peak_mb"] for row in own)
            spread = f"({min(values):.1f} to {max(values):.1f})"
            print(f"{kind:6} {what:9} {speeds[what]:10.1f} {spread:24} {ratio:10.2f} {memory:12.0f}")


if __name__ == "__main__":
    main()
