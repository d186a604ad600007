"""Reader: what trained networks say of units. A place, the curves they lack, the curves they would have had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Shaped
from sklearn.utils.validation import check_is_fitted

from jaxephys.engine.fit import take_runs
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import Task, Variables
from jaxephys.hippie import published_api
from jaxephys.hippie.imputation import drawing, measure_noise, walk
from jaxephys.hippie.network.cvae import ConditionalVAE
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.task import Units, make_data, make_task
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of a traversal, in sd of the prior
SAMPLES = 20  # of the latent, where an answer has an uncertainty


class Imputed(NamedTuple):
    """In the network's space: curves scaled to [-1, 1], as ``prepare`` leaves them."""

    mean: Float[np.ndarray, "cell position"]
    sd: Float[np.ndarray, "cell position"]


class Reader:
    """One or more networks of the same sizes, trained from different seeds."""

    network_: ConditionalVAE
    preparation_: Preparation
    variables_: Variables  # runs first
    noise_: dict[str, Float[np.ndarray, "run given position"]]
    trained_on_: Shaped[np.ndarray, "_"]

    def embed(
        self, units: UnitTable, *, technology: str | None = None, seed: int = 0
    ) -> Float[np.ndarray, "cell latent"]:
        """The place of each unit in one of the networks: their spaces differ and have no mean.

        ``technology``, here and below: what all units were recorded with, instead of what the table tells of each.
        """
        data = self._units(units, technology)
        if not 0 <= seed < self._runs:
            raise ValueError(f"there is no network {seed}: this model has {self._runs}, counted from 0")
        return self._predict(make_task(self.network_), data, [seed]).mu[0]

    def reconstruct(self, units: UnitTable, *, technology: str | None = None) -> dict[str, Float[np.ndarray, "cell _"]]:
        """All curves of each unit, drawn from those it has: the mean over the networks, scaled to [-1, 1]."""
        return self._drawn(self._units(units, technology), None)

    def impute(
        self,
        units: UnitTable,
        modality: str,
        *,
        given: Sequence[str] | None = None,
        technology: str | None = None,
        samples: int = SAMPLES,
    ) -> Imputed:
        """One curve of each unit, drawn from its others or from those ``given`` alone, and the sd of every sample of it.

        ``variance = mean over networks (variance over draws from the latent + noise_) + variance between networks``. The
        noise was measured on units that were not trained on; the sd is NaN where there was none (see ``calibrate``).
        """
        data, names = self._units(units, technology), [name for name, _ in self.network_.modalities]
        shown = [name for name in names if name != modality] if given is None else list(given)
        for name in (modality, *shown):
            if name not in names:
                raise ValueError(f"there is no modality {name!r}: this model knows {', '.join(names)}")
        if modality in shown:
            raise ValueError(f"{modality} stands among what it is to be drawn from: leave it out of given")
        data = data._replace(present=data.present & np.isin(names, shown))
        drawn = self._predict(drawing(self.network_, samples=samples), data)
        place = data.present @ (1 << np.arange(len(names)))
        mean, variance = drawn.mean[modality], drawn.variance[modality] + self.noise_[modality][:, place]
        return Imputed(mean.mean(axis=0), np.sqrt(variance.mean(axis=0) + mean.var(axis=0)))

    def counterfactual(
        self, units: UnitTable, technology: str, *, recorded: str | None = None
    ) -> dict[str, Float[np.ndarray, "cell _"]]:
        """The curves that the same units would have under another technology; ``recorded``: what they were measured with."""
        data = self._units(units, recorded)
        if not self.network_.sources:
            raise ValueError("this model was trained without technologies: train it on units whose technology is known")
        return self._drawn(data, self._source(technology))

    def traverse(
        self, units: UnitTable, dimension: int, values: Sequence[float] = STEPS, *, seed: int = 0
    ) -> dict[str, Float[np.ndarray, "cell step _"]]:
        """The curves of each unit with one number of its embedding put to each of ``values``; the prior's sd is 1."""
        if not 0 <= dimension < self.network_.latent:
            raise ValueError(
                f"there is no dimension {dimension}: this model has {self.network_.latent}, counted from 0"
            )
        task = walk(self.network_, dimension, np.asarray(values, np.float32))
        return {name: curve[0] for name, curve in self._predict(task, self._units(units), [seed]).items()}

    def calibrate(self, units: UnitTable) -> None:
        """Measure ``noise_`` on units that were not trained on. ``fit`` does it; converted checkpoints come without."""
        if (known := self.seen(units)).any():
            raise ValueError(f"unit {units.name[known.argmax()]} was trained on: calibrate with units that were not")
        rows = [np.arange(len(units))] * self._runs
        self.noise_ = measure_noise(self.network_, self._units(units), self.variables_, rows, SAMPLES)

    def seen(self, units: UnitTable) -> Bool[np.ndarray, "cell"]:
        """Which units training or validation has seen, by name: a test that holds one of them is none."""
        check_is_fitted(self)
        return np.isin(units.name, self.trained_on_)

    def get_embeddings(
        self,
        wave: np.ndarray | None = None,
        isi: np.ndarray | None = None,
        acg: np.ndarray | None = None,
        tech_id: int | str | None = 0,
        batch_size: int = 256,
    ) -> Float[np.ndarray, "cell latent"]:
        """``embed`` as the published model card has it: curves are prepared already, scaled to [-1, 1] at the network's lengths.

        ``tech_id`` None: unknown. The card's 0 is the first technology, neuropixels, and nothing neutral.
        """
        check_is_fitted(self)
        source = -1 if tech_id is None else self._source(tech_id)
        data = published_api.as_units(self.network_, {"wave": wave, "isi": isi, "acg": acg}, source)
        return self._predict(make_task(self.network_), data, [0], block=batch_size).mu[0]

    umap_reduce = staticmethod(published_api.umap_reduce)
    hdbscan_cluster = staticmethod(published_api.hdbscan_cluster)

    @property
    def _runs(self) -> int:
        return len(jax.tree.leaves(self.variables_["params"])[0])

    def _units(self, units: UnitTable, technology: str | None = None) -> Units:
        check_is_fitted(self)
        data = make_data(units.recorded_with(technology), self.preparation_)
        if self.network_.sources:
            self._source(int(data.source.max(initial=0)))
        return data

    def _source(self, technology: int | str) -> int:
        """Its row in the network's table."""
        if isinstance(technology, str) and technology not in TECHNOLOGIES:
            raise ValueError(f"there is no technology {technology!r}: choose from {', '.join(TECHNOLOGIES)}")
        place = TECHNOLOGIES[technology] if isinstance(technology, str) else technology
        if not 0 <= place < max(self.network_.sources, 1):
            raise ValueError(
                f"there is no technology {place}: this model knows {self.network_.sources}, counted from 0"
            )
        return place

    def _drawn(self, data: Units, source: int | None) -> dict[str, Float[np.ndarray, "cell _"]]:
        drawn = self._predict(drawing(self.network_, source=source), data)
        return {name: curve.mean(axis=0) for name, curve in drawn.mean.items()}

    def _predict(self, task: Task, data: Units, runs: Sequence[int] | None = None, *, block: int = 256) -> Any:
        runs = range(self._runs) if runs is None else runs
        rows = stack_rows([plain_rows(np.arange(len(data.source)))] * len(runs))
        return predict(task, data, take_runs(self.variables_, runs), rows, block=block)
