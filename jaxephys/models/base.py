"""What the user objects share: a name under which they are saved, ``save``, and ``load``, which finds the class again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import jax
from jaxtyping import Float
from numpy import ndarray

from jaxephys.engine.checkpoint import CheckpointError, export, read_export
from jaxephys.engine.task import PyTree


class SavedModel(ABC):
    """A fitted object that a folder holds: ``params.npz`` with its arrays and ``config.json`` with the rest."""

    _kinds: ClassVar[dict[str, type[SavedModel]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        SavedModel._kinds[cls.__name__] = cls

    @abstractmethod
    def _arrays(self) -> dict[str, PyTree]:
        """All arrays that scoring needs, each with a leading run axis."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """The rest, as JSON."""

    @abstractmethod
    def describe(self) -> str:
        """One line on what was learnt."""

    @classmethod
    @abstractmethod
    def _from_saved(cls, arrays: dict[str, PyTree], settings: dict[str, Any]) -> SavedModel: ...

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model to a folder. An existing one is only replaced with ``overwrite=True``."""
        from jaxephys import __version__

        config = {"kind": type(self).__name__, "version": __version__, **self._settings()}
        return export(folder, self._arrays(), config, overwrite=overwrite)


def load(path: str | Path) -> SavedModel:
    """The model in a folder that ``save`` or an experiment has written. The folder of a whole run will do."""
    path = Path(path)
    folder = path / "model" if (path / "model").is_dir() else path
    if not (folder / "config.json").exists() or ((path / "checkpoints").is_dir() and folder == path):
        hint = f": its run has not ended, go on with --resume {path}" if (path / "checkpoints").is_dir() else ""
        raise CheckpointError(f"{path} holds no saved model{hint}")
    arrays, settings = read_export(folder)
    kind = settings.get("kind")
    if kind not in SavedModel._kinds:
        raise CheckpointError(
            f"{folder} holds a model of the kind {kind!r}: this version knows {', '.join(SavedModel._kinds)}"
        )
    try:
        return SavedModel._kinds[kind]._from_saved(arrays, settings)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the saved model {folder} lacks {error}: save it again") from error


def count_parameters(variables: PyTree) -> int:
    """The parameters of one run of a stacked tree."""
    return sum(leaf[0].size for leaf in jax.tree.leaves(variables["params"]))


def mean_over_runs(values: Float[ndarray, "run ..."], per_seed: bool) -> Float[ndarray, "..."]:
    """The ensemble's answer, or each run's own."""
    return values if per_seed else values.mean(axis=0)
