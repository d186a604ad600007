"""Settings of the experiments: the network, how it is trained, and in which stages.

The defaults are the published network (a ResNet-18 of width 64, ten latent dimensions per modality, ten seeds) in a protocol that uses no
test unit. Constants are arguments of the settings, for the presets: ``PUBLISHED_TRAINING`` (optimizer and validation), ``PUBLISHED_STAGES`` and
``PUBLISHED_BENCHMARK`` for the published protocol, ``TRANSFER_STAGES`` for the published test on another data set, ``HOLD_OUT_BENCHMARK``
for a data set that is new to the network, ``GENERATIVE_TRAINING`` and ``GENERATIVE_BENCHMARK`` for the published generative model,
``DENSE`` for our small network. The published protocol trains in three stages:

    1. pretraining     100 epochs on all units of the data set, test units included, without labels
    2. fine-tuning      20 epochs on the units that have a class, test units included, without labels, at a tenth of the learning rate
    3. supervised       10 epochs on the same units with the labels of the training units, at a tenth, without augmentation, with a
                        newly drawn table of classes

Units without a label, and test units in the third stage, have the first class there (``unlabelled_class``); their own label is used
nowhere. A stage starts from the best epoch of the one before by the loss of validation rows, which is computed as in training.

Deviations that remain: an epoch counts as the best one only if it improves by ``min_delta``; biases start at 0; the technology takes the
place of the data set as the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from jaxephys.reporting.settings import Settings

LATENT_PER_MODALITY = 10  # published


@dataclass(frozen=True)
class NetworkSize(Settings):
    """Size and training of the networks of an experiment."""

    trunk: Literal["dense", "resnet"] = "resnet"
    """Type of encoders and decoders: the published ResNet-18, or our dense layers, which train in a hundredth of the time."""
    width: int = 64
    """Channels of the first layer, 64 as published; a dense trunk has eight times as many hidden units."""
    latent: int = 0
    """Number of latent dimensions. 0: ten for each modality of the data, as published."""
    max_epochs: int = 100
    """Largest number of epochs; the best one is selected on validation rows."""

    renamed: ClassVar[Mapping[str, str]] = {"epochs": "max_epochs"}

    def latent_size(self, n_modalities: int) -> int:
        """Return the number of latent dimensions of a network.

        Parameters
        ----------
        n_modalities : int
            Number of curves that the network encodes.

        Returns
        -------
        int
            ``latent``, or ten per modality where it is 0.

        Examples
        --------
        >>> NetworkSize().latent_size(3), NetworkSize(latent=16).latent_size(3)
        (30, 16)
        """
        return self.latent or LATENT_PER_MODALITY * n_modalities

    @property
    def network_name(self) -> str:
        """The network in words, for tables and figures."""
        name = {"resnet": "ResNet-18", "dense": "dense network"}[self.trunk]
        latent = f"latent {self.latent}" if self.latent else f"latent {LATENT_PER_MODALITY} per modality"
        return f"{name} of width {self.width}, {latent}"

    @property
    def network_note(self) -> str:
        """A sentence that names the network, for figures; empty if no network is trained."""
        return f"Networks: {self.network_name}." if self.width else ""


@dataclass(frozen=True)
class NetworkSettings(NetworkSize):
    """Settings of the experiments that train several networks."""

    seeds: int = 10
    """Networks per fold, or per fold and variant."""
    batch_size: int = 64
    """Units of an optimizer step; 128 is published."""
    even_batches: bool = True
    """Adjust the batch size, by up to a half, so that the last batch of an epoch is not small. False: exactly ``batch_size``."""
    learning_rate: float = 1e-3
    """Learning rate of AdamW."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    patience: int | None = None
    """Stop a network after this number of epochs without a lower validation loss; 5 is published. None: never."""
    min_delta: float = 0.0
    """Smallest improvement of the validation loss that counts; 1e-4 is published."""
    validation: float = 0.1
    """Share of the units that are not tested which select the epoch."""
    noisy_validation: bool = False
    """Compute the validation loss as in training, from augmented curves, a sample of the latent and the class, as published."""
    missing: Literal["token", "constant"] = "token"
    """A missing curve has a learned vector and no error ("token"), or is the constant -1 like any other curve, as published."""
    intervals: Literal["common", "stored"] = "common"
    """Scale histograms of intervals to a common number of intervals, or use the values of the file, as published."""

    # Fields that version 0.1.0 did not have. Their defaults are what it did.
    added: ClassVar[tuple[str, ...]] = (
        "batch_size",
        "even_batches",
        "learning_rate",
        "weight_decay",
        "patience",
        "min_delta",
        "validation",
        "noisy_validation",
        "missing",
        "intervals",
    )


@dataclass(frozen=True)
class StagedSettings(NetworkSettings):
    """Settings of networks that are pretrained."""

    pretraining: int = 100
    """Epochs of pretraining, without labels."""
    fine_tuning_rate: float = 1.0
    """Learning rate after pretraining as a multiple of ``learning_rate``; 0.1 is published."""

    added: ClassVar[tuple[str, ...]] = (*NetworkSettings.added, "fine_tuning_rate")


PretrainingUnits = Literal["others", "unrelated", "same", "all"]


@dataclass(frozen=True)
class EmbeddingSettings(StagedSettings):
    """Settings of networks whose embeddings are classified. A width of 0 trains no network."""

    validation: float = 0.15
    """Share of the units that are not tested which select the epoch; 0.1 is published."""
    objectives: tuple[Literal["ours", "published", "generative"], ...] = ("ours", "published")
    """Objectives of the networks, each trained with all seeds."""
    pretraining: int = 30
    """Epochs of pretraining, without labels; 0: none."""
    pretrain_on: PretrainingUnits = "others"
    """Units of pretraining: all other data sets and the unlabelled units of this one; only other data sets ("unrelated"); all units of this
    data set, test units included ("same"), as published; all units ("all")."""
    fine_tuning: int = 0
    """Epochs on the units of this data set without labels, after pretraining; 20 is published."""
    transductive: bool = False
    """Fine-tune and train with the curves of test units as well, without their labels, as published."""
    supervised_augmentation: bool = True
    """Augment curves in the stage with labels; False as published."""
    redraw_classes: bool = False
    """Draw the table of classes anew before the stage with labels, as published."""
    unlabelled_class: int = -1
    """Index of the class that the decoder receives for units whose label is not used; -1: none. 0 is published."""
    contrast: float = 160.0
    """Weight of the contrastive loss of our objective on labels of training units."""

    added: ClassVar[tuple[str, ...]] = (
        *StagedSettings.added,
        "objectives",
        "pretrain_on",
        "fine_tuning",
        "transductive",
        "supervised_augmentation",
        "redraw_classes",
        "unlabelled_class",
    )

    @property
    def protocol_name(self) -> str:
        """Which units the networks are trained on, in words, for reports."""
        on = {
            "others": "other data sets and unlabelled units",
            "unrelated": "other data sets",
            "same": "all units of the data set, test units included",
            "all": "all units of all data sets, test units included",
        }[self.pretrain_on]
        parts = [f"{self.pretraining} epochs on {on}"] if self.pretraining else []
        tested = "training and test units" if self.transductive else "training units"
        parts += [f"{self.fine_tuning} epochs on {tested} without labels"] if self.fine_tuning else []
        labelled = f"{self.max_epochs} epochs on {tested} with the labels of training units"
        return ", then ".join([*parts, labelled] if self.max_epochs else parts)

    @property
    def uses_test_curves(self) -> bool:
        """Whether curves of test units, without their labels, take part in the training of the networks."""
        return self.transductive or (self.pretraining > 0 and self.pretrain_on in ("same", "all"))


@dataclass(frozen=True)
class BenchmarkSettings(EmbeddingSettings):
    """Settings of the networks, and of the folds of data sets that have none in their table."""

    fold_seed: int = 0
    """Seed of the folds of data sets that have none in their table; 42 is published."""
    min_units: int = 5
    """Smallest class of such a data set; 10 is published."""
    max_units: int = 0
    """Draw at most this number of labelled units of a data set, in proportion to its classes; 0: all."""

    added: ClassVar[tuple[str, ...]] = (*EmbeddingSettings.added, "fold_seed", "min_units", "max_units")


class Stage(NamedTuple):
    """One training of the networks of a benchmark, which continues from the stage before.

    Parameters
    ----------
    name : str
        Suffix of its files in the run folder.
    epochs : int
        Largest number of epochs.
    pretraining : bool
        Whether it is trained on the units of ``EmbeddingSettings.pretrain_on``; otherwise on those of the benchmark.
    labels : bool
        Whether the labels of training units are used.
    by_fold : bool
        Whether there is one network for each fold; otherwise one network serves all folds.
    """

    name: str
    epochs: int
    pretraining: bool
    labels: bool
    by_fold: bool


def make_stages(settings: EmbeddingSettings) -> list[Stage]:
    """Return the stages of a protocol, in order.

    Parameters
    ----------
    settings : EmbeddingSettings
        Settings of the networks.

    Returns
    -------
    list of Stage
        Those of pretraining, fine-tuning and training with labels that have an epoch.

    Examples
    --------
    >>> [stage.name for stage in make_stages(EmbeddingSettings(**PUBLISHED_STAGES))]
    ['pretrain', 'fine_tune', 'folds']
    """
    stages = (
        Stage("pretrain", settings.pretraining, pretraining=True, labels=False, by_fold=False),
        Stage("fine_tune", settings.fine_tuning, pretraining=False, labels=False, by_fold=not settings.transductive),
        Stage("folds", settings.max_epochs, pretraining=False, labels=True, by_fold=True),
    )
    return [stage for stage in stages if stage.epochs]


DENSE: dict[str, Any] = {"trunk": "dense", "width": 16, "latent": 30, "seeds": 5}  # ours, for hundreds of units
PUBLISHED_TRAINING: dict[str, Any] = {
    "batch_size": 128,
    "even_batches": False,
    "patience": 5,
    "min_delta": 1e-4,
    "validation": 0.1,
    "noisy_validation": True,
    "missing": "constant",
    "intervals": "stored",
}
PUBLISHED_STAGES: dict[str, Any] = {
    **PUBLISHED_TRAINING,
    "objectives": ("published",),
    "fine_tuning_rate": 0.1,
    "pretraining": 100,
    "pretrain_on": "same",
    "fine_tuning": 20,
    "max_epochs": 10,
    "transductive": True,
    "supervised_augmentation": False,
    "redraw_classes": True,
    "unlabelled_class": 0,
}
PUBLISHED_BENCHMARK: dict[str, Any] = {**PUBLISHED_STAGES, "fold_seed": 42, "min_units": 10}
TRANSFER_STAGES: dict[str, Any] = {  # published: the tested data set takes part in pretraining only
    **PUBLISHED_STAGES,
    "batch_size": 64,
    "pretrain_on": "all",
    "transductive": False,
}
HOLD_OUT_BENCHMARK: dict[str, Any] = {  # a data set of which no unit is trained on
    **PUBLISHED_BENCHMARK,
    "pretrain_on": "unrelated",
    "fine_tuning": 0,
    "max_epochs": 0,
    "transductive": False,
    "max_units": 5000,
}
GENERATIVE_TRAINING: dict[str, Any] = {
    "latent": 16,
    "batch_size": 256,
    "even_batches": False,
    "weight_decay": 1e-4,
    "max_epochs": 80,
    "missing": "constant",
    "intervals": "stored",
}
GENERATIVE_BENCHMARK: dict[str, Any] = {  # one stage without labels
    **GENERATIVE_TRAINING,
    "objectives": ("generative",),
    "pretraining": 80,
    "pretrain_on": "all",
    "max_epochs": 0,
    "fold_seed": 42,
}
