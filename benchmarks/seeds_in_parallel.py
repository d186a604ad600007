"""Seeds in parallel: one compiled grid against the same model in PyTorch, one seed after the other.

    python -m benchmarks.seeds_in_parallel                    on this machine's fastest device
    python -m benchmarks.seeds_in_parallel --runs 10 100      the sizes of the grid

LayerNorm + BiLSTM + attention on 3,699 cells x 12 families x 498 features, 128 hidden units, batch 64, AdamW, a fixed number
of steps. The opponents take turns, a process each, on the same cores; medians over the rounds are printed and every round is
written as CSV. Ours runs twice: on dense input, and on the paper's family widths, where two thirds of the 12 x 498 are padding
that the staircase layout never multiplies. Compile time is reported apart. Needs PyTorch: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import take_turn, write_turns

CELLS, PADDED, HIDDEN, BATCH, CLASSES = 3699, 498, 128, 64, 5
PAPER_WIDTHS = (150, 149, 100, 150, 150, 150, 150, 150, 150, 420, 140, 150)
WIDTHS = {"dense": (PADDED,) * 12, "families": PAPER_WIDTHS}
COLUMNS = ("what", "layout", "runs", "steps", "round", "seconds", "ms_per_run_step", "compile_seconds", "device")


def floating_operations(layout: str) -> float:
    """Of one training step of one run, in the products alone: forward, and backward without the gradient of the input.

    Input: 2 rows x width x 8H forward, as much for the kernel's gradient. Recurrence and attention: three products each.
    """
    widths = WIDTHS[layout]
    input_products = 2 * 2 * BATCH * sum(widths) * 8 * HIDDEN
    recurrence = 3 * 2 * BATCH * len(widths) * 2 * HIDDEN * 4 * HIDDEN
    attention = 3 * 2 * BATCH * len(widths) * 2 * HIDDEN * HIDDEN
    return float(input_products + recurrence + attention)


def make_cells(layout: str) -> tuple[np.ndarray, np.ndarray]:
    """Random cells [cell, column], families one after the other, and their labels."""
    rng = np.random.default_rng(0)
    label = rng.integers(CLASSES, size=CELLS).astype(np.int32)
    return rng.normal(size=(CELLS, sum(WIDTHS[layout]))).astype(np.float32), label


def time_ours(layout: str, runs: int, steps: int) -> dict[str, object]:
    """The grid in this package's engine: ``steps`` of each run, without a validation that the opponent does not do."""
    import jax

    from jaxephys.engine.config import TrainConfig
    from jaxephys.engine.fit import fit
    from jaxephys.engine.grid import RunGrid
    from jaxephys.evaluation.splits import Split
    from jaxephys.patchseq.network.classifier import SubclassNetwork
    from jaxephys.patchseq.network.ragged_layout import Staircase
    from jaxephys.patchseq.task import Variant, make_data, make_runs, make_task
    from jaxephys.schemas.feature_table import FeatureTable

    values, label = make_cells(layout)
    table = FeatureTable.of(values, {f"family_{i}": width for i, width in enumerate(WIDTHS[layout])}, label)
    stairs, axis = Staircase.of(table.widths, PADDED), RunGrid.cross(seed=range(runs))
    rows = np.arange(steps * BATCH)
    split = Split(rows, rows[-BATCH:], rows[:0])  # a validation of one batch: the engine always has one
    made = make_runs(table, stairs, [split] * runs, [Variant()] * runs, range(runs))
    task, data = make_task(SubclassNetwork(stairs, CLASSES, HIDDEN)), make_data(table, stairs)
    plan = TrainConfig(max_epochs=1, patience=None, batch_size=BATCH, chunk_epochs=1)
    result = fit(task, data, made, axis, plan)
    device = jax.devices()[0].device_kind
    return {
        "seconds": result.run_seconds,
        "compile_seconds": result.compile_seconds,
        "device": f"{device}, {result.execution}",
    }


def time_torch(layout: str, runs: int, steps: int) -> dict[str, object]:
    """PyTorch's loop on the same cells, padded to 12 x 498 as it needs them."""
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks.opponents.bilstm import train_seeds

    values, label = make_cells(layout)
    padded = np.zeros((CELLS, 12, PADDED), np.float32)
    for family, columns in enumerate(np.split(values, np.cumsum(WIDTHS[layout])[:-1], axis=1)):
        padded[:, family, : columns.shape[1]] = columns
    device = "cuda" if torch.cuda.is_available() else "cpu"
    looped = min(runs, 10)  # the loop is linear in runs: beyond ten it is scaled, not run
    seconds = train_seeds(
        padded, label.astype(np.int64), runs=looped, steps=steps, batch=BATCH, hidden=HIDDEN, device=device
    )
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    return {"seconds": seconds * runs / looped, "compile_seconds": 0.0, "device": name}


def measure(what: str, layout: str, runs: int, steps: int, turn: int) -> dict[str, Any]:
    """One opponent's turn."""
    row = {"what": what, "layout": layout, "runs": runs, "steps": steps, "round": turn}
    row |= take_turn("benchmarks.seeds_in_parallel", what, layout, runs, steps)
    row["ms_per_run_step"] = 1e3 * row["seconds"] / (runs * steps)
    return {name: row[name] for name in COLUMNS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=int, nargs="+", default=[10, 40], help="sizes of the grid; PyTorch meets the first"
    )
    parser.add_argument("--steps", type=int, default=50, help="training steps of every run (at most 57: one epoch)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each opponent")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/seeds_in_parallel.csv"))
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        what, layout, runs, steps = arguments.worker
        timer = {"jaxephys": time_ours, "torch": time_torch}[what]
        print(json.dumps(timer(layout, int(runs), int(steps))))
        return
    first, *more = arguments.runs
    turns = [("torch", "families", first), ("jaxephys", "dense", first), ("jaxephys", "families", first)]
    turns += [("jaxephys", "families", runs) for runs in more]
    rows = []
    for turn in range(arguments.rounds):
        for what, layout, runs in turns:
            began = time.perf_counter()
            rows.append(measure(what, layout, runs, arguments.steps, turn))
            print(
                f"round {turn + 1}: {what:8} {layout:8} R = {runs:3}: {rows[-1]['ms_per_run_step']:7.2f} ms a run and step "
                f"({time.perf_counter() - began:.0f} s with start and compilation)",
                flush=True,
            )
            write_turns(rows, arguments.out)
    summarise(rows, turns)
    print(f"every round: {arguments.out}")


def summarise(rows: list[dict], turns: list[tuple[str, str, int]]) -> None:
    """Medians, spread, the ratio to PyTorch, and the rate that the products alone reach."""

    def times(turn: tuple[str, str, int]) -> list[float]:
        return [row["ms_per_run_step"] for row in rows if (row["what"], row["layout"], row["runs"]) == turn]

    torch = statistics.median(times(turns[0]))
    print(f"\n{'':28} ms a run and step (min to max)    times PyTorch    GFLOP/s of our products")
    for turn in turns:
        values = times(turn)
        median = statistics.median(values)
        speed = "" if turn[0] == "torch" else f"{floating_operations(turn[1]) / median / 1e6:8.0f}"
        name = f"{turn[0]} {turn[1]} R={turn[2]}"
        print(f"{name:28} {median:8.2f} ({min(values):.2f} to {max(values):.2f}) {torch / median:16.2f} {speed:>20}")


if __name__ == "__main__":
    main()
