"""HippieInference: what trained networks compute for units. Its methods are those of `jaxephys.hippie.estimator.Hippie`."""

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
from jaxephys.hippie.imputation import decoding_task, measure_noise, traversal_task
from jaxephys.hippie.network.cvae import ConditionalVAE
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.task import UnitArrays, choose_block, make_data, make_task
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

TRAVERSAL_VALUES = (-2.0, -1.0, 0.0, 1.0, 2.0)  # in sd of the prior
SAMPLES = 20  # of the posterior, where a result has an uncertainty


class Imputation(NamedTuple):
    """An imputed curve of each unit, scaled to [-1, 1] as by `jaxephys.hippie.preprocessing.prepare`.

    Parameters
    ----------
    mean : array (n_units, length)
        Predicted curve.
    sd : array (n_units, length)
        Standard deviation of each sample; NaN if the model has no measurement of its noise.
    """

    mean: Float[np.ndarray, "cell position"]
    sd: Float[np.ndarray, "cell position"]


class HippieInference:
    """Methods of a fitted `jaxephys.hippie.estimator.Hippie`: embedding, reconstruction, imputation, counterfactuals, traversal.

    Attributes
    ----------
    network_ : ConditionalVAE
        The architecture of all networks.
    preparation_ : Preparation
        Settings of the preprocessing.
    variables_ : dict
        Variables of the networks, with a leading run axis.
    noise_ : dict of arrays (n_networks, n_subsets, length)
        By modality, the variance of measured curves about imputed ones beyond that of the latent, for each subset of given
        modalities.
    trained_on_ : array of str
        Names of the units of training and validation.
    """

    network_: ConditionalVAE
    preparation_: Preparation
    variables_: Variables
    noise_: dict[str, Float[np.ndarray, "run subset position"]]
    trained_on_: Shaped[np.ndarray, "_"]

    @property
    def n_networks_(self) -> int:
        """Number of trained networks."""
        return len(jax.tree.leaves(self.variables_["params"])[0])

    def embed(
        self, units: UnitTable, *, technology: str | None = None, network: int = 0
    ) -> Float[np.ndarray, "cell latent"]:
        """Embed units in the latent space of one network. The spaces of two networks differ and cannot be averaged.

        Parameters
        ----------
        units : UnitTable of n_units
            Units. Any of the curves may be missing.
        technology : str, optional
            Recording technology of all units, one of "neuropixels", "silicon_probe", "juxtacellular" and "tetrode". By default that
            of the table; units without one are embedded as of unknown technology.
        network : int
            Index of the network.

        Returns
        -------
        float32 array (n_units, latent)
            Posterior mean of each unit.

        Raises
        ------
        ValueError
            If the technology is unknown or there is no such network.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(60)
        >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
        >>> model.embed(units).shape
        (60, 4)
        """
        data = self._unit_arrays(units, technology)
        if not 0 <= network < self.n_networks_:
            raise ValueError(f"there is no network {network}: this model has {self.n_networks_}, counted from 0")
        return self._predict(make_task(self.network_), data, [network]).mu[0]

    def reconstruct(self, units: UnitTable, *, technology: str | None = None) -> dict[str, Float[np.ndarray, "cell _"]]:
        """Decode all curves of each unit from the curves that it has.

        Parameters
        ----------
        units : UnitTable of n_units
            Units.
        technology : str, optional
            Recording technology of all units; by default that of the table.

        Returns
        -------
        dict of arrays (n_units, length)
            Curves by modality ("wave", "isi", "acg"), scaled to [-1, 1]: the mean over networks.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(60)
        >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
        >>> {name: curve.shape for name, curve in model.reconstruct(units).items()}
        {'acg': (60, 100), 'isi': (60, 100), 'wave': (60, 50)}
        """
        return self._decode(self._unit_arrays(units, technology), None)

    def impute(
        self,
        units: UnitTable,
        modality: str,
        *,
        given: Sequence[str] | None = None,
        technology: str | None = None,
        samples: int = SAMPLES,
    ) -> Imputation:
        """Predict one curve of each unit from its other curves.

        Parameters
        ----------
        units : UnitTable of n_units
            Units. Their own curve of this modality, if they have one, is not used.
        modality : {"wave", "isi", "acg"}
            Curve to predict.
        given : sequence of str, optional
            Modalities to predict it from; by default all others.
        technology : str, optional
            Recording technology of all units; by default that of the table.
        samples : int
            Number of samples of the posterior.

        Returns
        -------
        Imputation
            ``mean`` and ``sd``, each of shape (n_units, length), on the scale of the network's input.

        Raises
        ------
        ValueError
            If a modality is unknown, or is to be predicted from itself.

        Notes
        -----
        ``variance = mean over networks (variance over samples + noise_) + variance between networks``. The noise was measured on units
        that the networks were not trained on. Without such a measurement (see `calibrate`) the sd is NaN.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(60)
        >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
        >>> mean, sd = model.impute(units, "acg", given=["isi"])
        >>> mean.shape, bool((sd > 0).all())
        ((60, 100), True)
        """
        data, names = self._unit_arrays(units, technology), [name for name, _ in self.network_.modalities]
        visible = [name for name in names if name != modality] if given is None else list(given)
        for name in (modality, *visible):
            if name not in names:
                raise ValueError(f"there is no modality {name!r}: this model has {', '.join(names)}")
        if modality in visible:
            raise ValueError(f"{modality} cannot be predicted from itself: leave it out of given")
        data = data._replace(present=data.present & np.isin(names, visible))
        decoded = self._predict(decoding_task(self.network_, samples=samples), data)
        subset = data.present @ (1 << np.arange(len(names)))  # row of modality_subsets
        mean, variance = decoded.mean[modality], decoded.variance[modality] + self.noise_[modality][:, subset]
        return Imputation(mean.mean(axis=0), np.sqrt(variance.mean(axis=0) + mean.var(axis=0)))

    def counterfactual(
        self, units: UnitTable, technology: str, *, recorded: str | None = None
    ) -> dict[str, Float[np.ndarray, "cell _"]]:
        """Predict the curves that units would have if they had been recorded with another technology.

        Parameters
        ----------
        units : UnitTable of n_units
            Units.
        technology : str
            Technology of the prediction.
        recorded : str, optional
            Technology with which all units were recorded; by default that of the table.

        Returns
        -------
        dict of arrays (n_units, length)
            Curves by modality, scaled to [-1, 1]: the mean over networks.

        Raises
        ------
        ValueError
            If the technology is unknown or the model was trained without technologies.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(60)
        >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
        >>> model.counterfactual(units, "silicon_probe")["wave"].shape
        (60, 50)
        """
        data = self._unit_arrays(units, recorded)
        if not self.network_.sources:
            raise ValueError("this model was trained without technologies: train it on units whose technology is known")
        return self._decode(data, self._technology_index(technology))

    def traverse(
        self, units: UnitTable, dimension: int, values: Sequence[float] = TRAVERSAL_VALUES, *, network: int = 0
    ) -> dict[str, Float[np.ndarray, "cell step _"]]:
        """Decode the curves of each unit with one latent dimension set to each of some values.

        Parameters
        ----------
        units : UnitTable of n_units
            Units.
        dimension : int
            Index of the latent dimension.
        values : sequence of n_values floats
            Values of that dimension, in standard deviations of the prior.
        network : int
            Index of the network.

        Returns
        -------
        dict of arrays (n_units, n_values, length)
            Curves by modality, scaled to [-1, 1].

        Raises
        ------
        ValueError
            If there is no such dimension.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(60)
        >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
        >>> model.traverse(units, 0, values=(-1.0, 0.0, 1.0))["wave"].shape
        (60, 3, 50)
        """
        if not 0 <= dimension < self.network_.latent:
            raise ValueError(
                f"there is no dimension {dimension}: this model has {self.network_.latent}, counted from 0"
            )
        task = traversal_task(self.network_, dimension, np.asarray(values, np.float32))
        return {name: curve[0] for name, curve in self._predict(task, self._unit_arrays(units), [network]).items()}

    def calibrate(self, units: UnitTable) -> None:
        """Measure ``noise_``, and with it the sd of imputed curves, on units that the model was not trained on.

        ``fit`` measures it on validation units. A converted checkpoint has no such measurement.

        Parameters
        ----------
        units : UnitTable of n_units
            Units that the model was not trained on.

        Raises
        ------
        ValueError
            If the model was trained on one of them, by name.
        """
        if (trained := self.seen(units)).any():
            raise ValueError(f"unit {units.name[trained.argmax()]} was trained on: calibrate with units that were not")
        rows = [np.arange(len(units))] * self.n_networks_
        self.noise_ = measure_noise(self.network_, self._unit_arrays(units), self.variables_, rows, SAMPLES)

    def seen(self, units: UnitTable) -> Bool[np.ndarray, "cell"]:
        """Return which units were used in training or validation. A test set must not contain such a unit.

        Parameters
        ----------
        units : UnitTable of n_units
            Units; they are compared by name (data set and unit).

        Returns
        -------
        bool array (n_units,)
            True where the model has used the unit, in this training or in that of its ``initial`` model.
        """
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
        """Embed curves that are already preprocessed, with the arguments of the published model card.

        Parameters
        ----------
        wave, isi, acg : array (n_units, length), optional
            Curves scaled to [-1, 1] with the number of samples of the network. At least one is required.
        tech_id : int or str, optional
            Technology of all units, by name or by index in ``TECHNOLOGY_IDS``. The card's default of 0 is "neuropixels", not a neutral
            value; None means unknown.
        batch_size : int
            Units that are embedded at a time. It changes no result.

        Returns
        -------
        float32 array (n_units, latent)
            Posterior mean of each unit in the first network.

        Raises
        ------
        ValueError
            If no curve is given, or numbers of rows or lengths do not fit.
        """
        check_is_fitted(self)
        source = -1 if tech_id is None else self._technology_index(tech_id)
        data = published_api.as_unit_arrays(self.network_, {"wave": wave, "isi": isi, "acg": acg}, source)
        return self._predict(make_task(self.network_), data, [0], block=batch_size).mu[0]

    umap_reduce = staticmethod(published_api.umap_reduce)
    hdbscan_cluster = staticmethod(published_api.hdbscan_cluster)

    def _unit_arrays(self, units: UnitTable, technology: str | None = None) -> UnitArrays:
        check_is_fitted(self)
        data = make_data(units.with_technology(technology), self.preparation_)
        if self.network_.sources:
            self._technology_index(int(data.source.max(initial=0)))
        return data

    def _technology_index(self, technology: int | str) -> int:
        """Return the row of a technology in the network's table."""
        if isinstance(technology, str) and technology not in TECHNOLOGIES:
            raise ValueError(f"there is no technology {technology!r}: choose from {', '.join(TECHNOLOGIES)}")
        index = TECHNOLOGIES[technology] if isinstance(technology, str) else technology
        if not 0 <= index < max(self.network_.sources, 1):
            raise ValueError(f"there is no technology {index}: this model has {self.network_.sources}, counted from 0")
        return index

    def _decode(self, data: UnitArrays, source: int | None) -> dict[str, Float[np.ndarray, "cell _"]]:
        decoded = self._predict(decoding_task(self.network_, source=source), data)
        return {name: curve.mean(axis=0) for name, curve in decoded.mean.items()}

    def _predict(
        self, task: Task, data: UnitArrays, runs: Sequence[int] | None = None, *, block: int | None = None
    ) -> Any:
        runs = range(self.n_networks_) if runs is None else runs
        rows = stack_rows([plain_rows(np.arange(len(data.source)))] * len(runs))
        return predict(task, data, take_runs(self.variables_, runs), rows, block=block or choose_block())
