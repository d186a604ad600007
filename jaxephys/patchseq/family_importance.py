"""Importance of feature families: attention, and the macro-F1 that is lost when a family is permuted or missing.

``AttentionRuns`` scores trained attention networks on their test cells; ``permutation_losses`` does the same for any
classifier. ``importance_tables`` and ``importance_notes`` summarize the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from jaxephys.evaluation.comparison import ModelComparison
from jaxephys.evaluation.metrics import classification_scores
from jaxephys.evaluation.scores import Score
from jaxephys.patchseq.task import Prediction
from jaxephys.reporting.headline import SummaryRow
from jaxephys.reporting.score_table import group_scores, seed_means
from jaxephys.reporting.tables import Table, model_table
from jaxephys.schemas.feature_table import FeatureTable

EXPERIMENT = "patchseq_attention"
SWAPPED, MISSING = "lost when swapped", "lost when missing"
ATTENTION = "attention"
Losses = Mapping[str, Float[np.ndarray, "draw family"]]


@dataclass(frozen=True)
class AttentionRuns:
    """The runs of an attention network, one for each split of a comparison, in this order.

    Parameters
    ----------
    comparison : ModelComparison
        The cells and the splits, all of one kind.
    """

    comparison: ModelComparison

    def scores(self, prediction: Prediction) -> list[Score]:
        """Return the scores of every run on its test cells.

        Parameters
        ----------
        prediction : Prediction
            Predictions of the test cells of each run, padded to the longest test set.

        Returns
        -------
        list of Score
            Every classification metric.
        """
        codes, scores = self.comparison.codes, []
        for (key, split), probability in zip(self.comparison.splits.items(), prediction.probability, strict=True):
            n = len(split.test)
            values = classification_scores(codes[split.test], probability[:n], np.ones(n, np.float32))
            origin = (EXPERIMENT, ATTENTION, "same species", key.kind, key.seed, key.fold, "test")
            scores += [Score(*origin, metric, float(value), n) for metric, value in values.items()]
        return scores

    def class_attention(self, prediction: Prediction) -> Float[np.ndarray, "draw class family"]:
        """Return the mean attention of the test cells of each class.

        Parameters
        ----------
        prediction : Prediction
            Predictions of the test cells of each run.

        Returns
        -------
        array of shape (seed, class, family)
            Mean over all test cells of a seed, so that folds of unequal size do not count equally.
        """
        by_seed: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        for (key, split), attention in zip(self.comparison.splits.items(), prediction.attention, strict=True):
            test = (self.comparison.codes[split.test], attention[: len(split.test)])
            by_seed.setdefault(key.seed, []).append(test)
        means = []
        for folds in by_seed.values():
            codes, attention = map(np.concatenate, zip(*folds, strict=True))
            means.append([attention[codes == code].mean(axis=0) for code in range(len(self.comparison.classes))])
        return np.array(means)

    def losses(
        self, predict: Callable[[np.ndarray], Prediction], families: Iterable[str], swaps: int, scores: Sequence[Score]
    ) -> dict[str, Float[np.ndarray, "draw family"]]:
        """Return the macro-F1 that is lost without each family, swapped between cells or missing.

        Parameters
        ----------
        predict : callable
            Predicts the test cells of each run from features of shape (cell, column).
        families : iterable of str
            Names of the families of the table, in order; a progress bar may run over them.
        swaps : int
            Number of permutations of each family.
        scores : sequence of Score
            Scores with the unchanged features.

        Returns
        -------
        dict of str to array of shape (seed, family)
            Losses by ``SWAPPED`` and ``MISSING``.
        """
        cells, losses = self.comparison.table, {SWAPPED: [], MISSING: []}
        for family in families:
            swapped = [swap_family(cells, family, seed) for seed in range(swaps)]
            losses[SWAPPED].append(self.family_loss(predict, swapped, scores))
            losses[MISSING].append(self.family_loss(predict, [remove_family(cells, family)], scores))
        return {name: np.stack(lost, axis=1) for name, lost in losses.items()}

    def family_loss(
        self, predict: Callable[[np.ndarray], Prediction], versions: Sequence[np.ndarray], scores: Sequence[Score]
    ) -> Float[np.ndarray, "draw"]:
        """Return the macro-F1 that is lost with other features.

        Parameters
        ----------
        predict : callable
            Predicts the test cells of each run from features of shape (cell, column).
        versions : sequence of arrays of shape (cell, column)
            Changed features; the loss is the mean over them.
        scores : sequence of Score
            Scores with the unchanged features.

        Returns
        -------
        array of shape (seed,)
            Loss of macro-F1.
        """
        changed = [_macro_f1_by_seed(self.scores(predict(values))) for values in versions]
        return _macro_f1_by_seed(scores) - np.mean(changed, axis=0)

    def family_scores(self, attention: Float[np.ndarray, "draw class family"], losses: Losses) -> list[Score]:
        """Return attention and losses as scores, one variant per family.

        Parameters
        ----------
        attention : array of shape (seed, class, family)
            Result of ``class_attention``.
        losses : mapping of str to array of shape (seed, family)
            Losses of macro-F1 by the name of the change.

        Returns
        -------
        list of Score
            "attention" of all cells, "attention of CLASS", and each loss, for every family and seed.
        """
        table, classes = self.comparison.table, self.comparison.classes
        (kind,), n_cells, scores = self.comparison.kinds, len(table), []
        shares = np.bincount(self.comparison.codes) / n_cells
        for seed, (class_attention, *lost) in enumerate(zip(attention, *losses.values(), strict=True)):
            for index, family in enumerate(table.families):
                weights = class_attention[:, index]
                values = {ATTENTION: weights @ shares}
                values |= {f"attention of {name}": weight for name, weight in zip(classes, weights, strict=True)}
                values |= {name: loss[index] for name, loss in zip(losses, lost, strict=True)}
                origin = (EXPERIMENT, family, "same species", kind, seed, 0, "test")
                scores += [Score(*origin, metric, float(value), n_cells) for metric, value in values.items()]
        return scores


def swap_family(cells: FeatureTable, family: str, seed: int) -> Float[np.ndarray, "cell column"]:
    """Return features with the values of one family permuted among the cells, all columns together.

    Parameters
    ----------
    cells : FeatureTable of n_cells
        The cells.
    family : str
        Name of the family.
    seed : int
        Seed of the permutation.

    Returns
    -------
    array of shape (cell, column)
        The changed features.
    """
    columns, values = cells.columns[family], cells.values.copy()
    values[:, columns] = values[np.random.default_rng(seed).permutation(len(values)), columns]
    return values


def remove_family(cells: FeatureTable, family: str) -> Float[np.ndarray, "cell column"]:
    """Return features with one family missing in every cell.

    Our encoder sees that the values are missing; the published one sees the medians of the training cells.

    Parameters
    ----------
    cells : FeatureTable of n_cells
        The cells.
    family : str
        Name of the family.

    Returns
    -------
    array of shape (cell, column)
        The features, NaN in the columns of the family.
    """
    values = cells.values.copy()
    values[:, cells.columns[family]] = np.nan
    return values


def permutation_losses(
    predict: Callable[[np.ndarray], np.ndarray],
    values: Float[np.ndarray, "row column"],
    codes: Int[np.ndarray, "row"],
    widths: Mapping[str, int],
    seed: int | Sequence[int],
    repeats: int = 3,
) -> dict[str, float]:
    """Return the macro-F1 that a classifier loses when the columns of a family are permuted together among rows.

    Parameters
    ----------
    predict : callable
        Predicts the class codes of features of shape (row, column).
    values : array of shape (row, column)
        Features of rows that the classifier was not trained on; missing values are permuted with the others.
    codes : array of int, shape (row,)
        Class of each row.
    widths : mapping of str to int
        Width of each family, in order.
    seed : int or sequence of int
        Seed of the permutations.
    repeats : int, default 3
        Permutations of each family.

    Returns
    -------
    dict of str to float
        Mean loss by family.
    """
    rng = np.random.default_rng(seed)
    edges = np.cumsum([0, *widths.values()])

    def macro_f1(features: np.ndarray) -> float:
        return float(f1_score(codes, predict(features), average="macro"))

    unchanged, losses = macro_f1(values), {}
    for family, start, stop in zip(widths, edges[:-1], edges[1:], strict=True):
        scores = []
        for _ in range(repeats):
            permuted = values.copy()
            permuted[:, start:stop] = values[rng.permutation(len(values)), start:stop]
            scores.append(macro_f1(permuted))
        losses[family] = unchanged - float(np.mean(scores))
    return losses


def importance_tables(scores: Sequence[Score], families: Sequence[str], classes: Sequence[str]) -> dict[str, Table]:
    """Return the tables of attention and losses.

    Parameters
    ----------
    scores : sequence of Score
        Scores of the network and of the families.
    families, classes : sequence of str
        Names of the families and classes.

    Returns
    -------
    dict of str to Table
        Attention and losses of each family, attention of each class, and the scores of the network.
    """
    family_scores = [score for score in scores if score.variant in families]
    network_scores = [score for score in scores if score.variant == ATTENTION]
    heading = "Families: attention of all cells, and loss of macro-F1"
    return {
        heading: model_table(family_scores, (ATTENTION, SWAPPED, MISSING)),
        "Attention of each class": model_table(family_scores, [f"attention of {name}" for name in classes]),
        "The network": model_table(network_scores, ("macro_f1", "accuracy", "balanced_accuracy")),
    }


def importance_notes(
    attention: Float[np.ndarray, "draw class family"], losses: Losses, cells: FeatureTable
) -> list[str]:
    """Return in words how well seeds agree, and how well attention and losses agree.

    Parameters
    ----------
    attention : array of shape (seed, class, family)
        Mean attention of each class.
    losses : mapping of str to array of shape (seed, family)
        Losses of macro-F1 by the name of the change.
    cells : FeatureTable of n_cells
        Labelled cells.

    Returns
    -------
    list of str
        Sentences for the report.
    """
    families, shares = cells.families, np.bincount(cells.codes()) / len(cells)
    mean = shares @ attention  # every cell has the same weight, as in the first table
    notes = []
    if len(mean) > 1:
        pairs = _seed_correlations(mean)
        notes.append(
            f"The attention of two seeds ranks the families with a Spearman correlation of {np.mean(pairs):.2f} (mean)."
        )
    for name, lost in losses.items():
        correlation = _rank_correlation(mean.mean(axis=0), lost.mean(axis=0))
        notes.append(
            f"Attention and macro-F1 {name} rank the {len(families)} families with a Spearman correlation of "
            f"{correlation:.2f}; most is {name} for {families[int(lost.mean(axis=0).argmax())]}, the family with most "
            f"attention is {families[int(mean.mean(axis=0).argmax())]}."
        )
    return [*notes, "A family whose information is also in other families costs little when it is missing."]


def importance_rows(
    attention: Float[np.ndarray, "draw class family"], losses: Losses, cells: FeatureTable
) -> list[SummaryRow]:
    """Return the rank correlations of attention with the losses of macro-F1, for the summary of a report.

    Parameters
    ----------
    attention : array of shape (seed, class, family)
        Mean attention of each class.
    losses : mapping of str to array of shape (seed, family)
        Losses of macro-F1 by the name of the change.
    cells : FeatureTable of n_cells
        Labelled cells.

    Returns
    -------
    list of SummaryRow
        One row per change. The correlation of the attention of two seeds is beside it.
    """
    mean, rows = np.bincount(cells.codes()) / len(cells) @ attention, []
    pairs = _seed_correlations(mean)
    for name, lost in losses.items():
        value = _rank_correlation(mean.mean(axis=0), lost.mean(axis=0))
        text = f"Attention ranks the {len(cells.families)} families like the macro-F1 {name} with a Spearman correlation of {value:.2f}."
        row = SummaryRow(f"families, macro-F1 {name}", "rank correlation", "attention", f"{value:.2f}", text=text)
        if pairs:
            row = replace(row, baseline="attention of another seed", baseline_score=f"{np.mean(pairs):.2f}")
        rows.append(row)
    return rows


def _macro_f1_by_seed(scores: Sequence[Score]) -> Float[np.ndarray, "draw"]:
    """Return the mean over the folds of each seed."""
    runs = group_scores([score for score in scores if score.metric == "macro_f1"], ("metric",), "test")
    return np.array(list(seed_means(runs["macro_f1",]).values()))


def _seed_correlations(mean: Float[np.ndarray, "draw family"]) -> list[float]:
    """Rank correlation of the attention of every two seeds."""
    return [_rank_correlation(mean[i], mean[j]) for i in range(len(mean)) for j in range(i)]


def _rank_correlation(left: Float[np.ndarray, "family"], right: Float[np.ndarray, "family"]) -> float:
    return float(spearmanr(left, right)[0])  # pyright: ignore[reportArgumentType]
