"""The hyperparameters that a grid has searched: a table of the report and a CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxephys.engine.search import Candidate
from jaxephys.reporting.files import write_csv
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.tables import Cell, Table


def search_table(candidates: Sequence[Candidate], monitor: str) -> Table:
    """Return a table with one row for each combination of levels.

    Parameters
    ----------
    candidates : sequence of Candidate
        Validation scores of `jaxephys.engine.search.choose_levels`.
    monitor : str
        Name of the validation score.

    Returns
    -------
    Table
        Levels, the validation score (mean over all groups), and in how many groups they were chosen.
    """
    names = list(candidates[0].levels)
    combinations: dict[tuple[float, ...], list[Candidate]] = {}
    for candidate in candidates:
        combinations.setdefault(tuple(candidate.levels.values()), []).append(candidate)
    chosen = [sum(candidate.chosen for candidate in group) for group in combinations.values()]
    columns = {
        name: [
            Cell(f"{levels[index]:g}", count == max(chosen)) for levels, count in zip(combinations, chosen, strict=True)
        ]
        for index, name in enumerate(names)
    }
    scores = [float(np.mean([candidate.score for candidate in group])) for group in combinations.values()]
    n_groups = len(candidates) // len(combinations)
    columns[metric_label(f"valid_{monitor}")] = [Cell(f"{score:.4g}") for score in scores]
    columns["chosen"] = [Cell(f"{count} of {n_groups}") for count in chosen]
    note = (
        f"The {' and the '.join(name.replace('_', ' ') for name in names)} of a run {'was' if len(names) == 1 else 'were'} chosen by the "
        "mean validation score over the runs that have the same training and validation rows. Test rows had no part in it. "
        "search.csv lists the choices."
    )
    return Table(columns, [note])


def write_candidates(path: Path, candidates: Sequence[Candidate]) -> None:
    """Write all combinations of levels of all groups as CSV.

    Parameters
    ----------
    path : Path
        File to write.
    candidates : sequence of Candidate
        Validation scores of `jaxephys.engine.search.choose_levels`.
    """
    first = candidates[0]
    columns = (*first.group, *first.levels, "valid_score", "valid_sd", "seeds", "chosen")
    rows = [
        (*item.group.values(), *item.levels.values(), item.score, item.sd, item.n_seeds, int(item.chosen))
        for item in candidates
    ]
    write_csv(path, columns, rows)
