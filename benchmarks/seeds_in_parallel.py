"""Patch-seq classifier: a grid of seeds in one compiled program, and the same seeds one after the other in PyTorch.

    python -m benchmarks.seeds_in_parallel                    on the fastest device of this machine
    python -m benchmarks.seeds_in_parallel --runs 10 100      sizes of the grid

LayerNorm + BiLSTM + attention is trained on 3,699 cells x 12 families x 498 features with 128 hidden units, batch 64 and AdamW for a
fixed number of steps. Each measurement runs in a separate process. jaxephys is timed twice: on the dense input, and on the family
widths of the paper, where two thirds of the 12 x 498 numbers are padding that the ragged layout does not multiply. Compile time is
stored in a column of its own. The comparison needs PyTorch: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from benchmarks.patchseq_runs import BATCH, HIDDEN, make_cells, time_jaxephys, time_torch
from benchmarks.runner import Row, make_parser, run_benchmark, select, spread

CELLS, PADDED, CLASSES = 3699, 498, 5
PAPER_WIDTHS = (150, 149, 100, 150, 150, 150, 150, 150, 150, 420, 140, 150)
WIDTHS = {"dense": (PADDED,) * 12, "families": PAPER_WIDTHS}
TORCH_RUNS = 10  # PyTorch's loop takes time in proportion to its runs, so more than these are extrapolated
COLUMNS = ("what", "layout", "runs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, write the results and print a summary.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = make_parser("seeds_in_parallel", __doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument(
        "--runs", type=int, nargs="+", default=[10, 40], help="sizes of the grid; PyTorch has the first"
    )
    parser.add_argument("--steps", type=int, default=50, help="training steps of every run (at most 57: one epoch)")
    options = parser.parse_args(arguments)
    first, *more = options.runs
    cases = [("torch", "families", first), ("jaxephys", "dense", first), ("jaxephys", "families", first)]
    cases += [("jaxephys", "families", runs) for runs in more]
    run_benchmark(
        options,
        [dict(zip((*COLUMNS, "steps"), (*case, options.steps), strict=True)) for case in cases],
        measure,
        summarize,
        extend=lambda row: {"ms_per_run_step": 1e3 * row["seconds"] / (row["runs"] * row["steps"])},
        describe=lambda row: (
            f"{row['what']:8} {row['layout']:8} R = {row['runs']:3}: {row['ms_per_run_step']:7.2f} ms per run and step, "
            f"compiled in {row['compile_seconds']:.0f} s"
        ),
    )


def summarize(rows: Sequence[Row]) -> None:
    """Print the median, the range, the ratio to PyTorch, and the rate of our matrix products.

    Parameters
    ----------
    rows : sequence of dict
        Measurements.
    """
    cases = list(dict.fromkeys(tuple(row[column] for column in COLUMNS) for row in rows))
    values = {
        case: [row["ms_per_run_step"] for row in select(rows, **dict(zip(COLUMNS, case, strict=True)))]
        for case in cases
    }
    torch = [statistics.median(values[case]) for case in cases if case[0] == "torch"]
    print(f"\n{'':28} ms per run and step (min to max)  PyTorch's time / ours   GFLOP/s of our products")
    for case in cases:
        what, layout, runs = case
        median = statistics.median(values[case])
        ratio = f"{torch[0] / median:.2f}" if torch else "-"
        rate = "" if what == "torch" else f"{floating_operations(layout) / median / 1e6:.0f}"
        print(f"{f'{what} {layout} R={runs}':28} {spread(values[case], 2):32} {ratio:>22} {rate:>25}")


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


def measure(what: str, layout: str, runs: int, steps: int) -> Row:
    """Return the time of some runs.

    Parameters
    ----------
    what : {"torch", "jaxephys"}
        PyTorch on cells padded to 12 x 498, or this package, which also computes a validation of one batch.
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
    values, codes = make_cells(CELLS, WIDTHS[layout], CLASSES)
    if what == "torch":
        n_timed = min(runs, TORCH_RUNS)
        row = time_torch(values, codes, WIDTHS[layout], runs=n_timed, steps=steps, padded=PADDED)
        return row | {"seconds": row["seconds"] * runs / n_timed}
    rows = np.arange(steps * BATCH)
    return time_jaxephys(values, codes, WIDTHS[layout], rows, rows[-BATCH:], runs=runs, epochs=1, padded=PADDED)


if __name__ == "__main__":
    main()
