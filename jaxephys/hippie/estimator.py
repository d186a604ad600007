"""Hippie: the user's face of the HIPPIE system. Thin: the work is in the task and the engine, and reading in ``Reader``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, fit, take_runs, transplant
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import score
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import PyTree
from jaxephys.evaluation.splits import Split
from jaxephys.hippie import published_api
from jaxephys.hippie.combined_table import Tables, Texts, codes_of, listed, names_of
from jaxephys.hippie.imputation import givens, measure_noise
from jaxephys.hippie.inference import SAMPLES, Reader
from jaxephys.hippie.network.cvae import LENGTHS, ConditionalVAE, network_of, settings_of
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.safe_unpickler import read_state_dict
from jaxephys.hippie.task import (
    OBJECTIVES,
    Objective,
    Units,
    constants_of,
    even_batches,
    make_data,
    make_runs,
    make_task,
)
from jaxephys.hippie.torch_checkpoint import variables_of
from jaxephys.models.base import SavedModel, count_parameters
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

LEAST_UNITS = 8


class Hippie(Reader, SavedModel, BaseEstimator):
    """Sorted units as points of a space: waveform, inter-spike intervals and autocorrelogram, or any of them.

    A conditional variational autoencoder on one-dimensional ResNets. It embeds a unit, and draws what a unit lacks.

    Parameters
    ----------
    latent : int
        Dimensions of the embedding.
    width : int
        Channels of the first layer. 64 is published, for tens of thousands of units; 16 does for thousands.
    modalities : sequence of {"wave", "isi", "acg"}
    trunk : {"resnet", "dense"}
        What reads and draws curves. A few hundred units do not need the published ResNets; these take a minute to compile.
    objective : {"ours", "published"} or Objective
        What is minimised. The published one empties the latent: it is there to compare with.
    contrast : float
        How strongly labels pull units of a class together, where ``fit`` is given any.
    seeds : int
        How many networks are trained, each with its own validation units and initial weights.
    validation : float
        Share of the units that selects the best epoch, and tells how far the drawn curves are off.
    random_state : int
        The first of the seeds.

    Attributes
    ----------
    history_ : dict of arrays [seed, epoch]
    trained_on_ : array of str
        The names of all units that training or validation has seen, in this phase and those before it.
    noise_ : dict of arrays [seed, given, position]
        Variance of drawn curves about measured ones, beyond that of the latent.
    result_ : FitResult of the engine
    """

    def __init__(
        self,
        latent: int = 30,
        *,
        width: int = 16,
        modalities: Sequence[str] = tuple(LENGTHS),
        trunk: str = "resnet",
        objective: str | Objective = "ours",
        contrast: float = 10.0,
        seeds: int = 1,
        max_epochs: int = 200,
        patience: int | None = 40,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        validation: float = 0.1,
        random_state: int = 0,
        progress: bool = True,
    ) -> None:
        self.latent = latent
        self.width = width
        self.modalities = modalities
        self.trunk = trunk
        self.objective = objective
        self.contrast = contrast
        self.seeds = seeds
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation = validation
        self.random_state = random_state
        self.progress = progress

    def fit(
        self,
        units: Tables,
        labels: Sequence[str] | Texts | None = None,
        *,
        technology: str | None = None,
        start: Hippie | None = None,
        held_out: Tables = (),
    ) -> Hippie:
        """Train on one table of units, or on several at once.

        Parameters
        ----------
        labels : array of str, optional
            One a unit, in the order of the tables, "" where it is unknown. Without them no label is looked at.
        technology : str, optional
            What all the units were recorded with, instead of what the tables tell of each.
        start : Hippie, optional
            Go on from its weights: pretrain on many tables, fine-tune on one, then once more with labels. Sizes and
            preparation are those of ``start``.
        held_out : UnitTable or sequence of them
            Units that neither training nor validation may see, by name; those among ``units`` are left out.
        """
        tables = [table.recorded_with(technology) for table in listed(units)]
        names, hidden = names_of(tables), names_of(listed(held_out))
        codes = codes_of(labels, len(names))
        objective = self._objective(codes)
        network = self._network(tables, codes, objective) if start is None else start.network_
        preparation = self._preparation() if start is None else start.preparation_
        data = make_data(tables, preparation)
        usable = np.flatnonzero(data.present.any(axis=1) & ~np.isin(names, hidden))
        axis = RunGrid.cross(seed=range(self.random_state, self.random_state + self.seeds))
        splits = [self._split(usable, seed) for seed in axis.column("seed")]
        batch_size = even_batches([len(split.train) for split in splits], self.batch_size)
        plan = TrainConfig(
            self.max_epochs,
            self.patience,
            monitor="loss",
            mode="min",
            batch_size=batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            clip_norm=1.0,
        )
        runs = make_runs(codes, splits, [objective] * len(axis), batch_size=batch_size)
        weights = None if start is None else weights_of(start, len(axis))
        title = "Hippie" if self.progress else None
        result = fit(make_task(network), data, runs, axis, plan, initial=weights, title=title)
        self.adopt(result, network, preparation, data, names, splits)
        if start is not None:
            self.trained_on_ = np.union1d(self.trained_on_, start.trained_on_)
        return self

    def adopt(
        self,
        result: FitResult,
        network: ConditionalVAE,
        preparation: Preparation,
        data: Units,
        names: Texts,
        splits: Sequence[Split],
        places: Int[np.ndarray, "run"] | None = None,
    ) -> Hippie:
        """Become what runs of a grid have trained on their splits of ``data`` (all of them, or those in ``places``)."""
        places = np.arange(len(result.grid)) if places is None else places
        self.result_ = result
        self.history_ = {name: values[places] for name, values in result.history.items()}
        self.variables_ = take_runs(result.best, places)
        self.network_, self.preparation_ = network, preparation
        own = [splits[place] for place in places]
        self.trained_on_ = np.unique(names[np.concatenate([rows for split in own for rows in split[:2]])])
        self.noise_ = measure_noise(network, data, self.variables_, [split.validation for split in own], SAMPLES)
        return self

    def score_table(self, units: UnitTable) -> list[dict[str, Any]]:
        """Of each network: explained variance of each modality, KL in nats, share of active dimensions."""
        data = self._units(units)
        rows = stack_rows([plain_rows(np.arange(len(units)))] * self._runs)
        unlabelled = np.full(len(units), -1, np.int32)
        constants = [constants_of(self._objective(unlabelled), unlabelled)] * self._runs
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *constants)
        scores = score(make_task(self.network_), data, self.variables_, rows, stacked)
        return [
            {"network": run, **{name: float(value[run]) for name, value in scores.items()}, "n": len(units)}
            for run in range(self._runs)
        ]

    @classmethod
    def from_checkpoint(cls, checkpoint_path: str | Path, device: str | None = None) -> Hippie:
        """The network of a published PyTorch checkpoint. ``device`` is the card's: JAX takes the fastest that it sees."""
        del device
        try:
            network, variables = variables_of(read_state_dict(checkpoint_path))
        except CheckpointError as error:
            said = str(error)
            raise CheckpointError(said if str(checkpoint_path) in said else f"{checkpoint_path}: {said}") from error
        names = tuple(name for name, _ in network.modalities)
        model = cls(network.latent, width=network.width, modalities=names, objective="published")
        model.network_ = network
        model.preparation_ = Preparation(order="card", intervals="stored", lengths=network.modalities)
        model.variables_ = jax.tree.map(lambda leaf: leaf[None], variables)
        model.trained_on_ = np.array([], str)
        choices = len(givens(len(names)))
        model.noise_ = {name: np.full((1, choices, length), np.nan, np.float32) for name, length in network.modalities}
        return model

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str = "Jesusgf23/hippie",
        filename: str = "hippie_techcond_v1.ckpt",
        device: str | None = None,
        cache_dir: str | Path | None = None,
    ) -> Hippie:
        """The published network, downloaded once."""
        return cls.from_checkpoint(published_api.download(repo_id, filename, cache_dir), device)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "variables_")

    def _objective(self, codes: Int[np.ndarray, "cell"]) -> Objective:
        if isinstance(self.objective, str) and self.objective not in OBJECTIVES:
            raise ValueError(f"objective {self.objective!r} is unknown: choose one of {', '.join(OBJECTIVES)}")
        objective = OBJECTIVES[self.objective] if isinstance(self.objective, str) else self.objective
        if (codes >= 0).any() and not objective.conditioned:
            return replace(objective, contrast=objective.contrast or self.contrast)
        return objective

    def _network(
        self, tables: Sequence[UnitTable], codes: Int[np.ndarray, "cell"], objective: Objective
    ) -> ConditionalVAE:
        known = any((table.technology >= 0).any() for table in tables)
        return ConditionalVAE(
            self._preparation().lengths,
            self.latent,
            self.width,
            sources=len(TECHNOLOGIES) if known else 0,
            classes=int(codes.max()) + 1 if objective.conditioned else 0,
            trunk=self.trunk,
        )

    def _preparation(self) -> Preparation:
        names = [*(name for name in LENGTHS if name in self.modalities), *(set(self.modalities) - set(LENGTHS))]
        return Preparation(lengths=tuple((name, LENGTHS.get(name, 0)) for name in names))

    def _split(self, usable: Int[np.ndarray, "some"], seed: int) -> Split:
        """Training and validation; the test part stays empty, since the caller keeps test units to himself."""
        if len(usable) < LEAST_UNITS:
            raise ValueError(f"{len(usable)} units with curves are left to train on: give at least {LEAST_UNITS}")
        order = np.random.default_rng(seed).permutation(usable)
        count = max(2, round(self.validation * len(order)))
        return Split(np.sort(order[count:]), np.sort(order[:count]), np.array([], int))

    def _arrays(self) -> dict[str, PyTree]:
        check_is_fitted(self)
        return {**self.variables_, "noise": self.noise_}

    def _settings(self) -> dict[str, Any]:
        own = {"network": settings_of(self.network_), "preparation": self.preparation_.stamp}
        objective = self.objective if isinstance(self.objective, str) else asdict(self.objective)
        parameters = {**self.get_params(), "objective": objective, "modalities": list(self.modalities)}
        return {"parameters": parameters, **own, "trained_on": self.trained_on_.tolist()}

    @classmethod
    def _from_saved(cls, arrays: dict[str, PyTree], settings: dict[str, Any]) -> Hippie:
        parameters = settings["parameters"]
        objective = parameters["objective"]
        objective = objective if isinstance(objective, str) else Objective(**objective)
        model = cls(**{**parameters, "objective": objective, "modalities": tuple(parameters["modalities"])})
        model.network_ = network_of(settings["network"])
        model.preparation_ = Preparation.of_stamp(settings["preparation"])
        model.trained_on_ = np.array(settings["trained_on"], str)
        model.noise_ = arrays.pop("noise")
        model.variables_ = arrays
        return model

    def describe(self) -> str:
        """One line on what was learnt."""
        network = self.network_
        curves = ", ".join(f"{name} {length}" for name, length in network.modalities)
        return (
            f"{self._runs} network{'s' * (self._runs > 1)} of {count_parameters(self.variables_):,} parameters, latent {network.latent}, "
            f"curves {curves}, trained on {len(self.trained_on_) or 'unknown'} units"
        )


def weights_of(start: Hippie, runs: int) -> PyTree:
    """Of the networks of ``start``, in turn. The count of steps begins anew."""
    check_is_fitted(start)
    weights = transplant(take_runs(start.variables_, np.arange(runs) % start._runs))
    tally = weights.pop("tally", {})
    return {**weights, "tally": {name: value for name, value in tally.items() if name != "steps"}}
