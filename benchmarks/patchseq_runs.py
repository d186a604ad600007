"""The time of training the Patch-seq classifier on random cells, in one program here and one run after the other in PyTorch.

Both are LayerNorm + BiLSTM + attention with 128 hidden units and batch 64. `ablation` and `seeds_in_parallel` use them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.runner import Row, torch_device

HIDDEN, BATCH = 128, 64


def make_cells(n_cells: int, widths: Sequence[int], n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random cells.

    Parameters
    ----------
    n_cells : int
        Number of cells.
    widths : sequence of int
        Features of each family.
    n_classes : int
        Number of classes.

    Returns
    -------
    values : array of float32, shape (n_cells, sum(widths))
        Features, one family after the other.
    codes : array of int32, shape (n_cells,)
        Classes.
    """
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n_cells, sum(widths))).astype(np.float32)
    return values, rng.integers(n_classes, size=n_cells).astype(np.int32)


def time_jaxephys(
    values: np.ndarray,
    codes: np.ndarray,
    widths: Sequence[int],
    train: np.ndarray,
    validation: np.ndarray,
    *,
    runs: int,
    epochs: int,
    padded: int,
    token: int | None = None,
) -> Row:
    """Return the time of a grid of runs in this package. Each epoch ends with a validation.

    Parameters
    ----------
    values : array of float32, shape (n_cells, n_columns)
        Features.
    codes : array of int, shape (n_cells,)
        Classes.
    widths : sequence of int
        Features of each family.
    train, validation : array of int
        Rows to train on and to validate on.
    runs : int
        Number of runs.
    epochs : int
        Epochs of each run.
    padded : int
        Width that layer normalization assumes for every family.
    token : int, optional
        Width of the projection of a family. By default the published encoder without projections.

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

    table = FeatureTable.from_arrays(values, {f"family_{i}": width for i, width in enumerate(widths)}, codes)
    layout = RaggedLayout.from_widths(table.widths, padded)
    splits, variants = [Split(train, validation, train[:0])] * runs, [Variant()] * runs
    inputs = make_run_inputs(table, splits, variants, range(runs), signed_log=token is not None)
    task = make_task(SubclassNetwork(layout, len(table.classes), HIDDEN, token=token))
    config = TrainConfig(max_epochs=epochs, patience=None, batch_size=BATCH, chunk_epochs=epochs)
    result = fit(task, make_data(table), inputs, RunGrid.cross(seed=range(runs)), config)
    device = f"{jax.devices()[0].device_kind}, {result.execution}"
    return {"seconds": result.run_seconds, "compile_seconds": result.compile_seconds, "device": device}


def time_torch(
    values: np.ndarray,
    codes: np.ndarray,
    widths: Sequence[int],
    *,
    runs: int,
    steps: int,
    padded: int,
    epochs: int = 1,
    n_validation: int = 0,
) -> Row:
    """Return the time of the same runs in PyTorch, one after the other, on families padded to one width.

    Parameters
    ----------
    values : array of float32, shape (n_cells, n_columns)
        Features.
    codes : array of int, shape (n_cells,)
        Classes.
    widths : sequence of int
        Features of each family.
    runs : int
        Number of runs.
    steps : int
        Training steps of an epoch.
    padded : int
        Common width of the families.
    epochs : int, default 1
        Epochs of each run.
    n_validation : int, default 0
        The last cells, which are not trained on and are validated after each epoch.

    Returns
    -------
    dict
        ``seconds``, ``compile_seconds`` and ``device``.
    """
    from benchmarks.opponents.bilstm import pad_families, train_seeds

    device, name = torch_device()
    seconds = train_seeds(
        pad_families(values, widths, padded),
        codes.astype(np.int64),
        runs=runs,
        steps=steps,
        batch=BATCH,
        hidden=HIDDEN,
        device=device,
        epochs=epochs,
        n_validation=n_validation,
    )
    return {"seconds": seconds, "compile_seconds": 0.0, "device": name}
