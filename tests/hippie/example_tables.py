"""Folders of simulated units, two of which hold the same units."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.units.registry import annotate_units, find_dataset
from data_prep.units.simulate import simulate_units

SETS = {"lisberger": 110, "hull": 90, "hull_counts": 90, "watson": 60}  # the second and the third are the same units


def write_tables(folder: Path, sets: dict[str, int]) -> None:
    """Write data sets with the given numbers of simulated units; those named "hull..." have the same units."""
    for seed, (name, units) in enumerate(sets.items()):
        made = simulate_units(units, 6, seed=1 if name.startswith("hull") else seed)
        copied = annotate_units(made, find_dataset("watson" if name == "watson" else name))
        replace(copied, about={**copied.about, "dataset": np.full(units, name)}).write(folder / name)
