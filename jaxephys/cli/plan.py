"""The command ``plan``: what an experiment will train, and about how long it takes here, without training.

The experiment itself runs, in the context of a `jaxephys.engine.plan.Planner`: its data are read, its trainings are recorded instead of
computed, and evaluations between two trainings are left out. It is stopped after its last training, so that no report is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import tempfile
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxephys.cli.experiments import find_experiments
from jaxephys.engine import devices
from jaxephys.engine.plan import PlanComplete, Planner, TrainingPlan
from jaxephys.engine.plan_times import TimeEstimate, estimate_times, measure_speed
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings

DESCRIPTION = """Print what an experiment will train with these settings, before it is run: trainings, runs, parameters, memory, runs at once,
and about how long compilation and training take on this machine. Nothing is trained and nothing is written.

    %(prog)s quickstart
    %(prog)s patchseq_mouse published --seeds 20 --data FOLDER
    %(prog)s hippie_probe --help        presets and fields of an experiment

PRESET, fields and --data are those of `python -m experiments.EXPERIMENT`; the data must be there, since they determine the
number of runs and steps. `jaxephys-experiments` lists the experiments.

columns:
  runs          seeds x folds x variants of a training, which are one program
  at once       runs that the memory holds; the others wait, in several batches
  MiB a run     parameters, optimizer, best parameters, rows
  data MiB      one copy, on each device
  epochs        earliest end by early stopping, and largest number
  steps         optimizer steps of an epoch and run
  compilation   of all programs of a training; * recorded last time, otherwise estimated from the number of operations
  time of training    if all runs stop as early as possible, and if none stops early

Times are estimated from the number of operations and the speed of a small training that is measured now, usually within a factor
of two on a CPU. Reading of data, baselines, predictions, evaluation and figures take time as well, which is not estimated."""


def _random_spikes(population: Any, bins: int, seed: int) -> np.ndarray:
    """Spikes in the shape of a simulated recording, in a thousandth of the time."""
    return np.random.default_rng(seed).random((bins, len(population.base)), np.float32) < 0.02


# Computations on which the size of no training depends, and what a plan uses instead: evaluations, and the simulation of spikes.
EVALUATIONS: dict[str, Callable[..., Any]] = {
    "data_prep.spikes.simulate.simulate_spikes": _random_spikes,
    "data_prep.spikes.simulate.true_probability": lambda *_: None,
    "data_prep.spikes.load.score_probability": lambda *_: defaultdict(float),
    "jaxephys.hippie.benchmark.evaluate_without_networks": lambda *_, **__: {},
    "jaxephys.hippie.benchmark.evaluate_embeddings": lambda *_, **__: {},
    "jaxephys.hippie.kernel_choice.KernelSelection.evaluate": lambda *_, **__: {},
    "jaxephys.hippie.imputation_benchmark.evaluate_imputation": lambda *_, **__: ([], {}),
    "jaxephys.hippie.imputation_benchmark.evaluate_counterfactuals": lambda *_, **__: [],
    "jaxephys.spikes.forecaster.Forecaster.check_causality": lambda *_, **__: None,
    "jaxephys.spikes.forecaster.Forecaster.calibrate": lambda forecaster, *_, **__: forecaster,
    "jaxephys.spikes.forecaster.Forecaster.count_validation": lambda *_, **__: [],
    "jaxephys.spikes.forecaster.Forecaster.count_outcomes": lambda *_, **__: None,
    "jaxephys.spikes.forecaster.counts_of_run": lambda *_, **__: None,
    "jaxephys.spikes.grid.metric_scores": lambda *_, **__: [],
}
TIME_LIMIT = 120.0  # seconds until a plan stops and describes the trainings that it has reached
LONG = 3600.0  # seconds of a training for which a shorter one is suggested
FEWER = ("seeds", "members", "folds", "populations", "max_epochs")  # settings that make an experiment shorter


@dataclass(frozen=True)
class ExperimentPlan:
    """The plan of an experiment.

    Parameters
    ----------
    experiment, preset : str
        Names.
    settings : Settings
        Settings of the experiment.
    trainings : list of TrainingPlan
        Its trainings in order.
    announced_runs : int or None
        Number of runs that the experiment announces; None if it was stopped before.
    problem : str
        Why the experiment was stopped before its last training; empty if it was not.
    """

    experiment: str
    preset: str
    settings: Settings
    trainings: list[TrainingPlan]
    announced_runs: int | None
    problem: str = ""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Register the command.

    Parameters
    ----------
    commands : argparse subparsers
        Where the command is added.
    """
    parser = commands.add_parser(
        "plan",
        help="print runs, memory and times of an experiment before it is run",
        description=DESCRIPTION,
        usage="%(prog)s EXPERIMENT [PRESET] [--field value ...] [--data PATH]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", metavar="EXPERIMENT", help="name of the experiment, such as quickstart")
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="preset and fields of the experiment"
    )
    parser.set_defaults(call=_run_command)


def _run_command(arguments: argparse.Namespace) -> str:
    plan = plan_experiment(arguments.experiment, arguments.arguments)
    return describe_plan(plan, [estimate_times(training, measure_speed(training)) for training in plan.trainings])


def plan_experiment(name: str, arguments: list[str]) -> ExperimentPlan:
    """Plan an experiment.

    Parameters
    ----------
    name : str
        Name of the experiment.
    arguments : list of str
        Its arguments: optionally a preset, then options.

    Returns
    -------
    ExperimentPlan
        Its trainings.

    Raises
    ------
    ValueError
        If there is no such experiment, preset or option, or the experiment cannot read its data.
    """
    names = find_experiments()
    if name not in names:
        raise ValueError(f"there is no experiment {name!r}: choose one of {', '.join(names)}")
    module, command_line = import_module(f"experiments.{name}"), import_module("experiments.command_line")
    preset, settings = command_line.parse(name, module.__doc__ or "", module.PRESETS, arguments)
    settings = dataclasses.replace(settings, resume=None, distributed=False)  # the whole experiment, on this machine
    devices.use_all_cores()
    devices.choose_platform(settings.device)
    planner = Planner()
    with tempfile.TemporaryDirectory() as folder, planner.active(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of statistics of results that are all ones
        problem = _run(module, settings, PlannedFolder(Path(folder), name, settings, planner))
    return ExperimentPlan(name, preset, settings, planner.plans, planner.expected_runs, problem)


class PlannedFolder(RunFolder):
    """The run folder of an experiment that is planned. What is written there is deleted.

    Parameters
    ----------
    path : Path
        A temporary folder.
    experiment : str
        Name of the experiment.
    settings : Settings
        Settings of the experiment.
    planner : Planner
        Records the trainings.
    """

    def __init__(self, path: Path, experiment: str, settings: Settings, planner: Planner) -> None:
        super().__init__(path, experiment, settings, [], Console(quiet=True))
        self.planner = planner

    @property
    def is_first_host(self) -> bool:
        """False: like all hosts but the first, a plan neither evaluates nor writes results."""
        return False

    def announce_run(self, runs: int, **data: Any) -> None:
        """Store the number of runs, with which the plan is complete.

        Parameters
        ----------
        runs : int
            Number of trainings of the experiment.
        **data : pytree of arrays
            Not used.
        """
        n_candidates = prod(levels.count(",") + 1 for levels in self.settings.search)
        self.planner.expected_runs = runs * n_candidates


class _TooLong(BaseException):
    """The time limit is over."""


def _run(module: ModuleType, settings: Settings, folder: PlannedFolder) -> str:
    """Run the experiment to its last training and return why it ended before, if it did."""
    try:
        with _without_evaluations(module), _time_limit(TIME_LIMIT), redirect_stdout(StringIO()):  # progress bars
            module.run(settings, folder)
    except PlanComplete:
        return ""
    except _TooLong:
        return f"the plan was stopped after {TIME_LIMIT:.0f} s"
    except KeyboardInterrupt:
        return "the plan was interrupted"
    except (
        Exception
    ) as error:  # the results of earlier trainings are not real, and an experiment may not be able to use them
        if not folder.planner.plans:
            raise
        return f"what follows needs real results ({type(error).__name__}: {str(error).splitlines()[0]})"
    return ""


@contextmanager
def _without_evaluations(module: ModuleType) -> Iterator[None]:
    """Replace the `EVALUATIONS` in the library and under their imported names in the module of an experiment."""
    with ExitStack() as stack:
        for path, stand_in in EVALUATIONS.items():
            parent, name = path.rsplit(".", 1)
            owner = _import_object(parent)
            original = getattr(owner, name)
            for target in (owner, module):
                if vars(target).get(name) is original:
                    setattr(target, name, stand_in)
                    stack.callback(setattr, target, name, original)
        yield


def _import_object(path: str) -> Any:
    """Return a module or a class by its full name."""
    parent, name = path.rsplit(".", 1)
    return getattr(import_module(parent), name) if name[0].isupper() else import_module(path)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` after some time, where the system has such a signal."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise _TooLong

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def describe_plan(plan: ExperimentPlan, times: list[TimeEstimate]) -> str:
    """Return a plan as text.

    Parameters
    ----------
    plan : ExperimentPlan
        The plan.
    times : list of TimeEstimate
        Times of its trainings.

    Returns
    -------
    str
        A table with one row per training and their total, and a sentence for everything that the user should know.
    """
    trainings, n_runs = plan.trainings, sum(training.n_runs for training in plan.trainings)
    device = jax.local_devices()[0]
    kind = "CPU cores" if device.platform == "cpu" else f"x {device.device_kind}"
    lines = [f"{plan.experiment} {plan.preset} on {len(jax.local_devices())} {kind}"]
    if trainings:
        total = TimeEstimate(*map(sum, zip(*times, strict=True)))
        rows = [_row(training, estimate) for training, estimate in zip(trainings, times, strict=True)]
        rows.append(["total", f"{n_runs:,}", *[""] * 7, *_times(total)])
        lines += ["", *_align([COLUMNS, *rows]), ""]
        how = {(training.backend.execution, training.backend.precision) for training in trainings}
        lines += [f"Runs are computed {HOW[execution]}, in {precision}." for execution, precision in sorted(how)]
        if any(training.recorded_seconds is not None for training in trainings):
            first = format_seconds(total.first_compilation)
            lines.append(
                f"* As recorded last time. If no program is kept on disk, compilation takes about {first} in all."
            )
        if any(training.backend.platform != "cpu" for training in trainings):
            lines.append(
                "Times of this kind of device may be wrong by a factor of several: only those of CPUs were fitted."
            )
    else:
        lines.append("No network is trained.")
        total = TimeEstimate(0.0, 0.0, 0.0, 0.0)
    if plan.problem:
        lines.append(f"Not all trainings are planned: {plan.problem}.")
    if plan.announced_runs is not None and n_runs < plan.announced_runs:
        others = "are not planned" if plan.problem else "train no network"
        lines.append(f"{plan.announced_runs - n_runs} of the {plan.announced_runs} announced runs {others}.")
    lines.append("Reading of data, baselines, predictions, evaluation and figures are not included in the times.")
    return "\n".join([*lines, *_remedies(plan, total)])


COLUMNS = ["training", "runs", "at once", "batches", "parameters", "MiB a run", "data MiB", "epochs", "steps"]
COLUMNS += ["compilation", "time of training"]
HOW = {"map": "one after the other on each device (lax.map)", "vmap": "side by side on each device (vmap)"}


def _row(training: TrainingPlan, estimate: TimeEstimate) -> list[str]:
    first, last = training.shortest_epochs, training.config.max_epochs
    compilation, duration = _times(estimate)
    return [
        training.title,
        f"{training.n_runs:,}",
        f"{min(training.capacity, training.n_runs):,}",
        f"{training.n_batches:,}",
        f"{training.n_parameters:,}",
        f"{training.run_bytes / 2**20:.1f}",
        f"{training.data_bytes / 2**20:.1f}",
        str(last) if first == last else f"{first}-{last}",
        f"{training.steps.mean():.0f}",
        compilation + " *" * (training.recorded_seconds is not None),
        duration,
    ]


def _remedies(plan: ExperimentPlan, total: TimeEstimate) -> Iterator[str]:
    """Sentences about memory and time that are short, with options of the experiment that help."""
    names = [item.name for item in dataclasses.fields(plan.settings) if item.name in FEWER]
    options = " or ".join(f"--{name.replace('_', '-')}" for name in names)
    fewer = f"reduce {options}" if options else "choose a smaller preset"
    for training in plan.trainings:
        if training.memory_share > 1:
            yield (
                f"The memory does not hold one run of {training.title}: data and run need {training.memory_share:.1f} times what is "
                "free. Use a device with more memory, a smaller network or fewer data."
            )
        elif training.n_batches > 1 and training.config.run_batch is None:
            yield (
                f"The memory holds {training.capacity} of the {training.n_runs} runs of {training.title} at once, so that they are trained "
                f"in {training.n_batches} batches: {fewer}, or use devices with more memory."
            )
    if total.longest > LONG:
        yield f"Training may take {format_seconds(total.longest)}: {fewer}, or use a GPU."


def _times(estimate: TimeEstimate) -> tuple[str, str]:
    """Compilation, and training from the earliest to the latest end."""
    shortest, longest = format_seconds(estimate.shortest), format_seconds(estimate.longest)
    return format_seconds(estimate.compilation), shortest if shortest == longest else f"{shortest} to {longest}"


def format_seconds(seconds: float) -> str:
    """Return a time with two digits and its unit.

    Parameters
    ----------
    seconds : float
        The time.

    Returns
    -------
    str
        Such as ``4.2 s``, ``35 s``, ``12 min`` or ``3.5 h``.
    """
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _align(rows: list[list[str]]) -> list[str]:
    """Lines of a table: the first column is aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if i else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
