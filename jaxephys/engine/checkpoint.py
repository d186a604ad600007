"""Checkpoints of a training: the stack of runs after every chunk, and each finished run once.

    checkpoints/host0/live/<step>/      the running stack, the history so far and the grid; the last two steps are kept
    checkpoints/host0/finished/<n>/     runs that have left the stack, written before the first step without them

Orbax writes the arrays and they are read back as NumPy arrays, so a checkpoint made on eight GPUs can be read on a laptop. Each
host of a cluster writes its own folder; ``restore`` reads all of them, whatever the number of hosts now.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization

from jaxephys.engine import memory
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.run_log import ProgressEvent, RunResult, Snapshot

log = logging.getLogger("jaxephys")
KEPT_STEPS = 2
EXECUTION_FIELDS = ("run_batch", "execution")  # fields of TrainConfig that may differ when a training is resumed
RENAMED_LEVELS = {  # in the names of runs that version 0.1.0 has written
    "variant=baseline": "variant=bilstm",
    "arm=clean": "variant=clean target",
    "arm=hidden": "variant=masking",
}


class CheckpointError(ValueError):
    """A folder cannot be read or written. The message names the folder and the remedy."""


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
        host = jax.process_index()
        self.folder = Path(folder).absolute() / f"host{host}"
        self.identity = grid_identity(grid, config)
        alone = ocp.options.MultiprocessingOptions(
            primary_host=host, active_processes={host}, barrier_sync_key_prefix=f"host{host}"
        )
        options = ocp.CheckpointManagerOptions(
            create=False, max_to_keep=KEPT_STEPS, multiprocessing_options=alone, cleanup_tmp_directories=True
        )
        for part in ("live", "finished"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(self.folder / "live", options=options)
        self._archive = ocp.Checkpointer(
            ocp.StandardCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone
        )
        self._archived = {run for part in _archives(self.folder) for run in _read_tree(part)["ids"].tolist()}
        self._step = (self._manager.latest_step() or 0) + 1

    def __call__(self, event: ProgressEvent) -> None:
        snapshot = event.snapshot
        if snapshot is None:
            return
        with self._readable_errors():
            self._save(snapshot)

    @property
    def needs_state(self) -> bool:
        """Whether the next state will be written: not while the one before is still being written."""
        return not self._manager.is_saving_in_progress()

    def close(self) -> None:
        """Wait until the last checkpoint is written."""
        with self._readable_errors():
            self._manager.wait_until_finished()
        self._manager.close()

    def _save(self, snapshot: Snapshot) -> None:
        self._save_finished(snapshot.finished)
        live = {
            "ids": snapshot.ids,
            "state": serialization.to_state_dict(jax.device_get(snapshot.state)),
            "history": {name: table.copy() for name, table in snapshot.history.items()},
        }
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
        tree = {"ids": np.array(new, np.int32), "outcomes": serialization.to_state_dict(results)}
        taken = [int(path.name) for path in (self.folder / "finished").iterdir() if path.name.isdigit()]
        self._archive.save(self.folder / "finished" / str(max(taken, default=0) + 1), args=ocp.args.StandardSave(tree))
        self._archived.update(new)

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        """Turn whatever prevents Orbax from writing, most often a full disk, into one sentence."""
        try:
            yield
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            raise CheckpointError(
                f"the checkpoint cannot be written to {self.folder} ({reason}): "
                "free space, change the permissions of the folder or choose another one"
            ) from error


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
    hosts = sorted(Path(folder).absolute().glob("host*"))
    parts = [part for host in hosts if (part := _restore_host(host, grid_identity(grid, config))) is not None]
    if not parts:
        return None
    finished = {run: result for part in parts for run, result in part.finished.items()}
    history = {
        # The table of a host is NaN for the runs of the others.
        name: np.fmax.reduce([part.history[name] for part in parts if name in part.history])
        for name in {name for part in parts for name in part.history}
    }
    state = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(part.state for part in parts))
    return Snapshot(np.concatenate([part.ids for part in parts]), state, finished, history)


def restore_run(folder: str | Path, run: int) -> RunResult:
    """Read one run from a checkpoint, whether it has finished or not. Neither grid nor config is needed.

    Parameters
    ----------
    folder : str or Path
        A ``checkpoints`` folder.
    run : int
        Index of the run in the grid.

    Returns
    -------
    RunResult
        The best variables so far, without a run axis, and the status of the run.

    Raises
    ------
    CheckpointError
        If the folder does not contain the run.
    """
    for host in sorted(Path(folder).absolute().glob("host*")):
        if (newest := _newest(host)) is None:
            continue
        live, _ = newest
        slots = np.flatnonzero(live["ids"] == run)
        if len(slots):
            state = jax.tree.map(lambda leaf, slot=int(slots[0]): leaf[slot], live["state"])
            best = {"params": state["best_params"], **(state["best_mutables"] or {})}
            return RunResult(best, state["best_score"], state["best_epoch"], state["epoch"], state["status"])
        if run in (finished := _finished(host)):
            return finished[run]
    raise CheckpointError(f"{folder} holds no run {run}: it has not begun, or the folder is not a checkpoints/ folder")


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
    fields = {name: value for name, value in asdict(config).items() if name not in EXECUTION_FIELDS}
    if config.precision == "auto":
        del fields["precision"]  # earlier versions have no such field
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
    return Snapshot(live["ids"], live["state"], finished, live["history"])


def _newest(host: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The running stack and the grid of the newest step that can be read; None where there is no step."""
    steps = sorted((int(path.name) for path in (host / "live").glob("*") if path.name.isdigit()), reverse=True)
    for step in steps:
        folder = host / "live" / str(step)
        try:
            return _read_tree(folder / "live"), _read_identity(folder)
        except CheckpointError as error:
            if step == steps[-1]:
                raise
            log.warning("%s; going back to the one before", error)
    return None


def _finished(host: Path) -> dict[int, RunResult]:
    """The results of the runs that have left the stack."""
    finished = {}
    for part in _archives(host):
        tree = _read_tree(part)
        for row, run in enumerate(tree["ids"].tolist()):
            finished[run] = RunResult(**jax.tree.map(lambda leaf, row=row: leaf[row], tree["outcomes"]))
    return finished


def _archives(host: Path) -> list[Path]:
    return sorted(path for path in (host / "finished").glob("*") if path.name.isdigit())


def _read_tree(path: Path) -> Any:
    """A tree of NumPy arrays."""
    try:
        return ocp.Checkpointer(ocp.StandardCheckpointHandler()).restore(path)
    except Exception as error:  # Orbax and TensorStore raise many types of exceptions for a damaged file
        raise CheckpointError(
            f"the checkpoint {path} is damaged or was not written by jaxephys ({type(error).__name__})"
        ) from error


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
