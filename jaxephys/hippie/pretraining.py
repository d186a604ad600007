"""Pretraining on other data sets: which data sets may be used when one is held out, and the initial variables for fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxephys.engine.fit import initial_variables, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.task import Variables
from jaxephys.hippie.benchmark import Benchmark, FindDataset
from jaxephys.hippie.grid import TrainedGrid
from jaxephys.schemas.unit_table import UnitTable

RelatedDatasets = Callable[[Iterable[str]], Collection[str]]  # names -> these and all that share recordings with them


def unrelated_tables(
    names: Sequence[str],
    tables: Mapping[str, UnitTable],
    find_dataset: FindDataset,
    related_datasets: RelatedDatasets,
) -> dict[str, UnitTable]:
    """Return one table of every data set that shares no recording with the held-out ones.

    Parameters
    ----------
    names : sequence of str
        Folders of the held-out data sets.
    tables : mapping of str to UnitTable
        All data sets, by the name of their folder.
    find_dataset : callable
        Registry of data sets.
    related_datasets : callable
        Returns the names of data sets that share recordings with some others.

    Returns
    -------
    dict of UnitTable
        Tables by the name of the data set in the registry. Of several folders with the same recordings the first one is used.

    Raises
    ------
    ValueError
        If there is no data set of a held-out name, or a data set is not in the registry.
    """
    for name in names:
        if name not in tables:
            raise ValueError(f"there is no data set {name!r} to hold out: choose one of {', '.join(tables)}")
    others = {name: table for name, table in tables.items() if name not in names}
    excluded = related_datasets(names) if others else ()
    found: dict[str, UnitTable] = {}
    for name, table in others.items():
        dataset = find_dataset(name).name
        if dataset not in excluded:
            found.setdefault(dataset, table)
    return found


def pretraining_tables(
    benchmark: Benchmark,
    tables: Mapping[str, UnitTable],
    find_dataset: FindDataset,
    related_datasets: RelatedDatasets,
) -> list[UnitTable]:
    """Return the units that networks of a benchmark may be pretrained on.

    Parameters
    ----------
    benchmark : Benchmark
        Labelled units and folds.
    tables : mapping of str to UnitTable
        All data sets, by the name of their folder.
    find_dataset : callable
        Registry of data sets.
    related_datasets : callable
        Returns the names of data sets that share recordings with some others.

    Returns
    -------
    list of UnitTable
        Units of the training data set that are in no fold, and one table of every unrelated data set. Of a data set that is only
        tested, no unit is used.
    """
    source = benchmark.datasets[0]
    outside = np.flatnonzero(~np.isin(tables[source].name, benchmark.table.name))
    unlabelled = [tables[source].rows(outside)] if len(outside) else []
    return [*unlabelled, *unrelated_tables(benchmark.datasets, tables, find_dataset, related_datasets).values()]


def check_separate(units: UnitTable, pretrained: TrainedGrid) -> None:
    """Check that held-out units were not in pretraining, by name.

    Copies under another name are excluded by the registry of data sets, see `unrelated_tables`.

    Parameters
    ----------
    units : UnitTable
        Held-out units.
    pretrained : TrainedGrid
        Pretrained networks.

    Raises
    ------
    ValueError
        If a unit was in pretraining.
    """
    shared = np.intersect1d(units.name, pretrained.names)
    if len(shared):
        raise ValueError(f"unit {shared[0]} is held out and in pretraining: give each data set names of its own")


def fine_tuning_variables(grid: RunGrid, pretrained: TrainedGrid, variant: str) -> Any:
    """Return the initial variables of runs of which one variant is pretrained and the others are not.

    Parameters
    ----------
    grid : RunGrid
        Runs with the factors variant and seed.
    pretrained : TrainedGrid
        Pretrained networks, one for each seed from 0.
    variant : str
        The variant that starts from the pretrained network of its seed. The others start from new random variables.

    Returns
    -------
    dict
        Variables with a leading run axis, without the count of steps.
    """
    task, seeds = pretrained.task, sorted(set(grid.column("seed")))
    new: Variables = jax.vmap(lambda seed: task.init(jax.random.key(seed)))(np.array(seeds) + 1000)
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), jax.device_get(new), pretrained.result.best)
    indices = [run["seed"] + len(seeds) * (run["variant"] == variant) for run in grid]
    variables = initial_variables(take_runs(stacked, indices))
    return {**variables, "tally": {"variance": variables["tally"]["variance"]}}
