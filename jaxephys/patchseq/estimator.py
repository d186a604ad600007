"""PatchSeqClassifier: the scikit-learn estimator of the Patch-seq system."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, cast, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from sklearn.base import ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, fit, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import pad_samples, plain_rows, stack_rows
from jaxephys.engine.task import RowSet, RunInputs
from jaxephys.evaluation.calibration import apply_temperature, conformal_sets, conformal_thresholds, fit_temperature
from jaxephys.evaluation.estimator_inputs import (
    check_features,
    check_labels,
    check_weights,
    class_codes,
    encode_classes,
)
from jaxephys.evaluation.metrics import classification_scores
from jaxephys.evaluation.splits import Split, hold_out
from jaxephys.models.base import EnsembleEstimator, mean_over_runs, score_row
from jaxephys.models.export import ExportProgram
from jaxephys.models.model_card import ModelDetails
from jaxephys.models.parameters import first_seed
from jaxephys.models.run_template import RunTemplate
from jaxephys.patchseq.export import make_program
from jaxephys.patchseq.feature_matching import MatchedFeatures, match_features
from jaxephys.patchseq.model_details import describe_model
from jaxephys.patchseq.network.classifier import NetworkSwitches, SubclassNetwork
from jaxephys.patchseq.network.dropout import DEFAULT_RATES
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.parameters import check_parameters
from jaxephys.patchseq.preprocessing import (
    LogZScore,
    Scale,
    SignedLog,
    ZScore,
    fit_signed_log,
    fit_z_score,
    typical_values,
)
from jaxephys.patchseq.task import CellConstants, Prediction, Variant, make_data, make_run_inputs, make_task
from jaxephys.schemas.feature_table import FeatureTable, group_features

Cells = Any  # FeatureTable, DataFrame or array-like with two or three axes; `check_features` checks them
MIN_CELLS = 3  # of a class: two to train and one to validate
MANY_COLUMNS = 100  # above this number a warning is given if each column is a family


class PatchSeqClassifier(ClassifierMixin, EnsembleEstimator):
    """Predict the transcriptomic subclass of a neuron from ordered families of electrophysiological features.

    A BiLSTM reads the families of a cell one after the other, attention pools them, and a softmax or ArcFace head
    classifies the pooled vector. Several networks are trained at once, each with its own seed; predictions are their mean,
    calibrated with the validation cells of all networks. NaN marks a missing value.

    Parameters
    ----------
    head : {"softmax", "arcface"}, default "softmax"
        Classification head. ArcFace adds an angular margin to the true class in training.
    pooling : {"attention", "fixed"}, default "attention"
        Weigh the families of each cell by attention. "fixed" weighs all alike, or, where ``token`` is None, takes the
        state of the last family only, as the published BiLSTM without attention does.
    token : int or None, default 64
        Number of values that each family is projected to by its own linear map, from signed-log features and the flags of
        missing values. None selects the published encoder: z-scores, families padded with zeros to the widest.
    smote : bool, default False
        Add synthetic training cells (SMOTE) until all classes are as large as the largest.
    gamma : float, default 0.0
        Exponent of the focal loss; 0 is cross-entropy.
    class_weights : {"none", "inverse", "effective"}, default "none"
        Weights of the classes in the loss: equal, by inverse frequency, or by the effective number of cells.
    seeds : int, default 10
        Number of networks, each with its own validation split and initial weights.
    hidden : int, default 128
        Hidden units of the LSTM in each direction.
    dropout : float, default 0.2
        Dropout before the softmax head; the ArcFace head has none.
    max_epochs : int, default 50
        Largest number of passes over the training cells.
    patience : int, default 7
        Stop a network after this number of epochs without a better validation macro-F1.
    batch_size : int, default 64
        Cells per optimizer step.
    learning_rate : float, default 1e-3
        Learning rate of AdamW.
    validation : float, default 0.2
        Share of the cells that a network is not trained on; they select its best epoch and calibrate the ensemble.
    families : mapping of str to int, optional
        Name and width of each family, in order, where ``X`` is no FeatureTable. By default, neighboring columns of a DataFrame
        that are called ``first_ap_v_0``, ``first_ap_v_1``, ... are the family ``first_ap_v``, any other column is a family of
        its own, and so is each column of an array of shape (cell, column).
    random_state : int, RandomState or None, default 0
        Seed of the first network; the others follow. A RandomState draws it; with None it differs at each call of ``fit``.
    progress : bool, default True
        Show a progress bar while training.

    Attributes
    ----------
    classes_ : array of shape (class,)
        The classes, sorted, in the type of the labels: text, integers, booleans.
    families_, widths_, features_ : tuple
        Families, their widths, and the features of the training table.
    n_features_in_ : int
        Number of features of a cell, over all families.
    feature_names_in_ : array of str, shape (feature,)
        Names of the features, where ``fit`` has received a FeatureTable or a DataFrame with text names. Cells to predict must
        then have the same features in the same order.
    temperature_ : float
        Temperature of the calibration; above 1 where the networks were overconfident on their validation cells.
    history_ : dict of arrays of shape (seeds, max_epochs)
        Losses and validation scores after each epoch.
    result_ : FitResult
        The result of the engine.

    See Also
    --------
    jaxephys.load : Load a classifier that ``save`` has written.
    jaxephys.KernelClassifier : A classifier of scalar features that is trained in seconds.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = np.array(["Pvalb", "Sst", "Vip"])[np.arange(90) % 3]
    >>> X = rng.normal(size=(90, 5))
    >>> X[:, 0] += 5 * (y == "Sst")
    >>> X[:, 4] += 5 * (y == "Vip")
    >>> model = PatchSeqClassifier(
    ...     seeds=2, hidden=4, max_epochs=25, batch_size=16, learning_rate=0.02, families={"isi": 3, "psth": 2}, progress=False
    ... )
    >>> model.fit(X, y).predict(X[:3]).tolist()
    ['Pvalb', 'Sst', 'Vip']
    >>> model.predict_proba(X).shape, model.predict_proba(X, per_network=True).shape
    ((90, 3), (2, 90, 3))
    >>> model.predict_set(X, coverage=0.9).shape  # the classes that cannot be excluded
    (90, 3)
    >>> model.attention(X).shape, model.embed(X, network=1).shape
    ((90, 2), (90, 8))
    >>> [row["network"] for row in model.score_table(X, y)]
    ['ensemble', 0, 1]
    """

    def __init__(
        self,
        head: str = "softmax",
        *,
        pooling: str = "attention",
        token: int | None = 64,
        smote: bool = False,
        gamma: float = 0.0,
        class_weights: str = "none",
        seeds: int = 10,
        hidden: int = 128,
        dropout: float = 0.2,
        max_epochs: int = 50,
        patience: int = 7,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        validation: float = 0.2,
        families: Mapping[str, int] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        progress: bool = True,
    ) -> None:
        self.head = head
        self.pooling = pooling
        self.token = token
        self.smote = smote
        self.gamma = gamma
        self.class_weights = class_weights
        self.seeds = seeds
        self.hidden = hidden
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation = validation
        self.families = families
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Cells, y: Any = None, *, sample_weight: Any = None) -> PatchSeqClassifier:
        """Train the networks on labelled cells.

        Parameters
        ----------
        X : FeatureTable, DataFrame or array-like of shape (cell, column) or (cell, family, feature)
            Features, NaN where a value is missing. ``families`` divides the columns of an array.
        y : array-like of shape (cell,), optional
            Class of each cell: text, integers or booleans. Optional where ``X`` is a table with labels, which it replaces.
        sample_weight : array-like of shape (cell,), optional
            Weight of each cell in the loss and in the validation scores that select the epoch; each optimizer step takes the
            weighted mean of its batch. A cell of weight 0 is left out. Scales, class weights and calibration count every other
            cell once. By default all weights are 1.

        Returns
        -------
        PatchSeqClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If labels are missing, there is a single class, a class has fewer than three cells, a cell has no value at all,
            a value is infinite, or a parameter of the estimator is impossible.
        TypeError
            If ``X`` is sparse.
        """
        check_parameters(self.get_params())
        table, classes, weight = self._training_cells(X, y, sample_weight)
        codes, self.first_seed_ = table.codes(), first_seed(self.random_state, self.seeds)
        grid = RunGrid.cross(seed=range(self.first_seed_, self.first_seed_ + int(self.seeds)))
        seeds = grid.column("seed")
        splits = [self._split(codes, seed) for seed in seeds]
        variants, fit_scale = [self._variant()] * len(grid), fit_z_score if self.token is None else fit_signed_log
        inputs = make_run_inputs(table, splits, variants, seeds, fit_scale=fit_scale, dropout=float(self.dropout))
        if weight is not None:
            train, validation = (_weighted_rows(rows, weight) for rows in (inputs.train, inputs.validation))
            inputs = inputs._replace(train=train, validation=validation)
        network = self._network(table.widths, len(classes))
        patience = None if self.patience is None else int(self.patience)
        batch_size, learning_rate = int(self.batch_size), float(self.learning_rate)
        config = TrainConfig(int(self.max_epochs), patience, batch_size=batch_size, learning_rate=learning_rate)
        data = pad_samples(make_data(table))
        result = fit(make_task(network), data, inputs, grid, config, title=self._progress_title)
        self._store_runs(result)
        self._describe_cells(table, classes, inputs.constants)
        self._calibrate(table, codes, [split.validation for split in splits])
        return self

    def keep_runs(
        self,
        result: FitResult,
        inputs: RunInputs,
        table: FeatureTable,
        splits: Sequence[Split],
        indices: Int[np.ndarray, "run"] | None = None,
    ) -> PatchSeqClassifier:
        """Use trained runs of a grid as the networks of this estimator, and calibrate them.

        The parameters of the estimator (``hidden``, ``token``, ...) must be those that the runs were trained with.

        Parameters
        ----------
        result : FitResult
            Result of training the grid.
        inputs : RunInputs
            The inputs of the grid.
        table : FeatureTable of n_cells
            The cells that the runs were trained on.
        splits : sequence of Split, one per run of the grid
            The rows of each run.
        indices : array of int, optional
            The runs to use; all by default.

        Returns
        -------
        PatchSeqClassifier
            The fitted estimator.
        """
        indices = self._store_runs(result, indices)
        check_features(self, table, reset=True)
        self._describe_cells(table, table.classes, take_runs(inputs.constants, indices))
        self._calibrate(table, table.codes(), [splits[index].validation for index in indices])
        return self

    def run_template(self, inputs: RunInputs, table: FeatureTable, variants: Sequence[Variant]) -> RunTemplate:
        """Return what the checkpoints of a grid must hold, so that :func:`jaxephys.load` makes a classifier of any of its runs.

        Parameters
        ----------
        inputs : RunInputs
            The inputs of the grid.
        table : FeatureTable of n_cells
            The cells that the runs are trained on.
        variants : sequence of Variant, one per run
            The variant of each run.

        Returns
        -------
        RunTemplate
            Parameters and scale of each run, families and classes. ``hidden`` and ``token`` must be those of the runs.
        """
        model = PatchSeqClassifier(**self.get_params())
        check_features(model, table, reset=True)
        model._describe_cells(table, table.classes, inputs.constants)
        model.temperature_ = 1.0
        parameters = [
            {
                "head": "arcface" if variant.arcface else "softmax",
                "pooling": "attention" if variant.attention else "fixed",
                "smote": variant.smote,
                "gamma": float(variant.gamma),
                "class_weights": variant.weights,
            }
            for variant in variants
        ]
        return RunTemplate(model._config(model._saved_settings()), {"constants": model._saved_constants()}, parameters)

    def calibrate(self, X: Cells, y: Any = None) -> PatchSeqClassifier:
        """Calibrate the probabilities and the sets of classes with cells on which no network was trained.

        ``fit`` does this with its validation cells. A classifier that was loaded from checkpoints is not calibrated: its
        probabilities are those of its networks, and it predicts no sets.

        Parameters
        ----------
        X : FeatureTable, DataFrame or array-like of shape (cell, column) or (cell, family, feature)
            Labelled cells with the families of the training cells.
        y : array of shape (cell,), optional
            Class of each cell; optional where ``X`` is a table with labels.

        Returns
        -------
        PatchSeqClassifier
            This estimator.
        """
        table, codes = self._query_table(X), class_codes(check_labels(self, X, y), self.classes_)
        self._calibrate(table, codes, [np.arange(len(table))] * self.n_networks_)
        return self

    def predict(self, X: Cells) -> Shaped[np.ndarray, "cell"]:
        """Predict the most probable class of each cell.

        Parameters
        ----------
        X : FeatureTable, DataFrame or array-like of shape (cell, column) or (cell, family, feature)
            Features with the families of the training cells; see ``match_features`` for tables of other columns.

        Returns
        -------
        array of shape (cell,)
            The classes, in the type of ``classes_``.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]

    def predict_proba(self, X: Cells, *, per_network: bool = False) -> Float[np.ndarray, "..."]:
        """Predict calibrated class probabilities.

        Parameters
        ----------
        X : FeatureTable, DataFrame or array-like of shape (cell, column) or (cell, family, feature)
            Features with the families of the training cells.
        per_network : bool, default False
            Return the probabilities of each network instead of their mean.

        Returns
        -------
        array of shape (cell, class), or (network, cell, class) with ``per_network``
            Probabilities in the order of ``classes_``.
        """
        return mean_over_runs(apply_temperature(self._predict(X).probability, self.temperature_), per_network)

    def predict_set(
        self, X: Cells, coverage: float = 0.9, *, include_predicted: bool = True
    ) -> Bool[np.ndarray, "cell class"]:
        """Predict the set of classes that cannot be excluded for each cell (conformal prediction).

        Parameters
        ----------
        X : FeatureTable, DataFrame or array-like of shape (cell, column) or (cell, family, feature)
            Features with the families of the training cells.
        coverage : float, default 0.9
            Probability, within every class, that the set contains the true class.
        include_predicted : bool, default True
            Add the class that ``predict`` returns to each set, which makes the coverage at least the requested one. False
            returns the plain conformal sets, some of which are empty or lack that class.

        Returns
        -------
        bool array of shape (cell, class)
            True for the members of the set. Several members: the cell is ambiguous.

        Raises
        ------
        ValueError
            If the classifier was loaded from checkpoints and is not calibrated.

        Notes
        -----
        The thresholds come from cells that were held out of the training of some networks, and are predicted by these
        networks only. They are fewer than predict a new cell, so that the sets tend to be too large rather than too small.

        A class belongs to the plain set of a cell if it is at least as probable as for the share ``coverage`` of the held-out
        cells of that class. The most probable class can miss this threshold, most of all where the classifier hardly errs: about
        one in ten ordinary cells has an empty plain set for a coverage of 0.9. An empty set is therefore a reason to look at
        a cell, and no proof that it belongs to another class.
        """
        check_is_fitted(self)
        if not len(self.held_out_codes_):
            raise ValueError("the classifier was loaded from checkpoints and is not calibrated: call calibrate first")
        probability = self.predict_proba(X)
        thresholds = conformal_thresholds(self.held_out_, self.held_out_codes_, coverage)
        return conformal_sets(probability, thresholds, include_predicted=include_predicted)

    def attention(self, X: Cells, *, per_network: bool = False) -> Float[np.ndarray, "..."]:
        """Return the weight of each family for each cell.

        Parameters
        ----------
        X : FeatureTable, DataFrame or array-like of shape (cell, column) or (cell, family, feature)
            Features with the families of the training cells.
        per_network : bool, default False
            Return the weights of each network instead of their mean.

        Returns
        -------
        array of shape (cell, family), or (network, cell, family) with ``per_network``
            Weights in the order of ``families_``; those of a cell sum to 1.
        """
        return mean_over_runs(self._predict(X).attention, per_network)

    def embed(self, X: Cells, *, network: int = 0) -> Float[np.ndarray, "cell pooled"]:
        """Return the pooled vector of each cell, the input of the head, in one of the networks.

        Parameters
        ----------
        X : FeatureTable, DataFrame or array-like of shape (cell, column) or (cell, family, feature)
            Features with the families of the training cells.
        network : int, default 0
            Index of the network. The spaces of the networks differ, so that a mean over them has no meaning.

        Returns
        -------
        array of shape (cell, 2 * hidden)
            The embedding.

        Raises
        ------
        ValueError
            If there is no such network.
        """
        embedding = self._predict(X).embedding
        if not 0 <= network < len(embedding):
            raise ValueError(f"there is no network {network}: this classifier has {len(embedding)}, counted from 0")
        return embedding[network]

    def score(self, X: Cells, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy on labelled cells.

        Parameters
        ----------
        X : FeatureTable, DataFrame or array-like of shape (cell, column) or (cell, family, feature)
            Features with the families of the training cells.
        y : array-like of shape (cell,), optional
            Class of each cell; optional where ``X`` is a table with labels.
        sample_weight : array-like of shape (cell,), optional
            Weight of each cell.

        Returns
        -------
        float
            Share of the cells whose class is predicted.
        """
        check_is_fitted(self)
        y = self.classes_[class_codes(check_labels(self, X, y), self.classes_)] if y is None else y
        return float(super().score(X, y, sample_weight))

    def score_table(self, X: Cells, y: Any = None) -> list[dict[str, Any]]:
        """Score labelled cells with every classification metric.

        Parameters
        ----------
        X : FeatureTable, DataFrame or array-like of shape (cell, column) or (cell, family, feature)
            Features with the families of the training cells.
        y : array of shape (cell,), optional
            Class of each cell; optional where ``X`` is a table with labels.

        Returns
        -------
        list of dict
            One row for the ensemble and one for each network, with the metrics of
            ``jaxephys.evaluation.metrics.classification_scores`` and the number of cells ``n``.
        """
        by_network = self.predict_proba(X, per_network=True)
        codes, rows = class_codes(check_labels(self, X, y), self.classes_), []
        for network, probability in [("ensemble", by_network.mean(axis=0)), *enumerate(by_network)]:
            scores = classification_scores(codes, probability, np.ones(len(codes), np.float32))
            rows.append(score_row(network, scores, len(codes)))
        return rows

    def match_features(self, table: FeatureTable) -> MatchedFeatures:
        """Bring a table of new cells into the columns of the training cells, matched by feature name.

        Parameters
        ----------
        table : FeatureTable of n_cells
            New cells with other columns, another order of columns, or missing columns.

        Returns
        -------
        MatchedFeatures
            The table for ``predict``, and messages on missing columns, unused columns and suspicious units.

        Raises
        ------
        ValueError
            If the table has none of the features, or no cell has a value in any of them.
        """
        check_is_fitted(self)
        columns = np.concatenate(RaggedLayout.from_widths(self.widths_).packed_columns)
        scale = cast(ZScore | LogZScore | SignedLog, self.constants_.scale)
        typical, spread = (values.mean(axis=0)[columns] for values in typical_values(scale))
        return match_features(table, self.families_, self.widths_, self.features_, typical, spread)

    def _calibrate(self, table: FeatureTable, codes: np.ndarray, validation: Sequence[np.ndarray]) -> None:
        """Fit the temperature and keep held-out predictions, from cells on which each network was not trained.

        The temperature is fitted to the pooled validation cells of all networks. The same cells give the conformal
        thresholds: for each cell the mean probability of the networks that held it out.
        """
        probability = self._predict(table).probability
        pooled = np.concatenate([run[rows] for run, rows in zip(probability, validation, strict=True)])
        self.temperature_ = fit_temperature(pooled, codes[np.concatenate(validation)])
        held_out = np.zeros(probability.shape[:2], bool)
        for run, rows in enumerate(validation):
            held_out[run, rows] = True
        is_held_out = held_out.any(axis=0)
        calibrated = np.where(held_out[..., None], apply_temperature(probability, self.temperature_), 0.0)
        mean = calibrated.sum(axis=0) / np.maximum(held_out.sum(axis=0), 1)[:, None]
        self.held_out_ = mean[is_held_out].astype(np.float32)
        self.held_out_codes_ = codes[is_held_out]

    def _predict(self, X: Cells) -> Prediction:
        """Return the predictions of all networks, before calibration."""
        table = self._query_table(X)
        network = self._network(self.widths_, len(self.classes_))
        rows = stack_rows([plain_rows(np.arange(len(table)))] * self.n_networks_)
        data = pad_samples(make_data(table))
        return predict(make_task(network), data, self.variables_, rows, self.constants_)

    def _training_cells(
        self, X: Cells, y: Any, sample_weight: Any
    ) -> tuple[FeatureTable, Shaped[np.ndarray, "class"], Float[np.ndarray, "cell"] | None]:
        """Return the cells of positive weight with the numbers of their classes as labels, the classes, and the weights."""
        table, labels = self._divide_into_families(X), check_labels(self, X, y)
        weight = None if sample_weight is None else check_weights(sample_weight, len(labels))
        if weight is not None and not weight.all():
            rows = np.flatnonzero(weight)
            table, labels, weight = table.rows(rows), labels[rows], weight[rows]
        classes, codes = encode_classes(labels, MIN_CELLS)
        # A table keeps labels as text and sorts them: numbers of equal length have the order of the classes.
        return table.with_label([f"{code:06d}" for code in codes]), classes, weight

    def _divide_into_families(self, X: Cells) -> FeatureTable:
        """Return training cells as a table, and store the number and the names of their columns."""
        values = check_features(self, _join_families(X), reset=True)
        if isinstance(X, FeatureTable):
            return X
        names, families = getattr(self, "feature_names_in_", None), self.families
        if families is None and (shape := _three_axes(X)):
            families = {f"family_{i}": shape[2] for i in range(shape[1])}
        elif families is None:
            families = group_features([f"x{i}" for i in range(values.shape[1])] if names is None else names.tolist())
            if len(families) > MANY_COLUMNS:
                warnings.warn(
                    f"the columns of X are {len(families)} families, as many steps of the LSTM: give families={{name: width, ...}} "
                    f"to define which columns belong together",
                    stacklevel=4,
                )
        table = FeatureTable.from_arrays(values, families)
        return table if names is None else replace(table, features=tuple(names.tolist()))

    def _query_table(self, X: Cells) -> FeatureTable:
        """Return cells to predict as a table without labels, after a comparison of their columns with those of training."""
        check_is_fitted(self)
        if isinstance(X, FeatureTable) and (X.widths != self.widths_ or X.families != self.families_):
            raise ValueError(
                f"the cells have the families {dict(zip(X.families, X.widths, strict=True))}, but the model was trained on "
                f"{dict(zip(self.families_, self.widths_, strict=True))}: give the same families in the same order, or use "
                f"match_features"
            )
        values = check_features(self, _join_families(X), reset=False)
        if isinstance(X, FeatureTable):
            return X.with_label(None)
        cell = np.arange(len(values)).astype(str)
        return FeatureTable(values.astype(np.float32), self.families_, self.widths_, self.features_, cell)

    def _split(self, codes: np.ndarray, seed: int) -> Split:
        """Return training and validation rows. The test part is empty: users hold out test cells themselves."""
        n_cells, n_classes, part = len(codes), len(np.unique(codes)), self.validation / 2
        if part / (1 - part) * (n_cells - math.ceil(part * n_cells)) <= n_classes - 1:
            # Half of the share is too small for a cell of each class: divide the cells once.
            count = min(max(n_classes, math.ceil(self.validation * n_cells)), n_cells - n_classes)
            train, held_out = train_test_split(np.arange(n_cells), test_size=count, random_state=seed, stratify=codes)
        else:
            train, *parts = hold_out(codes, seed, validation=part, test=part)
            held_out = np.concatenate(parts)
        return Split(np.sort(train), np.sort(held_out), np.array([], int))

    def _network(self, widths: Sequence[int], n_classes: int) -> SubclassNetwork:
        token = None if self.token is None else int(self.token)
        return SubclassNetwork(RaggedLayout.from_widths(widths), n_classes, int(self.hidden), token)

    def _variant(self) -> Variant:
        attention, arcface = self.pooling == "attention", self.head == "arcface"
        return Variant(attention, arcface, bool(self.smote), float(self.gamma), self.class_weights)

    def _describe_cells(self, table: FeatureTable, classes: np.ndarray, constants: CellConstants) -> None:
        """Store the classes, what all cells to predict must have in common with the training cells, and the constants."""
        self.classes_, self.constants_ = classes, constants
        self.families_, self.widths_, self.features_ = table.families, table.widths, table.features

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.three_d_array = True
        return tags

    def _encoded_parameters(self) -> dict[str, Any]:
        parameters = super()._encoded_parameters()
        if not isinstance(
            self.random_state, Integral | None
        ):  # a generator is no JSON value: the seed that it has drawn
            parameters["random_state"] = self.first_seed_
        families: Mapping[str, Any] | None = self.families
        if families is not None:
            parameters["families"] = {
                name: int(some) if isinstance(some, Integral) else list(some) for name, some in families.items()
            }
        return parameters

    def _saved_constants(self) -> dict[str, Any]:
        constants = self.constants_._asdict()
        return {**constants, **{name: constants[name]._asdict() for name in ("scale", "switches")}}

    def _saved_arrays(self) -> dict[str, Any]:
        held_out = {"probability": self.held_out_, "codes": self.held_out_codes_}
        return {**self.variables_, "constants": self._saved_constants(), "held_out": held_out}

    def _saved_settings(self) -> dict[str, Any]:
        return {
            "scale": type(self.constants_.scale).__name__,
            "classes": self.classes_.tolist(),
            "class_dtype": self.classes_.dtype.str,
            "families": list(self.families_),
            "widths": list(self.widths_),
            "features": list(self.features_),
            "has_feature_names": hasattr(self, "feature_names_in_"),
            "temperature": self.temperature_,
        }

    def _restore(self, arrays: dict[str, Any], config: dict[str, Any]) -> None:
        constants, none = dict(arrays.pop("constants")), np.zeros((0, len(config["classes"])), np.float32)
        held_out = arrays.pop("held_out", {"probability": none, "codes": np.zeros(0, np.int32)})  # of no checkpoint
        scale = config.get("scale", "ZScore" if self.token is None else "SignedLog")  # absent in older files
        constants["scale"] = {kind.__name__: kind for kind in get_args(Scale)}[scale](**constants["scale"])
        constants["switches"] = NetworkSwitches(**constants["switches"])
        for name, rate in (("dropout", self.dropout), ("input_dropout", DEFAULT_RATES.inputs)):
            constants.setdefault(name, np.full(len(constants["gamma"]), rate, np.float32))  # absent in older files
        self.constants_ = CellConstants(**constants)
        self.held_out_, self.held_out_codes_ = held_out["probability"], held_out["codes"]
        self.variables_ = arrays
        self.classes_ = np.array(config["classes"], config.get("class_dtype"))  # text in older files
        self.families_, self.widths_ = tuple(config["families"]), tuple(config["widths"])
        self.features_, self.n_features_in_ = tuple(config["features"]), sum(self.widths_)
        if config.get("has_feature_names"):  # absent in older files
            self.feature_names_in_ = np.array(self.features_, object)
        self.temperature_ = config["temperature"]

    def export_program(self) -> ExportProgram:
        """Return the computation of the fitted networks as one function, which `jaxephys.models.export.export_model` writes.

        Returns
        -------
        ExportProgram
            The function of `jaxephys.patchseq.export.make_program`, its inputs and its outputs.
        """
        check_is_fitted(self)
        return make_program(self)

    def _card_details(self) -> ModelDetails:
        return describe_model(self)

    def _summary(self) -> str:
        return f"{len(self.classes_)} classes, {len(self.families_)} families"


def _three_axes(X: Cells) -> tuple[int, ...] | None:
    """Return the shape (cell, family, feature) of cells with three axes, and None for others."""
    if isinstance(X, FeatureTable):
        return None
    shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    return shape if len(shape) == 3 else None


def _join_families(X: Cells) -> Cells:
    """Return cells with three axes as an array of shape (cell, column), and others unchanged."""
    shape = _three_axes(X)
    return X if shape is None else np.reshape(X, (shape[0], shape[1] * shape[2]))


def _weighted_rows(rows: RowSet, weight: Float[np.ndarray, "cell"]) -> RowSet:
    """Multiply the weights of rows by those of their cells, relative to the mean; a synthetic cell is between two cells."""
    relative = (weight / weight.mean()).astype(np.float32)
    anchor, partner = relative[rows.index], relative[rows.partner]
    return rows._replace(weight=rows.weight * (anchor + rows.mix * (partner - anchor)))
