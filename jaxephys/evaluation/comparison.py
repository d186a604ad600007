"""Comparison of models on the same splits: test probabilities of every model, average ensembles, recalibration and scores.

`ModelComparison` collects the probabilities of every model on the test rows of every split and, for models that have them, on
*calibration rows*, which neither trained the model nor test it. Temperatures, class offsets and conformal thresholds are fitted to
calibration rows only; adding calibration rows that are also test rows raises an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.evaluation.calibration import (
    apply_offsets,
    apply_prior,
    apply_temperature,
    conformal_sets,
    conformal_thresholds,
    fit_offsets,
    fit_temperature,
    selective_curve,
)
from jaxephys.evaluation.metrics import class_scores, classification_scores
from jaxephys.evaluation.scores import Score
from jaxephys.evaluation.splits import Split, SplitKey
from jaxephys.schemas.feature_table import FeatureTable

COVERAGE = 0.9  # probability with which a conformal set contains the true class


class CalibrationRows(NamedTuple):
    """Rows that neither trained a model nor test it, with its probabilities.

    Parameters
    ----------
    rows : array of int, shape (n,)
        Indices of rows of the table.
    probability : array of float, shape (n, n_classes)
        Class probabilities of these rows.
    """

    rows: np.ndarray
    probability: np.ndarray


@dataclass
class ModelComparison:
    """Class probabilities of several models on the same splits of a table.

    Parameters
    ----------
    table : FeatureTable
        The cells, with their classes.
    splits : mapping of SplitKey to Split
        Training, validation and test rows of each split.
    test_probability : dict of str to dict of SplitKey to array
        Probabilities by model and split, each of shape (n_test, n_classes). Filled by `add`.
    calibration : dict of str to dict of SplitKey to CalibrationRows
        Calibration rows by model and split, for the models that have them. Filled by `add`.
    """

    table: FeatureTable
    splits: Mapping[SplitKey, Split]
    test_probability: dict[str, dict[SplitKey, np.ndarray]] = field(default_factory=dict)
    calibration: dict[str, dict[SplitKey, CalibrationRows]] = field(default_factory=dict)

    @cached_property
    def codes(self) -> np.ndarray:
        """Class of each row of the table as an index into `classes`, shape (n_rows,)."""
        return self.table.codes()

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.table.classes.tolist()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the splits without repetition, in their order: ``"cell"``, ``"donor"``."""
        return tuple(dict.fromkeys(kind for kind, _, _ in self.splits))

    def add(
        self, model: str, key: SplitKey, probability: np.ndarray, calibration: CalibrationRows | None = None
    ) -> None:
        """Add the probabilities of a model on one split.

        Parameters
        ----------
        model : str
            Name of the model.
        key : SplitKey
            The split.
        probability : array, shape (n_test, n_classes)
            Probabilities of the test rows of the split, stored as float32.
        calibration : CalibrationRows, optional
            Rows on which the model may be recalibrated.

        Raises
        ------
        ValueError
            If a calibration row is a test row of the split.
        """
        if calibration is not None:
            shared = np.intersect1d(calibration.rows, self.splits[key].test)
            if len(shared):
                raise ValueError(
                    f"{model}, {tuple(key)}: test row {shared[0]} is also a calibration row ({len(shared)} in total)"
                )
            stored = CalibrationRows(calibration.rows, np.asarray(calibration.probability, np.float32))
            self.calibration.setdefault(model, {})[key] = stored
        self.test_probability.setdefault(model, {})[key] = np.asarray(probability, np.float32)

    def add_transformed(self, name: str, model: str, transform: Callable[[np.ndarray, SplitKey], np.ndarray]) -> None:
        """Add a model whose probabilities are a function of those of another model.

        Parameters
        ----------
        name : str
            Name of the new model.
        model : str
            Name of a model with calibration rows.
        transform : callable
            Function of probabilities (n, n_classes) and the split key that returns probabilities of the same shape. It is
            applied to test rows and calibration rows.
        """
        for key in self.splits:
            rows, probability = self.calibration[model][key]
            calibration = CalibrationRows(rows, transform(probability, key))
            self.add(name, key, transform(self.test_probability[model][key], key), calibration)

    def add_class_offsets(self, name: str, model: str) -> None:
        """Add a model with the class offsets that improve macro F1 on the calibration rows.

        Parameters
        ----------
        name : str
            Name of the new model.
        model : str
            Name of a model with calibration rows, see `jaxephys.evaluation.calibration.fit_offsets`.
        """
        offsets = {
            key: fit_offsets(probability, self.codes[rows])
            for key, (rows, probability) in self.calibration[model].items()
        }
        self.add_transformed(name, model, lambda probability, key: apply_offsets(probability, offsets[key]))

    def add_prior_weighted(self, name: str, model: str, power: float) -> None:
        """Add a model whose probabilities are multiplied by a power of the class frequencies of its training rows.

        Parameters
        ----------
        name : str
            Name of the new model.
        model : str
            Name of a model with calibration rows.
        power : float
            Exponent of the frequencies: 1 restores class frequencies that balanced training removed.
        """

        def transform(probability: np.ndarray, key: SplitKey) -> np.ndarray:
            counts = np.bincount(self.codes[self.splits[key].train], minlength=len(self.classes))
            return apply_prior(probability, counts / counts.sum(), power)

        self.add_transformed(name, model, transform)

    def add_average_ensemble(self, name: str, members: Sequence[str]) -> None:
        """Add the mean of several models, each rescaled by the temperature that fits its calibration rows.

        Parameters
        ----------
        name : str
            Name of the new model.
        members : sequence of str
            Names of models with the same calibration rows. With one member, the result is that model after temperature scaling.

        Raises
        ------
        ValueError
            If the members have different calibration rows.
        """
        for key in self.splits:
            calibration = [self.calibration[model][key] for model in members]
            rows = calibration[0].rows
            if any(not np.array_equal(each.rows, rows) for each in calibration):
                raise ValueError(
                    f"{', '.join(members)} are calibrated on different rows: an ensemble needs the same rows for all members"
                )
            test, other = [], []
            for model, (_, probability) in zip(members, calibration, strict=True):
                temperature = fit_temperature(probability, self.codes[rows])
                test.append(apply_temperature(self.test_probability[model][key], temperature))
                other.append(apply_temperature(probability, temperature))
            self.add(name, key, np.mean(test, axis=0), CalibrationRows(rows, np.mean(other, axis=0)))

    def scores(self, experiment: str, train_on: str) -> list[Score]:
        """Return the test scores of every model, split and condition.

        Parameters
        ----------
        experiment : str
            Name of the experiment, for the score table.
        train_on : str
            Name of the training data, for the score table.

        Returns
        -------
        list of Score
            Classification metrics, metrics of each class and `uncertainty_scores`. ``test_on`` is the kind of the split. If the
            table has several conditions, the rows of each condition are scored as well, as ``"<kind>, <condition>"``.
        """
        condition = self.table.about.get("condition", np.full(len(self.table), ""))
        conditions = [name for name in np.unique(condition) if name] if len(np.unique(condition)) > 1 else []
        padded_length = max(len(split.test) for split in self.splits.values())
        scores = []
        for model, by_split in self.test_probability.items():
            for key, probability in by_split.items():
                test = self.splits[key].test
                parts = {key.kind: np.ones(len(test), bool)}
                parts |= {f"{key.kind}, {name}": condition[test] == name for name in conditions}
                for part, selected in parts.items():
                    values = score_rows(self.codes[test], probability, selected, padded_length, self.classes)
                    if part == key.kind:
                        values |= self.uncertainty_scores(model, key)
                    run = (experiment, model, train_on, part, key.seed, key.fold, "test")
                    scores += [Score(*run, metric, value, int(selected.sum())) for metric, value in values.items()]
        return scores

    def uncertainty_scores(self, model: str, key: SplitKey) -> dict[str, float]:
        """Return how well a model knows which of its predictions are uncertain.

        Parameters
        ----------
        model : str
            Name of a model.
        key : SplitKey
            A split.

        Returns
        -------
        dict of str to float
            ``selective_error``, the mean error over all shares of answered cells, the most confident first. For models with
            calibration rows also properties of the conformal sets of 90 % coverage: ``set_size``, the mean number of classes;
            ``single``, ``empty`` and ``several``, the shares of test cells whose set has one, no or several classes; and
            ``covered <class>``, the share of the cells of a class whose set contains it.
        """
        codes, probability = self.codes[self.splits[key].test], self.test_probability[model][key]
        values = {"selective_error": selective_curve(probability, codes).area}
        if model not in self.calibration:
            return values
        calibration = self.calibration[model][key]
        thresholds = conformal_thresholds(calibration.probability, self.codes[calibration.rows], COVERAGE)
        sets = conformal_sets(probability, thresholds)
        size, contains_truth = sets.sum(axis=1), sets[np.arange(len(codes)), codes]
        values |= {"set_size": float(size.mean()), "single": float((size == 1).mean())}
        values |= {"empty": float((size == 0).mean()), "several": float((size > 1).mean())}
        for code, name in enumerate(self.classes):
            class_contains_truth = contains_truth[codes == code]
            values[f"covered {name}"] = float(class_contains_truth.mean()) if len(class_contains_truth) else math.nan
        return values

    def prediction_arrays(self) -> dict[str, Any]:
        """Return the arguments of `jaxephys.reporting.run_folder.RunFolder.write_predictions` for all models.

        Returns
        -------
        dict of str to object
            Splits, table, probabilities of shape (n_models, n_splits, n_test, n_classes) padded with NaN, and
            arrays that name the axes: models, kind, seed and fold of the splits, and identifier and class of the cells.
        """
        longest = max(len(split.test) for split in self.splits.values())
        shape = (len(self.test_probability), len(self.splits), longest, len(self.classes))
        probability = np.full(shape, np.nan, np.float32)
        for i, by_split in enumerate(self.test_probability.values()):
            for j, key in enumerate(self.splits):
                probability[i, j, : len(by_split[key])] = by_split[key]
        kind, seed, fold = (np.array(column) for column in zip(*self.splits, strict=True))
        # The names of the arrays are those of the files of earlier versions.
        return dict(
            splits=list(self.splits.values()),
            table=self.table,
            probability=probability,
            arm=np.array(list(self.test_probability)),
            folds=kind,
            seed=seed,
            fold=fold,
            cell=self.table.cell,
            label=self.codes,
        )


def score_rows(
    codes: Int[np.ndarray, "row"],
    probability: Float[np.ndarray, "row class"],
    selected: Bool[np.ndarray, "row"],
    padded_length: int,
    classes: Sequence[str],
) -> dict[str, float]:
    """Return the classification metrics of selected rows, and precision, recall and F1 of each class.

    Parameters
    ----------
    codes : array of int, shape (n,)
        True classes.
    probability : array, shape (n, n_classes)
        Class probabilities.
    selected : array of bool, shape (n,)
        Rows to score.
    padded_length : int
        Length to which the rows are padded, at least n. Calls with the same length share one compiled program.
    classes : sequence of str
        Names of the classes.

    Returns
    -------
    dict of str to float
        Metrics by key; those of a class are named ``"precision <class>"``, ``"recall <class>"``, ``"f1 <class>"``. Empty if no
        row is selected.
    """
    if not selected.any():
        return {}
    missing = padded_length - len(codes)
    weight = np.pad(selected, (0, missing)).astype(np.float32)
    overall, by_class = _padded_scores(np.pad(codes, (0, missing)), np.pad(probability, ((0, missing), (0, 0))), weight)
    values = {metric: float(value) for metric, value in overall.items()}
    for metric, column in by_class.items():
        values |= {f"{metric} {name}": float(value) for name, value in zip(classes, column, strict=True)}
    return values


@jax.jit
def _padded_scores(
    codes: Int[AnyArray, "row"], probability: Float[AnyArray, "row class"], weight: Float[AnyArray, "row"]
) -> tuple[dict, dict]:
    overall = classification_scores(codes, probability, weight)
    return overall, class_scores(codes, probability.argmax(axis=-1), weight, probability.shape[-1])
