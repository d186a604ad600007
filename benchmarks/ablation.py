"""Patch-seq classifier: runs per minute of an ablation on a table of human cells, as one program and as a loop in PyTorch.

    python -m benchmarks.ablation                     40 runs here, 8 in PyTorch, three measurements each
    python -m benchmarks.ablation --runs 200          the size of the published human table: 4 variants x 10 seeds x 5 folds

The sizes are those of 702 cells with 81 features in 6 families: 421 training and 141 validation cells per run, LayerNorm + BiLSTM +
attention with 128 hidden units, batch 64, and 17 epochs (about where runs stop), each with a validation. Each measurement runs in a
process of its own. The column "with compilation" counts the compile time. The comparison needs PyTorch: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.runner import RESULTS, Row, measure_rounds, ratios, select, torch_device, without_missing_pytorch

WIDTHS = (11, 9, 24, 11, 16, 10)
CELLS, TRAIN, VALID, CLASSES, HIDDEN, BATCH, EPOCHS = 702, 421, 141, 4, 128, 64, 17
TOKENS = {"published": None, "ours": 64}  # width of a family's projection, by encoder


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, write the results and print a summary.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="size of the grid here (%(default)s)")
    parser.add_argument("--loops", type=int, default=8, help="runs in PyTorch, one after the other (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each case (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "ablation.csv")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        what, runs = options.worker
        print(json.dumps(time_torch(int(runs)) if what == "torch" else time_jaxephys(int(runs), TOKENS[what])))
        return
    cases = [{"what": "torch", "runs": options.loops}, *({"what": name, "runs": options.runs} for name in TOKENS)]
    rows = measure_rounds(
        "benchmarks.ablation",
        without_missing_pytorch(cases),
        options.rounds,
        options.out,
        extend=lambda row: {"runs_per_minute": 60 * row["runs"] / row["seconds"]},
        describe=lambda row: f"{row['what']:9} {row['runs_per_minute']:7.1f} runs per minute",
    )
    summarize(rows)
    print(f"all measurements: {options.out}")


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
        spread = f"{statistics.median(rate):8.1f} ({min(rate):.1f} to {max(rate):.1f})"
        print(f"{what:10} {spread:36} {ratios(rate, torch):>31} {total:18.1f}")


def make_cells() -> tuple[np.ndarray, np.ndarray]:
    """Return random cells.

    Returns
    -------
    values : array of float32, shape (702, 81)
        Features.
    codes : array of int32, shape (702,)
        Classes.
    """
    rng = np.random.default_rng(0)
    return rng.normal(size=(CELLS, sum(WIDTHS))).astype(np.float32), rng.integers(CLASSES, size=CELLS).astype(np.int32)


def time_jaxephys(runs: int, token: int | None) -> Row:
    """Return the time of a grid of runs in this package.

    Parameters
    ----------
    runs : int
        Number of runs.
    token : int or None
        Width of the projection of a family; None for the published encoder without projections.

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

    values, codes = make_cells()
    table = FeatureTable.from_arrays(values, {f"family_{i}": width for i, width in enumerate(WIDTHS)}, codes)
    layout, grid = RaggedLayout.from_widths(table.widths), RunGrid.cross(seed=range(runs))
    split = Split(np.arange(TRAIN), np.arange(TRAIN, TRAIN + VALID), np.arange(TRAIN + VALID, CELLS))
    inputs = make_run_inputs(
        table, layout, [split] * runs, [Variant()] * runs, range(runs), signed_log=token is not None
    )
    task = make_task(SubclassNetwork(layout, CLASSES, HIDDEN, token=token))
    config = TrainConfig(max_epochs=EPOCHS, patience=None, batch_size=BATCH, chunk_epochs=EPOCHS)
    result = fit(task, make_data(table, layout), inputs, grid, config)
    device = f"{jax.devices()[0].device_kind}, {result.execution}"
    return {"seconds": result.run_seconds, "compile_seconds": result.compile_seconds, "device": device}


def time_torch(runs: int) -> Row:
    """Return the time of the same runs in PyTorch, one after the other, on cells padded to 6 x 24.

    Parameters
    ----------
    runs : int
        Number of runs.

    Returns
    -------
    dict
        ``seconds``, ``compile_seconds`` and ``device``.
    """
    from benchmarks.opponents.bilstm import pad_families, train_seeds

    device, name = torch_device()
    values, codes = make_cells()
    seconds = train_seeds(
        pad_families(values, WIDTHS, max(WIDTHS))[: TRAIN + VALID],
        codes[: TRAIN + VALID].astype(np.int64),
        runs=runs,
        steps=-(-TRAIN // BATCH),
        batch=BATCH,
        hidden=HIDDEN,
        device=device,
        epochs=EPOCHS,
        n_validation=VALID,
    )
    return {"seconds": seconds, "compile_seconds": 0.0, "device": name}


if __name__ == "__main__":
    main()
