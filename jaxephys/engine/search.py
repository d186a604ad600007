"""Search over hyperparameters: every level is trained in the same program, and validation rows choose one.

`parse_levels` reads levels from text, `add_levels` crosses a grid with them, and `choose_levels` selects the runs of the best ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import jax
import numpy as np

from jaxephys.engine.config import PER_RUN
from jaxephys.engine.fit import FitResult, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.task import PyTree, RunInputs, Task

Levels = Mapping[str, tuple[float, ...]]  # levels of each hyperparameter, by name


@dataclass(frozen=True)
class Candidate:
    """Validation score of one combination of levels in one group of runs, those that differ in nothing but the seed.

    Parameters
    ----------
    group : dict
        Levels of the factors of the grid, without the seed, that the runs have in common.
    levels : dict of str to float
        Level of each hyperparameter.
    score : float
        Best monitored validation score, mean over the seeds; NaN if a run has none.
    sd : float
        Standard deviation over the seeds; NaN for a single seed.
    n_seeds : int
        Number of runs.
    chosen : bool
        Whether the score is the best of the group.
    """

    group: dict
    levels: dict[str, float]
    score: float
    sd: float
    n_seeds: int
    chosen: bool


def parse_levels(texts: Sequence[str], task: Task) -> dict[str, tuple[float, ...]]:
    """Read levels of hyperparameters.

    Parameters
    ----------
    texts : sequence of str
        One text per hyperparameter, such as ``"learning_rate=1e-3,3e-4"``.
    task : Task
        What is trained. ``task.searchable`` names its hyperparameters.

    Returns
    -------
    dict of str to tuple of float
        Levels by name.

    Raises
    ------
    ValueError
        If a text cannot be read, a name is unknown or a level occurs twice.

    Examples
    --------
    >>> from jaxephys.engine.search import parse_levels
    >>> from jaxephys.engine.task import Task
    >>> task = Task(*[lambda *arguments: None] * 5)
    >>> parse_levels(["learning_rate=1e-3,3e-4"], task)
    {'learning_rate': (0.001, 0.0003)}
    """
    levels, known = {}, (*PER_RUN, *task.searchable)
    for text in texts:
        name, _, values = text.partition("=")
        try:
            levels[name] = tuple(float(value) for value in values.split(","))
        except ValueError:
            raise ValueError(f"the levels {text!r} cannot be read: write them as learning_rate=1e-3,3e-4") from None
        if name not in known:
            raise ValueError(f"{name!r} cannot be searched here: choose among {', '.join(known)}")
        if len(set(levels[name])) < len(levels[name]):
            raise ValueError(f"the levels {text!r} hold a value twice: give each once")
    return levels


def add_levels(grid: RunGrid, inputs: RunInputs, initial: PyTree, levels: Levels) -> tuple[RunGrid, RunInputs, PyTree]:
    """Cross a grid with levels of hyperparameters.

    Parameters
    ----------
    grid : RunGrid
        The runs.
    inputs : RunInputs (n_runs, ...)
        Their rows and constants.
    initial : tree of arrays (n_runs, ...) or None
        Initial variables.
    levels : mapping of str to tuple of float
        Levels by name: of an option of the optimizer in `jaxephys.engine.config.PER_RUN`, or of a scalar in ``inputs.constants`` that
        has this name.

    Returns
    -------
    grid : RunGrid
        Every run with every combination of levels, which vary fastest.
    inputs : RunInputs
        Rows and constants of these runs.
    initial : tree of arrays or None
        Their initial variables.

    Raises
    ------
    ValueError
        If the constants have no scalar of a name.
    """
    combinations = list(product(*levels.values()))
    repeated = np.repeat(np.arange(len(grid)), len(combinations))
    all_levels = tuple(run + combination for run in grid.levels for combination in combinations)
    inputs = take_runs(inputs, repeated)
    for position, name in enumerate(levels):
        if name not in PER_RUN:
            values = np.tile([combination[position] for combination in combinations], len(grid))
            inputs = inputs._replace(constants=_replace_scalar(inputs.constants, name, values))
    return (
        RunGrid((*grid.factors, *levels), all_levels),
        inputs,
        None if initial is None else take_runs(initial, repeated),
    )


def choose_levels(result: FitResult, inputs: RunInputs, levels: Levels, mode: str) -> tuple[FitResult, list[Candidate]]:
    """Select the runs of the levels with the best validation score.

    Levels are chosen for each group of runs that have the same training rows, validation rows and factors besides the seed, by the mean
    over its seeds. Runs with other rows have no part in the choice, since a test row of one may be a validation row of another.

    Parameters
    ----------
    result : FitResult
        Result of a grid of `add_levels`.
    inputs : RunInputs
        Its inputs.
    levels : mapping of str to tuple of float
        The levels.
    mode : {"max", "min"}
        Whether a larger or a smaller monitored score is better.

    Returns
    -------
    result : FitResult
        The chosen runs, as the result of the grid before `add_levels`.
    candidates : list of Candidate
        All combinations of levels of all groups.
    """
    combinations = list(product(*levels.values()))
    scores = np.asarray(result.run_results.best_score, float).reshape(-1, len(combinations))
    scores[~np.isfinite(scores)] = np.nan
    groups: dict[tuple, list[int]] = {}
    for run in range(len(scores)):
        first = run * len(combinations)
        others = tuple(item for item in result.grid[first].items() if item[0] != "seed" and item[0] not in levels)
        groups.setdefault((others, *_row_sets(inputs, first)), []).append(run)
    candidates, chosen = [], np.zeros(len(scores), int)
    for (others, *_), runs in groups.items():
        means = scores[runs].mean(axis=0)
        signed = np.where(np.isnan(means), -np.inf, means if mode == "max" else -means)
        best = chosen[runs] = int(np.argmax(signed))
        for index, combination in enumerate(combinations):
            sd = float(scores[runs, index].std(ddof=1)) if len(runs) > 1 else float("nan")
            pairs = dict(zip(levels, combination, strict=True))
            candidates.append(Candidate(dict(others), pairs, float(means[index]), sd, len(runs), index == best))
    indices = np.arange(len(scores)) * len(combinations) + chosen
    n_factors = len(result.grid.factors) - len(levels)  # the levels are the last factors
    grid = RunGrid(result.grid.factors[:n_factors], tuple(result.grid.levels[index][:n_factors] for index in indices))
    run_results, history = take_runs((result.run_results, result.history), indices)
    return replace(result, grid=grid, run_results=run_results, history=history), candidates


def _replace_scalar(constants: PyTree, name: str, values: np.ndarray) -> PyTree:
    """Replace the array of shape (n_runs,) whose last key is the name."""
    found = 0

    def visit(path: tuple, leaf: np.ndarray) -> np.ndarray:
        nonlocal found
        if re.sub(r"\W", "", str(path[-1])) != name or np.ndim(leaf) != 1:
            return leaf
        found += 1
        return values.astype(leaf.dtype)

    replaced = jax.tree_util.tree_map_with_path(visit, constants)
    if found != 1:
        raise ValueError(
            f"the constants of the runs hold {found} scalars with the name {name!r}: it cannot be searched"
        )
    return replaced


def _row_sets(inputs: RunInputs, run: int) -> tuple[bytes, bytes]:
    """Which samples a run trains on and is validated on, without their order and synthetic ones."""
    train, validation = (
        np.unique(rows.index[run][rows.weight[run] > 0]).tobytes() for rows in (inputs.train, inputs.validation)
    )
    return train, validation
