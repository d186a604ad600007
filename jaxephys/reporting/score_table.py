"""The tidy score table and what a reader sees of it: means, tables and the report.

`scores.csv` is the one source of every number. Baselines stand in it beside our models, told apart
by `variant`, and `mean ± sd` is computed in this file and nowhere else. Published numbers are
quoted as strings and never averaged.
"""

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from jaxtyping import Float

LOWER_IS_BETTER = frozenset(
    {"ece", "brier", "log_loss", "selective_error", "mse_wave", "mse_isi", "mse_acg", "mse_counterfactual"}
)
EMPTY = "-"
FEW = 8  # variants of which each has its own sentence

Run = tuple[int, int]  # seed, fold


class Score(NamedTuple):
    """One value of one metric for one run; `n` is the number of rows that it was computed on."""

    experiment: str
    variant: str
    train_on: str
    test_on: str
    seed: int
    fold: int
    split: str
    metric: str
    value: float
    n: int


SCORE_COLUMNS = Score._fields


class Summary(NamedTuple):
    """`sd` is over seeds; `n_missing` counts the values that are not finite and are left out."""

    mean: float
    sd: float
    n_seeds: int
    n_folds: int
    n_missing: int


class Cell(NamedTuple):
    text: str
    bold: bool = False


class Table(NamedTuple):
    """Columns by header and the sentences under them; see `markdown` and `print_table`."""

    columns: dict[str, list[Cell]]
    notes: list[str]


def write_text(path: Path, text: str) -> Path:
    """Write beside the file and move it into place, so that a reader never meets half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)
    return path


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Floats by `repr`, the shortest text that reads back as the same number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([repr(float(x)) if isinstance(x, float | np.floating) else x for x in row])
    return write_text(path, text.getvalue())


def write_scores(path: Path, rows: Iterable[Score]) -> Path:
    """The tidy table, sorted by its columns from the left: equal runs give equal bytes."""
    scores = [Score(*row)._replace(value=float(row[8])) for row in rows]
    scores.sort(key=lambda score: (*score[:8], repr(score.value), score.n))
    return write_csv(path, SCORE_COLUMNS, scores)


def read_scores(path: Path) -> list[Score]:
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in SCORE_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} lacks the columns {', '.join(missing)} of a score table.")
        return [_read_score(f"{path}, line {reader.line_num}", row) for row in reader]


def _read_score(place: str, row: Mapping[str, str]) -> Score:
    values = []
    for name, kind in Score.__annotations__.items():
        try:
            values.append(kind(row[name]))
        except (TypeError, ValueError):
            message = f"{place}: {name} is {row[name]!r}, which is no {kind.__name__}."
            raise ValueError(message) from None
    return Score(*values)


def mean_sd(values: Float[np.ndarray, "score"]) -> tuple[float, float]:
    """Mean, and sd with divisor n - 1; NaN where there are too few values to have one."""
    mean = float(np.mean(values)) if len(values) else math.nan
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return mean, sd


def check_names(what: str, names: Iterable[str], known: set[str]) -> None:
    if unknown := sorted(set(names) - known):
        raise ValueError(f"There is no {what} {', '.join(unknown)}; there are {sorted(known)}.")


def group(scores: Iterable[Score], by: Sequence[str], split: str) -> dict[tuple, dict[Run, float]]:
    """The value of every run, by group; two values for one run would mix what must stay apart."""
    scores = list(scores)
    check_names("column", by, set(SCORE_COLUMNS))
    check_names("split", [split], {score.split for score in scores})
    groups: dict[tuple, dict[Run, float]] = {}
    for score in (score for score in scores if score.split == split):
        key, run = tuple(getattr(score, name) for name in by), (score.seed, score.fold)
        if run in groups.setdefault(key, {}):
            raise ValueError(
                f"{key} has two values for seed {run[0]}, fold {run[1]}; "
                "select or group by experiment, metric, train_on and test_on."
            )
        groups[key][run] = score.value
    return groups


def seed_means(runs: Mapping[Run, float]) -> dict[int, float]:
    """The mean over the folds of each seed; values that are not finite are left out."""
    folds: dict[int, list[float]] = {}
    for (seed, _), value in sorted(runs.items()):
        if math.isfinite(value):
            folds.setdefault(seed, []).append(value)
    return {seed: float(np.mean(values)) for seed, values in folds.items()}


def summarise(
    scores: Iterable[Score], by: Sequence[str] = ("variant", "metric"), split: str = "test"
) -> dict[tuple, Summary]:
    """For each group the mean and sd, over seeds, of the mean over folds.

    The folds of a seed partition the same rows and so are one measurement; an sd over all runs
    would mix the spread between folds into that between seeds. One seed has no sd (NaN).
    """
    summary = {}
    for key, runs in group(scores, by, split).items():
        mean, sd = mean_sd(np.array(list(seed_means(runs).values())))
        finite = [run for run, value in runs.items() if math.isfinite(value)]
        seeds, folds = ({run[place] for run in finite} for place in (0, 1))
        summary[key] = Summary(mean, sd, len(seeds), len(folds), len(runs) - len(finite))
    return summary


def show(mean: float, sd: float) -> str:
    if math.isnan(mean):
        return EMPTY
    return f"{mean:.3f}" if math.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"


def table(
    scores: Iterable[Score],
    metrics: Sequence[str],
    published: Mapping[str, Mapping[str, str]] | None = None,
    reference: str | None = None,
    *,
    split: str = "test",
    n_train: int | None = None,
    ranked: bool = True,
) -> Table:
    """One row a variant, one column a metric; bold marks every mean that prints as the best does, if they are `ranked`.

    `published[variant][metric]` is quoted in a column beside ours. `reference` names a baseline
    and adds the paired difference to it on the first metric, over the runs that both have;
    `n_train` is its number of training rows, otherwise taken from the scores of split "train".
    """
    scores, published = list(scores), published or {}
    summary = summarise(scores, split=split)
    check_names("metric", metrics, {metric for _, metric in summary})
    check_names("metric", {name for row in published.values() for name in row}, set(metrics))
    variants = list(dict.fromkeys([*(variant for variant, _ in summary), *published]))

    columns = {"variant": [Cell(variant) for variant in variants]}
    for metric in metrics:
        means = _metric_column(summary, metric, variants)
        columns[metric] = means if ranked else [Cell(cell.text) for cell in means]
        quoted = [Cell(published.get(variant, {}).get(metric, EMPTY)) for variant in variants]
        if any(cell.text != EMPTY for cell in quoted):
            columns[f"{metric}, published"] = quoted
    notes = _notes({key: value for key, value in summary.items() if key[1] in metrics}, ranked)
    if reference is not None:
        check_names("variant", [reference], {variant for variant, _ in summary})
        first = [score for score in scores if score.metric == metrics[0]]
        found = [_difference(first, name, reference, split, n_train) for name in variants]
        columns[f"{metrics[0]} minus {reference} [95%]"] = [cell for cell, _, _ in found]
        if len(variants) <= FEW:
            notes += [sentence for _, _, sentences in found for sentence in sentences]
        else:
            notes += _standings(f"{reference} on {metrics[0]}", variants, [standing for _, standing, _ in found])
            notes += [sentences[0] for _, _, sentences in found if len(sentences) > 1]  # runs that one side lacks
        notes.append("Intervals: corrected resampled t test (Nadeau and Bengio 2003), 95%.")
    return Table(columns, notes)


def class_table(
    scores: Iterable[Score],
    classes: Sequence[str],
    variants: Sequence[str],
    measures: Sequence[str] = ("precision", "recall", "f1"),
    *,
    split: str = "test",
) -> Table:
    """One row a class, one column a measure and variant, from metrics that are named "measure class"."""
    wanted = {f"{measure} {name}" for measure in measures for name in classes}
    scores = list(scores)
    check_names("metric", wanted, {score.metric for score in scores})
    check_names("variant", variants, {score.variant for score in scores})
    own = [score for score in scores if score.metric in wanted and score.variant in variants]
    summary = summarise(own, split=split)
    columns = {"class": [Cell(name) for name in classes]}
    for measure in measures:
        rows = [_metric_column(summary, f"{measure} {name}", variants) for name in classes]
        for place, variant in enumerate(variants):
            columns[f"{measure}, {variant}"] = [row[place] for row in rows]
    return Table(columns, [*_notes(summary), "Bold: the better of a measure and class."])


def _metric_column(summary: Mapping[tuple, Summary], metric: str, variants: Sequence[str]) -> list[Cell]:
    values = [summary.get((variant, metric)) for variant in variants]
    means = [round(value.mean, 3) for value in values if value and math.isfinite(value.mean)]
    best = (min if metric in LOWER_IS_BETTER else max)(means, default=None)
    return [
        Cell(show(value.mean, value.sd), round(value.mean, 3) == best) if value else Cell(EMPTY) for value in values
    ]


def _notes(summary: Mapping[tuple, Summary], ranked: bool = True) -> list[str]:
    seeds = {value.n_seeds for value in summary.values()}
    folds = {value.n_folds for value in summary.values()}
    notes = [f"Mean ± sd over {_span(seeds)} seeds" if max(seeds) > 1 else "One seed, so no sd"]
    notes[0] += f"; a seed is the mean of its {_span(folds)} folds." if max(folds) > 1 else "."
    if lower := sorted({metric for _, metric in summary} & LOWER_IS_BETTER):
        notes.append(f"Lower is better for {', '.join(lower)}." + " Bold: the best mean of a column." * ranked)
    for (variant, metric), value in summary.items():
        if value.n_missing:
            count = f"{value.n_missing} run" + "s" * (value.n_missing > 1)
            notes.append(f"{variant}: {count} without a finite {metric}, left out of its mean.")
    return notes


def _span(counts: set[int]) -> str:
    return f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(*counts)


def _difference(
    scores: Sequence[Score], variant: str, reference: str, split: str, n_train: int | None
) -> tuple[Cell, str, list[str]]:
    """`difference [low, high]` of one variant on the one metric in `scores`, how it stands, and both in words."""
    from jaxephys.evaluation.intervals import corrected_test

    runs = group(scores, ("variant",), split)
    ours, theirs = runs.get((variant,), {}), runs.get((reference,), {})
    if variant == reference or not ours:
        return Cell("reference" if ours else EMPTY), "", []
    shared = ours.keys() & theirs.keys()
    both = sorted(run for run in shared if math.isfinite(ours[run] + theirs[run]))
    words = _unpaired(variant, reference, (ours.keys() | theirs.keys()) - set(both))
    if len(both) < 2:
        words.append(f"{variant} and {reference} share too few runs ({len(both)}) for an interval.")
        return Cell(EMPTY), "untold", words
    a, b = (np.array([side[run] for run in both]) for side in (ours, theirs))
    test = corrected_test(a, b, *_sizes(scores, split, n_train))
    interval = f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
    metric = scores[0].metric
    ahead = (test.difference > 0) != (metric in LOWER_IS_BETTER)
    better, worse = (variant, reference) if ahead else (reference, variant)
    standing, verdict = "better" if ahead else "worse", f"{better} is better than {worse} on {metric}"
    if test.low <= 0 <= test.high:
        standing, verdict = "alike", f"{variant} and {reference} do not differ clearly on {metric}"
    words.append(f"{verdict}: difference {interval} over {test.n} paired runs.")
    return Cell(interval), standing, words


def _standings(reference: str, variants: Sequence[str], found: Sequence[str]) -> list[str]:
    """The verdicts on many variants, a sentence a kind of verdict."""
    words = {"better": "Better than", "worse": "Worse than", "alike": "Not clearly different from"}
    words["untold"] = "Too few runs for an interval to"
    named = {kind: [name for name, own in zip(variants, found, strict=True) if own == kind] for kind in words}
    return [f"{words[kind]} {reference}: {', '.join(names)}." for kind, names in named.items() if names]


def _unpaired(variant: str, reference: str, runs: set[Run]) -> list[str]:
    """A run that one side lacks (it diverged, or never ran) is left out, and said to be."""
    if not runs:
        return []
    named = [f"seed {seed}, fold {fold}" for seed, fold in sorted(runs)[:3]]
    more = [f"{len(runs) - 3} more"] if len(runs) > 3 else []
    listed = "; ".join([*named, *more])
    return [f"{variant} and {reference} are compared without runs that one of them lacks: {listed}."]


def _sizes(scores: Iterable[Score], split: str, n_train: int | None) -> tuple[int, int]:
    """Mean number of training and of test rows; the corrected test needs their ratio."""
    rows: dict[str, list[int]] = {}
    for score in scores:
        rows.setdefault(score.split, []).append(score.n)
    if n_train is None and "train" not in rows:
        raise ValueError("A paired test needs n_train, or the metric on split 'train' as well.")
    return n_train or round(np.mean(rows["train"])), round(np.mean(rows[split]))


def markdown(table: Table) -> str:
    """The table as Markdown, its notes as a list under it."""

    def line(texts: Iterable[str]) -> str:
        return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"

    lines = [line(table.columns), line([":---"] + ["---:"] * (len(table.columns) - 1))]
    for row in zip(*table.columns.values(), strict=True):
        lines.append(line(f"**{cell.text}**" if cell.bold else cell.text for cell in row))
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes)]) + "\n"


def print_table(table: Table, console=None) -> None:
    """The same on a terminal (a rich `Console`); texts are never read as rich markup."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console, grid = console or Console(), Grid(box=None, pad_edge=False)
    for place, header in enumerate(table.columns):
        side = "right" if place else "left"
        grid.add_column(Text(header, "bold cyan"), justify=side, overflow="fold")
    for row in zip(*table.columns.values(), strict=True):
        grid.add_row(*(Text(cell.text, "bold green" if cell.bold else "") for cell in row))
    console.print(grid)
    for note in table.notes:
        console.print(Text(note, "dim"))


def write_report(
    folder: Path,
    title: str,
    intro: str,
    tables: Mapping[str, Table],
    figures: Mapping[str, Path],
    notes: Sequence[str] = (),
) -> Path:
    """`folder/report.md`: tables by heading, figures by caption with relative links, notes."""
    folder = Path(folder)
    parts = [f"# {title}", intro]
    for heading, content in tables.items():
        parts += [f"## {heading}", markdown(content).rstrip()]
    for caption, png in figures.items():
        if not Path(png).is_file():
            raise ValueError(f"The figure {png} of the report does not exist.")
        link = quote(Path(os.path.relpath(png, folder)).as_posix())
        numbers = link.removesuffix(".png") + ".csv"
        parts += [f"![{caption}]({link})", f"{caption} ([numbers]({numbers}))"]
    if notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    return write_text(folder / "report.md", "\n\n".join(parts) + "\n")
