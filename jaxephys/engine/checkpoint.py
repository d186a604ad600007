"""Checkpoints: the stack after every chunk, the finished runs once, and a portable export.

    checkpoints/host0/live/<step>/      the live stack, the history so far, the grid; the last two are kept
    checkpoints/host0/finished/<n>/     runs that left the stack, written before the first step that lacks them

Arrays are written by Orbax and read back as NumPy, so that a checkpoint made on eight GPUs opens on a laptop. Each host of
a cluster writes its own folder; ``restore`` reads all of them, whatever the number of hosts today.

    model/params.npz  model/config.json  the portable export: NumPy alone reads it
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization, traverse_util

from jaxephys.engine import memory
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.run_log import ProgressEvent, RunResult, Snapshot
from jaxephys.engine.task import Variables

log = logging.getLogger("jaxephys")
KEPT = 2
SLASH = "/"


class CheckpointError(ValueError):
    """A folder that cannot be read back. The message says which and what to do."""


def grid_of(axis: RunGrid, plan: TrainConfig) -> dict[str, Any]:
    """What a checkpoint is a checkpoint of, as JSON. A resumed command must agree with it."""
    plan_fields = {name: value for name, value in asdict(plan).items() if name not in ("run_batch", "execution")}
    return json.loads(json.dumps({"runs": [axis.name(place) for place in range(len(axis))], "plan": plan_fields}))


class Checkpointer:
    """A watcher that writes the stack after every chunk, in the background. A chunk that ends while the one before is
    still being written is passed over."""

    needs_state = True

    def __init__(self, folder: str | Path, axis: RunGrid, plan: TrainConfig) -> None:
        host = jax.process_index()
        self.folder = Path(folder).absolute() / f"host{host}"
        self.grid = grid_of(axis, plan)
        alone = ocp.options.MultiprocessingOptions(
            primary_host=host, active_processes={host}, barrier_sync_key_prefix=f"host{host}"
        )
        options = ocp.CheckpointManagerOptions(
            create=False, max_to_keep=KEPT, multiprocessing_options=alone, cleanup_tmp_directories=True
        )
        for part in ("live", "finished"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(self.folder / "live", options=options)
        self._archive = ocp.Checkpointer(
            ocp.StandardCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone
        )
        self._archived = {place for part in _archives(self.folder) for place in _read_tree(part)["ids"].tolist()}
        self._step = (self._manager.latest_step() or 0) + 1

    def __call__(self, report: ProgressEvent) -> None:
        snapshot = report.snapshot
        if snapshot is None or self._manager.is_saving_in_progress():
            return
        with self._one_sentence():
            self._save(snapshot)

    def _save(self, snapshot: Snapshot) -> None:
        self._save_finished(snapshot.finished)
        live = {
            "ids": snapshot.ids,
            "state": serialization.to_state_dict(jax.device_get(snapshot.state)),
            "history": {name: table.copy() for name, table in snapshot.history.items()},
        }
        need, free = 2 * memory.bytes_of(live), shutil.disk_usage(self.folder).free
        if need > free:
            raise OSError(
                errno.ENOSPC, f"a checkpoint needs {need / 1e6:.0f} MB, {free / 1e6:.0f} MB are left", str(self.folder)
            )
        items = ocp.args.Composite(live=ocp.args.StandardSave(live), grid=ocp.args.JsonSave(self.grid))
        self._manager.save(self._step, args=items)
        self._step += 1

    def close(self) -> None:
        """Wait for the last write."""
        with self._one_sentence():
            self._manager.wait_until_finished()
        self._manager.close()

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """Whatever stops Orbax from writing, a full disk above all, is said in our words."""
        try:
            yield
        except Exception as error:
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            raise CheckpointError(
                f"the checkpoint cannot be written to {self.folder} ({why}): "
                "free space, mend the rights of the folder or choose another one"
            ) from error

    def _save_finished(self, finished: dict[int, RunResult]) -> None:
        new = sorted(set(finished) - self._archived)
        if not new:
            return
        outcomes = jax.tree.map(lambda *leaves: np.stack(leaves), *(finished[place] for place in new))
        tree = {"ids": np.array(new, np.int32), "outcomes": serialization.to_state_dict(outcomes)}
        taken = [int(path.name) for path in (self.folder / "finished").iterdir() if path.name.isdigit()]
        self._archive.save(self.folder / "finished" / str(max(taken, default=0) + 1), args=ocp.args.StandardSave(tree))
        self._archived.update(new)


def restore(folder: str | Path, axis: RunGrid, plan: TrainConfig) -> Snapshot | None:
    """The newest whole checkpoint of every host, joined; None where training was killed before the first."""
    hosts = sorted(Path(folder).absolute().glob("host*"))
    parts = [part for host in hosts if (part := _restore_host(host, grid_of(axis, plan))) is not None]
    if not parts:
        return None
    states = [part.state for part in parts]
    finished = {place: run_results for part in parts for place, run_results in part.finished.items()}
    history = {
        # A host's table is NaN for the runs of the others.
        name: np.fmax.reduce([part.history[name] for part in parts if name in part.history])
        for name in {name for part in parts for name in part.history}
    }
    state = jax.tree.map(lambda *leaves: np.concatenate(leaves), *states)
    return Snapshot(np.concatenate([part.ids for part in parts]), state, finished, history)


def pick(folder: str | Path, run: int) -> RunResult:
    """One run out of a checkpoint on disk, by its place on the axis: its best weights so far, and how it stands."""
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


def _restore_host(host: Path, grid: dict[str, Any]) -> Snapshot | None:
    if (newest := _newest(host)) is None:
        return None
    live, saved = newest
    if saved != grid:
        raise CheckpointError(
            f"the checkpoint in {host} is of another grid: {_difference(saved, grid)}; resume with the same settings"
        )
    finished = {place: run_results for place, run_results in _finished(host).items() if place not in live["ids"]}
    return Snapshot(live["ids"], live["state"], finished, live["history"])


def _newest(host: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The live stack and the grid of the newest step that can be read; None where there is no step."""
    steps = sorted((int(path.name) for path in (host / "live").glob("*") if path.name.isdigit()), reverse=True)
    for step in steps:
        folder = host / "live" / str(step)
        try:
            return _read_tree(folder / "live"), _read_grid(folder)
        except CheckpointError as error:
            if step == steps[-1]:
                raise
            log.warning("%s; going back to the one before", error)
    return None


def _finished(host: Path) -> dict[int, RunResult]:
    """What the runs that have left the stack have come to."""
    finished = {}
    for part in _archives(host):
        tree = _read_tree(part)
        for row, place in enumerate(tree["ids"].tolist()):
            finished[place] = RunResult(**jax.tree.map(lambda leaf, row=row: leaf[row], tree["outcomes"]))
    return finished


def _archives(host: Path) -> list[Path]:
    return sorted(path for path in (host / "finished").glob("*") if path.name.isdigit())


def _read_tree(path: Path) -> Any:
    """A tree of NumPy arrays. Whatever breaks while reading becomes one sentence."""
    try:
        return ocp.Checkpointer(ocp.StandardCheckpointHandler()).restore(path)
    except Exception as error:  # Orbax and TensorStore raise a dozen kinds for a damaged file
        raise CheckpointError(
            f"the checkpoint {path} is damaged or not one of ours ({type(error).__name__})"
        ) from error


def _read_grid(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / "grid" / "metadata").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the checkpoint {path} does not say which grid it is of") from error


def _difference(saved: dict[str, Any], now: dict[str, Any]) -> str:
    if saved.get("runs") != now["runs"]:
        return f"it has {len(saved.get('runs', []))} runs and this command {len(now['runs'])}, or they have other names"
    plan = saved.get("plan", {})
    name = next((name for name in now["plan"] if plan.get(name) != now["plan"][name]), "plan")
    return f"{name} was {plan.get(name)} and is {now['plan'].get(name)}"


def export(folder: str | Path, variables: Variables, config: dict[str, Any], *, overwrite: bool = False) -> Path:
    """Write ``params.npz`` (one array a leaf, ``params/encoder/kernel``, runs first) and ``config.json``, both or neither."""
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise ValueError(f"{folder} exists: choose another name or pass overwrite=True")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        flat = traverse_util.flatten_dict(jax.device_get(variables), sep=SLASH)
        np.savez(beside / "params.npz", allow_pickle=False, **{name: np.asarray(leaf) for name, leaf in flat.items()})
        (beside / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        os.chmod(beside, 0o755)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def read_export(folder: str | Path) -> tuple[Variables, dict[str, Any]]:
    """What ``export`` wrote: the variables, with their leading run axis, and the config."""
    folder = Path(folder)
    try:
        config = dict(json.loads((folder / "config.json").read_text()))
        with np.load(folder / "params.npz", allow_pickle=False) as file:
            flat = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no saved model: {Path(error.filename).name} is missing") from error
    except Exception as error:  # zipfile and NumPy raise a dozen kinds for a damaged file
        raise CheckpointError(
            f"the saved model {folder} is damaged: save it again, or resume the run that made it"
        ) from error
    return traverse_util.unflatten_dict(flat, sep=SLASH), config
