"""What every experiment shares: settings and presets on the command line, the run folder, resuming, the last word.

    python -m experiments.NAME [PRESET] [--field value ...] [--out runs] [--resume DIR]

An experiment module holds a frozen dataclass of settings, a ``PRESETS`` dict and ``run(settings, folder)``; its docstring
says what it reproduces, with which command, in what time, and what to expect.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import numpy as np
import tyro
from rich.console import Console

import jaxephys
from jaxephys.engine import devices
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, fit
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.task import RunInputs, Status, Task
from jaxephys.evaluation.splits import Split
from jaxephys.reporting.score_table import Score, Table, print_table, write_csv, write_report, write_scores, write_text

DIVERGED_EXIT = 3
ELSEWHERE = ("out", "resume", "device", "distributed")  # where a run goes and on what: not part of what is run
log = logging.getLogger("jaxephys")


@dataclass(frozen=True)
class Settings:
    """The options that every experiment has."""

    out: Path = Path("runs")
    """Folder under which the run gets a folder of its own."""
    resume: Path | None = None
    """Go on with the killed run in this folder; its settings are read from there."""
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Where to compute. Without it JAX takes the fastest it sees."""
    distributed: bool = False
    """Share the runs among the processes of a cluster (SLURM, Open MPI, TPU pods, or JAX_COORDINATOR_ADDRESS)."""


S = TypeVar("S", bound=Settings)


@dataclass
class RunFolder:
    """``runs/<experiment>/<preset>-<time>-<hash>/``: all that a run leaves. Only the first host writes into it."""

    path: Path
    experiment: str
    settings: Settings
    command: list[str]
    console: Console = field(default_factory=lambda: Console(stderr=True))
    began: float = field(default_factory=time.time)
    notes: dict[str, Any] = field(default_factory=dict)  # what the manifest says beside the versions
    diverged: list[str] = field(default_factory=list)

    @property
    def first(self) -> bool:
        """Is this the host that writes?"""
        return devices.is_first_host()

    def say(self, text: str) -> None:
        if self.first:
            self.console.print(text, highlight=False, soft_wrap=True)

    def greet(self, runs: int, **data: Any) -> None:
        """The first lines of any run: version, devices, data, number of runs, folder."""
        devices = jax.local_devices()
        kind = (
            f"{len(devices)} x {devices[0].device_kind}"
            if devices[0].platform != "cpu"
            else f"{len(devices)} CPU cores"
        )
        where = f"{kind}, {jax.process_count()} hosts" if jax.process_count() > 1 else kind
        self.say(f"jaxephys {jaxephys.__version__} on {where}")
        before = self._notes_before()
        for name, arrays in data.items():
            digest = fingerprint(arrays)
            if before.get(f"data_{name}", digest) != digest:
                raise ValueError(
                    f"the data of {name} are not those that {self.path} began with: give the same, or begin a new run"
                )
            self.notes[f"data_{name}"] = digest
            self.say(f"data {name}: sha256 {digest[:12]}")
        self.notes["runs"] = runs
        self.say(f"{runs} runs -> {self.path}")
        self._write_manifest("running")

    def _notes_before(self) -> dict[str, Any]:
        """What the manifest says of the run that is resumed; nothing if it was killed before it wrote one."""
        manifest = self.path / "manifest.json"
        if self.settings.resume is None or not manifest.exists():
            return {}
        try:
            return json.loads(manifest.read_text())
        except ValueError:
            raise ValueError(f"{manifest} is damaged: remove it to go on without a check of the data") from None

    def fit(
        self,
        title: str,
        task: Task,
        data: Any,
        inputs: RunInputs,
        grid: RunGrid,
        config: TrainConfig,
        name: str = "",
        initial: Any = None,
    ) -> FitResult:
        """Train a grid with a progress bar and with checkpoints in this folder, and record it; an interrupted one continues.

        A second grid of an experiment has a ``name``, under which its checkpoints, history and status are kept.
        """
        checkpoints = self.path / (f"checkpoints_{name}" if name else "checkpoints")
        if self.settings.resume is not None and not any(checkpoints.glob("host*/live/[0-9]*")):
            self.say("there is no checkpoint yet: starting from the beginning")
        result = fit(task, data, inputs, grid, config, initial=initial, folder=checkpoints, title=title)
        self.note_fit(result, name)
        return result

    def note_fit(self, result: FitResult, name: str = "") -> None:
        """Keep history and status of the grid, say how it ran, and remember runs that diverged.

        A second grid of an experiment has a ``name``: runs_NAME.csv, history_NAME.csv, and NAME in the manifest.
        """
        self.diverged += result.diverged()
        facts = {
            "execution": result.execution,
            "seeds": sorted(set(result.grid.column("seed"))),
            "compile_seconds": round(result.compile_seconds, 3),
            "run_seconds": round(result.run_seconds, 3),
        }
        self.notes |= {name: facts} if name else facts
        self.say(
            f"{result.execution}: compiled in {result.compile_seconds:.1f} s, trained in {result.run_seconds:.1f} s"
        )
        if self.first:
            write_runs(self.path, result, f"_{name}" if name else "")

    def close(
        self, scores: Sequence[Score], title: str, intro: str, tables: Mapping[str, Table], figures, notes
    ) -> None:
        """Write scores, report and manifest, and show the tables. The manifest comes last: it says that all is there."""
        if not self.first:
            return
        notes = [
            *notes,
            *(
                f"The run {name} met a NaN and stopped; its weights are those of its last good epoch."
                for name in self.diverged
            ),
        ]
        write_scores(self.path / "scores.csv", scores)
        write_report(self.path, title, intro, tables, figures, notes)
        self._write_manifest("diverged" if self.diverged else "complete")
        screen = Console()
        screen.width = max(screen.width, 140)  # a table that wraps cannot be read
        for heading, table in tables.items():
            screen.print(f"\n{heading}", style="bold")
            print_table(table, screen)
        screen.print(f"report and figures: {self.path / 'report.md'}", highlight=False, soft_wrap=True)

    def write_predictions(
        self, splits: Sequence[Split], rows: int, classes: np.ndarray, probability: np.ndarray, **known: np.ndarray
    ) -> None:
        """``predictions.npz``: what each run was to train, select and be tested on, and its probabilities on the test rows.

        ``part[run, row]`` is 0 for training, 1 for validation, 2 for test, -1 for not used; ``test[run, i]`` is the row
        whose probabilities stand in ``probability[run, i]``, -1 for padding. Where several arms share the splits,
        ``probability[arm, run, i]``. ``known``: arrays that name the arms, runs or rows, under their own keys.
        """
        part = np.full((len(splits), rows), -1, np.int8)
        test = np.full(probability.shape[-3:-1], -1, np.int32)
        for run, split in enumerate(splits):
            for code, chosen in enumerate(split):
                part[run, chosen] = code
            test[run, : len(split.test)] = split.test
        beside = self.path / ".predictions.npz"
        np.savez_compressed(beside, part=part, test=test, classes=classes, probability=probability, **known)  # pyright: ignore[reportArgumentType]
        os.replace(beside, self.path / "predictions.npz")

    def _write_manifest(self, status: str) -> None:
        if not self.first:
            return
        packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn", "imbalanced-learn")
        manifest = {
            "status": status,
            "experiment": self.experiment,
            "command": self.command,
            "jaxephys": jaxephys.__version__,
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in packages},
            "devices": [str(device.device_kind) for device in jax.local_devices()],
            "hosts": jax.process_count(),
            "wall_seconds": round(time.time() - self.began, 3),
            **self.notes,
        }
        write_text(self.path / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def write_runs(folder: Path, result: FitResult, tag: str = "") -> None:
    """``runs.csv``, a line a run; ``history.csv``, a line a run and epoch. ``tag`` stands behind the names of both."""
    axis, outcome = result.grid, result.run_results
    ends = ("status", "epochs", "best_epoch", "best_score")
    lines = [
        (place, *run, Status(int(status)).name.lower(), int(epochs), int(best), float(value))
        for place, (run, status, epochs, best, value) in enumerate(
            zip(axis.levels, outcome.status, outcome.epochs, outcome.best_epoch, outcome.best_score, strict=True)
        )
    ]
    write_csv(folder / f"runs{tag}.csv", ("run", *axis.factors, *ends), lines)
    names = sorted(result.history)
    lived = [(place, epoch) for place in range(len(axis)) for epoch in range(int(outcome.epochs[place]))]
    rows = [
        (place, epoch + 1, *(float(result.history[name][place, epoch]) for name in names)) for place, epoch in lived
    ]
    write_csv(folder / f"history{tag}.csv", ("run", "epoch", *names), rows)


def fingerprint(arrays: Any) -> str:
    """sha256 over the bytes, shapes and types of all arrays of a tree."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(arrays):
        leaf = np.ascontiguousarray(leaf)
        digest.update(f"{leaf.shape}{leaf.dtype}".encode() + leaf.tobytes())
    return digest.hexdigest()


def main(module: str, doc: str | None, presets: Mapping[str, S], run: Callable[[S, RunFolder], None]) -> None:
    """Run an experiment from the command line. What the user can mend is one sentence and exit code 2."""
    _let_one_voice_speak()
    name = module.rsplit(".", 1)[-1]
    folder: RunFolder | None = None
    try:
        preset, settings = parse(name, doc or "", presets, sys.argv[1:])
        _start_jax(settings)
        folder = _open_folder(name, preset, settings)
        run(settings, folder)
    except KeyboardInterrupt:
        hint = "" if folder is None else f"; go on with --resume {folder.path}"
        sys.exit(f"stopped{hint}")
    except (ValueError, OSError) as error:
        print(f"error: {_one_sentence(error)}", file=sys.stderr)
        sys.exit(2)
    if folder.diverged:
        print(f"error: {len(folder.diverged)} runs diverged: {', '.join(folder.diverged)}", file=sys.stderr)
        sys.exit(DIVERGED_EXIT)


def _let_one_voice_speak() -> None:
    """Our warnings as plain lines. Orbax raises again in our thread what its writers meet: their own tracebacks are noise."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for library in ("absl", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    usual = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is None or not failure.thread.name.startswith(("save_finalize", "async_save")):
            usual(failure)

    threading.excepthook = hook


def parse(name: str, doc: str, presets: Mapping[str, S], arguments: list[str]) -> tuple[str, S]:
    """The preset and its settings, with fields overridden; or the settings of the run that is resumed."""
    preset = next(iter(presets))
    if arguments and not arguments[0].startswith("-"):
        preset, arguments = arguments[0], arguments[1:]
    if preset not in presets:
        raise ValueError(f"there is no preset {preset!r} of {name}: {_nearest(preset, presets)}")
    listing = "presets: " + ", ".join(presets)
    settings, unknown = tyro.cli(
        type(presets[preset]),
        prog=f"python -m experiments.{name} [{'|'.join(presets)}]",
        description=f"{doc.strip()}\n\n{listing}",
        args=arguments,
        default=presets[preset],
        return_unknown_args=True,
    )
    if unknown:
        fields = [f"--{item.name.replace('_', '-')}" for item in dataclasses.fields(settings)]
        raise ValueError(f"{name} does not know {unknown[0]!r}: {_nearest(unknown[0].split('=')[0], fields)}")
    if settings.resume is not None:
        preset, settings = _settings_of(settings, presets)
    return preset, settings


def _settings_of(asked: S, presets: Mapping[str, S]) -> tuple[str, S]:
    """The settings of the run in ``--resume``, on today's device."""
    path = asked.resume or Path()
    try:
        saved = json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        raise ValueError(f"{path} is no run folder: its config.json cannot be read") from None
    if saved.get("preset") not in presets:
        raise ValueError(f"{path} is a run of {saved.get('experiment')}, not of this experiment")
    base = presets[saved["preset"]]
    fields = {item.name: item for item in dataclasses.fields(base) if item.name not in ELSEWHERE}
    strange = set(saved["settings"]) ^ set(fields)
    if strange:
        raise ValueError(f"{path} was made by another version: it and this one differ in the field {strange.pop()!r}")
    back = {key: _from_json(value, str(fields[key].type)) for key, value in saved["settings"].items()}
    settings = dataclasses.replace(base, **back)
    now = {key: getattr(asked, key) for key in ELSEWHERE}
    return saved["preset"], dataclasses.replace(settings, **now)


def _start_jax(settings: Settings) -> None:
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "jaxephys" / "xla"))
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    devices.use_all_cores()
    devices.choose_platform(settings.device)
    if settings.distributed:
        devices.initialize_distributed()


def _open_folder(name: str, preset: str, settings: Settings) -> RunFolder:
    """A new folder, never an old one, unless it is resumed. All hosts agree on the first host's."""
    config = {"experiment": name, "preset": preset, "settings": describe(settings)}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    path = settings.resume
    if path is None:
        tag = hashlib.sha256(text.encode()).hexdigest()[:6]
        path = settings.out / name / devices.agree(f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}-{tag}")
    folder = RunFolder(Path(path), name, settings, ["python", "-m", f"experiments.{name}", *sys.argv[1:]])
    if settings.resume is None and devices.is_first_host():
        try:
            folder.path.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            raise ValueError(
                f"{folder.path} exists already: start again in a second, or choose another --out"
            ) from None
        except OSError as error:
            raise ValueError(
                f"the output folder {folder.path} cannot be made ({error.strerror}): choose another --out"
            ) from error
        write_text(folder.path / "config.json", text)
    return folder


def describe(settings: Settings) -> dict[str, Any]:
    """What is run, as JSON: all fields but where the run goes and on what it computes."""
    fields = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
    return {
        key: str(value) if isinstance(value, Path) else value for key, value in fields.items() if key not in ELSEWHERE
    }


def _from_json(value: Any, kind: str) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if value is not None and "Path" in kind else value


def _nearest(word: str, known: Mapping[str, Any] | list[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"


def _one_sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else ""
        return f"the file or folder{where} cannot be used ({error.strerror}): free space, mend its rights or choose another --out"
    return str(error)


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
