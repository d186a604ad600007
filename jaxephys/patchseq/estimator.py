"""PatchSeqClassifier: the scikit-learn face of the Patch-seq system. Thin: the work is in the task and the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, fit, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RunInputs
from jaxephys.evaluation.calibration import apply_temperature, conformal_sets, conformal_thresholds, fit_temperature
from jaxephys.evaluation.metrics import classification_scores
from jaxephys.evaluation.splits import Split, hold_out
from jaxephys.models.base import SavedModel, count_parameters, mean_over_runs
from jaxephys.patchseq.feature_matching import Matched, match
from jaxephys.patchseq.network.classifier import SubclassNetwork, Switches
from jaxephys.patchseq.network.ragged_layout import Staircase
from jaxephys.patchseq.preprocessing import SignedLog, ZScore
from jaxephys.patchseq.task import CellConstants, Prediction, Variant, make_data, make_runs, make_task
from jaxephys.schemas.feature_table import FeatureTable

Cells = FeatureTable | Float[np.ndarray, "cell column"] | Float[np.ndarray, "cell family feature"]


class PatchSeqClassifier(SavedModel, ClassifierMixin, BaseEstimator):
    """Subclass of a neuron from ordered families of electrophysiological features, by BiLSTM and attention.

    Several seeds are trained at once and answer together; their spread is there with ``per_seed=True``. Probabilities are
    taken at the temperature that the validation cells of all networks ask for. A NaN is a missing value.

    Parameters
    ----------
    head : {"softmax", "arcface"}
    pooling : {"attention", "fixed"}
        Weigh the families of each cell by attention; or all alike (the last alone, as published, where ``token`` is None).
    token : int or None
        Each family is projected by itself to so many numbers, from signed-log features and what is missing among them.
        None pads the families with zeros to the widest and takes plain z-scores: the published encoder.
    smote : bool
        Fill the smaller classes with synthetic training cells.
    gamma : float
        Of the focal loss; 0 is cross-entropy.
    class_weights : {"none", "inverse", "effective"}
    seeds : int
        How many networks are trained, each with its own validation split and initial weights.
    families : mapping of str to int, optional
        Name and width of each family, in order, when ``X`` is a plain [cell, column] array.
    validation : float
        Share of the cells that selects the best epoch.
    random_state : int
        The first of the seeds.

    Attributes
    ----------
    classes_ : array of str
    temperature_ : float
        Above 1 where the networks were too sure of their validation cells.
    history_ : dict of arrays [seed, epoch]
    result_ : FitResult of the engine
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
        random_state: int = 0,
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

    def fit(self, X: Cells, y: Shaped[np.ndarray, "cell"] | None = None) -> PatchSeqClassifier:
        """Train on a FeatureTable, or on an array and its labels."""
        table = self._table(X, y)
        codes, stairs = table.codes(), Staircase.of(table.widths)
        axis = RunGrid.cross(seed=range(self.random_state, self.random_state + self.seeds))
        splits = [self._split(codes, seed) for seed in axis.column("seed")]
        variants, logged = [self._variant()] * len(axis), self.token is not None
        runs = make_runs(table, stairs, splits, variants, axis.column("seed"), logged=logged)
        network = SubclassNetwork(stairs, len(table.classes), self.hidden, self.dropout, self.token)
        plan = TrainConfig(self.max_epochs, self.patience, batch_size=self.batch_size, learning_rate=self.learning_rate)
        data = make_data(table, stairs)
        title = "PatchSeqClassifier" if self.progress else None
        result = fit(make_task(network), data, runs, axis, plan, title=title)
        return self.adopt(result, runs, table, splits)

    def adopt(
        self,
        result: FitResult,
        runs: RunInputs,
        table: FeatureTable,
        splits: Sequence[Split],
        places: np.ndarray | None = None,
    ) -> PatchSeqClassifier:
        """Become the classifier that runs of a grid have trained on their splits (all of them, or those in ``places``)."""
        places = np.arange(len(result.grid)) if places is None else places
        self.result_ = result
        self.history_ = {name: values[places] for name, values in result.history.items()}
        self.variables_, self.constants_ = take_runs((result.best, runs.constants), places)
        self.classes_, self.families_, self.widths_ = table.classes, table.families, table.widths
        self.features_, self.n_features_in_ = table.features, table.values.shape[1]
        self._calibrate(table, [splits[place].validation for place in places])
        return self

    def _calibrate(self, table: FeatureTable, validation: Sequence[np.ndarray]) -> None:
        """One temperature for all networks, from cells that each of them has not trained on.

        The same cells then give conformal thresholds. A cell is answered for by the networks that held it out, fewer than
        answer for a new cell, so the sets are rather too large than too small.
        """
        self.temperature_ = 1.0
        codes, said = table.codes(), self._read(table).probability
        pooled = np.concatenate([run[rows] for run, rows in zip(said, validation, strict=True)])
        self.temperature_ = fit_temperature(pooled, codes[np.concatenate(validation)])
        held_out = np.zeros(said.shape[:2], bool)
        for run, rows in enumerate(validation):
            held_out[run, rows] = True
        known = held_out.any(axis=0)
        cooled = np.where(held_out[..., None], apply_temperature(said, self.temperature_), 0.0)
        self.held_out_ = (cooled.sum(axis=0) / np.maximum(held_out.sum(axis=0), 1)[:, None])[known].astype(np.float32)
        self.held_out_codes_ = codes[known]

    def predict_proba(self, X: Cells, *, per_seed: bool = False) -> Float[np.ndarray, "..."]:
        """Class probabilities [cell, class]: the mean over the seeds, or [seed, cell, class]."""
        return mean_over_runs(apply_temperature(self._read(X).probability, self.temperature_), per_seed)

    def predict(self, X: Cells) -> Shaped[np.ndarray, "cell"]:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_set(self, X: Cells, coverage: float = 0.9) -> Bool[np.ndarray, "cell class"]:
        """The classes that cannot be ruled out for each cell: the true one is among them as often as asked, in every class.

        Several: the cell is ambiguous. None: it is like no class that was seen; say "unknown".
        """
        said = self.predict_proba(X)
        return conformal_sets(said, conformal_thresholds(self.held_out_, self.held_out_codes_, coverage))

    def attention(self, X: Cells, *, per_seed: bool = False) -> Float[np.ndarray, "..."]:
        """The weight of each family for each cell [cell, family]; they sum to 1."""
        return mean_over_runs(self._read(X).attention, per_seed)

    def embed(self, X: Cells, seed: int = 0) -> Float[np.ndarray, "cell pooled"]:
        """What stands for each cell before the head, in one of the networks: their spaces differ and have no mean."""
        said = self._read(X).embedding
        if not 0 <= seed < len(said):
            raise ValueError(f"there is no network {seed}: this classifier has {len(said)}, counted from 0")
        return said[seed]

    def score_table(self, X: Cells, y: Shaped[np.ndarray, "cell"] | None = None) -> list[dict[str, Any]]:
        """Every metric on labelled cells, a row for the ensemble and one for each network: ``pandas.DataFrame`` takes it."""
        table = self._table(X, y)
        codes, each = table.codes(self.classes_), self.predict_proba(replace(table, label=None), per_seed=True)
        rows = []
        for name, said in [("ensemble", each.mean(axis=0)), *enumerate(each)]:
            scores = classification_scores(codes, said, np.ones(len(codes), np.float32))
            rows.append(
                {"network": name, **{metric: float(value) for metric, value in scores.items()}, "n": len(codes)}
            )
        return rows

    def match(self, table: FeatureTable) -> Matched:
        """A table of new cells in the order that this classifier reads, by feature names, and what is odd about it."""
        check_is_fitted(self)
        scale, columns = self.constants_.scale, np.concatenate(Staircase.of(self.widths_).places)
        spread = scale.unit if isinstance(scale, SignedLog) else scale.sd
        middle, unit = (np.asarray(values).mean(axis=0)[columns] for values in (scale.median, spread))
        return match(table, self.families_, self.widths_, self.features_, middle, unit)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "variables_")

    def _read(self, X: Cells) -> Prediction:
        check_is_fitted(self)
        table = self._table(X, None)
        if table.widths != self.widths_ or table.families != self.families_:
            raise ValueError(
                f"the cells have the families {dict(zip(table.families, table.widths, strict=True))}, but the model was "
                f"trained on {dict(zip(self.families_, self.widths_, strict=True))}: give the same families in the same order"
            )
        stairs = Staircase.of(self.widths_)
        network = SubclassNetwork(stairs, len(self.classes_), self.hidden, self.dropout, self.token)
        runs = len(self.constants_.gamma)
        rows = stack_rows([plain_rows(np.arange(len(table)))] * runs)
        data = make_data(replace(table, label=None), stairs)
        return predict(make_task(network), data, self.variables_, rows, self.constants_)

    def _table(self, X: Cells, y: np.ndarray | None) -> FeatureTable:
        if isinstance(X, FeatureTable):
            if y is None:
                return X
            return replace(X, label=np.asarray(y).astype(str))
        X = np.asarray(X, np.float32)
        if X.ndim == 3 and self.families is None:
            return FeatureTable.of(X, [f"family_{i}" for i in range(X.shape[1])], y)
        if self.families is None:
            raise ValueError(
                f"X has shape {X.shape}: give families={{name: width, ...}} to say which columns belong together"
            )
        return FeatureTable.of(X, dict(self.families), y)

    def _split(self, codes: np.ndarray, seed: int) -> Split:
        """Train and validation rows; the test part stays empty, since the caller keeps test cells to himself."""
        split = hold_out(codes, seed, validation=self.validation / 2, test=self.validation / 2)
        return Split(split.train, np.sort(np.concatenate([split.validation, split.test])), np.array([], int))

    def _variant(self) -> Variant:
        if self.head not in ("softmax", "arcface"):
            raise ValueError(f"head is {self.head!r}: choose softmax or arcface")
        if self.pooling not in ("attention", "fixed"):
            raise ValueError(f"pooling is {self.pooling!r}: choose attention or fixed")
        return Variant(self.pooling == "attention", self.head == "arcface", self.smote, self.gamma, self.class_weights)

    def _arrays(self) -> dict[str, Any]:
        check_is_fitted(self)
        constants = self.constants_._asdict()
        nested = {name: constants[name]._asdict() for name in ("scale", "switches")}
        held_out = {"probability": self.held_out_, "codes": self.held_out_codes_}
        return {**self.variables_, "constants": {**constants, **nested}, "held_out": held_out}

    def _settings(self) -> dict[str, Any]:
        own = {"classes": self.classes_.tolist(), "families": list(self.families_), "widths": list(self.widths_)}
        own |= {"features": list(self.features_), "temperature": self.temperature_}
        return {"parameters": self.get_params(), **own}

    @classmethod
    def _from_saved(cls, arrays: dict[str, Any], settings: dict[str, Any]) -> PatchSeqClassifier:
        model = cls(**settings["parameters"])
        constants, held_out = dict(arrays.pop("constants")), arrays.pop("held_out")
        scale = (ZScore if model.token is None else SignedLog)(**constants.pop("scale"))
        model.constants_ = CellConstants(**{**constants, "scale": scale, "switches": Switches(**constants["switches"])})
        model.held_out_, model.held_out_codes_ = held_out["probability"], held_out["codes"]
        model.variables_ = arrays
        model.classes_ = np.array(settings["classes"])
        model.families_, model.widths_ = tuple(settings["families"]), tuple(settings["widths"])
        model.features_, model.n_features_in_ = tuple(settings["features"]), sum(model.widths_)
        model.temperature_ = settings["temperature"]
        return model

    def describe(self) -> str:
        """One line on what was learnt."""
        runs, parameters = len(self.constants_.gamma), count_parameters(self.variables_)
        return f"{runs} networks of {parameters:,} parameters, {len(self.classes_)} classes, {len(self.families_)} families"
