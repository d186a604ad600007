"""EnsembleEstimator: the base class of ``PatchSeqClassifier``, ``Hippie`` and ``SpikeTransformer``.

An estimator trains several networks (runs) at once and keeps them with a leading run axis. The base class keeps the selected
runs of a trained grid, saves and restores them, and describes them. A subclass has a ``fit`` method, keeps its runs by
``_store_runs`` and defines ``_saved_arrays``, ``_saved_settings``, ``_restore`` and ``_summary``.
"""

from __future__ import annotations

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from jaxephys import __version__
from jaxephys.engine.fit import FitResult, take_runs
from jaxephys.engine.task import PyTree, Variables
from jaxephys.models import registry
from jaxephys.models.export import ExportProgram
from jaxephys.models.hub import push_model
from jaxephys.models.loading import RunSelection, load
from jaxephys.models.migrations import SCHEMA_VERSION
from jaxephys.models.model_card import ModelDetails, check_about, model_info, training_rows, write_card
from jaxephys.models.saved_model import CARD, INFO, write_model

PACKAGES = ("jax", "flax", "orbax-checkpoint", "numpy")  # those whose versions are saved


class EnsembleEstimator(BaseEstimator, ABC):
    """A scikit-learn estimator that consists of several trained networks of the same architecture.

    A subclass is registered under its name, so that :func:`jaxephys.load` finds it.

    Attributes
    ----------
    variables_ : dict
        Variables of the best epoch of each network. Every array has a leading axis of length ``n_networks_``.
    history_ : dict of arrays (n_networks, max_epochs)
        Losses and validation scores after each epoch; NaN after the last epoch of a network. Not saved.
    training_ : list of dict
        For each network ``run`` (the name of its run), ``status``, ``epochs``, ``best_epoch`` and ``best_score``, which is None
        without a score. Empty if the networks were converted from other files.
    result_ : FitResult
        The training result of the whole grid that the networks belong to. Not saved.
    about_ : dict of str to object
        Entries of the model card that the user has given when the model was saved, see `save`.
    """

    training_: Sequence[dict[str, Any]] = ()
    about_: Mapping[str, Any] = {}
    progress: bool
    result_: FitResult
    history_: dict[str, Float[np.ndarray, "run epoch"]]
    variables_: Variables

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        registry.register(cls.__name__, cls)

    @property
    def n_networks_(self) -> int:
        """Number of trained networks."""
        return len(jax.tree.leaves(self.variables_["params"])[0])

    @property
    def n_parameters_(self) -> int:
        """Number of trainable parameters of one network."""
        return sum(leaf[0].size for leaf in jax.tree.leaves(self.variables_["params"]))

    def save(self, folder: str | Path, *, overwrite: bool = False, about: Mapping[str, Any] | None = None) -> Path:
        """Write the fitted model to a folder.

        The arrays are written twice: as an Orbax checkpoint in ``orbax/``, and as ``params.npz``, which NumPy reads. All else is in
        ``config.json``. ``README.md``, the model card, describes the model for people, and ``model_info.json`` for programs. What was
        written is read back and compared.

        Parameters
        ----------
        folder : str or Path
            The folder to create. :func:`jaxephys.load` reads it.
        overwrite : bool
            Replace an existing folder. By default an existing folder is an error.
        about : mapping of str to object, optional
            Entries of the model card that the model does not know: texts ``license`` (such as ``"cc-by-4.0"``), ``data_license``,
            ``training_data``, ``intended_use``, ``not_intended_use``, ``authors`` and ``citation``, and ``scores``, a list of dicts,
            one for each row of a table. They replace those of a model that was loaded.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        ValueError
            If the folder exists and ``overwrite`` is False, or an entry of ``about`` is unknown.
        """
        check_is_fitted(self)
        config = {**self._config(self._saved_settings()), "training": list(self.training_)}
        if about := {**self.about_, **check_about(about or {})}:
            config["about"] = about
        described = config, self.describe(), self._card_details()
        texts = {CARD: write_card(*described), INFO: json.dumps(model_info(*described), indent=2) + "\n"}
        return write_model(folder, self._saved_arrays(), config, overwrite=overwrite, texts=texts)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        about: Mapping[str, Any] | None = None,
        private: bool = False,
        message: str | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Upload the fitted model to the Hugging Face hub, where :func:`jaxephys.load_pretrained` finds it.

        Everything that `save` writes is uploaded, names of training units included. It needs the extra ``hub`` and a login
        (``hf auth login``, or the variable ``HF_TOKEN``).

        Parameters
        ----------
        repo_id : str
            Repository, ``owner/name``. It is created if there is none; files of an earlier model in it are replaced.
        about : mapping of str to object, optional
            Entries of the model card, see `save`.
        private : bool, default False
            Create a repository that only its owner sees.
        message : str, optional
            Message of the commit.
        endpoint : str, optional
            Address of the hub; by default the variable ``HF_ENDPOINT``, or https://huggingface.co.

        Returns
        -------
        str
            Address of the commit.

        Raises
        ------
        HubError
            If the hub cannot be reached or refuses the upload. It is a ``ValueError``.
        """
        with tempfile.TemporaryDirectory() as folder:
            saved = self.save(Path(folder) / "model", about=about)
            return push_model(saved, repo_id, private=private, message=message, endpoint=endpoint)

    @classmethod
    def load(cls, folder: str | Path, run: RunSelection = None, step: int | None = None) -> Any:
        """Load a saved model of this class, or runs of a grid from the checkpoints of an experiment.

        Parameters
        ----------
        folder : str or Path
            A folder that :func:`jaxephys.load` can read.
        run, step : optional
            Which run of the checkpoints, and at which step, see :func:`jaxephys.load`.

        Returns
        -------
        EnsembleEstimator
            The fitted estimator.

        Raises
        ------
        ValueError
            If the folder holds a model of another class, or none.
        """
        model = load(folder, run, step)
        if not isinstance(model, cls):
            raise ValueError(f"{folder} is a {type(model).__name__}: give the folder of a {cls.__name__}")
        return model

    @classmethod
    def from_saved(cls, arrays: dict[str, PyTree], config: dict[str, Any]) -> Any:
        """Return the fitted estimator that a saved model describes. Users call :func:`jaxephys.load` instead.

        Parameters
        ----------
        arrays : dict
            Nested dict of arrays with a leading run axis, in the layout of the current schema version.
        config : dict
            Content of ``config.json`` in the current schema version.

        Returns
        -------
        EnsembleEstimator
            An instance of this class.
        """
        model = cls(**cls._decoded_parameters(config["parameters"]))
        model.training_ = config.get("training", ())  # absent in older files
        model.about_ = config.get("about", {})
        model._restore(arrays, config)
        return model

    def describe(self) -> str:
        """Describe the fitted model in one line.

        Returns
        -------
        str
            Number of networks, parameters of each, and what they were trained on.
        """
        plural = "s" if self.n_networks_ > 1 else ""
        return f"{self.n_networks_} network{plural} of {self.n_parameters_:,} parameters, {self._summary()}"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "variables_")

    @property
    def _progress_title(self) -> str | None:
        """The title of the progress bar; None hides it."""
        return type(self).__name__ if self.progress else None

    def _store_runs(
        self, result: FitResult, indices: Sequence[int] | Int[np.ndarray, "run"] | None = None
    ) -> Int[np.ndarray, "run"]:
        """Keep some runs of a trained grid (by default all) as the networks of this estimator, and return their indices."""
        indices = np.arange(len(result.grid)) if indices is None else np.asarray(indices)
        names = [result.grid.name(run) for run in range(len(result.grid))]
        self.result_, self.training_ = result, training_rows(names, result.run_results, indices)
        self.history_ = {name: values[indices] for name, values in result.history.items()}
        self.variables_ = take_runs(result.best, indices)
        return indices

    def _config(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The content of ``config.json``: what all classes have in common, and fitted attributes."""
        return {
            "kind": type(self).__name__,
            "version": __version__,
            "packages": {name: metadata.version(name) for name in PACKAGES},
            "schema_version": SCHEMA_VERSION,
            "parameters": {
                name: value.item() if isinstance(value, np.generic) else value  # of a search over a NumPy array
                for name, value in self._encoded_parameters().items()
            },
            **settings,
        }

    def _encoded_parameters(self) -> dict[str, Any]:
        """The arguments of ``__init__`` as JSON. Overridden where one of them is no JSON value."""
        return self.get_params()

    @classmethod
    def _decoded_parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        """The inverse of ``_encoded_parameters``."""
        return parameters

    def export_program(self) -> ExportProgram:
        """Return the computation of the fitted model as one function, which `jaxephys.models.export.export_model` writes.

        Returns
        -------
        ExportProgram
            The function, its inputs and its outputs.

        Raises
        ------
        ValueError
            If the class has no exported form.
        """
        raise ValueError(f"a {type(self).__name__} has no exported form: save it, and read its arrays")

    def _card_details(self) -> ModelDetails:
        """What the model card holds about the class and its data. Overridden by each class."""
        return ModelDetails()

    @abstractmethod
    def _saved_arrays(self) -> dict[str, PyTree]:
        """All arrays that predictions need, each with a leading run axis."""

    @abstractmethod
    def _saved_settings(self) -> dict[str, Any]:
        """All fitted attributes that are not arrays, as JSON."""

    @abstractmethod
    def _restore(self, arrays: dict[str, PyTree], config: dict[str, Any]) -> None:
        """Set the fitted attributes from what ``_saved_arrays`` and ``_saved_settings`` have returned."""

    @abstractmethod
    def _summary(self) -> str:
        """The part of ``describe`` that is particular to this class."""


def score_row(network: int | str, scores: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Return one row of a score table, which ``pandas.DataFrame`` takes as a list.

    Parameters
    ----------
    network : int or str
        Index of the network, or ``"ensemble"``.
    scores : mapping of str to float
        Value of each metric.
    n : int
        Number of samples that were scored.

    Returns
    -------
    dict
        ``network``, then each metric as a float, then ``n``.
    """
    return {"network": network, **{metric: float(value) for metric, value in scores.items()}, "n": n}


def mean_over_runs(values: Float[np.ndarray, "run ..."], per_network: bool) -> Float[np.ndarray, "..."]:
    """Return the prediction of an ensemble, or that of each network.

    Parameters
    ----------
    values : array (n_networks, ...)
        Predictions of each network.
    per_network : bool
        Return ``values`` unchanged instead of their mean.

    Returns
    -------
    array (...) or (n_networks, ...)
        The mean over networks, or all predictions.
    """
    return values if per_network else values.mean(axis=0)
