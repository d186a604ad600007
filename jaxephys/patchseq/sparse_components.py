"""Components: each family of a table reduced to a few sparse principal components, fitted on training rows alone.

The default is the configuration of Gouwens et al. (Cell 183, 2020) for the families of IPFX: 59 components are asked for,
and those that explain less than 1 % of their family are dropped (44 stayed on the published cells). Scores are divided by
their standard deviation over the training rows. A missing value is given the training median of its column.

    fitted = FamilyComponents.fit(table.values, table.families, train_rows)
    scores = fitted.transform(table.values)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.patchseq.sparse_pca import principal_components, sparse_pca

SCHEMA = "jaxephys family components 1"
LEAST = 0.01  # a component that explains less of its family is dropped
Families = Mapping[str, Sequence[str]] | Mapping[str, int]  # family -> its features, or how many they are


@dataclass(frozen=True)
class FamilyPlan:
    """How one family is reduced.

    ``components`` are the numbers of non-zero loadings, one for each sparse component; a single number asks for that many
    ordinary principal components, or as many as there are. ``columns`` are the ranges that are read, none for the whole
    family. ``scaled`` divides each column by its standard deviation first, for features of different units.
    """

    components: int | tuple[int, ...]
    columns: tuple[tuple[int, int], ...] = ()
    scaled: bool = False


# Every second of six levels above rheobase: 0, 40 and 80 pA, 50 bins each.
LEVELS = ((0, 50), (100, 150), (200, 250))
# Of the first action potential the short and the long square are read, and not the ramp.
GOUWENS = {
    "first_ap_v": FamilyPlan((267, 233, 267, 233, 233, 250, 233), ((0, 300),)),
    "first_ap_dv": FamilyPlan((150, 117, 150, 167, 100, 100, 100, 87, 87), ((0, 298),)),
    "isi_shape": FamilyPlan((100, 90, 80, 80), ((0, 100),)),
    "step_subthresh": FamilyPlan(3, ((0, 700),)),
    "subthresh_norm": FamilyPlan((120, 100, 90, 50, 45, 40), ((0, 140),)),
    "inst_freq": FamilyPlan((150, 137, 112, 137, 125, 112), LEVELS),
    "spiking_upstroke_downstroke_ratio": FamilyPlan((150, 137, 125), LEVELS),
    "spiking_peak_v": FamilyPlan((150, 137, 125), LEVELS),
    "spiking_fast_trough_v": FamilyPlan((150, 137, 112), LEVELS),
    "spiking_threshold_v": FamilyPlan((150, 137, 125, 112, 125), LEVELS),
    "spiking_width": FamilyPlan((150, 100, 112), LEVELS),
    "inst_freq_norm": FamilyPlan((150, 145, 125, 120, 110, 100, 90), LEVELS),
}


def default_plan(families: Families) -> dict[str, FamilyPlan]:
    """For tables of other families: all ordinary components that explain 1 % of a family, its columns scaled."""
    return {family: FamilyPlan(width, scaled=True) for family, width in _widths(families).items()}


@dataclass(frozen=True)
class FamilyFit:
    """One family: score = ((value - center) / spread) loadings / scale, all of it from training rows."""

    columns: np.ndarray  # [feature], their places in the table
    median: np.ndarray  # [feature]
    center: np.ndarray  # [feature]
    spread: np.ndarray  # [feature]
    loadings: np.ndarray  # [feature, component]
    explained: np.ndarray  # [component]
    scale: np.ndarray  # [component]
    asked: int
    missing: int  # training values that were filled
    iterations: int
    converged: bool

    def transform(self, values: np.ndarray) -> np.ndarray:  # [cell, component]
        block = values[:, self.columns].astype(float)
        block = np.where(np.isnan(block), self.median, block)
        return (block - self.center) / self.spread @ self.loadings / self.scale


@dataclass(frozen=True)
class FamilyComponents:
    """Components of all families of a plan, side by side in the order of the plan."""

    widths: Mapping[str, int]  # of the tables it reads
    fits: Mapping[str, FamilyFit]
    rows: int  # it was fitted on

    @classmethod
    def fit(
        cls,
        values: np.ndarray,  # [cell, column], NaN where missing
        families: Families,
        train_rows: np.ndarray,  # their numbers, or True for each
        plan: Mapping[str, FamilyPlan] = GOUWENS,
    ) -> FamilyComponents:
        widths = _widths(families)
        train = _checked(values, widths)[_numbers(train_rows, len(values))]
        places = {family: _columns(family, how, widths) for family, how in plan.items()}
        fits = {family: _fit_family(family, how, train, places[family]) for family, how in plan.items()}
        return cls(widths, fits, len(train))

    def transform(self, values: np.ndarray) -> np.ndarray:  # [cell, component]
        values = _checked(values, self.widths)
        return np.hstack([fit.transform(values) for fit in self.fits.values()])

    @property
    def names(self) -> list[str]:
        return [f"{family}_{number}" for family, fit in self.fits.items() for number in range(len(fit.explained))]

    @property
    def explained(self) -> np.ndarray:  # [component], the share of the variance of its family
        return np.concatenate([fit.explained for fit in self.fits.values()])

    @property
    def loadings(self) -> np.ndarray:  # [column, component], zero outside the family
        loadings = np.zeros((sum(self.widths.values()), len(self.names)))
        first = 0
        for fit in self.fits.values():
            last = first + len(fit.explained)
            loadings[fit.columns, first:last] = fit.loadings
            first = last
        return loadings

    def __str__(self) -> str:
        asked = sum(fit.asked for fit in self.fits.values())
        return "\n".join([f"{len(self.names)} of {asked} components, from {self.rows} cells", *self._lines()])

    def _lines(self) -> Iterator[str]:
        for family, fit in self.fits.items():
            line = f"{family}: {len(fit.explained)} of {fit.asked}, {fit.explained.sum():.1%} of the variance"
            line += f", {fit.missing} missing values filled with the median of their column" if fit.missing else ""
            yield line if fit.converged else f"{line}, not settled after {fit.iterations} turns"

    def save(self, path: str | Path) -> Path:
        content: dict[str, Any] = {"schema": SCHEMA, "rows": self.rows, "fitted": list(self.fits)}
        content |= {"families": list(self.widths), "widths": list(self.widths.values())}
        for family, fit in self.fits.items():
            content |= {f"{family}/{name}": value for name, value in vars(fit).items()}
        with open(path, "wb") as file:
            np.savez_compressed(file, **content)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> FamilyComponents:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        if str(stored.get("schema")) != SCHEMA:
            raise ValueError(f"{path} has the schema {stored.get('schema')}, not {SCHEMA!r}: fit and save it again")
        widths = dict(zip(stored["families"].tolist(), stored["widths"].tolist(), strict=True))
        fits = {family: _loaded(stored, family) for family in stored["fitted"].tolist()}
        return cls(widths, fits, int(stored["rows"]))


def _loaded(stored: Mapping[str, np.ndarray], family: str) -> FamilyFit:
    values = {field.name: stored[f"{family}/{field.name}"] for field in fields(FamilyFit)}
    content: dict[str, Any] = {name: value if value.ndim else value.item() for name, value in values.items()}
    return FamilyFit(**content)


def _fit_family(family: str, how: FamilyPlan, train: np.ndarray, columns: np.ndarray) -> FamilyFit:
    block = train[:, columns].astype(float)
    gaps = np.isnan(block)
    never = gaps.all(axis=0)
    # Ordinary components do without a column that was never measured; sparse ones have their numbers of columns fixed.
    if never.any() and (never.all() or not isinstance(how.components, int)):
        raise ValueError(
            f"{never.sum()} columns of {family} are missing in all {len(train)} training rows: leave it out of the plan"
        )
    block, gaps, columns = block[:, ~never], gaps[:, ~never], columns[~never]
    median = np.nanmedian(block, axis=0)
    block = np.where(gaps, median, block)
    center = block.mean(axis=0)
    spread = np.where(how.scaled & (np.ptp(block, axis=0) > 0), block.std(axis=0), 1.0)
    scaled = (block - center) / spread
    try:
        if isinstance(how.components, int):
            found = principal_components(scaled, min(how.components, len(scaled) - 1, len(columns)))
        else:
            found = sparse_pca(scaled, how.components)
    except ValueError as error:
        raise ValueError(f"family {family}: {error}") from error
    kept = found.explained >= LEAST
    loadings = found.loadings[:, kept]
    return FamilyFit(
        columns=columns,
        median=median,
        center=center,
        spread=spread,
        loadings=loadings,
        explained=found.explained[kept],
        scale=(scaled @ loadings).std(axis=0),
        asked=len(found.explained),
        missing=int(gaps.sum()),
        iterations=found.iterations,
        converged=found.converged,
    )


def _columns(family: str, how: FamilyPlan, widths: Mapping[str, int]) -> np.ndarray:
    """Places in the table of the columns that a plan reads."""
    if family not in widths:
        raise ValueError(
            f"the plan reads {family}, and the table has {', '.join(widths)}: give a plan for these families"
        )
    ranges = how.columns or ((0, widths[family]),)
    last = max(stop for _, stop in ranges)
    if last > widths[family]:
        raise ValueError(
            f"{family} has {widths[family]} columns and the plan reads up to column {last}: "
            f"build the table with the layout of the plan, or give a plan of its own"
        )
    names = list(widths)
    start = sum(widths[name] for name in names[: names.index(family)])
    return start + np.concatenate([np.arange(*some) for some in ranges])


def _widths(families: Families) -> dict[str, int]:
    return {family: int(some) if isinstance(some, int | np.integer) else len(some) for family, some in families.items()}


def _checked(values: np.ndarray, widths: Mapping[str, int]) -> np.ndarray:
    values, total = np.asarray(values), sum(widths.values())
    if values.ndim != 2 or values.shape[1] != total:
        raise ValueError(f"values have the shape {values.shape}, and the families have {total} columns in all")
    if np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0]
        raise ValueError(f"row {row}, column {column} is {values[row, column]}: a missing value is written as NaN")
    return values


def _numbers(rows: np.ndarray, cells: int) -> np.ndarray:
    """Row numbers, each of them once."""
    rows = np.asarray(rows)
    rows = np.flatnonzero(rows) if rows.dtype == bool and rows.shape == (cells,) else rows
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(
            f"training rows are numbers, or {cells} truth values, and not {rows.dtype} of shape {rows.shape}"
        )
    beyond = rows[(rows < 0) | (rows >= cells)]
    if len(beyond):
        raise ValueError(f"training row {beyond[0]} is not among the {cells} cells: count them from 0 to {cells - 1}")
    if len(np.unique(rows)) < len(rows):
        raise ValueError(f"row {rows[np.argmax(np.bincount(rows))]} stands more than once among the training rows")
    return rows
