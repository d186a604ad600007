"""Runs a minute: the ladder on a table of human cells, here as one program and in PyTorch as a loop.

    python -m benchmarks.ladder                     40 runs here, 8 in PyTorch, three turns each
    python -m benchmarks.ladder --runs 200          the size of the published human table: 4 variants x 10 seeds x 5 folds

The sizes are those of 702 cells with 81 features in 6 families: 421 training and 141 validation cells a run, LayerNorm + BiLSTM +
attention with 128 hidden units, batch 64, and a fixed 17 epochs (about where runs stop), each with a validation. Opponents take
turns, a process each, on the same cores. Compile time is counted in "with compilation". Needs PyTorch: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import take_turn, write_turns

WIDTHS = (11, 9, 24, 11, 16, 10)
CELLS, TRAIN, VALID, CLASSES, HIDDEN, BATCH, EPOCHS = 702, 421, 141, 4, 128, 64, 17
COLUMNS = ("what", "runs", "round", "seconds", "compile_seconds", "runs_per_minute", "device")


def make_cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(CELLS, sum(WIDTHS))).astype(np.float32), rng.integers(CLASSES, size=CELLS).astype(np.int32)


def time_ours(runs: int, token: int | None) -> dict[str, object]:
    """The grid in this package's engine, with the published encoder or ours."""
    import jax

    from jaxephys.engine.config import TrainConfig
    from jaxephys.engine.fit import fit
    from jaxephys.engine.grid import RunGrid
    from jaxephys.evaluation.splits import Split
    from jaxephys.patchseq.network.classifier import SubclassNetwork
    from jaxephys.patchseq.network.ragged_layout import Staircase
    from jaxephys.patchseq.task import Variant, make_data, make_runs, make_task
    from jaxephys.schemas.feature_table import FeatureTable

    values, label = make_cells()
    table = FeatureTable.of(values, {f"family_{i}": width for i, width in enumerate(WIDTHS)}, label)
    stairs, axis = Staircase.of(table.widths), RunGrid.cross(seed=range(runs))
    split = Split(np.arange(TRAIN), np.arange(TRAIN, TRAIN + VALID), np.arange(TRAIN + VALID, CELLS))
    made = make_runs(table, stairs, [split] * runs, [Variant()] * runs, range(runs), logged=token is not None)
    task = make_task(SubclassNetwork(stairs, CLASSES, HIDDEN, token=token))
    plan = TrainConfig(max_epochs=EPOCHS, patience=None, batch_size=BATCH, chunk_epochs=EPOCHS)
    result = fit(task, make_data(table, stairs), made, axis, plan)
    device = f"{jax.devices()[0].device_kind}, {result.execution}"
    return {"seconds": result.run_seconds, "compile_seconds": result.compile_seconds, "device": device}


def time_torch(runs: int) -> dict[str, object]:
    """PyTorch's loop on the same cells, padded to 6 x 24 as it needs them."""
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks.opponents.bilstm import train_seeds

    values, label = make_cells()
    padded = np.zeros((CELLS, len(WIDTHS), max(WIDTHS)), np.float32)
    for family, columns in enumerate(np.split(values, np.cumsum(WIDTHS)[:-1], axis=1)):
        padded[:, family, : columns.shape[1]] = columns
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seconds = train_seeds(
        padded[: TRAIN + VALID],
        label[: TRAIN + VALID].astype(np.int64),
        runs=runs,
        steps=-(-TRAIN // BATCH),
        batch=BATCH,
        hidden=HIDDEN,
        device=device,
        epochs=EPOCHS,
        valid=VALID,
    )
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    return {"seconds": seconds, "compile_seconds": 0.0, "device": name}


TIMERS = {
    "torch": time_torch,
    "published": lambda runs: time_ours(runs, None),
    "ours": lambda runs: time_ours(runs, 64),
}


def measure(what: str, runs: int, turn: int) -> dict[str, Any]:
    """One opponent's turn."""
    row = {"what": what, "runs": runs, "round": turn} | take_turn("benchmarks.ladder", what, runs)
    row["runs_per_minute"] = 60 * runs / row["seconds"]
    return {name: row[name] for name in COLUMNS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="size of the grid here (%(default)s)")
    parser.add_argument(
        "--loops", type=int, default=8, help="runs that PyTorch makes, one after the other (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each opponent (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ladder.csv"))
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        what, runs = arguments.worker
        print(json.dumps(TIMERS[what](int(runs))))
        return
    rows: list[dict] = []
    for turn in range(arguments.rounds):
        for what in TIMERS:
            rows.append(measure(what, arguments.loops if what == "torch" else arguments.runs, turn))
            print(f"round {turn + 1}: {what:9} {rows[-1]['runs_per_minute']:7.1f} runs a minute", flush=True)
            write_turns(rows, arguments.out)
    print(f"\n{'':10} runs a minute, median (min to max)   times PyTorch, round by round   with compilation")
    loop = [row["runs_per_minute"] for row in rows if row["what"] == "torch"]
    for what in TIMERS:
        own = [row for row in rows if row["what"] == what]
        rate = [row["runs_per_minute"] for row in own]
        ratio = ", ".join(f"{ours / theirs:.1f}" for ours, theirs in zip(rate, loop, strict=True))
        whole = statistics.median(60 * row["runs"] / (row["seconds"] + row["compile_seconds"]) for row in own)
        print(
            f"{what:10} {statistics.median(rate):8.1f} ({min(rate):.1f} to {max(rate):.1f}) {ratio:>30} {whole:18.1f}"
        )
    print(f"every round: {arguments.out}")


if __name__ == "__main__":
    main()
