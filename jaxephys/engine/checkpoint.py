"""Checkpoints of a training: the stack of runs after every chunk, and each finished run once.

    checkpoints/host0/live/<step>/      the running stack, the history so far and the grid; the last two steps are kept
    checkpoints/host0/finished/<n>/     runs that have left the stack, written before the first step without them

When all runs have ended a last step is written, with the history and without a stack. Orbax writes the arrays and they are read back
as NumPy arrays, so a checkpoint made on eight GPUs can be read on a laptop. Each host of a cluster writes its own folder; ``restore``
reads all of them, whatever the number of hosts now. ``read_runs`` and ``restore_run`` read runs without their grid and config.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization
from jaxtyping import Float, Int

from jaxephys.engine import memory
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.orbax_files import CheckpointError, local_process, read_tree, readable_errors, write_tree
from jaxephys.engine.run_log import ProgressEvent, RunResult, Snapshot

log = logging.getLogger("jaxephys")
KEPT_STEPS = 2
EXECUTION_FIELDS = ("run_batch", "execution")  # fields of TrainConfig that may differ when a training is resumed
# Fields of TrainConfig that earlier versions do not have: checkpoints record only other values than these.
LATER_FIELDS = {"precision": "auto", "optimizer": "adamw", "decay": None, "shuffle": True}
RENAMED_LEVELS = {  # in the names of runs that version 0.1.0 has written
    "variant=baseline": "variant=bilstm",
    "arm=clean": "variant=clean target",
    "arm=hidden": "variant=masking",
}


class Checkpointer:
    """A callback that writes the stack after every chunk, in the background.

    A chunk that ends while the previous one is still being written is skipped.

    Parameters
    ----------
    folder : str or Path
        The ``checkpoints`` folder of the grid. This host writes to ``host<index>`` in it.
    grid : RunGrid
        The runs; their names are saved.
    config : TrainConfig
        Settings of training; they are saved.

    Raises
    ------
    CheckpointError
        If the folder holds finished runs that cannot be read.
    """

    def __init__(self, folder: str | Path, grid: RunGrid, config: TrainConfig) -> None:
        self.folder = Path(folder).absolute() / f"host{jax.process_index()}"
        self.identity = grid_identity(grid, config)
        options = ocp.CheckpointManagerOptions(
            create=False, max_to_keep=KEPT_STEPS, multiprocessing_options=local_process(), cleanup_tmp_directories=True
        )
        for part in ("live", "finished"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        handlers = {  # with the options of the manager alone, they would write in process 0 only
            "live": ocp.StandardCheckpointHandler(multiprocessing_options=local_process()),
            "grid": ocp.JsonCheckpointHandler(multiprocessing_options=local_process()),
        }
        self._manager = ocp.CheckpointManager(self.folder / "live", item_handlers=handlers, options=options)
        self._archived = set(_finished(self.folder, without_variables=True))
        self._step = (self._manager.latest_step() or 0) + 1

    def __call__(self, event: ProgressEvent) -> None:
        snapshot = event.snapshot
        if snapshot is None:
            return
        with readable_errors(self.folder):
            self._save(snapshot)

    @property
    def needs_state(self) -> bool:
        """Whether the next state will be written: not while the one before is still being written."""
        return not self._manager.is_saving_in_progress()

    def save_results(self, results: dict[int, RunResult], history: dict[str, Float[np.ndarray, "run epoch"]]) -> None:
        """Write the results of a training that has ended, as a step without a stack.

        Parameters
        ----------
        results : dict of int to RunResult
            The result of every run of this host. Those that have been written before are not written again.
        history : dict of arrays (n_runs, max_epochs)
            Measurements of all runs.
        """
        with readable_errors(self.folder):
            self._manager.wait_until_finished()
            if set(results) - self._archived:
                self._save_finished(results)
                self._save_step({"ids": np.array([-1], np.int32), "history": history})

    def close(self) -> None:
        """Wait until the last checkpoint is written."""
        with readable_errors(self.folder):
            self._manager.wait_until_finished()
        self._manager.close()

    def _save(self, snapshot: Snapshot) -> None:
        self._save_finished(snapshot.finished)
        state = serialization.to_state_dict(jax.device_get(snapshot.state))
        history = {name: table.copy() for name, table in snapshot.history.items()}
        self._save_step({"ids": snapshot.ids, "state": state, "history": history})

    def _save_step(self, live: dict[str, Any]) -> None:
        needed, free = 2 * memory.size_in_bytes(live), shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f"a checkpoint needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are left",
                str(self.folder),
            )
        items = ocp.args.Composite(live=ocp.args.StandardSave(live), grid=ocp.args.JsonSave(self.identity))
        self._manager.save(self._step, args=items)
        self._step += 1

    def _save_finished(self, finished: dict[int, RunResult]) -> None:
        new = sorted(set(finished) - self._archived)
        if not new:
            return
        results = jax.tree.map(lambda *leaves: np.stack(leaves), *(finished[run] for run in new))
        taken = [int(path.name) for path in _archives(self.folder)]
        tree = {"ids": np.array(new, np.int32), "outcomes": serialization.to_state_dict(results)}
        write_tree(self.folder / "finished" / str(max(taken, default=0) + 1), tree)
        self._archived.update(new)


def restore(folder: str | Path, grid: RunGrid, config: TrainConfig) -> Snapshot | None:
    """Read the newest complete checkpoint of every host and join them.

    Parameters
    ----------
    folder : str or Path
        A ``checkpoints`` folder.
    grid : RunGrid
        The runs, which must be those of the checkpoint.
    config : TrainConfig
        Settings of training, which must be those of the checkpoint; only ``run_batch`` and ``execution`` may differ.

    Returns
    -------
    Snapshot or None
        What ``fit`` needs to continue; None where training was interrupted before the first checkpoint.

    Raises
    ------
    CheckpointError
        If the checkpoint is of another grid or config, or all steps are damaged. A single damaged step is skipped.
    """
    parts = [part for host in _hosts(folder) if (part := _restore_host(host, grid_identity(grid, config))) is not None]
    if not parts:
        return None
    finished = {run: result for part in parts for run, result in part.finished.items()}
    history = {
        # The table of a host is NaN for the runs of the others.
        name: np.fmax.reduce([part.history[name] for part in parts if name in part.history])
        for name in {name for part in parts for name in part.history}
    }
    training = [part for part in parts if part.state is not None]
    if not training:
        return Snapshot(np.zeros(0, np.int32), None, finished, history)
    state = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(part.state for part in training))
    return Snapshot(np.concatenate([part.ids for part in training]), state, finished, history)


class StoredRuns(NamedTuple):
    """The runs of a checkpoints folder, and how far each had been trained at one step.

    Parameters
    ----------
    names : tuple of str
        Name of each run, such as ``"variant=attention seed=1"``.
    config : dict
        Fields of the ``TrainConfig``, among them ``monitor`` and ``mode``.
    steps : tuple of int
        The steps that are stored.
    best_score : array of float (n_runs,)
        The monitored score at the best epoch; NaN for a run without one.
    best_epoch : array of int (n_runs,)
        The best epoch, counted from 1; 0 before the first.
    epochs : array of int (n_runs,)
        Number of epochs trained; 0 for a run that has not begun.
    status : array of int (n_runs,)
        A :class:`~jaxephys.engine.task.Status`.
    """

    names: tuple[str, ...]
    config: dict[str, Any]
    steps: tuple[int, ...]
    best_score: Float[np.ndarray, "run"]
    best_epoch: Int[np.ndarray, "run"]
    epochs: Int[np.ndarray, "run"]
    status: Int[np.ndarray, "run"]

    def coordinates(self, run: int) -> dict[str, str]:
        """Return factors and levels of a run.

        Parameters
        ----------
        run : int
            Index of the run.

        Returns
        -------
        dict of str to str
            The level of each factor as text.

        Examples
        --------
        >>> import numpy as np
        >>> from jaxephys.engine.checkpoint import StoredRuns
        >>> names = ("variant=attention, no SMOTE seed=1",)
        >>> StoredRuns(names, {}, (), *[np.zeros(1)] * 4).coordinates(0)
        {'variant': 'attention, no SMOTE', 'seed': '1'}
        """
        return dict(re.findall(r"(\S+?)=(.*?)(?: (?=\S+?=)|$)", self.names[run]))


def read_runs(folder: str | Path, step: int | None = None) -> StoredRuns:
    """Read names and progress of all runs from a checkpoint, without their variables. Neither grid nor config is needed.

    Parameters
    ----------
    folder : str or Path
        A ``checkpoints`` folder.
    step : int, optional
        One of the stored steps; by default the last that can be read. A run that ended later counts with its result.

    Returns
    -------
    StoredRuns
        The runs.

    Raises
    ------
    CheckpointError
        If the folder holds no such step, or it is damaged.
    """
    runs, steps = None, _stored_steps(folder, step)
    for host in _hosts(folder):
        if (newest := _newest(host, step, _without_variables)) is None:
            continue
        live, identity = newest
        if runs is None:
            names = tuple(_with_new_names(identity)["runs"])
            zeros = [np.zeros(len(names), np.int32) for _ in range(3)]
            runs = StoredRuns(names, identity["plan"], steps, np.full(len(names), np.nan), *zeros)
        for run, result in (_finished(host, without_variables=True) | _live_results(live)).items():
            for table, value in zip(runs[3:], result[1:], strict=True):
                table[run] = value
    assert runs is not None  # some host has the step
    return runs._replace(best_score=np.where(np.isfinite(runs.best_score), runs.best_score, np.nan))


def restore_run(folder: str | Path, run: int, step: int | None = None) -> RunResult:
    """Read one run from a checkpoint, whether it has finished or not. Neither grid nor config is needed.

    Parameters
    ----------
    folder : str or Path
        A ``checkpoints`` folder.
    run : int
        Index of the run in the grid.
    step : int, optional
        One of the stored steps; by default the last that can be read. A run that ended later is read as it ended.

    Returns
    -------
    RunResult
        The best variables so far, without a run axis, and the status of the run.

    Raises
    ------
    CheckpointError
        If the folder does not contain the run or the step.
    """
    _stored_steps(folder, step)
    for host in _hosts(folder):
        if (newest := _newest(host, step, _with_best_variables)) is None:
            continue
        for results in (_live_results(newest[0], run), _finished(host)):
            if run in results:
                return results[run]
    raise CheckpointError(f"{folder} holds no run {run}: it has not begun, or the grid has fewer runs")


def grid_identity(grid: RunGrid, config: TrainConfig) -> dict[str, Any]:
    """Return what a resumed training must have in common with a checkpoint, as JSON.

    Parameters
    ----------
    grid : RunGrid
        The runs.
    config : TrainConfig
        Settings of training.

    Returns
    -------
    dict
        ``runs``: names of the runs; ``plan``: fields of the config that affect the numbers. The keys are those that version
        0.1.0 has written, so that its checkpoints can be restored.
    """
    fields = {
        name: value
        for name, value in asdict(config).items()
        if name not in EXECUTION_FIELDS and not (name in LATER_FIELDS and value == LATER_FIELDS[name])
    }
    identity = {"runs": [grid.name(index) for index in range(len(grid))], "plan": fields}
    return json.loads(json.dumps(identity))  # tuples become lists, as in the file


def _restore_host(host: Path, identity: dict[str, Any]) -> Snapshot | None:
    if (newest := _newest(host)) is None:
        return None
    live, saved = newest
    saved = saved if saved == identity else _with_new_names(saved)
    if saved != identity:
        raise CheckpointError(
            f"the checkpoint in {host} is of another grid: {_difference(saved, identity)}; resume with the same settings"
        )
    finished = {run: result for run, result in _finished(host).items() if run not in live["ids"]}
    return Snapshot(live["ids"], live.get("state"), finished, live["history"])


def _hosts(folder: str | Path) -> list[Path]:
    return sorted(Path(folder).absolute().glob("host*"))


def _steps(host: Path) -> list[int]:
    return sorted(int(path.name) for path in (host / "live").glob("*") if path.name.isdigit())


def _stored_steps(folder: str | Path, step: int | None) -> tuple[int, ...]:
    """The steps of all hosts. One that is requested must be among them."""
    steps = tuple(sorted({stored for host in _hosts(folder) for stored in _steps(host)}))
    if not steps:
        raise CheckpointError(f"{folder} holds no checkpoint: give the checkpoints/ folder of a run that has saved one")
    if step is not None and step not in steps:
        raise CheckpointError(f"{folder} holds no step {step}: choose among {', '.join(map(str, steps))}")
    return steps


def _newest(
    host: Path, step: int | None = None, select: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The running stack and the grid of the newest step that can be read; None where there is no step.

    With ``step``, that of this step, or of the one before on a host that skipped it.
    """
    steps = _steps(host)
    if step is not None:
        steps = [stored for stored in steps if stored <= step][-1:]
    for stored in reversed(steps):
        folder = host / "live" / str(stored)
        try:
            return read_tree(folder / "live", select), _read_identity(folder)
        except CheckpointError as error:
            if stored == steps[0]:
                raise
            log.warning("%s; going back to the one before", error)
    return None


def _without_variables(tree: dict[str, Any]) -> dict[str, Any]:
    """The part of a step from which the progress of its runs follows."""
    scalars = ("best_score", "best_epoch", "epoch", "status")
    state = {"state": {name: tree["state"][name] for name in scalars}} if "state" in tree else {}
    return {"ids": tree["ids"], **state}


def _with_best_variables(tree: dict[str, Any]) -> dict[str, Any]:
    """The part of a step that `_live_results` takes results from: not the optimizer, nor the variables of the last epoch."""
    part = _without_variables(tree)
    if "state" in tree:
        part["state"] |= {name: tree["state"][name] for name in ("best_params", "best_mutables")}
    return part


def _live_results(live: dict[str, Any], run: int | None = None) -> dict[int, RunResult]:
    """The results so far of the runs in the stack, or of one of them."""
    results = {}
    for slot, found in enumerate(live["ids"].tolist()):
        if found >= 0 and run in (None, found):
            state = jax.tree.map(lambda leaf, slot=slot: leaf[slot], live["state"])
            best = {"params": state.get("best_params"), **(state.get("best_mutables") or {})}
            results[found] = RunResult(best, state["best_score"], state["best_epoch"], state["epoch"], state["status"])
    return results


def _finished(host: Path, *, without_variables: bool = False) -> dict[int, RunResult]:
    """The results of the runs that have left the stack."""

    def scalars(tree: dict[str, Any]) -> dict[str, Any]:
        return {**tree, "outcomes": {name: part for name, part in tree["outcomes"].items() if name != "best"}}

    finished = {}
    for part in _archives(host):
        tree = read_tree(part, scalars if without_variables else None)
        for row, run in enumerate(tree["ids"].tolist()):
            fields = jax.tree.map(lambda leaf, row=row: leaf[row], tree["outcomes"])
            finished[run] = RunResult(**{"best": {}, **fields})
    return finished


def _archives(host: Path) -> list[Path]:
    return sorted(path for path in (host / "finished").glob("*") if path.name.isdigit())


def _read_identity(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / "grid" / "metadata").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the checkpoint {path} has no record of its grid") from error


def _with_new_names(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity with the present names of levels that an earlier version named otherwise."""
    names: list[list[str]] = [run.split(" ") for run in identity.get("runs", [])]
    runs = [" ".join(RENAMED_LEVELS.get(level, level.replace("arm=", "variant=")) for level in name) for name in names]
    return {**identity, "runs": runs}


def _difference(saved: dict[str, Any], now: dict[str, Any]) -> str:
    if saved.get("runs") != now["runs"]:
        return f"it has {len(saved.get('runs', []))} runs and this command {len(now['runs'])}, or they have other names"
    fields = saved.get("plan", {})
    name = next((name for name in now["plan"] if fields.get(name) != now["plan"][name]), "plan")
    return f"{name} was {fields.get(name)} and is {now['plan'].get(name)}"
