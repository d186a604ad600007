"""Components and forest: the published opponent, a random forest on sparse components, fitted on the rows it is given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline, make_pipeline

from jaxephys.evaluation.baselines import make_baseline
from jaxephys.patchseq.sparse_components import GOUWENS, FamilyComponents, FamilyPlan, default_plan
from jaxephys.schemas.feature_table import FeatureTable


class SparseComponents(TransformerMixin, BaseEstimator):
    """The components of each family for scikit-learn: fitted on the rows of ``fit``, whose medians fill what is missing.

    ``families`` gives the width of each family of the columns, in order.
    """

    def __init__(self, families: Mapping[str, int]) -> None:
        self.families = families

    def fit(self, X: np.ndarray, y: object = None) -> SparseComponents:
        self.fitted_ = FamilyComponents.fit(X, self.families, np.arange(len(X)), plan_of(self.families))
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return self.fitted_.transform(X)


def plan_of(families: Mapping[str, int]) -> Mapping[str, FamilyPlan]:
    """That of Gouwens et al. where all its families are there (others, such as psth, are left out); or the default one."""
    return GOUWENS if set(GOUWENS) <= set(families) else default_plan(families)


def make_component_forest(families: Mapping[str, int], seed: int) -> Pipeline:
    """A fresh opponent: sparse components, then the forest of the baselines (600 trees, as published)."""
    return make_pipeline(SparseComponents(families), make_baseline("forest", seed)[-1])


def widths_of(table: FeatureTable) -> dict[str, int]:
    """The width of each family of a table, in order."""
    return dict(zip(table.families, table.widths, strict=True))
