"""Command line of the experiments: presets, options, run folder, resuming and error messages.

    python -m experiments.NAME [PRESET] [--field value ...] [--out runs] [--resume FOLDER]

An experiment module defines a frozen dataclass of settings (`jaxephys.reporting.settings.Settings`), a dictionary ``PRESETS`` and
a function ``run(settings, folder)``, and ends with ``main("name", __doc__, PRESETS, run)``.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import logging
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import tyro

from jaxephys.engine import devices, progress
from jaxephys.reporting.files import write_text
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import RUNTIME_FIELDS, S, Settings, settings_from_json, settings_to_json

DIVERGED_EXIT_STATUS = 3


def main(name: str, description: str | None, presets: Mapping[str, S], run: Callable[[S, RunFolder], None]) -> None:
    """Run an experiment with the arguments of the command line.

    Errors that the user can correct are printed as one sentence, with exit status 2. If runs diverged, the results are
    written and the exit status is 3. A failure before the first result leaves no run folder; after it the folder stays for
    ``--resume``.

    Parameters
    ----------
    name : str
        Name of the experiment module, and of the folder of its runs.
    description : str, optional
        Text of ``--help``: the docstring of the module.
    presets : mapping of str to Settings
        Settings by name; the first one is the default.
    run : callable
        Function of the settings and a `RunFolder` that does the work.
    """
    _configure_logging()
    folder: RunFolder | None = None
    try:
        preset, settings = parse(name, description or "", presets, sys.argv[1:])
        _start_jax(settings)
        folder = _open_folder(name, preset, settings)
        progress.show_on(folder.console if folder.is_first_host else None)
        run(settings, folder)
    except KeyboardInterrupt:
        if folder is None or _discard_without_result(folder):
            sys.exit("interrupted before the first result")
        sys.exit(f"interrupted; continue with --resume {folder.path}")
    except BaseException as error:
        if folder is not None:
            _discard_without_result(folder)
        if not isinstance(error, ValueError | OSError):
            raise
        print(f"error: {_one_sentence(error)}", file=sys.stderr)
        sys.exit(2)
    finally:
        progress.show_on(None)
    if folder.diverged:
        print(f"error: {len(folder.diverged)} runs diverged: {', '.join(folder.diverged)}", file=sys.stderr)
        sys.exit(DIVERGED_EXIT_STATUS)


def parse(name: str, description: str, presets: Mapping[str, S], arguments: list[str]) -> tuple[str, S]:
    """Return the preset and settings that the arguments of a command line describe.

    Parameters
    ----------
    name : str
        Name of the experiment.
    description : str
        Text of ``--help``.
    presets : mapping of str to Settings
        Settings by name; the first one is the default.
    arguments : list of str
        Optionally a preset, followed by options.

    Returns
    -------
    preset : str
        Name of the preset.
    settings : Settings
        Its settings with the options applied; with ``--resume`` the settings of the resumed run.

    Raises
    ------
    ValueError
        If a preset, option or run folder does not exist; the message names the nearest one.
    """
    preset = next(iter(presets))
    if arguments and not arguments[0].startswith("-"):
        preset, arguments = arguments[0], arguments[1:]
    if preset not in presets:
        raise ValueError(f"{name} has no preset {preset!r}: {_suggestion(preset, presets)}")
    settings, unknown = tyro.cli(
        type(presets[preset]),
        prog=f"python -m experiments.{name} [{'|'.join(presets)}]",
        description=f"{_help_text(description)}\n\npresets: {', '.join(presets)}",
        args=arguments,
        default=presets[preset],
        return_unknown_args=True,
    )
    if unknown:
        options = [f"--{item.name.replace('_', '-')}" for item in dataclasses.fields(settings)]
        raise ValueError(f"{name} has no option {unknown[0]!r}: {_suggestion(unknown[0].split('=')[0], options)}")
    return (preset, settings) if settings.resume is None else _resumed_settings(settings.resume, settings, presets)


def _help_text(description: str) -> str:
    """Indent the tables of a docstring: tyro joins the lines of a paragraph, unless they are indented."""
    blocks = description.strip().split("\n\n")
    return "\n\n".join(textwrap.indent(block, "    ") if block.startswith("===") else block for block in blocks)


def _resumed_settings(path: Path, given: S, presets: Mapping[str, S]) -> tuple[str, S]:
    """Return preset and settings of the run in ``path``, with the runtime fields of this command."""
    try:
        saved = json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        raise ValueError(f"{path} is not a run folder: its config.json cannot be read") from None
    if saved.get("preset") not in presets:
        raise ValueError(f"{path} is a run of {saved.get('experiment')}, not of this experiment")
    try:
        settings = settings_from_json(presets[saved["preset"]], saved["settings"])
    except ValueError as error:
        raise ValueError(f"{path} cannot be resumed: {error}") from None
    return saved["preset"], dataclasses.replace(settings, **{name: getattr(given, name) for name in RUNTIME_FIELDS})


def _start_jax(settings: Settings) -> None:
    devices.use_all_cores()
    devices.choose_platform(settings.device)
    if settings.distributed:
        devices.initialize_distributed()


def _open_folder(name: str, preset: str, settings: Settings) -> RunFolder:
    """Create the run folder, or open the one that is resumed. All hosts use the name that the first one chose."""
    command = ["python", "-m", f"experiments.{name}", *sys.argv[1:]]
    if settings.resume is not None:
        return RunFolder(settings.resume, name, settings, command, preset=preset)
    config = {"experiment": name, "preset": preset, "settings": settings_to_json(settings)}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    path = settings.out / name / devices.broadcast_text(f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}-{digest}")
    if devices.is_first_host():
        try:
            path.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            raise ValueError(f"{path} exists already: start again in a second, or choose another --out") from None
        except OSError as error:
            raise ValueError(
                f"the output folder {path} cannot be created ({error.strerror}): choose another --out"
            ) from error
        write_text(path / "config.json", text)
    return RunFolder(path, name, settings, command, preset=preset)


def _discard_without_result(folder: RunFolder) -> bool:
    """Remove a new run folder that holds settings and unfinished checkpoints only; return whether it did."""
    settings = {folder.path / "config.json", folder.path / "manifest.json"}
    files = {path for path in folder.path.rglob("*") if path.is_file() and "orbax-checkpoint-tmp" not in str(path)}
    if folder.settings.resume is not None or not folder.is_first_host or files - settings:
        return False
    shutil.rmtree(folder.path)
    if not any(folder.path.parent.iterdir()):
        folder.path.parent.rmdir()
    return True


def _configure_logging() -> None:
    """Print warnings as plain lines, and hide tracebacks of Orbax threads, whose errors are raised again in this thread."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for library in ("absl", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    default_hook = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is None or not failure.thread.name.startswith(("save_finalize", "async_save")):
            default_hook(failure)

    threading.excepthook = hook


def _suggestion(word: str, names: Iterable[str]) -> str:
    names = list(names)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(names)}"


def _one_sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = f" {error.filename}" if error.filename else ""
        remedy = "free space, change its permissions or choose another --out"
        return f"the file or folder{name} cannot be used ({error.strerror}): {remedy}"
    return str(error)
