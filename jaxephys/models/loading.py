"""jaxephys.load: the fitted estimator of a saved model, or of a run of a grid that is read from its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxephys.engine.checkpoint import StoredRuns, read_runs, restore_run
from jaxephys.engine.orbax_files import CheckpointError
from jaxephys.engine.task import PyTree
from jaxephys.models import run_template
from jaxephys.models.migrations import migrate
from jaxephys.models.model_card import training_rows
from jaxephys.models.registry import find_class, known_kinds
from jaxephys.models.saved_model import CONFIG, read_model

RunSelection = int | Sequence[int] | Mapping[str, Any] | None


def load(path: str | Path, run: RunSelection = None, step: int | None = None) -> Any:
    """Load a saved model, or runs of a grid from the checkpoints of an experiment.

    Parameters
    ----------
    path : str or Path
        A folder written by ``save``; the folder of an experiment, whose ``model/`` is loaded, or its ``checkpoints/`` if ``run`` or
        ``step`` are given or there is no ``model/``; or a folder of checkpoints. Models saved by earlier versions of jaxephys are
        migrated.
    run : int, sequence of int or mapping of str to object, optional
        Which run of the checkpoints: its index in the grid, several indices for an ensemble, or levels of factors of the grid, such
        as ``{"variant": "attention", "seed": 3}``. Of several runs with these levels, by default of all, the one with the best
        validation score is loaded.
    step : int, optional
        The stored step from which the run is read; by default the last. The variables are those of the best epoch up to this step.

    Returns
    -------
    PatchSeqClassifier or Hippie or SpikeTransformer
        The fitted estimator. A saved model predicts the same numbers as the one that was saved. A run of a grid predicts what its
        network predicted in the experiment. It is not calibrated: ``calibrate`` of each estimator does that.

    Raises
    ------
    CheckpointError
        If the folder holds no model, a damaged one, or one of an unknown kind or a newer version; if there is no such run or step;
        or if the runs are not those of an estimator. It is a ``ValueError``.

    Examples
    --------
    >>> import jaxephys
    >>> import numpy as np
    >>> x, y = np.random.default_rng(0).normal(size=(90, 5)), np.repeat(["Pvalb", "Sst", "Vip"], 30)
    >>> settings = {"families": {"isi": 3, "psth": 2}, "hidden": 4, "seeds": 2, "max_epochs": 25, "batch_size": 16}
    >>> model = jaxephys.PatchSeqClassifier(**settings, progress=False).fit(x, y)
    >>> folder = model.save("subclasses")
    >>> again = jaxephys.load("subclasses")
    >>> bool((again.predict_proba(x) == model.predict_proba(x)).all())
    True
    >>> again.describe()
    '2 networks of ... parameters, 3 classes, 2 families'

    A run of an experiment:

    >>> folder = "runs/patchseq_mouse/default-20260101-120000-3f2a"  # doctest: +SKIP
    >>> jaxephys.load(folder, run={"variant": "attention", "fold": 0})  # doctest: +SKIP
    """
    folder, has_runs = find_model(path, checkpoints=run is not None or step is not None)
    if has_runs:
        arrays, config = _read_checkpoints(folder, run, step)
    else:
        arrays, config = read_model(folder)
    try:
        estimator_class = find_class(config["kind"])
    except KeyError:
        raise CheckpointError(
            f"{folder} holds a model of the kind {config.get('kind')!r}: this version knows {', '.join(known_kinds())}"
        ) from None
    try:
        config, arrays = migrate(config, arrays)
        return estimator_class.from_saved(arrays, config)
    except CheckpointError as error:
        raise CheckpointError(f"the saved model {folder} cannot be loaded: {error}") from error
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the saved model {folder} lacks {error}: save it again") from error


def find_model(path: str | Path, *, checkpoints: bool = False) -> tuple[Path, bool]:
    """Find the folder that `load` reads.

    Parameters
    ----------
    path : str or Path
        A saved model, the folder of an experiment, or a folder of checkpoints.
    checkpoints : bool, default False
        Use the checkpoints of an experiment even if it has a saved model.

    Returns
    -------
    folder : Path
        A saved model or a folder of checkpoints.
    has_runs : bool
        Whether it is a folder of checkpoints.

    Raises
    ------
    CheckpointError
        If there is no such folder, or several.
    """
    path = Path(path)
    if any(path.glob("host*/live")):
        return path, True
    stored, saved = checkpoint_folders(path), path / "model" if (path / "model").is_dir() else path
    if not checkpoints:
        if (saved / CONFIG).exists() and (saved != path or not any(path.glob("checkpoints*"))):
            return saved, False
        if saved != path and (models := sorted(saved.glob(f"*/{CONFIG}"))):
            names = ", ".join(config.parent.name for config in models)
            raise CheckpointError(f"{saved} holds the models {names}: give the folder of one of them")
    if len(stored) == 1 or path / "checkpoints" in stored:
        return (stored[0] if len(stored) == 1 else path / "checkpoints"), True
    if stored:
        names = ", ".join(folder.name for folder in stored)
        raise CheckpointError(f"{path} holds checkpoints of several grids: give one of its folders {names}")
    if (path / "checkpoints").is_dir():
        raise CheckpointError(
            f"{path} holds no saved model: its run has not finished, continue it with --resume {path}"
        )
    wanted = "checkpoints: give run and step with the folder of an experiment" if checkpoints else "saved model"
    raise CheckpointError(f"{path} holds no {wanted}")


def checkpoint_folders(path: str | Path) -> list[Path]:
    """Return the folders of checkpoints in the folder of an experiment.

    Parameters
    ----------
    path : str or Path
        The folder of an experiment.

    Returns
    -------
    list of Path
        One folder for each grid that has saved a step, sorted by name.
    """
    folders = sorted(Path(path).glob("checkpoints*"))
    return [folder for folder in folders if any(folder.glob("host*/live/[0-9]*"))]


def select_runs(runs: StoredRuns, run: RunSelection) -> Int[np.ndarray, "run"]:
    """Return the indices of the runs that `load` takes.

    Parameters
    ----------
    runs : StoredRuns
        The runs of a folder of checkpoints.
    run : int, sequence of int, mapping of str to object, or None
        See `load`.

    Returns
    -------
    int array (n_selected,)
        Indices in the grid.

    Raises
    ------
    CheckpointError
        If there is no such run, or it has not begun.
    """
    if run is None or isinstance(run, Mapping):
        found = [index for index in range(len(runs.names)) if _has_levels(runs.coordinates(index), run or {})]
        if not found:
            raise CheckpointError(f"no run has the levels {dict(run or {})}: the first is {runs.names[0]}")
        smaller_is_better = runs.config["mode"] == "min" or runs.config["monitor"] == "loss"
        scores = runs.best_score[found] * (-1 if smaller_is_better else 1)
        best = scores.argmin() if np.isnan(scores).all() else np.nanargmax(scores)
        selected = np.array([found[best]])
    else:
        selected = np.atleast_1d(np.asarray(run, int))
    for index in selected.tolist():
        if not 0 <= index < len(runs.names):
            raise CheckpointError(f"there is no run {index}: the grid has {len(runs.names)}, counted from 0")
        if not runs.epochs[index]:
            raise CheckpointError(
                f"the run {runs.names[index]} has not been trained yet: choose another, or resume the training"
            )
    return selected


def _read_checkpoints(folder: Path, run: RunSelection, step: int | None) -> tuple[PyTree, dict[str, Any]]:
    """Arrays and config of a saved model that consists of runs of a grid."""
    runs = read_runs(folder, step)
    if not (folder / run_template.FOLDER).is_dir():
        raise CheckpointError(
            f"the runs of {folder} cannot be loaded, since their network belongs to no estimator or an earlier version has "
            f"trained them: read the variables of a run with jaxephys.engine.checkpoint.restore_run"
        )
    selected = select_runs(runs, run)
    arrays, config = run_template.read_template(folder, selected)
    results = [restore_run(folder, index, step).best for index in selected.tolist()]
    variables = jax.tree.map(lambda *leaves: np.stack(leaves), *results)
    parameters = {"seeds": len(selected), "random_state": int(runs.coordinates(int(selected[0]))["seed"])}
    parameters = config["parameters"] | {
        name: value for name, value in parameters.items() if name in config["parameters"]
    }
    return {**variables, **arrays}, {
        **config,
        "parameters": parameters,
        "training": training_rows(runs.names, runs, selected),
    }


def _has_levels(coordinates: Mapping[str, str], levels: Mapping[str, Any]) -> bool:
    unknown = set(levels) - set(coordinates)
    if unknown:
        raise CheckpointError(f"the runs have no factor {unknown.pop()!r}: they have {', '.join(coordinates)}")
    return all(coordinates[factor] == f"{level}" for factor, level in levels.items())
