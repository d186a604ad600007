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

from benchmarks.runner import Row, make_parser, ratios, run_benchmark, select, spread, torch_device

WIDTHS = (11, 9, 24, 11, 16, 10)
CELLS, TRAIN, VALID, CLASSES, EPOCHS, HIDDEN, BATCH = 702, 421, 141, 4, 17, 128, 64
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
    rng = np.random.default_rng(0)
    values = rng.normal(size=(CELLS, sum(WIDTHS))).astype(np.float32)
    codes = rng.integers(CLASSES, size=CELLS).astype(np.int32)
    return _time_torch(values, codes, runs) if what == "torch" else _time_jaxephys(values, codes, runs, TOKENS[what])


def _time_jaxephys(values: np.ndarray, codes: np.ndarray, runs: int, token: int | None) -> Row:
    """Time of a grid of runs in one program, each epoch with a validation."""
    import jax

    from jaxephys.engine.config import TrainConfig
    from jaxephys.engine.fit import fit
    from jaxephys.engine.grid import RunGrid
    from jaxephys.evaluation.splits import Split
    from jaxephys.patchseq.network.classifier import SubclassNetwork
    from jaxephys.patchseq.network.ragged_layout import RaggedLayout
    from jaxephys.patchseq.preprocessing import fit_signed_log, fit_z_score
    from jaxephys.patchseq.task import Variant, make_data, make_run_inputs, make_task
    from jaxephys.schemas.feature_table import FeatureTable

    table = FeatureTable.from_arrays(values, {f"family_{i}": width for i, width in enumerate(WIDTHS)}, codes)
    layout = RaggedLayout.from_widths(table.widths, max(WIDTHS))
    train, validation = np.split(np.arange(TRAIN + VALID), [TRAIN])
    splits, variants = [Split(train, validation, train[:0])] * runs, [Variant()] * runs
    fit_scale = fit_z_score if token is None else fit_signed_log
    inputs = make_run_inputs(table, splits, variants, range(runs), fit_scale=fit_scale)
    task = make_task(SubclassNetwork(layout, len(table.classes), HIDDEN, token=token))
    config = TrainConfig(max_epochs=EPOCHS, patience=None, batch_size=BATCH, chunk_epochs=EPOCHS)
    result = fit(task, make_data(table), inputs, RunGrid.cross(seed=range(runs)), config)
    device = f"{jax.devices()[0].device_kind}, {result.execution}"
    return {"seconds": result.run_seconds, "compile_seconds": result.compile_seconds, "device": device}


def _time_torch(values: np.ndarray, codes: np.ndarray, runs: int) -> Row:
    """Time of the same runs in PyTorch, one after the other, on families padded to one width."""
    from benchmarks.opponents.bilstm import pad_families, train_seeds

    device, name = torch_device()
    padded = pad_families(values[: TRAIN + VALID], WIDTHS, max(WIDTHS))
    sizes = {"runs": runs, "steps": -(-TRAIN // BATCH), "batch": BATCH, "hidden": HIDDEN}
    seconds = train_seeds(
        padded, codes[: TRAIN + VALID].astype(np.int64), **sizes, device=device, epochs=EPOCHS, n_validation=VALID
    )
    return {"seconds": seconds, "compile_seconds": 0.0, "device": name}


if __name__ == "__main__":
    main()
