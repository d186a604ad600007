"""Run folders: everything that one run of an experiment writes.

A run folder is ``runs/<experiment>/<preset>-<time>-<hash>/`` and holds

==================  ==================================================================================================
config.json         name of the experiment, preset and settings
manifest.json       status, command, versions, devices, hashes of the data, compile and training time
runs.csv            one row per run: its seed, fold, variant, status, epochs and best validation score
history.csv         one row per run and epoch: training loss and validation scores
search.csv          with ``--search``: validation score of all levels of hyperparameters, and which were chosen
scores.csv          test scores of models and baselines in long form, see `jaxephys.reporting.score_table`
predictions.npz     test probabilities, and which rows each run trained, validated and was tested on
checkpoints/        state of the training, from which ``--resume`` continues, and its runs for `jaxephys.load`
model/              the trained model, for `jaxephys.load`
figures/            every figure as PNG and the numbers drawn as CSV
report.md           summary, figures, tables, notes, settings, hardware and time
report.html         the same as one page that holds its figures
==================  ==================================================================================================

`RunFolder` writes them. Start with `RunFolder.fit`, which trains a grid of runs, and `RunFolder.write_report`. The command line
that creates the folder is ``experiments/command_line.py``.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from rich.console import Console

from jaxephys import __version__
from jaxephys.engine import devices, progress
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, fit
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.search import add_levels, choose_levels, parse_levels
from jaxephys.engine.task import RunInputs, Status, Task
from jaxephys.evaluation.scores import Score
from jaxephys.evaluation.splits import Split
from jaxephys.models.run_template import RunTemplate
from jaxephys.reporting.files import write_csv, write_text
from jaxephys.reporting.headline import Headline, Intervals, Question, SummaryRow, summarize_experiment
from jaxephys.reporting.report import Report, write_report
from jaxephys.reporting.run_facts import CITATION, fingerprint, library_versions, load_lines, run_facts, setting_text
from jaxephys.reporting.score_table import write_scores
from jaxephys.reporting.search import search_table, write_candidates
from jaxephys.reporting.settings import Settings, settings_to_json
from jaxephys.reporting.tables import Table, print_table
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.storage import write_npz

NO_QUESTION = Question("")
T = TypeVar("T")
TABLE_WIDTH = 140  # characters; a wrapped table is hard to read
SMOKE = "SMOKE: the smallest run, which only shows that the program works. Its scores and intervals mean nothing."


@dataclass
class RunFolder:
    """The folder of one run of an experiment. With several hosts, only the first one writes into it.

    Parameters
    ----------
    path : Path
        The run folder.
    experiment : str
        Name of the experiment, such as ``"patchseq_mouse"``.
    settings : Settings
        Settings of the run. With ``settings.resume`` the run continues from its checkpoints.
    command : list of str
        Command that started the run, for the manifest.
    console : rich.console.Console
        Where messages and progress bars are printed, standard error by default.
    started : float
        Time at which the run started, in seconds since the epoch.
    manifest : dict
        Entries of ``manifest.json`` besides the versions; methods add to it.
    diverged : list of str
        Names of the runs whose loss became NaN.
    search_tables : dict of str to Table
        Hyperparameters that were searched, by name of the training; they become part of the report.
    preset : str, default ""
        Name of the preset. The report of a preset whose name begins with "smoke" draws no conclusion.
    """

    path: Path
    experiment: str
    settings: Settings
    command: list[str]
    console: Console = field(default_factory=lambda: Console(stderr=True))
    started: float = field(default_factory=time.time)
    manifest: dict[str, Any] = field(default_factory=dict)
    diverged: list[str] = field(default_factory=list)
    search_tables: dict[str, Table] = field(default_factory=dict)
    preset: str = ""

    @property
    def is_first_host(self) -> bool:
        """Whether this process writes the results: True unless the run is distributed and another process is the first."""
        return devices.is_first_host()

    def print(self, text: str) -> None:
        """Print a line to the console of the first host.

        Parameters
        ----------
        text : str
            The line, without markup.
        """
        if self.is_first_host:
            self.console.print(text, highlight=False, soft_wrap=True)

    def track(self, items: Collection[T], title: str) -> Iterable[T]:
        """Iterate over items with a progress bar, or elsewhere than on a terminal with a line every ten seconds.

        Parameters
        ----------
        items : collection
            What is iterated over.
        title : str
            Text beside the bar.

        Returns
        -------
        iterable
            The items.
        """
        return progress.track(items, title, self.console)

    def step(self, title: str) -> AbstractContextManager[None]:
        """Show that a step without countable parts is running, as the body of a ``with`` statement.

        Parameters
        ----------
        title : str
            Name of the step.

        Returns
        -------
        context manager
            See `jaxephys.engine.progress.step`.
        """
        return progress.step(title, self.console)

    def announce_run(self, runs: int, **data: Any) -> None:
        """Print version, devices, data hashes, number of runs and folder, and write the manifest.

        Parameters
        ----------
        runs : int
            Number of trainings of the experiment.
        **data : pytree of arrays
            Data sets by name. Their hashes are stored in the manifest as ``data_<name>``.

        Raises
        ------
        ValueError
            If the run is resumed with data of another hash, or its manifest is not valid JSON.
        """
        local = jax.local_devices()
        kind = "CPU cores" if local[0].platform == "cpu" else f"x {local[0].device_kind}"
        hosts = f", {jax.process_count()} hosts" if jax.process_count() > 1 else ""
        self.print(f"jaxephys {__version__} on {len(local)} {kind}{hosts}")
        previous = self._previous_manifest()
        for name, arrays in data.items():
            digest = fingerprint(arrays)
            if previous.get(f"data_{name}", digest) != digest:
                raise ValueError(
                    f"the data of {name} are not those that {self.path} began with: give the same data or start a new run"
                )
            self.manifest[f"data_{name}"] = digest
            self.print(f"data {name}: sha256 {digest[:12]}")
        self.manifest["runs"] = runs
        self.print(f"{runs} runs -> {self.path}")
        self._write_manifest("running")

    def fit(
        self,
        task: Task,
        data: Any,
        inputs: RunInputs,
        grid: RunGrid,
        config: TrainConfig,
        name: str = "",
        initial: Any = None,
        template: RunTemplate | None = None,
    ) -> FitResult:
        """Train a grid of runs with a progress bar and checkpoints in this folder.

        Its runs and their history are written to ``runs.csv`` and ``history.csv``, and runs that diverged are remembered.
        If the run is resumed, training continues from the last checkpoint of the grid.

        With ``settings.search`` every run is trained with every combination of levels. Those with the best validation score are
        returned, and ``search.csv`` and the report list all.

        Parameters
        ----------
        task : Task
            What is trained, see `jaxephys.engine.task`.
        data : pytree of arrays
            Data that all runs share.
        inputs : RunInputs
            Rows and numbers of each run, with a leading run axis.
        grid : RunGrid
            Seed, fold and variant of each run.
        config : TrainConfig
            Settings of the training. The settings of the run replace ``run_batch``, ``precision`` and ``execution`` if they give them.
        name : str, default ""
            Suffix of the files of a second grid of the experiment: ``checkpoints_NAME``, ``runs_NAME.csv`` and
            ``history_NAME.csv``, and the key of its manifest entry. The progress bar shows it, or the name of the experiment.
        initial : pytree of arrays, optional
            Variables from which the runs start, with a leading run axis. By default they are initialized by the task.
        template : RunTemplate, optional
            Stored with the checkpoints, so that `jaxephys.load` makes an estimator of each run. Without it only the variables of a run
            can be read, by `jaxephys.engine.checkpoint.restore_run`.

        Returns
        -------
        FitResult
            Result of `jaxephys.engine.fit.fit`.

        Raises
        ------
        ValueError
            If ``settings.search`` names a hyperparameter that the task does not have.
        """
        suffix = f"_{name}" if name else ""
        checkpoints = self.path / f"checkpoints{suffix}"
        if self.settings.resume is not None and not any(checkpoints.glob("host*/live/[0-9]*")):
            self.print("no checkpoint was saved: training starts from the beginning")
        title = name or self.experiment
        config = replace(config, run_batch=self.settings.run_batch or config.run_batch)
        chosen = {"precision": self.settings.precision, "execution": self.settings.execution}
        config = replace(config, **{option: value for option, value in chosen.items() if value != "auto"})
        levels = parse_levels(self.settings.search, task)
        if levels:
            n_runs = len(grid)
            grid, inputs, initial = add_levels(grid, inputs, initial, levels)
            template = template and template.repeat(len(grid) // n_runs)
        if template is not None and self.is_first_host:
            template.write(checkpoints)
        result = fit(task, data, inputs, grid, config, initial=initial, folder=checkpoints, title=title)
        compiled, trained = result.compile_seconds, result.run_seconds
        self.print(f"{result.execution}: compiled in {compiled:.1f} s, trained in {trained:.1f} s")
        entry = {
            "execution": result.execution,
            "seeds": sorted(set(result.grid.column("seed"))),
            "compile_seconds": round(compiled, 3),
            "run_seconds": round(trained, 3),
        }
        self.manifest |= {name: entry} if name else entry
        self.diverged += result.diverged()
        if self.is_first_host:
            _write_runs(self.path, result, suffix)
        if levels:
            result, candidates = choose_levels(result, inputs, levels, config.mode)
            self.search_tables[title] = search_table(candidates, config.monitor)
            if self.is_first_host:
                write_candidates(self.path / f"search{suffix}.csv", candidates)
        return result

    def write_predictions(
        self, splits: Sequence[Split], table: FeatureTable, probability: np.ndarray, **arrays: np.ndarray
    ) -> None:
        """Write ``predictions.npz``: rows and test probabilities of each run.

        The file holds ``part`` (run, row): 0 for training, 1 for validation, 2 for test, -1 for unused; ``test`` (run, i):
        the row to which ``probability[..., run, i, :]`` belongs, -1 for padding; ``classes``; ``probability``.

        Parameters
        ----------
        splits : sequence of Split
            Rows of each run.
        table : FeatureTable
            The cells.
        probability : array, shape (n_runs, n_test, n_classes) or (n_models, n_runs, n_test, n_classes)
            Probabilities on the test rows, padded to the longest test set; with a leading axis where several models share the
            splits.
        **arrays : array
            Arrays that describe models, runs or rows, stored under their own keys.
        """
        part = np.full((len(splits), len(table)), -1, np.int8)
        test = np.full(probability.shape[-3:-1], -1, np.int32)
        for run, split in enumerate(splits):
            for code, rows in enumerate(split):
                part[run, rows] = code
            test[run, : len(split.test)] = split.test
        content = {"part": part, "test": test, "classes": table.classes, "probability": probability, **arrays}
        write_npz(self.path / "predictions.npz", content)

    def write_report(
        self,
        scores: Sequence[Score],
        title: str,
        introduction: str,
        tables: Mapping[str, Table],
        figures: Mapping[str, Path],
        notes: Iterable[str],
        question: Question = NO_QUESTION,
        headlines: Sequence[Headline | SummaryRow] = (),
        *,
        intervals: Intervals | None = None,
    ) -> None:
        """Write ``scores.csv``, ``report.md``, ``report.html`` and the final manifest, and print the tables.

        The manifest is written last: its status "complete" means that all other files are there.

        Parameters
        ----------
        scores : sequence of Score
            Scores of all models and baselines.
        title : str
            Heading of the report.
        introduction : str
            What was done; the paragraph below the summary.
        tables : mapping of str to Table
            Tables by heading.
        figures : mapping of str to Path
            PNG files by caption.
        notes : iterable of str
            Sentences on the protocol. Runs that diverged are added.
        question : Question
            The question of the experiment, and what is published about it.
        headlines : sequence of Headline or SummaryRow
            Comparisons of the summary, the main one first. Without them the summary only counts models and runs.
        intervals : mapping, optional
            Intervals over time blocks, for comparisons with a single run.
        """
        if not self.is_first_host:
            return
        notes = list(notes)
        for name in self.diverged:
            notes.append(f"The loss of run {name} became NaN; its weights are those of its best epoch before.")
        if self.settings.search and not self.search_tables:
            notes.append("The option search had no effect, since this experiment trained no network.")
        tables = {**tables, **{f"Hyperparameters of {name}": table for name, table in self.search_tables.items()}}
        write_scores(self.path / "scores.csv", scores)
        warnings = [f"{len(self.diverged)} runs diverged: {', '.join(self.diverged)}."] if self.diverged else []
        summary = summarize_experiment(scores, question, headlines, intervals=intervals, warnings=warnings)
        smoke = self.preset.startswith("smoke")
        if smoke:
            summary = replace(summary, verdict=f"No conclusion from a smoke run. Computed: {summary.verdict}")
        self.manifest["summary"] = summary.to_json()
        settings = {"preset": self.preset, **settings_to_json(self.settings)}
        page = write_report(
            self.path,
            Report(
                title,
                summary,
                introduction,
                tables,
                figures,
                notes,
                alert=SMOKE if smoke else "",
                settings={name: setting_text(value) for name, value in settings.items() if name != "preset" or value},
                facts=run_facts(self._manifest("complete")),
                load=load_lines(self.path),
                citation=[CITATION, *([question.paper] if question.paper else [])],
            ),
        )
        self._write_manifest("diverged" if self.diverged else "complete")
        screen = Console()
        screen.width = max(screen.width, TABLE_WIDTH)
        for heading, table in tables.items():
            screen.print(f"\n{heading}", style="bold")
            print_table(table, screen)
        screen.print(f"\n{summary.verdict}", highlight=False, soft_wrap=True)
        screen.print(f"report and figures: {page} and {page.with_suffix('.md').name}", highlight=False, soft_wrap=True)

    def _previous_manifest(self) -> dict[str, Any]:
        """Return the manifest of the run that is resumed; empty if it was killed before writing one."""
        manifest = self.path / "manifest.json"
        if self.settings.resume is None or not manifest.exists():
            return {}
        try:
            return json.loads(manifest.read_text())
        except ValueError:
            raise ValueError(f"{manifest} is damaged: remove it to resume without a check of the data") from None

    def _write_manifest(self, status: str) -> None:
        if self.is_first_host:
            write_text(self.path / "manifest.json", json.dumps(self._manifest(status), indent=2) + "\n")

    def _manifest(self, status: str) -> dict[str, Any]:
        return {
            "status": status,
            "experiment": self.experiment,
            "command": self.command,
            "jaxephys": __version__,
            "python": platform.python_version(),
            "versions": library_versions(),
            "devices": [str(device.device_kind) for device in jax.local_devices()],
            "hosts": jax.process_count(),
            "wall_seconds": round(time.time() - self.started, 3),
            **self.manifest,
        }


def _write_runs(folder: Path, result: FitResult, suffix: str) -> None:
    """Write ``runs.csv`` with one row per run and ``history.csv`` with one row per run and epoch."""
    grid, results, history = result.grid, result.run_results, result.history
    columns = ("run", *grid.factors, "status", "epochs", "best_epoch", "best_score")
    ends = zip(results.status, results.epochs, results.best_epoch, results.best_score, strict=True)
    rows = [
        (run, *levels, Status(int(status)).name.lower(), int(epochs), int(best_epoch), float(best_score))
        for run, (levels, (status, epochs, best_epoch, best_score)) in enumerate(zip(grid.levels, ends, strict=True))
    ]
    write_csv(folder / f"runs{suffix}.csv", columns, rows)
    names = sorted(history)
    epochs = [
        (run, epoch + 1, *(float(history[name][run, epoch]) for name in names))
        for run in range(len(grid))
        for epoch in range(int(results.epochs[run]))
    ]
    write_csv(folder / f"history{suffix}.csv", ("run", "epoch", *names), epochs)
