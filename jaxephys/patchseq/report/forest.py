"""Random forests on features and on sparse components: fit them on all splits, and report scores and families.

``fit_forests`` adds the three forests to a ``ModelComparison``; ``forest_tables`` and ``draw_forests`` report them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline

from jaxephys.evaluation.baselines import fit_predict_proba, make_baseline
from jaxephys.evaluation.comparison import ModelComparison, score_rows
from jaxephys.evaluation.scores import Score
from jaxephys.evaluation.splits import SplitKey
from jaxephys.patchseq.family_importance import permutation_losses
from jaxephys.patchseq.grid import COMPONENT_FOREST, track_splits
from jaxephys.patchseq.published import HUMAN_TABLE, MOUSE_TABLE
from jaxephys.patchseq.report.comparison import METRICS, confusion_counts
from jaxephys.patchseq.sparse_components import SparseComponents, family_widths, make_component_forest
from jaxephys.reporting.bars import draw_bars, draw_classes
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.maps import draw_confusions
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import summarize
from jaxephys.reporting.tables import Cell, Table, class_table, format_mean_sd, model_table, summary_cell

FEATURES, COMPONENTS, ALL_CELLS = "forest", COMPONENT_FOREST, "components of all cells + forest"
LOSS = "macro-F1 lost"
PERMUTATIONS = 3  # of each family and split


def fit_forests(folder: RunFolder, comparison: ModelComparison, species: str, n_trees: int) -> list[Score]:
    """Fit a forest on the features, on components of the training cells and on components of all cells, on every split.

    Parameters
    ----------
    folder : RunFolder
        The run folder, for messages.
    comparison : ModelComparison
        The comparison that the test probabilities are added to.
    species : str
        Species of the cells, for the scores.
    n_trees : int
        Number of trees of each forest.

    Returns
    -------
    list of Score
        Scores besides those of the test cells: out of bag (split "out of bag"), numbers of components and explained
        variance ("train"), and losses of permuted families ("validation").
    """
    values, widths = comparison.table.values, family_widths(comparison.table)
    components_of_all_cells = SparseComponents(widths).fit_transform(values)
    makers = {
        FEATURES: (values, partial(make_baseline, "forest")),
        COMPONENTS: (values, partial(make_component_forest, widths)),
        ALL_CELLS: (components_of_all_cells, partial(make_baseline, "forest")),
    }
    scores = []
    settings = {"randomforestclassifier__n_estimators": n_trees, "randomforestclassifier__oob_score": True}
    for name, (inputs, make) in makers.items():
        for key, split in track_splits(folder, comparison, name):
            model = make(key.seed).set_params(**settings)
            n_classes = len(comparison.classes)
            probability = fit_predict_proba(model, inputs, comparison.codes, split.train, split.test, n_classes)
            comparison.add(name, key, probability)
            scores += _other_scores(model, comparison, key, name, species)
    return scores


def _other_scores(model: Pipeline, comparison: ModelComparison, key: SplitKey, name: str, species: str) -> list[Score]:
    """Scores of a fitted forest out of bag, its components, and the importance of each family."""
    split, widths, classes = comparison.splits[key], family_widths(comparison.table), comparison.classes
    (_, first), *_, (_, forest) = model.steps
    n_train, origin = len(split.train), ("patchseq_forest", name, species, key.kind, key.seed, key.fold)
    out_of_bag = np.zeros((n_train, len(classes)), np.float32)
    out_of_bag[:, forest.classes_.astype(int)] = forest.oob_decision_function_
    values = score_rows(comparison.codes[split.train], out_of_bag, np.ones(n_train, bool), n_train, classes)
    scores = [Score(*origin, "out of bag", metric, value, n_train) for metric, value in values.items()]
    if name == COMPONENTS:
        counts = {"components": float(len(first.get_feature_names_out()))}
        for family, fit in first.fitted_.items():
            counts[f"components {family}"] = float(len(fit.explained))
            counts[f"explained {family}"] = float(fit.explained.sum())
        scores += [Score(*origin, "train", metric, value, n_train) for metric, value in counts.items()]
    if name != ALL_CELLS and key.kind == comparison.kinds[0]:
        used = first.fitted_ if name == COMPONENTS else widths
        rows, codes = comparison.table.values[split.validation], comparison.codes[split.validation]
        losses = permutation_losses(model.predict, rows, codes, widths, key[1:], PERMUTATIONS)
        losses = {f"{LOSS} {family}": loss for family, loss in losses.items() if family in used}
        scores += [Score(*origin, "validation", metric, loss, len(codes)) for metric, loss in losses.items()]
    return scores


def forest_tables(
    scores: Sequence[Score], comparison: ModelComparison, published: Mapping[str, Mapping[str, str]]
) -> dict[str, Table]:
    """Return the tables of the report.

    Parameters
    ----------
    scores : sequence of Score
        All scores.
    comparison : ModelComparison
        The comparison.
    published : mapping of str to mapping of str to str
        Published values by model and metric, quoted where single cells are held out.

    Returns
    -------
    dict of str to Table
        For each kind of split the forests with paired differences, the effect of fitting components on all cells, and
        out-of-bag scores beside test scores; then families and classes for the first kind.
    """
    tables, first = {}, [score for score in scores if score.test_on == comparison.kinds[0]]
    for kind in comparison.kinds:
        kind_scores = [score for score in scores if score.test_on == kind]
        n_train = round(np.mean([len(split.train) for key, split in comparison.splits.items() if key.kind == kind]))
        quoted = published if kind == "cell" else None
        tables[f"Held out by {kind}"] = model_table(kind_scores, METRICS, quoted, reference=FEATURES, n_train=n_train)
        both = [score for score in kind_scores if score.variant in (COMPONENTS, ALL_CELLS)]
        heading = f"Effect of fitting components on all cells, by {kind}"
        tables[heading] = model_table(both, METRICS[:1], reference=COMPONENTS, n_train=n_train)
        tables[f"Out of bag, and on test cells, by {kind}"] = _out_of_bag_table(kind_scores)
    tables[f"Families, by {comparison.kinds[0]}"] = _family_table(first, family_widths(comparison.table))
    tables[f"Classes, by {comparison.kinds[0]}"] = class_table(first, comparison.classes, (FEATURES, COMPONENTS))
    return tables


def _out_of_bag_table(scores: Sequence[Score]) -> Table:
    models, metrics = (FEATURES, COMPONENTS, ALL_CELLS), ("macro_f1", "accuracy")
    selected = [score for score in scores if score.metric in metrics]
    summaries = {split: summarize(selected, split=split) for split in ("out of bag", "test")}
    columns = {"Model": [Cell(model) for model in models]}
    for metric in metrics:
        for split, summary in summaries.items():
            columns[f"{metric_label(metric)}, {split}"] = [summary_cell(summary[model, metric]) for model in models]
    return Table(columns, [])


def _family_table(scores: Sequence[Score], widths: Mapping[str, int]) -> Table:
    """Components of each family, their explained variance, and the loss of each forest without the family."""
    fitted, importance = (summarize(scores, split=split) for split in ("train", "validation"))

    def column(summary: Mapping, model: str, measure: str) -> list[Cell]:
        return [summary_cell(summary.get((model, f"{measure} {family}"))) for family in widths]

    total = fitted[COMPONENTS, "components"]
    return Table(
        {
            "Family": [Cell(family) for family in widths],
            "Features": [Cell(str(width)) for width in widths.values()],
            "Components": column(fitted, COMPONENTS, "components"),
            "Explained variance": column(fitted, COMPONENTS, "explained"),
            f"{LOSS}, {FEATURES}": column(importance, FEATURES, LOSS),
            f"{LOSS}, {COMPONENTS}": column(importance, COMPONENTS, LOSS),
        },
        [f"{format_mean_sd(total.mean, total.sd)} components in total, from {sum(widths.values())} features."],
    )


def draw_forests(folder: RunFolder, scores: Sequence[Score], comparison: ModelComparison) -> dict[str, Path]:
    """Draw scores, classes, confusion matrices and the importance of families for the first kind of split.

    Parameters
    ----------
    folder : RunFolder
        The run folder.
    scores : sequence of Score
        All scores.
    comparison : ModelComparison
        The comparison.

    Returns
    -------
    dict of str to Path
        Figures by caption.
    """
    kind, path, models = comparison.kinds[0], folder.path, (FEATURES, COMPONENTS)
    kind_scores = [score for score in scores if score.test_on == kind]
    metrics = {score.metric for score in kind_scores if score.variant == COMPONENTS}
    families = [family for family in comparison.table.families if f"{LOSS} {family}" in metrics]
    published = {"mouse": MOUSE_TABLE, "human": HUMAN_TABLE}.get(scores[0].train_on if scores else "", {})
    number = published.get(COMPONENTS, {}).get("macro_f1") if kind == "cell" else None
    lines = {"published, on other cells": number.mean} if number is not None else {}
    confusions = {model: confusion_counts(comparison, model, kind) for model in (FEATURES, COMPONENTS, ALL_CELLS)}
    return {
        f"Test macro-F1 of every model, by {kind}": draw_bars(
            path, kind_scores, "macro_f1", lines, baselines=[FEATURES], label="forest on components"
        ),
        f"F1 of each class, by {kind}": draw_classes(path, kind_scores, "f1", comparison.classes, models),
        f"Confusion of each forest on the test cells of all seeds, by {kind}": draw_confusions(
            path, confusions, comparison.classes
        ),
        f"Loss of macro-F1 on validation cells when a family is permuted, by {kind}": draw_classes(
            path,
            kind_scores,
            LOSS,
            families,
            models,
            split="validation",
            name="families",
            title="Loss of macro F1 without a family",
        ),
    }
