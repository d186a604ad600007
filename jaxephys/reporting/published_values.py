"""The form in which each system lists the tables and figures of its paper; see ``published_values.py`` of the systems.

Experiments quote these values beside their own scores, and `jaxephys.reporting.results_page` looks up the scores of runs for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from jaxephys.reporting.headline import Question


class PublishedRow(NamedTuple):
    """A published value, and where the score table has the corresponding scores.

    Parameters
    ----------
    name : str
        What the value belongs to, in words.
    published : str
        The value as text, such as "0.8738 ± 0.0136"; empty if only a figure without numbers is published.
    metric : str
        Key of the metric in ``scores.csv``.
    reproduced : sequence of str
        Models that are trained as published, defects included; the first one that a run has is used.
    ours : sequence of str
        Our models of the same question; the first one that a run has is used.
    baselines : sequence of str
        Baselines; the best one of those that a run has is used.
    train_on, test_on : str, default "*"
        Patterns of the names of training and test sets, with ``*`` for any text.
    pairs : {"all", "same", "different"}, default "all"
        Whether training and test set are the same.
    split : str, default "test"
        Part of the rows.
    """

    name: str
    published: str
    metric: str
    reproduced: Sequence[str] = ()
    ours: Sequence[str] = ()
    baselines: Sequence[str] = ()
    train_on: str = "*"
    test_on: str = "*"
    pairs: Literal["all", "same", "different"] = "all"
    split: str = "test"


class PublishedItem(NamedTuple):
    """A table or figure of a paper.

    Parameters
    ----------
    label : str
        Such as "Table 4".
    title : str
        What it shows.
    experiment : str
        Experiment that reproduces it.
    reproduction : str
        Preset that trains as published.
    deviation : str
        Defects that the reproduction keeps, and what differs from the paper, in sentences.
    rows : sequence of PublishedRow
        Published values; empty for a figure without numbers, of which the main result of the run is shown.
    """

    label: str
    title: str
    experiment: str
    reproduction: str
    deviation: str
    rows: Sequence[PublishedRow] = ()


class PublishedPaper(NamedTuple):
    """A paper with its tables and figures.

    Parameters
    ----------
    name : str
        Name of the system, for headings.
    citation : str
        Reference.
    items : sequence of PublishedItem
        Tables and figures in the order of the paper.
    questions : dict of str to Question
        The question of each experiment, by its name.
    """

    name: str
    citation: str
    items: Sequence[PublishedItem]
    questions: dict[str, Question]
