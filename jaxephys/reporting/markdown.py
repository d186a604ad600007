"""The report of a run, ``report.md``: a summary, tables, figures and notes."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from jaxephys.evaluation.scores import Score
from jaxephys.reporting.files import write_text
from jaxephys.reporting.labels import LOWER_IS_BETTER, in_sentence
from jaxephys.reporting.score_table import check_known, summarize
from jaxephys.reporting.tables import Table, difference, format_mean_sd


class Headline(NamedTuple):
    """The main comparison of an experiment, from which `summary_sentences` writes the first paragraph of its report.

    Parameters
    ----------
    metric : str
        Key of the main metric.
    model : str
        Model of interest, by its name in the score table.
    baselines : sequence of str
        Models to compare it with. The best one is named.
    test_on : str, optional
        Test set, by its name in the score table. By default the scores have only one.
    n_train : int, optional
        Number of training rows, for the interval of the difference.
    published : str, optional
        Published value of the metric.
    """

    metric: str
    model: str
    baselines: Sequence[str]
    test_on: str | None = None
    n_train: int | None = None
    published: str | None = None


def write_report(
    folder: Path,
    title: str,
    summary: str,
    introduction: str,
    tables: Mapping[str, Table],
    figures: Mapping[str, Path],
    notes: Sequence[str] = (),
) -> Path:
    """Write ``report.md`` into a run folder.

    Parameters
    ----------
    folder : path-like
        The run folder.
    title : str
        Heading of the report.
    summary : str
        First paragraph: the main result.
    introduction : str
        Second paragraph: what was done.
    tables : mapping of str to Table
        Tables by heading.
    figures : mapping of str to path-like
        PNG files by caption. Links are relative to the folder; beside each figure is a CSV file of its numbers.
    notes : sequence of str, optional
        Sentences at the end.

    Returns
    -------
    Path
        The path of the report.

    Raises
    ------
    ValueError
        If a figure does not exist.
    """
    folder = Path(folder)
    parts = [f"# {title}", *(text for text in (summary, introduction) if text)]
    for heading, table in tables.items():
        parts += [f"## {heading}", table_to_markdown(table).rstrip()]
    for caption, figure in figures.items():
        if not Path(figure).is_file():
            raise ValueError(f"the figure {figure} of the report does not exist")
        link = quote(Path(os.path.relpath(figure, folder)).as_posix())
        numbers = link.removesuffix(".png") + ".csv"
        parts += [f"![{caption}]({link})", f"{caption} ([numbers]({numbers}))"]
    if notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    return write_text(folder / "report.md", "\n\n".join(parts) + "\n")


def summary_sentences(scores: Iterable[Score], headline: Headline) -> str:
    """Return the main result of an experiment in a few sentences.

    Parameters
    ----------
    scores : iterable of Score
        Scores of all models.
    headline : Headline
        The main comparison.

    Returns
    -------
    str
        Score of the model, score of the best baseline, their difference with its 95 % interval, and the published value.

    Raises
    ------
    ValueError
        If a model, the metric or the test set has no scores.
    """
    scores = [score for score in scores if headline.test_on in (None, score.test_on)]
    scores = [score for score in scores if score.metric == headline.metric]
    check_known("model", [headline.model, *headline.baselines], {score.variant for score in scores})
    summaries = {model: value for (model, _), value in summarize(scores).items()}
    metric, ours = in_sentence(headline.metric), summaries[headline.model]
    runs = f"{ours.n_seeds} seed{'s' * (ours.n_seeds != 1)}" + f" x {ours.n_folds} folds" * (ours.n_folds > 1)
    on = f" on the test set {headline.test_on}" if headline.test_on else ""
    text = f"The model {headline.model} has a test {metric} of {format_mean_sd(ours.mean, ours.sd)}{on} ({runs})."
    if headline.published is not None:
        text += f" The published value is {headline.published}."
    if headline.baselines:
        choose = min if headline.metric in LOWER_IS_BETTER else max
        best = choose(headline.baselines, key=lambda name: summaries[name].mean)
        value = summaries[best]
        text += f" The best baseline, {best}, has {format_mean_sd(value.mean, value.sd)}."
        found = difference(scores, headline.metric, headline.model, best, n_train=headline.n_train)
        if found.test is not None:
            verdict = f"{found.better} is better" if found.better else "no clear difference"
            text += f" Difference: {found.text} (95 % interval), {verdict}."
    return text


def overview_sentence(scores: Sequence[Score]) -> str:
    """Return a sentence with the numbers of models, seeds and folds that the scores cover.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.

    Returns
    -------
    str
        The sentence; empty without scores.
    """
    if not scores:
        return ""
    counts = [
        (len({score.variant for score in scores}), "model"),
        (len({score.seed for score in scores}), "seed"),
        (len({score.fold for score in scores}), "fold"),
    ]
    models, seeds, folds = (f"{count} {word}{'s' * (count != 1)}" for count, word in counts)
    return f"The report covers {models}, {seeds} and {folds}."


def table_to_markdown(table: Table) -> str:
    """Return a table as Markdown, with its notes as a list below.

    Parameters
    ----------
    table : Table
        The table.

    Returns
    -------
    str
        Markdown text that ends with a line break.
    """

    def line(texts: Iterable[str]) -> str:
        return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"

    lines = [line(table.columns), line([":---"] + ["---:"] * (len(table.columns) - 1))]
    for row in zip(*table.columns.values(), strict=True):
        lines.append(line(f"**{cell.text}**" if cell.bold else cell.text for cell in row))
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes)]) + "\n"
