"""The results page: every table and figure of the papers, with the published value, its reproduction, ours and the best baseline.

`results_page` looks up the rows that ``published_values.py`` of each system lists in the scores of finished runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from jaxephys.evaluation.scores import Score
from jaxephys.reporting.headline import BETTER, WORSE, Headline, SummaryRow, summarize_headline
from jaxephys.reporting.labels import in_sentence
from jaxephys.reporting.markdown import table_to_markdown
from jaxephys.reporting.published_values import PublishedItem, PublishedPaper, PublishedRow
from jaxephys.reporting.saved_run import SavedRun
from jaxephys.reporting.tables import EMPTY, Cell, Table

INTRODUCTION = """Every table and figure of the three papers beside runs of this package. *Published* is quoted from the paper. *Reproduced*
follows the published protocol, with the defects that are named below each heading. *Ours* is our model, and *best baseline* the best of
the simple models on the same test rows, which favors the baseline. Differences are ours minus baseline with a 95 % interval: corrected for
resampled splits (Nadeau and Bengio 2003), over resampled data sets for means over pairs of them, over time blocks for a single recording.
Each run has its command, its time and the hash of its data at the end of the page."""


class _Source(NamedTuple):
    """The run and the model in which the scores of a row are found."""

    run: SavedRun
    model: str
    scores: list[Score]


def results_page(papers: Sequence[PublishedPaper], runs: Sequence[SavedRun], title: str = "Results") -> str:
    """Return the results page as Markdown.

    Parameters
    ----------
    papers : sequence of PublishedPaper
        Published tables and figures of each system.
    runs : sequence of SavedRun
        Finished runs of the experiments, in any order.

    title : str, default "Results"
        Heading of the page.

    Returns
    -------
    str
        The page. Items without a run name the missing command.
    """
    numbers = {run.path: number for number, run in enumerate(runs, start=1)}
    parts = [f"# {title}", INTRODUCTION.replace("\n", " ")]
    if smoke := [run for run in runs if run.is_smoke]:
        parts.append(
            f"> **SMOKE: {len(smoke)} of {len(runs)} runs are of the smallest size. Their scores mean nothing.**"
        )
    for paper in papers:
        parts += [f"## {paper.name}", paper.citation]
        for item in paper.items:
            parts += [f"### {item.label}: {item.title}", item.deviation, *_item(item, runs, numbers)]
    parts += ["## Runs", table_to_markdown(_run_table(runs)).rstrip()]
    return "\n\n".join(parts) + "\n"


def _item(item: PublishedItem, runs: Sequence[SavedRun], numbers: dict) -> list[str]:
    """The table of an item, or the main result of its run where no number is published."""
    of_experiment = [run for run in runs if run.experiment == item.experiment]
    command = f"`python -m experiments.{item.experiment} {item.reproduction}`".replace(" default`", "`")
    if not of_experiment:
        return [f"No run of this experiment was given. Command: {command}."]
    if not item.rows:
        return [_main_result(run, numbers[run.path]) for run in _ordered(of_experiment, item.reproduction, False)[:1]]
    columns: dict[str, list[Cell]] = {
        heading: []
        for heading in ("Row", "Metric", "Published", "Reproduced", "Ours", "Best baseline", "Difference", "n", "Runs")
    }
    for row in item.rows:
        texts = _row_texts(row, item, of_experiment, numbers)
        for heading, text in zip(columns, texts, strict=True):
            columns[heading].append(Cell(text))
    table = Table(columns, [])
    note = f"Command of the reproduction: {command}."
    if any("*" in cell.text for cell in columns["Difference"]):
        note += " A star marks an interval that excludes 0."
    return [table_to_markdown(table).rstrip(), note]


def _row_texts(row: PublishedRow, item: PublishedItem, runs: Sequence[SavedRun], numbers: dict) -> list[str]:
    reproduced = _find(row, row.reproduced, _ordered(runs, item.reproduction, True))
    ours = _find(row, row.ours, _ordered(runs, item.reproduction, False))
    copied = _summarize(row, reproduced, []) if reproduced else None
    found = _summarize(row, ours, row.baselines) if ours else None
    used = sorted({numbers[source.run.path] for source in (reproduced, ours) if source is not None})
    return [
        row.name,
        in_sentence(row.metric),
        row.published or EMPTY,
        f"{copied.score} ({copied.model})" if copied else EMPTY,
        f"{found.score} ({found.model})" if found else EMPTY,
        f"{found.baseline_score} ({found.baseline})" if found and found.baseline else EMPTY,
        _difference(found) if found else EMPTY,
        found.runs if found else copied.runs if copied else EMPTY,
        ", ".join(map(str, used)) or EMPTY,
    ]


def _difference(row: SummaryRow) -> str:
    star = "*" if row.result in (BETTER, WORSE) else ""
    return f"{row.difference}{star}" if row.difference else EMPTY


def _ordered(runs: Sequence[SavedRun], reproduction: str, reproductions_first: bool) -> list[SavedRun]:
    """Runs in the order in which they are searched: by preset, complete before others, full size before smoke, new before old."""

    def rank(run: SavedRun) -> tuple:
        is_first = (run.preset == reproduction) == reproductions_first or reproduction == "default"
        return run.is_smoke, run.manifest.get("status") != "complete", not is_first

    newest_first = sorted(runs, key=lambda run: run.path.name, reverse=True)
    return sorted(newest_first, key=rank)


def _find(row: PublishedRow, models: Sequence[str], runs: Sequence[SavedRun]) -> _Source | None:
    """The first run, and in it the first model, that has scores of a row."""
    for run in runs:
        scores = [score for score in run.scores if _belongs(score, row)]
        present = list(dict.fromkeys(score.variant for score in scores))
        for pattern in models:
            for model in present:
                if fnmatchcase(model, pattern):
                    return _Source(run, model, scores)
    return None


def _belongs(score: Score, row: PublishedRow) -> bool:
    """Whether a score is of the metric, the part of the rows and the data sets of a row."""
    same = score.train_on == score.test_on
    return (
        (score.metric, score.split) == (row.metric, row.split)
        and fnmatchcase(score.test_on, row.test_on)
        and fnmatchcase(score.train_on, row.train_on)
        and (row.pairs == "all" or same == (row.pairs == "same"))
    )


def _summarize(row: PublishedRow, source: _Source, baselines: Iterable[str]) -> SummaryRow:
    """The comparison of a model with the best of the baselines that have a score on every pair of the model."""
    scores, model = source.scores, source.model
    pairs = sorted({(score.train_on, score.test_on) for score in scores if score.variant == model})
    present = dict.fromkeys(score.variant for score in scores if score.variant != model)
    names = [name for name in present if any(fnmatchcase(name, pattern) for pattern in baselines)]
    covered = {name: {(s.train_on, s.test_on) for s in scores if s.variant == name} for name in names}
    names = [name for name in names if covered[name] >= set(pairs)]
    n_train = _training_rows(source.run, pairs)
    headline = Headline(row.metric, model, names, n_train=n_train, pairs=pairs, split=row.split)
    return summarize_headline(scores, headline, source.run.intervals)


def _training_rows(run: SavedRun, pairs: Sequence[tuple[str, str]]) -> int | None:
    """The number of training rows that the summary of the run has stored for a test set."""
    if len(pairs) != 1:
        return None
    rows = run.manifest.get("summary", {}).get("rows", [])
    sizes = [row["n_train"] for row in rows if row.get("n_train") and row.get("test_on") == pairs[0][1]]
    return sizes[0] if sizes else None


def _main_result(run: SavedRun, number: int) -> str:
    summary = run.manifest.get("summary", {})
    if not summary:
        return f"The report of run {number} has figures and tables."
    return f"Run {number}: {summary['question']} {summary['verdict']}"


def _run_table(runs: Sequence[SavedRun]) -> Table:
    columns = {
        "Run": [str(number) for number in range(1, len(runs) + 1)],
        "Command": [f"`{' '.join(run.manifest.get('command', []))}`" for run in runs],
        "Preset": [run.preset for run in runs],
        "Minutes": [f"{run.minutes:.1f}" for run in runs],
        "Devices": [", ".join(dict.fromkeys(run.manifest.get("devices", []))) or EMPTY for run in runs],
        "Version": [str(run.manifest.get("jaxephys", EMPTY)) for run in runs],
        "Status": [str(run.manifest.get("status", EMPTY)) for run in runs],
        "Data": [", ".join(f"{name} {digest[:8]}" for name, digest in run.data.items()) or EMPTY for run in runs],
    }
    return Table({heading: [Cell(text) for text in texts] for heading, texts in columns.items()}, [])
