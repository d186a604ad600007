"""Patch-seq classifier: runs per minute of an ablation on a table of human cells, as one program and as a loop in PyTorch.

    python -m benchmarks.ablation                     40 runs here, 8 in PyTorch, three measurements each
    python -m benchmarks.ablation --runs 200          the size of the published human table: 4 variants x 10 seeds x 5 folds

The sizes are those of 702 cells with 81 features in 6 families: 421 training and 141 validation cells per run, LayerNorm + BiLSTM +
attention with 128 hidden units, batch 64, and 17 epochs (about where runs stop), each with a validation. Each measurement runs in a
process of its own. The column "with compilation" counts the compile time. The comparison needs PyTorch: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from benchmarks.patchseq_runs import BATCH, make_cells, time_jaxephys, time_torch
from benchmarks.runner import Row, make_parser, ratios, run_benchmark, select, spread

WIDTHS = (11, 9, 24, 11, 16, 10)
CELLS, TRAIN, VALID, CLASSES, EPOCHS = 702, 421, 141, 4, 17
TOKENS = {"published": None, "ours": 64}  # width of a family's projection, by encoder


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, write the results and print a summary.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = make_parser("ablation", __doc__)
    parser.add_argument("--runs", type=int, default=40, help="size of the grid here (%(default)s)")
    parser.add_argument("--loops", type=int, default=8, help="runs in PyTorch, one after the other (%(default)s)")
    options = parser.parse_args(arguments)
    run_benchmark(
        options,
        [{"what": "torch", "runs": options.loops}, *({"what": name, "runs": options.runs} for name in TOKENS)],
        measure,
        summarize,
        extend=lambda row: {"runs_per_minute": 60 * row["runs"] / row["seconds"]},
        describe=lambda row: f"{row['what']:9} {row['runs_per_minute']:7.1f} runs per minute",
    )


def summarize(rows: Sequence[Row]) -> None:
    """Print the median and range of the runs per minute, and the ratio to PyTorch.

    Parameters
    ----------
    rows : sequence of dict
        Measurements.
    """
    torch = [row["runs_per_minute"] for row in select(rows, what="torch")]
    print(f"\n{'':10} runs per minute, median (min to max)   times PyTorch, round by round   with compilation")
    for what in dict.fromkeys(row["what"] for row in rows):
        case_rows = select(rows, what=what)
        rate = [row["runs_per_minute"] for row in case_rows]
        total = statistics.median(60 * row["runs"] / (row["seconds"] + row["compile_seconds"]) for row in case_rows)
        print(f"{what:10} {spread(rate):36} {ratios(rate, torch):>31} {total:18.1f}")


def measure(what: str, runs: int) -> Row:
    """Return the time of some runs.

    Parameters
    ----------
    what : {"torch", "published", "ours"}
        PyTorch on families padded to the widest, or the encoder of this package.
    runs : int
        Number of runs.

    Returns
    -------
    dict
        ``seconds``, ``compile_seconds`` and ``device``.
    """
    values, codes = make_cells(CELLS, WIDTHS, CLASSES)
    rows, padded = np.arange(TRAIN + VALID), max(WIDTHS)
    if what == "torch":
        steps = -(-TRAIN // BATCH)
        sizes = {"runs": runs, "steps": steps, "padded": padded, "epochs": EPOCHS, "n_validation": VALID}
        return time_torch(values[rows], codes[rows], WIDTHS, **sizes)
    train, validation = np.split(rows, [TRAIN])
    sizes = {"runs": runs, "epochs": EPOCHS, "padded": padded, "token": TOKENS[what]}
    return time_jaxephys(values, codes, WIDTHS, train, validation, **sizes)


if __name__ == "__main__":
    main()
