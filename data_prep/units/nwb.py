"""Units from the units tables of many NWB files, selected by the rules of a published data set.

:mod:`jaxephys.schemas.unit_nwb` reads the units of one file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data_prep.progress import ProgressReport
from data_prep.units.registry import Dataset, quality_problem
from jaxephys.schemas.unit_features import SortedUnit, make_unit_table
from jaxephys.schemas.unit_nwb import find_nwb_files, read_nwb_units
from jaxephys.schemas.unit_table import UnitTable


def read_nwb(
    paths: Sequence[str | Path],
    *,
    label: str | None = None,
    rate: float | None = None,
    dataset: Dataset | None = None,
) -> UnitTable:
    """Read the units of NWB files.

    Parameters
    ----------
    paths : sequence of str or Path
        NWB files, or folders of them. Identifiers of units are "session/id".
    label : str, optional
        Column of the units table that holds the class. By default it is the one with a usual name, if there is one.
    rate : float, optional
        Sampling rate of the templates in Hz where a file does not give it.
    dataset : Dataset, optional
        Published data set whose rules select units: those with enough spikes and with quality in range, as far as the
        units table has these columns.

    Returns
    -------
    UnitTable
        One row per selected unit; ``provenance["notes"]`` counts the others by reason.

    Raises
    ------
    DataError
        If a file cannot be read or has no units table, the label column is missing or ambiguous, or no unit is left.
    """
    files = find_nwb_files(paths)
    excluded: Counter[str] = Counter()
    columns = () if dataset is None else tuple(dataset.quality)

    def keep(spikes: int | None, quality: Mapping[str, float]) -> bool:
        reason = quality_problem(dataset, spikes, quality)
        excluded.update([reason] if reason else [])
        return not reason

    def read_all() -> Iterator[SortedUnit]:
        with ProgressReport("files", len(files)) as progress:
            for path in files:
                yield from read_nwb_units(path, label=label, rate=rate, quality=columns, keep=keep)
                progress.advance()

    units = make_unit_table(read_all(), {"source": "nwb", "files": [path.name for path in files]})
    notes = [f"{count} units: {reason}" for reason, count in excluded.items()]
    return replace(units, provenance={**units.provenance, "notes": notes})
