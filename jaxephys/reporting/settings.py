"""Settings of experiments: the base class of their dataclasses, and their form in ``config.json``.

An experiment declares a frozen dataclass that inherits from `Settings`; each field becomes an option of its command line.
`settings_to_json` and `settings_from_json` write and read them, so that a run can be resumed with the settings that it began with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

# Fields for the folder and device of a run. They do not change results and are not saved.
RUNTIME_FIELDS = ("out", "resume", "device", "distributed", "run_batch")
ADDED_FIELDS = {
    "search": (),
    "precision": "auto",
    "execution": "auto",
}  # what runs of versions without these fields were trained with


@dataclass(frozen=True)
class Settings:
    """Options that every experiment has; experiments add their own fields."""

    out: Path = Path("runs")
    """Folder in which the run folder is created."""
    resume: Path | None = None
    """Run folder of an interrupted run to continue; its settings are read from its config.json."""
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Device to compute on. By default JAX chooses the fastest one available."""
    distributed: bool = False
    """Split the runs among the processes of a cluster (SLURM, Open MPI, TPU pods, or JAX_COORDINATOR_ADDRESS)."""
    run_batch: int | None = None
    """Largest number of networks that are trained at once. By default as many as the memory holds."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Precision of matrix products: by default float32 on a CPU and tf32 on other devices."""
    execution: Literal["auto", "map", "vmap"] = "auto"
    """How a device trains its networks: side by side (vmap) or one after the other (map), which is faster on the cores of a CPU."""
    search: tuple[str, ...] = ()
    """Levels of hyperparameters that are all trained, such as learning_rate=1e-3,3e-4; validation rows choose one for each split."""

    # Names of fields in the run folders of earlier versions, and their present names. Classes extend it.
    renamed: ClassVar[Mapping[str, str]] = {}
    # Names of fields that earlier versions did not have, and whose defaults are what they did. Classes extend it.
    added: ClassVar[tuple[str, ...]] = ()


S = TypeVar("S", bound=Settings)


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """Return the fields of settings that determine the results, with JSON values.

    Parameters
    ----------
    settings : Settings
        Settings of an experiment. Paths become strings; the fields in `RUNTIME_FIELDS` are left out.

    Returns
    -------
    dict of str to object
        Values by field name.
    """
    values = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in values.items()
        if name not in RUNTIME_FIELDS
    }


def settings_from_json(preset: S, saved: Mapping[str, Any]) -> S:
    """Return settings with the values that `settings_to_json` wrote.

    Parameters
    ----------
    preset : Settings
        Settings of the experiment that supply the class and the runtime fields.
    saved : mapping of str to object
        Values by field name, as read from ``config.json``. Names of earlier versions are accepted.

    Returns
    -------
    Settings
        A copy of ``preset`` with the saved values; lists become tuples and strings become paths where the field is a path.

    Raises
    ------
    ValueError
        If the saved field names differ from those of the settings, as for a run of another version of the experiment.
    """
    defaults = {item.name: item.default for item in dataclasses.fields(preset) if item.name in preset.added}
    saved = {**ADDED_FIELDS, **defaults, **{preset.renamed.get(name, name): value for name, value in saved.items()}}
    types = {item.name: str(item.type) for item in dataclasses.fields(preset) if item.name not in RUNTIME_FIELDS}
    if different := sorted(set(saved) ^ set(types)):
        raise ValueError(f"the settings of another version were saved: they differ in the field {different[0]!r}")
    values = {}
    for name, value in saved.items():
        if isinstance(value, list):
            value = tuple(value)
        elif isinstance(value, str) and "Path" in types[name]:
            value = Path(value)
        values[name] = value
    return dataclasses.replace(preset, **values)
