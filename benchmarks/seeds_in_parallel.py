"""Patch-seq classifier: a grid of seeds in one compiled program, and the same seeds one after the other in PyTorch.

    python -m benchmarks.seeds_in_parallel                    on the fastest device of this machine
    python -m benchmarks.seeds_in_parallel --runs 10 100      sizes of the grid

LayerNorm + BiLSTM + attention is trained on 3,699 cells x 12 families x 498 features with 128 hidden units, batch 64 and AdamW for a
fixed number of steps. Each measurement runs in a separate process. jaxephys is timed twice: on the dense input, and on the family
widths of the paper, where two thirds of the 12 x 498 numbers are padding that the ragged layout does not multiply. Compile time is
stored in a column of its own. The comparison needs PyTorch: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.runner import RESULTS, Row, measure_rounds, select, torch_device, without_missing_pytorch

CELLS, PADDED, HIDDEN, BATCH, CLASSES = 3699, 498, 128, 64, 5
PAPER_WIDTHS = (150, 149, 100, 150, 150, 150, 150, 150, 150, 420, 140, 150)
WIDTHS = {"dense": (PADDED,) * 12, "families": PAPER_WIDTHS}
TORCH_RUNS = 10  # PyTorch's loop takes time in proportion to its runs, so more than these are extrapolated


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, write the results and print a summary.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=int, nargs="+", default=[10, 40], help="sizes of the grid; PyTorch has the first"
    )
    parser.add_argument("--steps", type=int, default=50, help="training steps of every run (at most 57: one epoch)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each case (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "seeds_in_parallel.csv")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        what, layout, runs, steps = options.worker
        time = {"jaxephys": time_jaxephys, "torch": time_torch}[what]
        print(json.dumps(time(layout, int(runs), int(steps))))
        return
    first, *more = options.runs
    cases = [("torch", "families", first), ("jaxephys", "dense", first), ("jaxephys", "families", first)]
    cases += [("jaxephys", "families", runs) for runs in more]
    columns = ("what", "layout", "runs", "steps")
    rows = measure_rounds(
        "benchmarks.seeds_in_parallel",
        without_missing_pytorch([dict(zip(columns, (*case, options.steps), strict=True)) for case in cases]),
        options.rounds,
        options.out,
        extend=lambda row: {"ms_per_run_step": 1e3 * row["seconds"] / (row["runs"] * row["steps"])},
        describe=lambda row: (
            f"{row['what']:8} {row['layout']:8} R = {row['runs']:3}: {row['ms_per_run_step']:7.2f} ms per run and step, "
            f"compiled in {row['compile_seconds']:.0f} s"
        ),
    )
    summarize(rows)
    print(f"all measurements: {options.out}")


def summarize(rows: Sequence[Row]) -> None:
    """Print the median, the range, the ratio to PyTorch, and the rate of our matrix products.

    Parameters
    ----------
    rows : sequence of dict
        Measurements.
    """
    cases = list(dict.fromkeys((row["what"], row["layout"], row["runs"]) for row in rows))
    values = {
        case: [
            row["ms_per_run_step"] for row in select(rows, **dict(zip(("what", "layout", "runs"), case, strict=True)))
        ]
        for case in cases
    }
    torch = [statistics.median(values[case]) for case in cases if case[0] == "torch"]
    print(f"\n{'':28} ms per run and step (min to max)  PyTorch's time / ours   GFLOP/s of our products")
    for case in cases:
        what, layout, runs = case
        median = statistics.median(values[case])
        ratio = f"{torch[0] / median:.2f}" if torch else "-"
        rate = "" if what == "torch" else f"{floating_operations(layout) / median / 1e6:.0f}"
        spread = f"{median:8.2f} ({min(values[case]):.2f} to {max(values[case]):.2f})"
        print(f"{f'{what} {layout} R={runs}':28} {spread:32} {ratio:>22} {rate:>25}")


def floating_operations(layout: str) -> float:
    """Return the floating-point operations of one training step of one run, in matrix products alone.

    Parameters
    ----------
    layout : {"dense", "families"}
        Widths of the families.

    Returns
    -------
    float
        Operations of the forward pass and of the backward pass without the gradient of the input. The input needs 2 products of
        (rows x width x 8 hidden); recurrence and attention three products each.
    """
    widths = WIDTHS[layout]
    input_products = 2 * 2 * BATCH * sum(widths) * 8 * HIDDEN
    recurrence = 3 * 2 * BATCH * len(widths) * 2 * HIDDEN * 4 * HIDDEN
    attention = 3 * 2 * BATCH * len(widths) * 2 * HIDDEN * HIDDEN
    return float(input_products + recurrence + attention)


def make_cells(layout: str) -> tuple[np.ndarray, np.ndarray]:
    """Return random cells.

    Parameters
    ----------
    layout : {"dense", "families"}
        Widths of the families.

    Returns
    -------
    values : array of float32, shape (n_cells, n_columns)
        Features, one family after the other.
    codes : array of int32, shape (n_cells,)
        Classes.
    """
    rng = np.random.default_rng(0)
    codes = rng.integers(CLASSES, size=CELLS).astype(np.int32)
    return rng.normal(size=(CELLS, sum(WIDTHS[layout]))).astype(np.float32), codes


def time_jaxephys(layout: str, runs: int, steps: int) -> Row:
    """Return the time of a grid of runs in this package.

    Parameters
    ----------
    layout : {"dense", "families"}
        Widths of the families.
    runs : int
        Number of runs.
    steps : int
        Training steps of each run. The engine also computes a validation of one batch.

    Returns
    -------
    dict
        ``seconds``, ``compile_seconds`` and ``device``.
    """
    import jax

    from jaxephys.engine.config import TrainConfig
    from jaxephys.engine.fit import fit
    from jaxephys.engine.grid import RunGrid
    from jaxephys.evaluation.splits import Split
    from jaxephys.patchseq.network.classifier import SubclassNetwork
    from jaxephys.patchseq.network.ragged_layout import RaggedLayout
    from jaxephys.patchseq.task import Variant, make_data, make_run_inputs, make_task
    from jaxephys.schemas.feature_table import FeatureTable

    values, codes = make_cells(layout)
    table = FeatureTable.from_arrays(values, {f"family_{i}": width for i, width in enumerate(WIDTHS[layout])}, codes)
    ragged, grid = RaggedLayout.from_widths(table.widths, PADDED), RunGrid.cross(seed=range(runs))
    rows = np.arange(steps * BATCH)
    split = Split(rows, rows[-BATCH:], rows[:0])
    inputs = make_run_inputs(table, ragged, [split] * runs, [Variant()] * runs, range(runs))
    task, data = make_task(SubclassNetwork(ragged, CLASSES, HIDDEN)), make_data(table, ragged)
    config = TrainConfig(max_epochs=1, patience=None, batch_size=BATCH, chunk_epochs=1)
    result = fit(task, data, inputs, grid, config)
    device = f"{jax.devices()[0].device_kind}, {result.execution}"
    return {"seconds": result.run_seconds, "compile_seconds": result.compile_seconds, "device": device}


def time_torch(layout: str, runs: int, steps: int) -> Row:
    """Return the time of the same runs in PyTorch, one after the other, on cells padded to 12 x 498.

    Parameters
    ----------
    layout : {"dense", "families"}
        Widths of the families.
    runs : int
        Number of runs.
    steps : int
        Training steps of each run.

    Returns
    -------
    dict
        ``seconds``, ``compile_seconds`` and ``device``.
    """
    from benchmarks.opponents.bilstm import pad_families, train_seeds

    device, name = torch_device()
    values, codes = make_cells(layout)
    n_timed = min(runs, TORCH_RUNS)
    seconds = train_seeds(
        pad_families(values, WIDTHS[layout], PADDED),
        codes.astype(np.int64),
        runs=n_timed,
        steps=steps,
        batch=BATCH,
        hidden=HIDDEN,
        device=device,
    )
    return {"seconds": seconds * runs / n_timed, "compile_seconds": 0.0, "device": name}


if __name__ == "__main__":
    main()
