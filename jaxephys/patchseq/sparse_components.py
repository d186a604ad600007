"""Reduce each family of a feature table to a few sparse principal components, as Gouwens et al. (2020) did.

Start with `SparseComponents`. `make_component_forest` fits a random forest to the components, which is the published
classifier of that study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline, make_pipeline

from jaxephys.evaluation.baselines import make_baseline
from jaxephys.patchseq.sparse_pca import SparsePrincipalComponents
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.storage import write_npz

SCHEMA = "jaxephys family components 1"
MIN_EXPLAINED = 0.01  # a component that explains less of its family is dropped
RENAMED_IN_FILES = {
    "n_requested": "asked",
    "n_missing": "missing",
    "n_iterations": "iterations",
}  # field -> key in a file


@dataclass(frozen=True)
class FamilyPlan:
    """Reduction of one family to components.

    Parameters
    ----------
    components : int or tuple of int
        Numbers of non-zero loadings, one for each sparse component; an integer requests that many ordinary principal
        components, or as many as there are.
    columns : tuple of (int, int), default ()
        Ranges of columns of the family that are used; by default the whole family.
    scaled : bool, default False
        Whether each column is divided by its standard deviation first, for features of different units.
    """

    components: int | tuple[int, ...]
    columns: tuple[tuple[int, int], ...] = ()
    scaled: bool = False


# Every second of six levels above rheobase: 0, 40 and 80 pA, 50 bins each.
LEVELS = ((0, 50), (100, 150), (200, 250))
# Of the first action potential the short and the long square are used, and not the ramp.
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


def choose_plan(families: Mapping[str, int]) -> Mapping[str, FamilyPlan]:
    """Return how `SparseComponents` reduces families by default.

    Parameters
    ----------
    families : mapping of str to int
        Name and width of each family.

    Returns
    -------
    mapping of str to FamilyPlan
        ``GOUWENS`` if all of its families are there; others, such as psth, are then left out. Else all ordinary
        components of each family, its columns scaled.
    """
    if set(GOUWENS) <= set(families):
        return GOUWENS
    return {family: FamilyPlan(int(width), scaled=True) for family, width in families.items()}


@dataclass(frozen=True)
class FittedFamily:
    """Components of one family: score = ((value - center) / spread) loadings / scale, all of it from training rows.

    Parameters
    ----------
    columns : ndarray of int, shape (n_features,)
        Columns of the table.
    median, center, spread : ndarray, shape (n_features,)
        Replacement of missing values, and the shift and the scale of each column.
    loadings : ndarray, shape (n_features, n_components)
        Loadings of unit length.
    explained : ndarray, shape (n_components,)
        Share of the variance of the family that each component adds to those before it.
    scale : ndarray, shape (n_components,)
        Standard deviation of the scores over the training rows.
    n_requested : int
        Number of components before those that explain little were dropped.
    n_missing : int
        Number of training values that were missing.
    n_iterations : int
        Number of iterations of the fit.
    converged : bool
        Whether the fit converged.
    """

    columns: np.ndarray
    median: np.ndarray
    center: np.ndarray
    spread: np.ndarray
    loadings: np.ndarray
    explained: np.ndarray
    scale: np.ndarray
    n_requested: int
    n_missing: int
    n_iterations: int
    converged: bool


class SparseComponents(TransformerMixin, BaseEstimator):
    """Scores of the sparse principal components of each family, side by side in the order of the plan.

    Fit it on training rows only. Missing values are replaced by the training median of their column, components that
    explain less than 1 % of their family are dropped, and scores are divided by their standard deviation over the
    training rows.

    Parameters
    ----------
    families : mapping of str to int
        Name and width of each family of the columns, in order.
    plan : mapping of str to FamilyPlan, optional
        How families are reduced; those without an entry are left out. By default `choose_plan`: the configuration of
        Gouwens et al. where its families are there (59 components are requested, and 44 remained on the published
        cells), else all ordinary components that explain at least 1 % of a family.

    Attributes
    ----------
    fitted_ : dict of str to FittedFamily
        The components of each family.
    n_rows_ : int
        Number of rows that they were fitted on.

    References
    ----------
    Gouwens et al., Cell 183 (2020).

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 6))
    >>> model = SparseComponents({"a": 4, "b": 2}, {"a": FamilyPlan((3, 2))}).fit(x[:40])
    >>> model.transform(x).shape, list(model.get_feature_names_out())
    ((50, 2), ['a_0', 'a_1'])
    """

    def __init__(self, families: Mapping[str, int], plan: Mapping[str, FamilyPlan] | None = None) -> None:
        self.families = families
        self.plan = plan

    def fit(self, X: Float[np.ndarray, "cell column"], y: object = None) -> SparseComponents:
        """Fit the components of each family.

        Parameters
        ----------
        X : ndarray, shape (n_training_cells, n_columns)
            Values of the training cells; NaN where missing.
        y : ignored
            Present for scikit-learn compatibility.

        Returns
        -------
        SparseComponents
            The fitted estimator.

        Raises
        ------
        ValueError
            If values, families and plan do not fit together, or a family has too few rows or columns for its plan.
        """
        plan = choose_plan(self.families) if self.plan is None else self.plan
        X = self._check(X)
        columns = {family: _plan_columns(family, family_plan, self.families) for family, family_plan in plan.items()}
        self.fitted_ = {
            family: _fit_family(family, family_plan, X, columns[family]) for family, family_plan in plan.items()
        }
        self.n_rows_ = len(X)
        return self

    def transform(self, X: Float[np.ndarray, "cell column"]) -> Float[np.ndarray, "cell component"]:
        """Return the scores of cells.

        Parameters
        ----------
        X : ndarray, shape (n_cells, n_columns)
            Values of the columns of ``fit``; NaN where missing.

        Returns
        -------
        ndarray, shape (n_cells, n_components)
            Scores, whose standard deviation over the training cells is 1.
        """
        X = self._check(X)
        scores = []
        for family in self.fitted_.values():
            block = X[:, family.columns].astype(float)
            block = np.where(np.isnan(block), family.median, block)
            scores.append((block - family.center) / family.spread @ family.loadings / family.scale)
        return np.hstack(scores)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the components.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn compatibility.

        Returns
        -------
        ndarray of str, shape (n_components,)
            Family and number, such as ``"first_ap_v_0"``.
        """
        names = [f"{name}_{number}" for name, fitted in self.fitted_.items() for number in range(len(fitted.explained))]
        return np.array(names, dtype=object)

    @property
    def explained_variance_ratio_(self) -> Float[np.ndarray, "component"]:
        """Share of the variance of its family that each component adds to those before it."""
        return np.concatenate([family.explained for family in self.fitted_.values()])

    @property
    def loadings_(self) -> Float[np.ndarray, "column component"]:
        """Loadings of all components on all columns; zero outside the family."""
        loadings = np.zeros((sum(self.families.values()), len(self.explained_variance_ratio_)))
        first = 0
        for family in self.fitted_.values():
            last = first + len(family.explained)
            loadings[family.columns, first:last] = family.loadings
            first = last
        return loadings

    def summary(self) -> str:
        """Describe what was kept of each family.

        Returns
        -------
        str
            One line for all components and one for each family.
        """
        n_requested = sum(family.n_requested for family in self.fitted_.values())
        lines = [f"{len(self.explained_variance_ratio_)} of {n_requested} components, from {self.n_rows_} cells"]
        for name, family in self.fitted_.items():
            line = (
                f"{name}: {len(family.explained)} of {family.n_requested}, {family.explained.sum():.1%} of the variance"
            )
            if family.n_missing:
                line += f", {family.n_missing} missing values replaced by the median of their column"
            if not family.converged:
                line += f", not converged after {family.n_iterations} iterations"
            lines.append(line)
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write the fitted components to a file that `load` and NumPy read.

        Parameters
        ----------
        path : path
            The file, ``.npz``.

        Returns
        -------
        Path
            The file.
        """
        content: dict[str, Any] = {"schema": SCHEMA, "rows": self.n_rows_, "fitted": list(self.fitted_)}
        content |= {"families": list(self.families), "widths": list(self.families.values())}
        for family, fitted in self.fitted_.items():
            content |= {f"{family}/{RENAMED_IN_FILES.get(name, name)}": value for name, value in vars(fitted).items()}
        return write_npz(path, content)

    @classmethod
    def load(cls, path: str | Path) -> SparseComponents:
        """Read components that `save` has written.

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        SparseComponents
            The fitted estimator; its ``plan`` is not stored.

        Raises
        ------
        ValueError
            If the file has another schema.
        """
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        if str(stored.get("schema")) != SCHEMA:
            raise ValueError(f"{path} has the schema {stored.get('schema')}, not {SCHEMA!r}: fit and save it again")
        model = cls(dict(zip(stored["families"].tolist(), stored["widths"].tolist(), strict=True)))
        model.fitted_, model.n_rows_ = {}, int(stored["rows"])
        for family in stored["fitted"].tolist():
            content: dict[str, Any] = {}
            for field in fields(FittedFamily):
                value = stored[f"{family}/{RENAMED_IN_FILES.get(field.name, field.name)}"]
                content[field.name] = value if value.ndim else value.item()
            model.fitted_[family] = FittedFamily(**content)
        return model

    def _check(self, X: np.ndarray) -> np.ndarray:
        X, n_columns = np.asarray(X), sum(self.families.values())
        if X.ndim != 2 or X.shape[1] != n_columns:
            raise ValueError(f"values have the shape {X.shape}, but the families have {n_columns} columns in total")
        if np.isinf(X).any():
            row, column = np.argwhere(np.isinf(X))[0]
            raise ValueError(f"row {row}, column {column} is {X[row, column]}: a missing value is written as NaN")
        return X


def make_component_forest(families: Mapping[str, int], seed: int) -> Pipeline:
    """Return an unfitted random forest on sparse components.

    Parameters
    ----------
    families : mapping of str to int
        Name and width of each family of the columns, in order.
    seed : int
        Seed of the forest.

    Returns
    -------
    Pipeline
        `SparseComponents`, then the forest of `jaxephys.evaluation.baselines.make_baseline` (600 trees, as published).
    """
    return make_pipeline(SparseComponents(families), make_baseline("forest", seed)[-1])


def family_widths(table: FeatureTable) -> dict[str, int]:
    """Return the width of each family of a table.

    Parameters
    ----------
    table : FeatureTable of n_cells
        A feature table.

    Returns
    -------
    dict of str to int
        Name and number of features, in the order of the columns.
    """
    return dict(zip(table.families, table.widths, strict=True))


def _fit_family(family: str, plan: FamilyPlan, train: np.ndarray, columns: np.ndarray) -> FittedFamily:
    block = train[:, columns].astype(float)
    missing = np.isnan(block)
    never = missing.all(axis=0)
    # Ordinary components do not need a column that was never measured; sparse ones have fixed numbers of loadings.
    if never.any() and (never.all() or not isinstance(plan.components, int)):
        raise ValueError(
            f"{never.sum()} columns of {family} are missing in all {len(train)} training rows: leave it out of the plan"
        )
    block, missing, columns = block[:, ~never], missing[:, ~never], columns[~never]
    median = np.nanmedian(block, axis=0)
    block = np.where(missing, median, block)
    center = block.mean(axis=0)
    spread = np.where(plan.scaled & (np.ptp(block, axis=0) > 0), block.std(axis=0), 1.0)
    scaled = (block - center) / spread
    components = plan.components
    if isinstance(components, int):
        components = min(components, len(scaled) - 1, len(columns))
    try:
        model = SparsePrincipalComponents(components).fit(scaled)
    except ValueError as error:
        raise ValueError(f"family {family}: {error}") from error
    kept = model.explained_variance_ratio_ >= MIN_EXPLAINED
    loadings = model.loadings_[:, kept]
    return FittedFamily(
        columns=columns,
        median=median,
        center=center,
        spread=spread,
        loadings=loadings,
        explained=model.explained_variance_ratio_[kept],
        scale=(scaled @ loadings).std(axis=0),
        n_requested=len(kept),
        n_missing=int(missing.sum()),
        n_iterations=model.n_iter_,
        converged=model.converged_,
    )


def _plan_columns(family: str, plan: FamilyPlan, families: Mapping[str, int]) -> np.ndarray:
    """Return the columns of the table that a plan uses."""
    if family not in families:
        raise ValueError(
            f"the plan names {family}, but the table has {', '.join(families)}: give a plan for these families"
        )
    ranges: Sequence[tuple[int, int]] = plan.columns or ((0, families[family]),)
    last = max(stop for _, stop in ranges)
    if last > families[family]:
        raise ValueError(
            f"{family} has {families[family]} columns, but the plan uses {last}: build the table with the layout of the "
            "plan, or give another plan"
        )
    names = list(families)
    start = sum(families[name] for name in names[: names.index(family)])
    return start + np.concatenate([np.arange(*column_range) for column_range in ranges])
