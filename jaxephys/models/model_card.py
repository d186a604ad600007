"""What is written about a saved model for people: the training of its networks, and the model card ``README.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxephys.engine.checkpoint import StoredRuns
from jaxephys.engine.run_log import RunResult
from jaxephys.engine.task import Status

CARD = """# {kind}

{description}.

Written by jaxephys {version} ({packages}), schema version {schema_version}.

## Load

With jaxephys:

```python
import jaxephys

model = jaxephys.load("FOLDER")
```

Without it, all arrays (the first axis is that of the networks):

```python
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

arrays = ocp.StandardCheckpointer().restore(Path("FOLDER").absolute() / "orbax")
same = np.load("FOLDER/params.npz")  # named "params/encoder/kernel", ...
```

## Parameters

{parameters}

## Training

{training}
"""


def write_card(config: Mapping[str, Any], description: str) -> str:
    """Return the model card of a saved model.

    Parameters
    ----------
    config : mapping
        Content of its ``config.json``.
    description : str
        One line on the model, without a full stop.

    Returns
    -------
    str
        Markdown.
    """
    packages = ", ".join(f"{name} {version}" for name, version in config["packages"].items())
    parameters = "\n".join(f"- `{name}`: {value!r}" for name, value in config["parameters"].items())
    rows = [f"- {line}" for line in training_lines(config["training"])]
    training = "\n".join(rows) or "The networks were converted from other files; nothing is known about their training."
    fields = {name: config[name] for name in ("kind", "version", "schema_version")}
    return CARD.format(**fields, description=description, packages=packages, parameters=parameters, training=training)


def training_rows(
    names: Sequence[str], results: RunResult | StoredRuns, indices: Sequence[int] | Int[np.ndarray, "run"]
) -> list[dict[str, Any]]:
    """Describe the training of runs as JSON.

    Parameters
    ----------
    names : sequence of str, one per run of the grid
        Names of the runs.
    results : RunResult or StoredRuns
        Epochs, status and best score of all runs.
    indices : sequence of int
        Runs to describe.

    Returns
    -------
    list of dict
        For each run ``run`` (its name), ``status``, ``epochs``, ``best_epoch`` and ``best_score`` (None without one).
    """
    return [
        {
            "run": names[run],
            "status": Status(int(results.status[run])).name.lower(),
            "epochs": int(results.epochs[run]),
            "best_epoch": int(results.best_epoch[run]),
            "best_score": float(results.best_score[run]) if np.isfinite(results.best_score[run]) else None,
        }
        for run in np.asarray(indices).tolist()
    ]


def training_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one line of text for each run.

    Parameters
    ----------
    rows : sequence of mapping
        Result of `training_rows`.

    Returns
    -------
    list of str
        Such as ``"seed=0: finished after 30 epochs, best validation score 0.8123 in epoch 24"``.
    """
    lines = []
    for row in rows:
        progress = f"{row['status'].replace('_', ' ')} after {row['epochs']} epochs" if row["epochs"] else "not begun"
        best = "" if row["best_score"] is None else f", best validation score {row['best_score']:.4g}"
        lines.append(f"{row['run']}: {progress}{best}" + (f" in epoch {row['best_epoch']}" if best else ""))
    return lines
