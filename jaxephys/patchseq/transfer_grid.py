"""Grids of the transfer experiment: networks of two species in several phases, and classical models with few or all labels.

``TransferNetworks`` trains the networks; ``train_classical_models`` fits the classical models. Both add their test
probabilities to a ``ModelComparison`` of the human cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxephys.engine import devices
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, initial_variables, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RunInputs, Variables
from jaxephys.evaluation.baselines import fit_predict_proba, make_baseline
from jaxephys.evaluation.comparison import ModelComparison
from jaxephys.evaluation.kernel_classifier import DiscriminantDirections, KernelClassifier
from jaxephys.evaluation.splits import SplitKey, k_folds
from jaxephys.patchseq.classical_models import make_classical_model
from jaxephys.patchseq.grid import NetworkRecord, describe_network, track_splits
from jaxephys.patchseq.network.classifier import SHARED_MODULES, SpeciesOutputs, TwoSpeciesNetwork
from jaxephys.patchseq.preprocessing import Scale, fit_log_z_score
from jaxephys.patchseq.source_transfer import (
    SOURCE_STRENGTHS,
    SOURCE_WEIGHTS,
    TARGET_ONLY_STRENGTHS,
    LabelledCells,
    Probabilities,
    SourceDomain,
    TransferDiscriminants,
    TransferStrength,
    Values,
    joint_regression,
    select_by_inner_folds,
    stacked_regression,
)
from jaxephys.patchseq.task import Variant
from jaxephys.patchseq.transfer_task import TransferRun, make_transfer_data, make_transfer_inputs, make_transfer_task
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.schemas.feature_table import FeatureTable

REFERENCE = "human-only average"  # the best model of human cells only on three other draws of the folds
KERNEL, MOUSE_TYPES, SHUFFLED_TYPES = "kernel", "kernel, mouse types", "kernel, shuffled types"
KERNEL_WIDTHS = (0.25, 1.5)  # of the two kernels in the average; the first is that of all kernel models
NETWORK, BY_ACCURACY = "network", "network by accuracy"
TUNED = "joint network, tuned"  # the transfer of Table 6
PRETRAINING_FOLDS = 5  # a fifth of the mouse cells selects the epoch of pretraining and is not trained on
RATES = {"joint": 5e-4, "sequential": 5e-4, "fine-tuned": 3e-4}  # learning rates of the phases after the first


@dataclass
class TransferNetworks:
    """The networks of the transfer experiment, which are trained in phases on one table and one task.

    Parameters
    ----------
    folder : RunFolder
        The run folder; each phase has checkpoints of its own.
    comparison : ModelComparison
        Comparison of the human cells, which the networks are added to.
    table : FeatureTable of n_cells
        The cells of both species, human cells first, so that their indices are those of the comparison.
    network : TwoSpeciesNetwork
        The network.
    config : TrainConfig
        Settings of the training, which some phases change.
    fit_scale : callable, default fit_log_z_score
        Fits the scale of the features to the training cells of each species.
    records : dict of str to NetworkRecord
        What each model was trained with, in its last phase; filled by the methods.
    """

    folder: RunFolder
    comparison: ModelComparison
    table: FeatureTable
    network: TwoSpeciesNetwork
    config: TrainConfig
    fit_scale: Callable[[np.ndarray], Scale] = fit_log_z_score
    records: dict[str, NetworkRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = list(self.comparison.splits)
        self.task = make_transfer_task(self.network)
        self.data = devices.put_on_devices(make_transfer_data(self.table), len(self.keys))

    def train_human_only(self, *, by_accuracy: bool) -> None:
        """Train on human cells only.

        Parameters
        ----------
        by_accuracy : bool
            Also train the networks whose epoch is selected by accuracy, as in the released code.
        """
        selections = (False, True) if by_accuracy else (False,)
        grid = self._cross("by_accuracy", selections)
        runs = [run for selection in selections for run in self._human_runs(by_accuracy=selection)]
        result, inputs = self._train("human", grid, runs)
        probability = self._predict(result.best, inputs.constants).human
        for selection in selections:
            model = BY_ACCURACY if selection else NETWORK
            self._add(model, probability[grid.where(by_accuracy=selection)], by_accuracy=selection)

    def train_sequential(self, *, by_accuracy: bool) -> None:
        """Pretrain on mouse cells, once per seed; then train a new human head on every split, alone and with the encoder.

        Parameters
        ----------
        by_accuracy : bool
            Select the epochs of the human cells by accuracy, as in the released code; otherwise by macro-F1.
        """
        seeds = sorted({key.seed for key in self.keys})
        runs = [TransferRun(held_out, mouse=train) for train, held_out in map(self._divide_mouse_cells, seeds)]
        pretrained, _ = self._train("mouse", RunGrid.cross(seed=seeds), runs)
        copies = take_runs(pretrained.best, [seeds.index(key.seed) for key in self.keys])

        grid, runs = self._one_run_per_split(), self._human_runs(by_accuracy=by_accuracy)
        warm_up = {"max_epochs": min(5, self.config.max_epochs), "patience": None, "freeze": SHARED_MODULES}
        warm, inputs = self._train("warm_up", grid, runs, initial_variables(copies, drop=("human",)), **warm_up)
        self._add("mouse network", self._predict(copies, inputs.constants).mouse)  # without human labels
        rate = RATES["sequential"]
        tuned, inputs = self._train("sequential", grid, runs, initial_variables(warm.best), learning_rate=rate)
        probability = self._predict(tuned.best, inputs.constants).human
        self._add("sequential network", probability, rate, by_accuracy=by_accuracy)

    def train_joint(self, alphas: Sequence[float], tuned_alpha: float, patience: int) -> None:
        """Train on both species at once for every alpha, select the best alpha, and fine-tune one of them on human cells.

        A step has a batch of each species. The mouse cells are those that pretraining with the same seed trains on.

        Parameters
        ----------
        alphas : sequence of float
            Weights of the mouse cells in the loss; 0 is the control.
        tuned_alpha : float
            The alpha that is fine-tuned on human cells.
        patience : int
            Patience of the joint training.
        """
        keys, rate, grid = self.keys, RATES["joint"], self._cross("alpha", alphas)
        mouse = {seed: self._divide_mouse_cells(seed)[0] for seed in {key.seed for key in keys}}
        runs = [
            replace(run, mouse=mouse[key.seed], alpha=alpha)
            for alpha in alphas
            for key, run in zip(keys, self._human_runs(), strict=True)
        ]
        result, inputs = self._train("joint", grid, runs, paired=True, learning_rate=rate, patience=patience)
        probability = self._predict(result.best, inputs.constants).human
        for alpha in alphas:
            self._add(f"joint network, alpha {alpha:g}", probability[grid.where(alpha=alpha)], rate)
        # Human validation cells select alpha; the control is not among the candidates.
        score = np.where(np.array(grid.column("alpha")) > 0, result.run_results.best_score, -np.inf)
        best = np.reshape(score, (len(alphas), len(keys))).argmax(axis=0)
        self._add("joint network, selected alpha", probability[best * len(keys) + np.arange(len(keys))], rate)
        start = initial_variables(take_runs(result.best, grid.where(alpha=tuned_alpha)))
        grid, runs = self._one_run_per_split(), self._human_runs()
        rate = RATES["fine-tuned"]
        tuned, inputs = self._train("fine_tune", grid, runs, start, learning_rate=rate)
        self._add(TUNED, self._predict(tuned.best, inputs.constants).human, rate)

    def _divide_mouse_cells(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the mouse cells that are trained on with a seed, four fifths, and of the others."""
        n_human = len(self.comparison.table)
        fold = k_folds(self.table.codes()[n_human:], PRETRAINING_FOLDS, seed)[0]
        return n_human + np.sort(np.concatenate([fold.train, fold.validation])), n_human + fold.test

    def _human_runs(self, **fields: Any) -> list[TransferRun]:
        """One run for each split that trains on its human cells."""
        return [TransferRun(split.validation, split.train, **fields) for split in self.comparison.splits.values()]

    def _one_run_per_split(self) -> RunGrid:
        return RunGrid(("folds", "seed", "fold"), tuple(map(tuple, self.keys)))

    def _cross(self, factor: str, levels: Sequence[Any]) -> RunGrid:
        """One run for each level of the factor and each split."""
        return RunGrid((factor, "folds", "seed", "fold"), tuple((level, *key) for level in levels for key in self.keys))

    def _train(
        self,
        name: str,
        grid: RunGrid,
        runs: Sequence[TransferRun],
        initial: Any = None,
        paired: bool = False,
        **changes: Any,
    ) -> tuple[FitResult, RunInputs]:
        """Train one phase of all runs, with changes of the config."""
        inputs = make_transfer_inputs(self.table, runs, fit_scale=self.fit_scale)
        task, config = make_transfer_task(self.network, paired), replace(self.config, **changes)
        return self.folder.fit(task, self.data, inputs, grid, config, name, initial), inputs

    def _predict(self, variables: Variables, constants: Any) -> SpeciesOutputs:
        """Predict the human test cells. Runs are in the order of the splits, once for each level of another factor."""
        times = len(constants.alpha) // len(self.keys)
        rows = stack_rows([plain_rows(self.comparison.splits[key].test) for key in self.keys] * times)
        return predict(self.task, self.data, variables, rows, constants)

    def _add(
        self,
        model: str,
        probability: Float[np.ndarray, "run row class"],
        rate: float | None = None,
        *,
        by_accuracy: bool = False,
    ) -> None:
        """Add a model from one run per split, trained with the rate of the config or another one."""
        variant = Variant(weights="inverse", selection="accuracy" if by_accuracy else "macro_f1")
        config = self.config if rate is None else replace(self.config, learning_rate=rate)
        network = describe_network(self.network.hidden, self.network.token)
        self.records[model] = NetworkRecord(network, variant, self.fit_scale, config)
        for key, split_probability in zip(self.keys, probability, strict=True):
            self.comparison.add(model, key, split_probability[: len(self.comparison.splits[key].test)])


def train_classical_models(
    folder: RunFolder, comparison: ModelComparison, source: SourceDomain, fractions: Sequence[float]
) -> dict[float, ModelComparison]:
    """Fit every classical model on every split, and some of them with a fraction of the labels.

    Models train on training and validation cells; what they select, they select by inner folds of these.

    Parameters
    ----------
    folder : RunFolder
        The run folder, for messages.
    comparison : ModelComparison
        Comparison of the human cells, which the models with all labels are added to.
    source : SourceDomain
        The mouse cells.
    fractions : sequence of float
        Fractions of the labels, below 1.

    Returns
    -------
    dict of float to ModelComparison
        The comparison of each fraction.
    """
    table, codes = comparison.table, comparison.codes
    few_labels = {fraction: ModelComparison(table, comparison.splits) for fraction in fractions}
    for key, split in track_splits(folder, comparison, "classical models"):
        rows = np.sort(np.concatenate([split.train, split.validation]))
        for fraction, results in {1.0: comparison, **few_labels}.items():
            labelled = rows if fraction == 1 else labelled_rows(codes, rows, fraction, key)
            groups = table.donor[labelled] if key.kind == "donor" and table.donor is not None else None
            target = LabelledCells(table.values[labelled], codes[labelled], groups)
            unlabelled = None if fraction == 1 else table.values[np.setdiff1d(rows, labelled)]
            predictions = classical_predictions(source, target, table.values[split.test], key.seed, unlabelled)
            for name, probability in predictions.items():
                results.add(name, key, probability)
    return few_labels


def classical_predictions(
    source: SourceDomain,
    target: LabelledCells,
    query: Values,
    seed: int,
    unlabelled: Float[np.ndarray, "others column"] | None = None,
) -> dict[str, Probabilities]:
    """Fit the classical models of the experiment to human cells and, some of them, to mouse cells.

    Parameters
    ----------
    source : SourceDomain
        The mouse cells.
    target : LabelledCells
        Labelled human training cells.
    query : array of shape (cell, column)
        Human cells to predict.
    seed : int
        Seed of the models and of the inner folds.
    unlabelled : array of shape (unlabelled cell, column), optional
        Human training cells without a label, where labels are few. The discriminants are then fitted with them as well,
        and the models that need all labels, or none, are left out.

    Returns
    -------
    dict of str to array of shape (cell, class)
        Class probabilities of the query cells by model.
    """
    values, codes = np.concatenate([target.values, query]), np.pad(target.codes, (0, len(query)))
    train, test = np.split(np.arange(len(values)), [len(target.values)])

    def baseline(name: str) -> Probabilities:
        return fit_predict_proba(make_baseline(name, seed), values, codes, train, test, source.n_classes)

    def kernel(directions: DiscriminantDirections | None, width: float = KERNEL_WIDTHS[0]) -> Probabilities:
        return KernelClassifier(width, directions).fit(target.values, target.codes).predict_proba(query)

    def discriminants(cells: LabelledCells, query: Values) -> Callable[[TransferStrength], Probabilities]:
        return TransferDiscriminants(cells, query, source).predict_proba

    kernels, svm = [kernel(None, width) for width in KERNEL_WIDTHS], baseline("svm")
    rda = make_classical_model("signed-log rda", seed).fit(target.values, target.codes).predict_proba(query)
    candidates = {"lda": TARGET_ONLY_STRENGTHS, "source-regularised lda": SOURCE_STRENGTHS}
    selected = {
        name: select_by_inner_folds(target, strengths, discriminants, seed) for name, strengths in candidates.items()
    }
    predict = discriminants(target, query)
    models = {
        REFERENCE: np.mean([*kernels, baseline("lda"), svm, rda], axis=0),
        KERNEL: kernels[0],
        MOUSE_TYPES: kernel(source.directions),
        **{name: predict(strength) for name, strength in selected.items()},
    }
    if unlabelled is not None:
        predict = TransferDiscriminants(target, query, source, unlabelled).predict_proba
        return models | {f"{name}, unlabelled": predict(strength) for name, strength in selected.items()}
    weight = select_by_inner_folds(
        target, SOURCE_WEIGHTS, lambda cells, query: partial(joint_regression, cells, query, source), seed
    )
    return models | {
        SHUFFLED_TYPES: kernel(source.shuffled_directions),
        "logistic": baseline("logistic"),
        "svm": svm,
        "stacked logistic": stacked_regression(target, query, source),
        "joint logistic": joint_regression(target, query, source, weight),
        "mouse logistic": source.predict_proba(query, target.values),
    }


def labelled_rows(
    codes: Int[np.ndarray, "cell"], rows: Int[np.ndarray, "some"], fraction: float, key: SplitKey
) -> Int[np.ndarray, "_"]:
    """Draw a fraction of the cells of each class, at least two.

    Parameters
    ----------
    codes : array of int, shape (cell,)
        Class of every cell.
    rows : array of int
        Indices of the training cells.
    fraction : float
        Fraction of the labels.
    key : SplitKey
        The split; it seeds the draw. A larger fraction includes the cells of a smaller one.

    Returns
    -------
    array of int
        Sorted indices of the labelled cells.
    """
    kind, seed, fold = key
    order = np.random.default_rng([len(kind), seed, fold]).permutation(rows)
    members = [order[codes[order] == code] for code in np.unique(codes[rows])]
    return np.sort(np.concatenate([some[: max(2, round(fraction * len(some)))] for some in members]))
