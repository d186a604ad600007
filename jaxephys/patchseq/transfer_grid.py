"""Grids of the transfer experiment: networks of two species in several phases, and classical models with few or all labels.

``TransferNetworks`` trains the networks; ``train_classical_models`` fits the classical models. Both add their test
probabilities to a ``ModelComparison`` of the human cells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, initial_variables, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RunInputs, Variables
from jaxephys.evaluation.baselines import fit_predict_proba, make_baseline
from jaxephys.evaluation.comparison import ModelComparison, SplitKey
from jaxephys.evaluation.kernel_classifier import DiscriminantDirections, KernelClassifier
from jaxephys.evaluation.splits import k_folds
from jaxephys.patchseq.classical_models import make_classical_model
from jaxephys.patchseq.network.two_species import SHARED_MODULES, SpeciesOutputs, TwoSpeciesNetwork
from jaxephys.patchseq.source_transfer import (
    SOURCE_STRENGTHS,
    SOURCE_WEIGHTS,
    TARGET_ONLY_STRENGTHS,
    LabelledCells,
    SourceDomain,
    TransferDiscriminants,
    TransferStrength,
    joint_regression,
    select_by_inner_folds,
    stacked_regression,
)
from jaxephys.patchseq.transfer_task import TransferRun, make_transfer_data, make_transfer_inputs, make_transfer_task
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.schemas.feature_table import FeatureTable

REFERENCE = "human-only average"  # the best model of human cells only on three other draws of the folds
KERNEL, MOUSE_TYPES, SHUFFLED_TYPES = "kernel", "kernel, mouse types", "kernel, shuffled types"
KERNEL_WIDTHS = (0.25, 1.5)  # of the two kernels in the average; the first is that of all kernel models
NETWORK, BY_ACCURACY = "network", "network by accuracy"
PRETRAINING_FOLDS = 5  # a fifth of the mouse cells selects the epoch of pretraining
Probabilities = Float[np.ndarray, "cell class"]


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
    """

    folder: RunFolder
    comparison: ModelComparison
    table: FeatureTable
    network: TwoSpeciesNetwork
    config: TrainConfig

    def __post_init__(self) -> None:
        self.keys = list(self.comparison.splits)
        self.task = make_transfer_task(self.network)
        self.data = make_transfer_data(self.table, self.network.layout)

    def train_human_only(self, *, by_accuracy: bool) -> None:
        """Train on human cells only.

        Parameters
        ----------
        by_accuracy : bool
            Also train the networks whose epoch is selected by accuracy, as in the released code.
        """
        selections = (False, True) if by_accuracy else (False,)
        grid = self._cross("by_accuracy", selections)
        runs = [self._human_run(key, by_accuracy=selection) for selection in selections for key in self.keys]
        result, inputs = self._train("human", grid, runs)
        probability = self._predict(result.best, inputs.constants).human
        for selection in selections:
            self._add(BY_ACCURACY if selection else NETWORK, probability[grid.where(by_accuracy=selection)])

    def train_sequential(self) -> None:
        """Pretrain on mouse cells, once per seed; then train a new human head on every split, alone and with the encoder."""
        seeds = sorted({key.seed for key in self.keys})
        n_human = len(self.comparison.table)
        mouse_codes, runs = self.table.codes()[n_human:], []
        for seed in seeds:
            fold = k_folds(mouse_codes, PRETRAINING_FOLDS, seed)[0]
            train = np.sort(np.concatenate([fold.train, fold.validation]))
            runs.append(TransferRun(n_human + fold.test, mouse=n_human + train))
        pretrained, _ = self._train("mouse", RunGrid.cross(seed=seeds), runs)
        copies = take_runs(pretrained.best, [seeds.index(key.seed) for key in self.keys])

        grid, runs = self._one_run_per_split(), [self._human_run(key) for key in self.keys]
        warm_up = {"max_epochs": min(5, self.config.max_epochs), "patience": None, "freeze": SHARED_MODULES}
        warm, inputs = self._train("warm_up", grid, runs, initial_variables(copies, drop=("human",)), **warm_up)
        self._add("mouse network", self._predict(copies, inputs.constants).mouse)  # without human labels
        tuned, inputs = self._train("sequential", grid, runs, initial_variables(warm.best), learning_rate=5e-4)
        self._add("sequential network", self._predict(tuned.best, inputs.constants).human)

    def train_joint(self, alphas: Sequence[float], tuned_alpha: float, patience: int) -> None:
        """Train on both species at once for every alpha, select the best alpha, and fine-tune one of them on human cells.

        Parameters
        ----------
        alphas : sequence of float
            Weights of the mouse cells in the loss; 0 is the control.
        tuned_alpha : float
            The alpha that is fine-tuned on human cells.
        patience : int
            Patience of the joint training.
        """
        keys, n_human = self.keys, len(self.comparison.table)
        mouse = np.arange(n_human, len(self.table))
        grid = self._cross("alpha", alphas)
        runs = [self._human_run(key, mouse=mouse, alpha=alpha) for alpha in alphas for key in keys]
        batch_size = 2 * self.config.batch_size  # as many human cells per batch as in the other phases
        result, inputs = self._train("joint", grid, runs, learning_rate=5e-4, batch_size=batch_size, patience=patience)
        probability = self._predict(result.best, inputs.constants).human
        for alpha in alphas:
            self._add(f"joint network, alpha {alpha:g}", probability[grid.where(alpha=alpha)])
        # Human validation cells select alpha; the control is not among the candidates.
        score = np.where(np.array(grid.column("alpha")) > 0, result.run_results.best_score, -np.inf)
        best = np.reshape(score, (len(alphas), len(keys))).argmax(axis=0)
        self._add("joint network, selected alpha", probability[best * len(keys) + np.arange(len(keys))])
        start = initial_variables(take_runs(result.best, grid.where(alpha=tuned_alpha)))
        runs = [self._human_run(key) for key in keys]
        tuned, inputs = self._train("fine_tune", self._one_run_per_split(), runs, start, learning_rate=3e-4)
        self._add("joint network, tuned", self._predict(tuned.best, inputs.constants).human)

    def _human_run(self, key: SplitKey, **fields: Any) -> TransferRun:
        split = self.comparison.splits[key]
        return TransferRun(split.validation, split.train, **fields)

    def _one_run_per_split(self) -> RunGrid:
        return RunGrid(("folds", "seed", "fold"), tuple(map(tuple, self.keys)))

    def _cross(self, factor: str, levels: Sequence[Any]) -> RunGrid:
        """One run for each level of the factor and each split."""
        return RunGrid((factor, "folds", "seed", "fold"), tuple((level, *key) for level in levels for key in self.keys))

    def _train(
        self, name: str, grid: RunGrid, runs: Sequence[TransferRun], initial: Any = None, **changes: Any
    ) -> tuple[FitResult, RunInputs]:
        """Train one phase of all runs, with changes of the config."""
        inputs = make_transfer_inputs(self.table, self.network.layout, runs)
        config = replace(self.config, **changes)
        return self.folder.fit(self.task, self.data, inputs, grid, config, name, initial), inputs

    def _predict(self, variables: Variables, constants: Any) -> SpeciesOutputs:
        """Predict the human test cells. Runs are in the order of the splits, once for each level of another factor."""
        times = len(constants.alpha) // len(self.keys)
        rows = stack_rows([plain_rows(self.comparison.splits[key].test) for key in self.keys] * times)
        return predict(self.task, self.data, variables, rows, constants)

    def _add(self, model: str, probability: Float[np.ndarray, "run row class"]) -> None:
        """Add a model from one run per split."""
        for key, split_probability in zip(self.keys, probability, strict=True):
            self.comparison.add(model, key, split_probability[: len(self.comparison.splits[key].test)])


@dataclass(frozen=True)
class ClassicalTransferModels:
    """The classical models of the transfer experiment, fitted to human cells and, some of them, to mouse cells.

    Parameters
    ----------
    source : SourceDomain
        The mouse cells.
    target : LabelledCells
        Labelled human training cells.
    unlabelled : array of shape (cell, column)
        Human training cells without a label; empty where all labels are given.
    query : array of shape (cell, column)
        Human cells to predict.
    seed : int
        Seed of the models and of the inner folds.
    """

    source: SourceDomain
    target: LabelledCells
    unlabelled: Float[np.ndarray, "some column"]
    query: Float[np.ndarray, "cell column"]
    seed: int

    def few_label_models(self) -> dict[str, Callable[[], Probabilities]]:
        """Return the models that are fitted with every share of the labels.

        Returns
        -------
        dict of str to callable
            Functions that return the probabilities of the query cells, shape (cell, class).
        """
        return {
            REFERENCE: self.human_average,
            KERNEL: self.kernel,
            MOUSE_TYPES: lambda: self.kernel(self.source.directions),
            "lda": lambda: self.discriminant(TARGET_ONLY_STRENGTHS),
            "source-regularised lda": lambda: self.discriminant(SOURCE_STRENGTHS),
        }

    def unlabelled_models(self) -> dict[str, Callable[[], Probabilities]]:
        """Return the models that also use the training cells without a label, where labels are few.

        Returns
        -------
        dict of str to callable
            Functions that return the probabilities of the query cells.
        """
        return {
            "lda, unlabelled": lambda: self.discriminant(TARGET_ONLY_STRENGTHS, self.unlabelled),
            "source-regularised lda, unlabelled": lambda: self.discriminant(SOURCE_STRENGTHS, self.unlabelled),
        }

    def full_label_models(self) -> dict[str, Callable[[], Probabilities]]:
        """Return the models that are fitted with all labels only, or with none.

        Returns
        -------
        dict of str to callable
            Functions that return the probabilities of the query cells.
        """
        return {
            SHUFFLED_TYPES: lambda: self.kernel(self.source.shuffled_directions),
            "logistic": lambda: self.baseline("logistic"),
            "svm": lambda: self.baseline("svm"),
            "stacked logistic": lambda: stacked_regression(self.target, self.query, self.source),
            "joint logistic": self.joint_logistic,
            "mouse logistic": lambda: self.source.predict_proba(self.query, self.target.values),
        }

    def human_average(self) -> Probabilities:
        """Return the mean of five classical models of the human cells.

        Returns
        -------
        array of shape (cell, class)
            Class probabilities.
        """
        members = [self.kernel(None, width) for width in KERNEL_WIDTHS]
        members += [self.baseline(name) for name in ("lda", "svm")]
        discriminant = make_classical_model("signed-log rda", self.seed)
        members.append(discriminant.fit(self.target.values, self.target.codes).predict_proba(self.query))
        return np.mean(members, axis=0)

    def kernel(
        self, directions: DiscriminantDirections | None = None, width: float = KERNEL_WIDTHS[0]
    ) -> Probabilities:
        """Return the predictions of a kernel classifier.

        Parameters
        ----------
        directions : DiscriminantDirections, optional
            Directions of mouse types, a second metric of the kernel.
        width : float, default 0.25
            Width of the kernel.

        Returns
        -------
        array of shape (cell, class)
            Class probabilities.
        """
        return KernelClassifier(width, directions).fit(self.target.values, self.target.codes).predict_proba(self.query)

    def discriminant(
        self,
        strengths: Sequence[TransferStrength],
        unlabelled: Float[np.ndarray, "some column"] | None = None,
    ) -> Probabilities:
        """Return the predictions of the discriminant that inner folds of the labelled cells select.

        Parameters
        ----------
        strengths : sequence of TransferStrength
            The candidates.
        unlabelled : array of shape (cell, column), optional
            Cells without a label for the final fit.

        Returns
        -------
        array of shape (cell, class)
            Class probabilities.
        """

        def make_predictor(target: LabelledCells, query: np.ndarray) -> Callable[[TransferStrength], Probabilities]:
            return TransferDiscriminants(target, query, self.source).predict_proba

        strength = select_by_inner_folds(self.target, strengths, make_predictor, self.seed)
        return TransferDiscriminants(self.target, self.query, self.source, unlabelled).predict_proba(strength)

    def joint_logistic(self) -> Probabilities:
        """Return the predictions of a regression on both species; inner folds select the weight of the mouse cells.

        Returns
        -------
        array of shape (cell, class)
            Class probabilities.
        """

        def make_predictor(target: LabelledCells, query: np.ndarray) -> Callable[[float], Probabilities]:
            return lambda weight: joint_regression(target, query, self.source, weight)

        weight = select_by_inner_folds(self.target, SOURCE_WEIGHTS, make_predictor, self.seed)
        return joint_regression(self.target, self.query, self.source, weight)

    def baseline(self, name: str) -> Probabilities:
        """Return the predictions of a baseline on the human cells.

        Parameters
        ----------
        name : str
            Name of the baseline, see ``make_baseline``.

        Returns
        -------
        array of shape (cell, class)
            Class probabilities.
        """
        n_target, n_query = len(self.target.values), len(self.query)
        values = np.concatenate([self.target.values, self.query])
        codes = np.pad(self.target.codes, (0, n_query))
        train, test = np.arange(n_target), np.arange(n_target, n_target + n_query)
        n_classes = int(self.target.codes.max()) + 1
        return fit_predict_proba(make_baseline(name, self.seed), values, codes, train, test, n_classes)


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
    start = time.perf_counter()
    splits = comparison.splits.items()
    for key, split in folder.track(splits, "classical models"):
        rows = np.sort(np.concatenate([split.train, split.validation]))
        for fraction, results in {1.0: comparison, **few_labels}.items():
            labelled = rows if fraction == 1 else labelled_rows(codes, rows, fraction, key)
            groups = table.donor[labelled] if key.kind == "donor" and table.donor is not None else None
            target = LabelledCells(table.values[labelled], codes[labelled], groups)
            unlabelled, query = (table.values[some] for some in (np.setdiff1d(rows, labelled), split.test))
            models = ClassicalTransferModels(source, target, unlabelled, query, key.seed)
            others = models.full_label_models() if fraction == 1 else models.unlabelled_models()
            for name, fit_and_predict in (models.few_label_models() | others).items():
                results.add(name, key, fit_and_predict())
    folder.print(f"classical models: {len(splits)} splits in {time.perf_counter() - start:.0f} s")
    return few_labels


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
