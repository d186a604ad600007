"""Classifiers of units in the form that SpikeInterface loads: :func:`export_for_spikeinterface`.

``spikeinterface.curation.model_based_label_units`` applies a scikit-learn pipeline, stored by skops, to the quality and template metrics of a
sorting analyzer. skops stores scikit-learn's classes and ours as their attributes. A network that runs in JAX is stored as its arrays and
settings (`StoredModel`). Classes are integers there, and ``label_conversion`` in ``model_info.json`` names them (`UnitLabeler`).
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from jaxephys import __version__
from jaxephys.models.base import EnsembleEstimator
from jaxephys.models.migrations import migrate
from jaxephys.models.model_card import check_about
from jaxephys.models.registry import find_class
from jaxephys.models.saved_model import CARD, INFO, SEPARATOR, SKOPS

README = """---
library_name: sklearn
tags: ["jaxephys", "spikeinterface", "spike-sorting", "skops"]
pipeline_tag: tabular-classification
{license}---

# {kind}

Labels units as {labels} from {n_features} quality and template metrics.

```python
from spikeinterface.curation import model_based_label_units

labels = model_based_label_units(
    sorting_analyzer,
    model_folder="FOLDER",  # or repo_id="owner/name"
    trusted={trusted},
)
```

It needs jaxephys {version} or later and skops. `trusted` lists the classes that are restored, which SpikeInterface wants to be named.

Metrics, in order: {features}.

{about}
"""


class StoredModel:
    """A fitted estimator of jaxephys as plain arrays and text, which is built again when it first predicts.

    Parameters
    ----------
    config : str
        Content of ``config.json``.
    arrays : dict of str to array
        Arrays by joined name, as in ``params.npz``.
    """

    def __init__(self, config: str, arrays: dict[str, np.ndarray]) -> None:
        self.config = config
        self.arrays = arrays
        self._estimator: Any = None

    @classmethod
    def of(cls, model: EnsembleEstimator) -> StoredModel:
        """Store a fitted estimator.

        Parameters
        ----------
        model : EnsembleEstimator
            The estimator.

        Returns
        -------
        StoredModel
            Its arrays and settings.
        """
        arrays = traverse_util.flatten_dict(model._saved_arrays(), sep=SEPARATOR)
        config = {**model._config(model._saved_settings()), "training": list(model.training_)}
        return cls(json.dumps(config), {name: np.asarray(leaf) for name, leaf in arrays.items()})

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "arrays": self.arrays, "_estimator": None}

    def predict_proba(self, X: Any) -> Float[np.ndarray, "row class"]:
        """Return the class probabilities of the estimator.

        Parameters
        ----------
        X : array or DataFrame (row, column)
            Features.

        Returns
        -------
        array (row, class)
            Probabilities in the order of its ``classes_``.
        """
        if self._estimator is None:
            arrays = traverse_util.unflatten_dict(dict(self.arrays), sep=SEPARATOR)
            config, arrays = migrate(json.loads(self.config), arrays)
            self._estimator = find_class(config["kind"]).from_saved(arrays, config)
        return self._estimator.predict_proba(X)


class UnitLabeler(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose classes are the integers from 0, in the order of the classes of another fitted classifier.

    Parameters
    ----------
    classifier : object
        Fitted classifier with ``predict_proba``.
    feature_names_in_ : array of str (column,)
        Names of the columns.
    n_classes : int
        Number of classes.
    by_name : bool
        Give the classifier a DataFrame as it is, since it was fitted to one; otherwise it receives an array.
    """

    def __init__(self, classifier: Any, feature_names_in_: np.ndarray, n_classes: int, by_name: bool = False) -> None:
        self.classifier = classifier
        self.feature_names_in_ = feature_names_in_
        self.n_classes = n_classes
        self.by_name = by_name

    def __sklearn_is_fitted__(self) -> bool:
        return True

    @property
    def classes_(self) -> Int[np.ndarray, "class"]:
        """The integers from 0."""
        return np.arange(self.n_classes)

    def fit(self, X: Any, y: Any = None) -> UnitLabeler:
        """Raise an error: the classifier was fitted before.

        Parameters
        ----------
        X, y : ignored
            Present for scikit-learn, whose pipelines require the method.

        Returns
        -------
        UnitLabeler
            Never.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(
            "the classifier of this pipeline was fitted before it was exported: fit and export another one"
        )

    def predict_proba(self, X: Any) -> Float[np.ndarray, "row class"]:
        """Return the class probabilities.

        Parameters
        ----------
        X : array or DataFrame (row, column)
            Metrics in the order of ``feature_names_in_``; NaN is a missing value.

        Returns
        -------
        array (row, class)
            Probabilities in the order of the classes.
        """
        rows = X if self.by_name and hasattr(X, "columns") else np.asarray(X, np.float32)
        return np.asarray(self.classifier.predict_proba(rows))

    def predict(self, X: Any) -> Int[np.ndarray, "row"]:
        """Return the index of the most probable class.

        Parameters
        ----------
        X : array or DataFrame (row, column)
            Metrics in the order of ``feature_names_in_``; NaN is a missing value.

        Returns
        -------
        int array (row,)
            Index of the class of each row.
        """
        return self.predict_proba(X).argmax(axis=1)


def export_for_spikeinterface(
    classifier: Any,
    folder: str | Path,
    feature_names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    *,
    metric_params: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write a fitted classifier of units as a folder for ``spikeinterface.curation.model_based_label_units(model_folder=...)``.

    ``python -m jaxephys push FOLDER owner/name`` uploads the folder, for ``model_based_label_units(repo_id=...)``.

    Parameters
    ----------
    classifier : classifier
        Fitted `KernelClassifier`, `PatchSeqClassifier` or another classifier of scikit-learn, with ``predict_proba``, that was fitted to
        metrics of units, one column for each metric.
    folder : str or Path
        The folder to create.
    feature_names : sequence of str, optional
        Names of the columns, as SpikeInterface names its metrics. By default those of the DataFrame that the classifier was fitted to.
    labels : sequence of str, optional
        Label of each class, in the order of ``classifier.classes_``. By default the classes themselves.
    metric_params : mapping, optional
        How the metrics were computed, which SpikeInterface compares: ``{"quality_metric_params": params, "template_metric_params": params}``
        with ``sorting_analyzer.get_extension("quality_metrics").params``. Without it nothing is compared.
    about : mapping of str to str, optional
        Entries of the model card, such as ``license``, see `EnsembleEstimator.save`.

    Returns
    -------
    Path
        The folder, with ``model.skops``, ``model_info.json`` and ``README.md``.

    Raises
    ------
    ValueError
        If the folder exists, names or labels do not fit the classifier, or skops is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxephys import KernelClassifier
    >>> metrics, labels = np.random.default_rng(0).normal(size=(40, 2)), np.repeat(["good", "noise"], 20)
    >>> classifier = KernelClassifier().fit(metrics, labels)
    >>> folder = export_for_spikeinterface(classifier, "curation", ["snr", "firing_rate"])
    >>> sorted(path.name for path in folder.iterdir())
    ['README.md', 'model.skops', 'model_info.json']
    """
    skops = _import_skops()
    folder, about = Path(folder), check_about(about or {})
    if folder.exists():
        raise ValueError(f"{folder} exists: choose another name")
    names = _feature_names(classifier, feature_names)
    labels = [str(label) for label in (classifier.classes_ if labels is None else labels)]
    if len(labels) != len(classifier.classes_):
        raise ValueError(f"{len(labels)} labels do not fit {len(classifier.classes_)} classes: give one for each class")
    stored = StoredModel.of(classifier) if isinstance(classifier, EnsembleEstimator) else classifier
    labeler = UnitLabeler(stored, names, len(labels), hasattr(classifier, "feature_names_in_"))
    content = skops.dumps(Pipeline([("classifier", labeler)]))
    trusted = skops.get_untrusted_types(data=content)
    info = {
        "requirements": {
            "jaxephys": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("scikit-learn", "skops", "numpy")},
        },
        "metric_params": dict(metric_params or {}),
        "label_conversion": {str(code): label for code, label in enumerate(labels)},
        "kind": type(classifier).__name__,
        "inputs": names.tolist(),
        "trusted": trusted,
        "sha256": hashlib.sha256(content).hexdigest(),
        **about,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        (temporary / SKOPS).write_bytes(content)
        (temporary / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
        (temporary / CARD).write_text(_readme(info, labels, names), encoding="utf-8")
        temporary.chmod(0o755)
        return temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _feature_names(classifier: Any, feature_names: Sequence[str] | None) -> np.ndarray:
    given = getattr(classifier, "feature_names_in_", None) if feature_names is None else feature_names
    if given is None:
        raise ValueError("the classifier was fitted to an array without names of columns: give feature_names")
    names = np.array([str(name) for name in given], object)
    n_columns = getattr(classifier, "n_features_in_", len(names))
    if len(names) != n_columns or len(set(names)) != len(names):
        raise ValueError(f"{len(names)} names do not fit {n_columns} columns: give one for each column, each once")
    return names


def _readme(info: Mapping[str, Any], labels: Sequence[str], names: np.ndarray) -> str:
    license = f"license: {json.dumps(info['license'])}\n" if "license" in info else ""
    entries = {
        key: info[key]
        for key in ("training_data", "intended_use", "not_intended_use", "authors", "citation")
        if key in info
    }
    return README.format(
        license=license,
        kind=info["kind"],
        labels=", ".join(labels),
        n_features=len(names),
        trusted=json.dumps(info["trusted"]),
        version=__version__,
        features=", ".join(f"`{name}`" for name in names),
        about="\n\n".join(f"**{key.replace('_', ' ').capitalize()}.** {text}" for key, text in entries.items()),
    )


def _import_skops() -> Any:
    try:
        import skops.io
    except ImportError:
        raise ValueError(
            "the folder for SpikeInterface needs skops, which is not installed: pip install skops"
        ) from None
    return skops.io
