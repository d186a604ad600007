"""HippieInference: what trained networks compute for units. Its methods are those of `jaxephys.hippie.estimator.Hippie`.

Scripts of the published package run with one other import line, since this module has its names as well:

    from hippie.inference import HIPPIEClassifier, TECHNOLOGY_IDS              # published
    from jaxephys.hippie.inference import HIPPIEClassifier, TECHNOLOGY_IDS     # here

``HIPPIEClassifier`` is `jaxephys.hippie.estimator.Hippie`, whose ``from_pretrained``, ``from_checkpoint``, ``get_embeddings``,
``umap_reduce`` and ``hdbscan_cluster`` have the published arguments. `preprocess_waveform`, `preprocess_isi` and `preprocess_acg` are
the preprocessing of the model card.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.sparse import issparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxephys.engine.fit import take_runs
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import Task, Variables
from jaxephys.hippie import published_api
from jaxephys.hippie.datasets import UnitsLike, split_columns
from jaxephys.hippie.imputation import decoding_task, measure_noise, traversal_task
from jaxephys.hippie.network.cvae import ConditionalVAE, Conditions
from jaxephys.hippie.preprocessing import Preparation, preprocess_acg, preprocess_isi, preprocess_waveform
from jaxephys.hippie.published_api import TECHNOLOGY_IDS
from jaxephys.hippie.task import (
    CPU,
    UnitArrays,
    apply_network,
    choose_block,
    make_data,
    make_task,
    network_for_backend,
    pad_query,
)
from jaxephys.schemas.unit_sources import as_unit_table, is_unit_source
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

if TYPE_CHECKING:
    from jaxephys.hippie.estimator import Hippie as HIPPIEClassifier

__all__ = [
    "TECHNOLOGY_IDS",
    "ClassPath",
    "HIPPIEClassifier",
    "HippieInference",
    "Imputation",
    "preprocess_acg",
    "preprocess_isi",
    "preprocess_waveform",
]

TRAVERSAL_VALUES = (-2.0, -1.0, 0.0, 1.0, 2.0)  # in sd of the prior
OLD_NAME = re.compile(r"(^|/)row \d+$")  # of units without identifiers, in version 0.1.0
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


class ClassPath(NamedTuple):
    """Curves along the straight path between the mean latent vectors of two classes.

    Parameters
    ----------
    share : array (n_steps,)
        Position of each step, from 0 (mean of the first class) to 1 (mean of the second class).
    latent : array (n_steps, latent)
        Latent vectors, ``(1 - share) mean_1 + share mean_2``.
    curves : dict of arrays (n_steps, length)
        Curves by modality that are decoded from them, scaled to [-1, 1].
    """

    share: Float[np.ndarray, "step"]
    latent: Float[np.ndarray, "step latent"]
    curves: dict[str, Float[np.ndarray, "step _"]]


class HippieInference(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Methods of a fitted `jaxephys.hippie.estimator.Hippie`: embedding, reconstruction, imputation, counterfactuals, traversal.

    Each takes a table of units, or an array with the curves of one unit in each row, see `jaxephys.hippie.datasets.split_columns`.

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
    classes_ : array (n_classes,)
        Classes that the decoder receives; empty if it receives none, or if they are unknown.
    """

    network_: ConditionalVAE
    preparation_: Preparation
    variables_: Variables
    classes_: Shaped[np.ndarray, "_"]
    noise_: dict[str, Float[np.ndarray, "run subset position"]]
    trained_on_: Shaped[np.ndarray, "_"]

    @property
    def n_networks_(self) -> int:
        """Number of trained networks."""
        return len(jax.tree.leaves(self.variables_["params"])[0])

    @property
    def _n_features_out(self) -> int:
        """Number of columns of `transform`, which scikit-learn names "hippie0", "hippie1", ..."""
        return self.network_.latent

    def transform(self, units: UnitsLike) -> Float[np.ndarray, "cell latent"]:
        """Embed units in the latent space of the first network, as a transformer of scikit-learn.

        Parameters
        ----------
        units : UnitTable of n_units, sequence of UnitTable, or array (n_units, n_columns)
            Units. Any of the curves may be missing. An array has the columns that `fit` has received; a DataFrame has them under the
            same names and in the same order.

        Returns
        -------
        float32 array (n_units, latent)
            Embeddings, as of `embed`, of the units of all tables. ``set_output(transform="pandas")`` makes it a DataFrame with the
            columns "hippie0", "hippie1", ...

        Raises
        ------
        ValueError
            If the columns are not those of the training array.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(60)
        >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
        >>> bool((model.transform(units) == model.embed(units)).all())
        True
        """
        return self._transform(units)

    def _transform(self, units: UnitsLike, technology: str | None = None) -> Float[np.ndarray, "cell latent"]:
        check_is_fitted(self)
        tables = self._as_tables(units, self.preparation_)
        return np.concatenate([self.embed(table, technology=technology) for table in tables])

    def embed(
        self, units: UnitsLike, *, technology: str | None = None, network: int = 0
    ) -> Float[np.ndarray, "cell latent"]:
        """Embed units in the latent space of one network. The spaces of two networks differ and cannot be averaged.

        Parameters
        ----------
        units : UnitTable of n_units, or array (n_units, n_columns)
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
        self._check_network(network)
        return self._predict(make_task(self.network_), data, [network]).mu[0]

    def reconstruct(self, units: UnitsLike, *, technology: str | None = None) -> dict[str, Float[np.ndarray, "cell _"]]:
        """Decode all curves of each unit from the curves that it has.

        Parameters
        ----------
        units : UnitTable of n_units, or array (n_units, n_columns)
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
        units: UnitsLike,
        modality: str,
        *,
        given: Sequence[str] | None = None,
        technology: str | None = None,
        samples: int = SAMPLES,
    ) -> Imputation:
        """Predict one curve of each unit from its other curves.

        Parameters
        ----------
        units : UnitTable of n_units, or array (n_units, n_columns)
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
        self, units: UnitsLike, technology: str, *, recorded: str | None = None
    ) -> dict[str, Float[np.ndarray, "cell _"]]:
        """Predict the curves that units would have if they had been recorded with another technology.

        Parameters
        ----------
        units : UnitTable of n_units, or array (n_units, n_columns)
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
        self, units: UnitsLike, dimension: int, values: Sequence[float] = TRAVERSAL_VALUES, *, network: int = 0
    ) -> dict[str, Float[np.ndarray, "cell step _"]]:
        """Decode the curves of each unit with one latent dimension set to each of some values.

        Parameters
        ----------
        units : UnitTable of n_units, or array (n_units, n_columns)
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
        check_is_fitted(self)
        if not 0 <= dimension < self.network_.latent:
            raise ValueError(
                f"there is no dimension {dimension}: this model has {self.network_.latent}, counted from 0"
            )
        task = traversal_task(self.network_, dimension, np.asarray(values, np.float32))
        return {name: curve[0] for name, curve in self._predict(task, self._unit_arrays(units), [network]).items()}

    def decode(
        self,
        latent: Float[np.ndarray, "step latent"],
        *,
        technology: str | None = None,
        label: Any = None,
        network: int = 0,
    ) -> dict[str, Float[np.ndarray, "step _"]]:
        """Decode latent vectors, such as embeddings or points between them.

        Parameters
        ----------
        latent : array (n_points, latent)
            Vectors in the latent space of the network.
        technology : str, optional
            Recording technology that the decoder receives; by default unknown.
        label : object, optional
            Class that the decoder receives, one of ``classes_``; by default none.
        network : int
            Index of the network.

        Returns
        -------
        dict of arrays (n_points, length)
            Curves by modality, scaled to [-1, 1].

        Raises
        ------
        ValueError
            If there is no such network, technology or class.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(60)
        >>> model = Hippie(4, width=2, trunk="dense", max_epochs=2, objective="published", progress=False)
        >>> model = model.fit(units, units.label)
        >>> latent, label = model.embed(units), model.classes_[0]
        >>> model.decode(latent, technology="neuropixels", label=label)["isi"].shape
        (60, 100)
        """
        check_is_fitted(self)
        self._check_network(network)
        if label is not None and label not in self.classes_:
            known = ", ".join(map(str, self.classes_)) or "none that is known by name"
            raise ValueError(f"the decoder has no class {label!r}: its classes are {known}")
        if technology is not None and not self.network_.sources:
            raise ValueError("this model was trained without technologies: leave the technology of the decoder out")
        source = -1 if technology is None else self._technology_index(technology)
        code = None if label is None else np.full(len(latent), int(np.flatnonzero(self.classes_ == label)[0]))
        sources = np.full(len(latent), source) if self.network_.sources else None
        decoder = network_for_backend(self.network_, CPU, training=False)  # the same operations on all platforms
        variables = jax.tree.map(lambda leaf: leaf[network], self.variables_)
        inputs = (np.asarray(latent, np.float32), Conditions(sources, code))
        return {
            name: np.asarray(curve)
            for name, curve in apply_network(decoder, variables, *inputs, method="decode").items()
        }

    def traverse_classes(
        self,
        units: UnitTable,
        start: str,
        end: str,
        n_steps: int = 11,
        *,
        technology: str | None = None,
        network: int = 0,
    ) -> ClassPath:
        """Decode the curves along the straight path between the mean latent vectors of two classes.

        Parameters
        ----------
        units : UnitTable of n_units
            Units with labels.
        start, end : str
            Labels of the two classes.
        n_steps : int, default 11
            Number of points of the path, the two ends included.
        technology : str, optional
            Recording technology that the decoder receives. By default that of the units of both classes, if it is the same for
            all of them, and otherwise unknown.
        network : int
            Index of the network.

        Returns
        -------
        ClassPath
            Latent vectors and curves. The decoder receives no class, so that the path is that of the latent space alone.

        Raises
        ------
        ValueError
            If a class has no unit, or ``n_steps`` is below 2.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(60)
        >>> model = Hippie(4, width=2, trunk="dense", max_epochs=2, progress=False).fit(units)
        >>> path = model.traverse_classes(units, *units.classes[:2], n_steps=3)
        >>> path.share.tolist(), path.curves["wave"].shape
        ([0.0, 0.5, 1.0], (3, 50))
        """
        if n_steps < 2:
            raise ValueError(f"a path of {n_steps} steps has no two ends: give n_steps of 2 or more")
        for label in (start, end):
            if label not in units.classes:
                raise ValueError(
                    f"no unit has the class {label!r}: the table has {', '.join(units.classes) or 'no label'}"
                )
        both = units.rows(np.flatnonzero(np.isin(units.label, [start, end])))
        embedding = self.embed(both, network=network)
        means = [embedding[both.label == label].mean(axis=0) for label in (start, end)]
        share = np.linspace(0, 1, n_steps, dtype=np.float32)
        latent = (1 - share)[:, None] * means[0] + share[:, None] * means[1]
        technologies = np.unique(both.column("technology"))
        if technology is None and self.network_.sources and len(technologies) == 1 and technologies[0]:
            technology = str(technologies[0])
        return ClassPath(share, latent, self.decode(latent, technology=technology, network=network))

    def calibrate(self, units: UnitsLike) -> None:
        """Measure ``noise_``, and with it the sd of imputed curves, on units that the model was not trained on.

        ``fit`` measures it on validation units. A converted checkpoint, or a run that was loaded from checkpoints, has no such
        measurement.

        Parameters
        ----------
        units : UnitTable of n_units, or array (n_units, n_columns)
            Units that the model was not trained on.

        Raises
        ------
        ValueError
            If the model was trained on one of them, by name.
        """
        table = self._as_table(units)
        if (trained := self.seen(table)).any():
            raise ValueError(f"unit {table.name[trained.argmax()]} was trained on: calibrate with units that were not")
        rows = [np.arange(len(table))] * self.n_networks_
        self.noise_ = measure_noise(self.network_, self._unit_arrays(table), self.variables_, rows, SAMPLES)

    def seen(self, units: UnitsLike) -> Bool[np.ndarray, "cell"]:
        """Return which units were used in training or validation. A test set must not contain such a unit.

        Parameters
        ----------
        units : UnitTable of n_units, or array (n_units, n_columns)
            Units; they are compared by name (data set and unit).

        Returns
        -------
        bool array (n_units,)
            True where the model has used the unit, in this training or in that of its ``initial`` model.
        """
        table = self._as_table(units)
        if any(OLD_NAME.search(name) for name in self.trained_on_.tolist()) and not OLD_NAME.search(str(table.name[0])):
            warnings.warn(
                "the model was trained on units that an earlier version named by row, so that it is unknown whether these are among "
                "them: give the table the identifiers unit=['row 0', 'row 1', ...]",
                stacklevel=2,
            )
        return np.isin(table.name, self.trained_on_)

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

    def _check_network(self, network: int) -> None:
        if not 0 <= network < self.n_networks_:
            raise ValueError(f"there is no network {network}: this model has {self.n_networks_}, counted from 0")

    def _as_tables(self, units: UnitsLike, preparation: Preparation, *, min_units: int = 0) -> list[UnitTable]:
        """Return units as tables.

        ``fit`` gives the smallest number of units, and remembers the columns of an array; other methods check that they are the same.
        """
        fitting = min_units > 0
        if fitting:
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
        if fitting and isinstance(units, (list, tuple)) and not units:
            raise ValueError("there is no table of units: give one, or several")
        if is_unit_source(units) and not issparse(units):  # some sparse matrices are mappings
            return [as_unit_table(units)]
        if isinstance(units, (list, tuple)) and all(is_unit_source(table) for table in units):
            return [as_unit_table(table) for table in units]
        options: Any = {
            "ensure_all_finite": "allow-nan",
            "ensure_min_samples": max(min_units, 1),
            "ensure_min_features": 2 if fitting else 1,
        }
        values: Any = units
        rows: Any = validate_data(self, values, reset=fitting, dtype=np.float32, **options)
        curves: dict[str, Any] = split_columns(rows, [name for name, _ in preparation.lengths])
        return [UnitTable.from_arrays(**curves)]

    def _as_table(self, units: UnitsLike) -> UnitTable:
        """Return units as one table."""
        check_is_fitted(self)
        tables = self._as_tables(units, self.preparation_)
        if len(tables) != 1:
            raise ValueError(f"there are {len(tables)} tables of units: give one at a time")
        return tables[0]

    def __sklearn_tags__(self) -> Tags:
        """Return what scikit-learn must know: embeddings are float32 for any type of input."""
        tags = super().__sklearn_tags__()
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = []
        return tags

    def _unit_arrays(self, units: UnitsLike, technology: str | None = None) -> UnitArrays:
        data = make_data(self._as_table(units).with_technology(technology), self.preparation_)
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
        n_units = len(data.source)
        rows = stack_rows([plain_rows(np.arange(n_units))] * len(runs))
        data, rows = pad_query(data, rows)
        outputs = predict(task, data, take_runs(self.variables_, runs), rows, block=block or choose_block())
        return jax.tree.map(lambda leaf: leaf[:, :n_units], outputs)


def __getattr__(name: str) -> Any:
    """Return the class under its published name. It is defined in a module that imports this one."""
    if name == "HIPPIEClassifier":
        from jaxephys.hippie.estimator import Hippie

        return Hippie
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
