"""Fine-tuning of a trained network on one data set: `fine_tune` trains, `score_probes` and `score_curves` evaluate on held-out units.

    1. finetune      without labels, on all units that are not held out
    2. supervised    with the labels of the training units, from the best epoch of stage 1; the decoder gets a new table of classes

There is one run for each fold of the labelled units, whose test units are in no training, and one on all units, which is the model that
users get. Stage 2 is left out for a table without labels, or with the option of 0 epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import KFold

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict, score
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RunInputs, Variables
from jaxephys.evaluation.scores import Score
from jaxephys.evaluation.splits import Split, hold_out_validation
from jaxephys.hippie.benchmark import assign_folds, baseline_features
from jaxephys.hippie.class_table import with_class_table
from jaxephys.hippie.datasets import available_modalities
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.grid import train_config
from jaxephys.hippie.network.cvae import ConditionalVAE
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.pretrained import PUBLISHED_WEIGHTS, open_model
from jaxephys.hippie.probes import PUBLISHED_LINEAR, make_probe
from jaxephys.hippie.task import (
    OURS,
    PUBLISHED,
    Objective,
    UnitArrays,
    fill_missing,
    initial_from_runs,
    make_data,
    make_run_inputs,
    make_task,
)
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

EXPERIMENT = "hippie_finetune"
CONFIGS = {"class_decoder_source_bn_aug_reg": PUBLISHED, "ours": OURS}  # by the published name of the configuration
CONTRAST = 10.0  # of our objective, with labels
PROBES = ("knn", PUBLISHED_LINEAR, "mlp")  # the published ones
BASELINES = ("knn", "logistic", "svm", "forest")  # on the curves of the same units
MLP_UNITS = 10  # training units per class that the network probe needs
ALL_UNITS = -1  # number of the fold that tests no unit


@dataclass(frozen=True)
class FineTuningSettings(Settings):
    """What is fine-tuned, and how. The defaults are the published options, but for test units, which are not used."""

    pretrain_checkpoint: Path | None = PUBLISHED_WEIGHTS
    """A saved model or a PyTorch checkpoint; by default the published weights. None: start from random weights."""
    fetch: bool = False
    """Download the published weights from the Hugging Face hub if they are not on this machine."""
    config: Literal["class_decoder_source_bn_aug_reg", "ours"] = "class_decoder_source_bn_aug_reg"
    """Objective, by its published name, or ours."""
    z_dim: int = 0
    """Number of latent dimensions; it must be that of the checkpoint. 0: that of the checkpoint, or 30 without one."""
    beta: float = 1.0
    """Weight of the KL divergence."""
    finetune_max_epochs: int = 20
    """Largest number of epochs without labels."""
    supervised_max_epochs: int = 10
    """Largest number of epochs with labels; 0: none."""
    batch_size: int = 128
    """Units of a step."""
    even_batches: bool = True
    """Adjust the batch size, by up to a half, so that the last batch of an epoch is not small. False: exactly ``batch_size``, as published."""
    learning_rate: float = 1e-4
    """Learning rate of both stages, a tenth of that of pretraining."""
    patience: int = 5
    """A run stops after this number of epochs without a lower validation loss."""
    min_delta: float = 1e-4
    """Smallest improvement of the validation loss that counts."""
    validation: float = 0.1
    """Share of the units that are not tested which select the epoch."""
    noisy_validation: bool = False
    """Compute the validation loss as in training, from augmented curves and a sample of the latent, as published."""
    transductive: bool = False
    """Train on the curves of test units as well, without their labels, as published."""
    folds: int = 5
    """Number of folds of a table without folds of its own."""
    seed: int = 0
    """Seed of the training."""
    trunk: Literal["resnet", "dense"] = "resnet"
    """Type of encoders and decoders of a network that starts from random weights."""
    width: int = 64
    """Its channels of the first layer."""

    @property
    def weight_decay(self) -> float:
        """Weight decay of AdamW, as published."""
        return 0.01

    @property
    def objectives(self) -> tuple[Objective, Objective]:
        """Objectives of the stages. The published stage with labels is not augmented."""
        objective = replace(CONFIGS[self.config], beta=self.beta)
        if self.config == "ours":
            return objective, replace(objective, contrast=CONTRAST)
        return objective, replace(objective, augmentation="off")


class FineTuned(NamedTuple):
    """Networks that were fine-tuned on one table, a run for each fold and one for all units.

    Parameters
    ----------
    initial : Hippie
        The network before.
    network : ConditionalVAE
        The network after, which may have a new table of classes.
    data : UnitArrays
        The units.
    splits : list of Split
        Training, validation and test rows of each run; the last run tests no unit.
    results : dict of str to FitResult
        Result of each stage.
    model : Hippie
        The network of all units.
    """

    initial: Hippie
    network: ConditionalVAE
    data: UnitArrays
    splits: list[Split]
    results: dict[str, FitResult]
    model: Hippie

    @property
    def variables(self) -> dict[str, Variables]:
        """Variables of all runs by the name of the model: before and after fine-tuning."""
        start = jax.tree.map(lambda leaf: np.repeat(leaf[:1], len(self.splits), axis=0), self.initial.scored_variables)
        return {"fine-tuned": [*self.results.values()][-1].best, "checkpoint": start}

    @property
    def networks(self) -> dict[str, ConditionalVAE]:
        """Architecture by the name of the model."""
        return {"fine-tuned": self.network, "checkpoint": self.initial.network_}


def initial_model(settings: FineTuningSettings, units: UnitTable) -> Hippie:
    """Open the checkpoint, or make a network with random weights if there is none.

    Parameters
    ----------
    settings : FineTuningSettings
        Checkpoint, number of latent dimensions and, without a checkpoint, the size of the network.
    units : UnitTable
        The units to train on; their curves determine the modalities of a new network.

    Returns
    -------
    Hippie
        The estimator that training starts from.

    Raises
    ------
    ValueError
        If the checkpoint cannot be opened, or has another number of latent dimensions than ``z_dim``.
    """
    if settings.pretrain_checkpoint is None:
        modalities: Any = available_modalities([units])
        sources = len(TECHNOLOGIES) if (units.technology_codes >= 0).any() else 0
        options: Any = {"sources": sources, "trunk": settings.trunk}
        network = ConditionalVAE(modalities, settings.z_dim or 30, settings.width, **options)
        variables = jax.device_get(make_task(network).init(jax.random.key(settings.seed)))
        return Hippie.from_network(network, variables, Preparation(lengths=modalities))
    model = open_model(settings.pretrain_checkpoint, fetch=settings.fetch)
    if settings.z_dim not in (0, latent := model.network_.latent):
        raise ValueError(
            f"the network of {settings.pretrain_checkpoint} has {latent} latent dimensions, not {settings.z_dim}: leave out "
            "--z-dim, or train a new network with --pretrain-checkpoint None"
        )
    return model


def draw_folds(units: UnitTable, settings: FineTuningSettings) -> list[Split]:
    """Divide units into the splits of all runs: one for each fold, and one of all units, which tests none.

    Parameters
    ----------
    units : UnitTable of n_units
        Units. Folds are of the labelled ones, stratified by class, and of all units if there are fewer than two classes.
    settings : FineTuningSettings
        Number of folds, and share of validation rows.

    Returns
    -------
    list of Split
        Units without a label are in the training or validation rows of every run.
    """
    usable = np.flatnonzero(units.present.any(axis=1))
    if len(units.classes) > 1:
        rows, fold = assign_folds(units, settings.folds, 42)  # the published seed
        tests = [np.intersect1d(rows[fold == number], usable) for number in np.unique(fold)]
    else:
        parts = KFold(settings.folds, shuffle=True, random_state=42).split(usable)
        tests = [usable[test] for _, test in parts]
    tests.append(np.array([], int))
    return [
        hold_out_validation(np.setdiff1d(usable, test), settings.validation, [settings.seed, number], test)
        for number, test in enumerate(tests)
    ]


def fine_tune(folder: RunFolder, units: UnitTable, settings: FineTuningSettings) -> FineTuned:
    """Fine-tune a network on the folds of a table and on all of its units, as one program for each stage.

    Parameters
    ----------
    folder : RunFolder
        Folder for checkpoints and history.
    units : UnitTable of n_units
        The units; their labels are used in the second stage.
    settings : FineTuningSettings
        Settings of the training.

    Returns
    -------
    FineTuned
        The networks.

    Raises
    ------
    ValueError
        If no stage has an epoch, or the checkpoint cannot be used, see `initial_model`.
    """
    initial, splits = initial_model(settings, units), draw_folds(units, settings)
    grid = RunGrid.cross(seed=[settings.seed], fold=[*range(len(splits) - 1), ALL_UNITS])
    epochs = {"finetune": settings.finetune_max_epochs, "supervised": settings.supervised_max_epochs}
    stages = [name for name in epochs if epochs[name] and (name == "finetune" or len(units.classes) > 1)]
    if not stages:
        raise ValueError("nothing is trained: give epochs without labels, or labelled units of two classes or more")
    folder.announce_run(len(grid) * len(stages), units=units.raw)
    data = make_data(units, initial.preparation_)
    filled = data if initial.network_.mask_token else fill_missing(data)  # as the network was trained
    network, best, results, classes = initial.network_, initial.variables_, {}, np.array([], str)
    for name in stages:
        objective = settings.objectives[name == "supervised"]
        variables = initial_from_runs(best, range(len(grid)) if results else [0] * len(grid))
        if name == "supervised" and objective.conditioned:
            classes = units.classes
            network, variables = with_class_table(network, variables, len(classes), grid.column("seed"))
        codes = units.codes() if name == "supervised" else np.full(len(units), -1, np.int32)
        inputs, config = _training(settings, network, objective, splits, codes, epochs[name])
        task = make_task(network, [objective], noisy_validation=settings.noisy_validation)
        results[name] = folder.fit(task, filled, inputs, grid, config, name, variables)
        best = results[name].best
    objective = settings.objectives[stages[-1] == "supervised"]
    model = Hippie(network.latent, width=network.width, trunk=network.trunk, objective=objective)
    parts = (network, initial.preparation_, data, units.name, splits, np.array([len(splits) - 1]), classes)
    model.keep_runs([*results.values()][-1], *parts)
    model.trained_on_ = np.union1d(model.trained_on_, initial.trained_on_)
    return FineTuned(initial, network, data, splits, results, model)


def _training(
    settings: FineTuningSettings,
    network: ConditionalVAE,
    objective: Objective,
    splits: Sequence[Split],
    codes: np.ndarray,
    max_epochs: int,
) -> tuple[RunInputs, TrainConfig]:
    """Return the inputs and the settings of a stage. Labels of test units are removed before any run receives them."""
    labels = np.tile(codes, (len(splits), 1))
    for row, split in zip(labels, splits, strict=True):
        row[split.test] = -1
    if settings.transductive:
        splits = [split._replace(train=np.union1d(split.train, split.test)) for split in splits]
    config = train_config(settings, network, splits, [objective], max_epochs)
    options: Any = {"batch_size": config.batch_size, "label_validation": settings.noisy_validation}
    return make_run_inputs(labels, splits, [objective] * len(splits), **options), config


def score_probes(tuned: FineTuned, units: UnitTable, name: str) -> list[Score]:
    """Score classifiers of the test units of each fold: probes of the embeddings, and baselines on the curves of the same units.

    Parameters
    ----------
    tuned : FineTuned
        The networks.
    units : UnitTable of n_units
        The units; without two classes there is nothing to score.
    name : str
        Name of the data set, for the score table.

    Returns
    -------
    list of Score
        Balanced accuracy by probe and model, and fold. Classifiers are fitted on the labelled training and validation units of the fold.
        The network probe, which holds out a tenth of them, is left out below ten units per class.
    """
    if len(units.classes) < 2:
        return []
    folds, rows = range(len(tuned.splits) - 1), stack_rows([plain_rows(np.arange(len(units)))] * len(tuned.splits))
    features = {"curves": [baseline_features(units)] * len(folds)}
    for model, variables in tuned.variables.items():
        features[model] = [*predict(make_task(tuned.networks[model]), tuned.data, variables, rows).mu]
    scores = []
    for fold in folds:
        known, test = _labelled(units, tuned.splits[fold])
        enough = len(known) >= MLP_UNITS * len(np.unique(units.label[known]))
        probes = [probe for probe in PROBES if enough or probe != "mlp"]
        for model, values in features.items():
            for probe in BASELINES if model == "curves" else probes:
                classifier = make_probe(probe).fit(values[fold][known], units.label[known])
                value = balanced_accuracy_score(units.label[test], classifier.predict(values[fold][test]))
                key = (EXPERIMENT, f"{probe} on {model}", name, name, 0, fold, "test", "balanced_accuracy")
                scores.append(Score(*key, float(value), len(test)))
    return scores


def _labelled(units: UnitTable, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and the test rows of classifiers: labelled units of classes with two training units or more."""
    known = np.union1d(split.train, split.validation)
    names, counts = np.unique(units.label[known], return_counts=True)
    usable = names[(counts > 1) & (names != "")]
    known, test = (rows[np.isin(units.label[rows], usable)] for rows in (known, split.test))
    return known, test


def score_curves(tuned: FineTuned, name: str) -> list[Score]:
    """Score the reconstruction of the test units of each fold, before and after fine-tuning.

    Parameters
    ----------
    tuned : FineTuned
        The networks.
    name : str
        Name of the data set, for the score table.

    Returns
    -------
    list of Score
        Explained variance of each curve and share of active latent dimensions, by model and fold.
    """
    splits = tuned.splits[:-1]
    rows = stack_rows([plain_rows(split.test) for split in splits])
    unlabelled = np.full(len(tuned.data.source), -1, np.int32)
    constants = make_run_inputs(unlabelled, splits, [PUBLISHED] * len(splits), batch_size=1).constants
    scores = []
    for model, variables in tuned.variables.items():
        chosen, task = take_runs(variables, range(len(splits))), make_task(tuned.networks[model])
        for metric, values in score(task, tuned.data, chosen, rows, constants).items():
            if metric == "active" or metric.startswith("r2_"):
                key = (EXPERIMENT, model, name, name, 0)
                runs = zip(range(len(splits)), values, splits, strict=True)
                scores += [
                    Score(*key, fold, "test", metric, float(x), len(s.test)) for fold, x, s in runs if np.isfinite(x)
                ]
    return scores


def loss_curves(tuned: FineTuned) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the losses of all stages in the form that `jaxephys.reporting.plots.draw_curves` draws.

    Parameters
    ----------
    tuned : FineTuned
        The networks.

    Returns
    -------
    history : dict of arrays (n_runs, n_epochs)
        ``train_loss`` and ``valid_loss`` of the runs of all stages; NaN after the last epoch of a run.
    stages : list of str
        Stage of each run.
    """
    longest = max(result.history["train_loss"].shape[1] for result in tuned.results.values())
    history = {
        metric: np.concatenate(
            [
                np.pad(values, ((0, 0), (0, longest - values.shape[1])), constant_values=np.nan)
                for values in (result.history[metric] for result in tuned.results.values())
            ]
        )
        for metric in ("train_loss", "valid_loss")
    }
    return history, [stage for stage, result in tuned.results.items() for _ in result.grid]
