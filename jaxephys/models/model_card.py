"""What is written about a saved model: ``README.md`` for people, ``model_info.json`` for programs, and the training of its networks.

Both files are made from the same data: the ``config.json`` of the model, its `ModelDetails`, which the estimator knows, and `about`,
entries that only the user knows, such as the license. :func:`write_card` and :func:`model_info` make them.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from jaxephys.engine.checkpoint import StoredRuns
from jaxephys.engine.run_log import RunResult
from jaxephys.engine.task import Status

ABOUT = {  # entries that the user may give, by key of `about`: heading of the model card
    "license": "License of the model",
    "data_license": "License of the training data",
    "training_data": "Training data",
    "intended_use": "Intended use",
    "not_intended_use": "Not intended",
    "authors": "Authors",
    "citation": "Citation",
    "scores": "Scores",
}
NOT_STATED = "not stated"
CARD = """---
{header}
---

# {kind}

{description}.

Written by jaxephys {version} ({packages}), schema version {schema_version}.

## Use

{task}

**Intended use.** {intended_use}

**Not intended.** {not_intended_use}

## Input and output

{inputs}

{outputs}

## Training data

{training_data}

License of the training data: {data_license}.

## Training

{training}

## Scores

{scores}

## Load

With jaxephys:

```python
import jaxephys

model = jaxephys.load("FOLDER")  # or jaxephys.load_pretrained("owner/name") from the Hugging Face hub
```

Without it, all arrays (the first axis is that of the networks):

```python
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

arrays = ocp.StandardCheckpointer().restore(Path("FOLDER").absolute() / "orbax")
same = np.load("FOLDER/params.npz")  # named "params/encoder/kernel", ...
```

`model_info.json` has the entries of this card for programs, and the name and unit of every input column.

## Parameters

{parameters}

## License and authors

License of the model: {license}.

Authors: {authors}.

{citation}
"""


class InputColumn(NamedTuple):
    """One column of the input of a model.

    Parameters
    ----------
    name : str
        Name of the feature or sample.
    unit : str
        Its physical unit, such as ``"mV"``; "" if there is none or it is that of the training table.
    group : str
        What it belongs to, such as a feature family or a curve.
    """

    name: str
    unit: str
    group: str


class ModelDetails(NamedTuple):
    """What an estimator knows about itself for its model card.

    Parameters
    ----------
    task : str
        One or two sentences: what is predicted from what.
    intended_use, not_intended_use : str
        Sentences.
    training_data : str
        Sentences on the data that the networks were trained on, as far as the model knows them.
    inputs : sequence of InputColumn
        Columns of the input, those of one group together.
    outputs : str
        One sentence.
    classes : sequence of str
        Names of the classes in the order of the probabilities; empty for a model that is no classifier.
    tags : sequence of str
        Keywords for the hub.
    """

    task: str = "See the class of this name."
    intended_use: str = "Analysis of recordings that resemble those of the training data."
    not_intended_use: str = "Decisions on patients, and recordings unlike those of the training data."
    training_data: str = "The model does not store which data it was trained on."
    inputs: Sequence[InputColumn] = ()
    outputs: str = "See the class of this name."
    classes: Sequence[str] = ()
    tags: Sequence[str] = ()


def check_about(about: Mapping[str, Any]) -> dict[str, Any]:
    """Check the entries of a user for the model card.

    Parameters
    ----------
    about : mapping of str to object
        Texts by key of `ABOUT`. ``scores`` is a list of dicts of equal keys, one for each row of a table.

    Returns
    -------
    dict of str to object
        The entries as they are read from JSON.

    Raises
    ------
    ValueError
        If a key is unknown, or ``scores`` is no table.
    """
    for key in about:
        if key not in ABOUT:
            raise ValueError(f"the model card has no entry {key!r}: choose from {', '.join(ABOUT)}")
    checked = json.loads(json.dumps(dict(about)))
    rows = checked.get("scores", [])
    if not isinstance(rows, list) or len({tuple(row) if isinstance(row, dict) else None for row in rows} - {()}) > 1:
        raise ValueError(f"scores is {rows!r}: give a list of dicts with the same keys, one for each row of a table")
    return checked


def write_card(config: Mapping[str, Any], description: str, details: ModelDetails) -> str:
    """Return the model card of a saved model, with the header that the Hugging Face hub reads.

    Parameters
    ----------
    config : mapping
        Content of its ``config.json``.
    description : str
        One line on the model, without a full stop.
    details : ModelDetails
        What the estimator knows about itself.

    Returns
    -------
    str
        Markdown.
    """
    about = config.get("about", {})
    rows = [f"- {line}" for line in training_lines(config["training"])]
    training = "\n".join(rows) or "The model stores nothing about the training of its networks."
    known = {
        "license": NOT_STATED,
        "data_license": NOT_STATED,
        "authors": NOT_STATED,
        "citation": "Please cite the data and the paper of the model that you use.",
        "intended_use": details.intended_use,
        "not_intended_use": details.not_intended_use,
    }
    return CARD.format(
        header=_hub_header(config, details),
        **{name: config[name] for name in ("kind", "version", "schema_version")},
        description=description,
        packages=", ".join(f"{name} {version}" for name, version in config["packages"].items()),
        task=details.task,
        inputs="\n".join(_input_lines(details.inputs)),
        outputs=details.outputs + (f" Classes: {', '.join(details.classes)}." if len(details.classes) else ""),
        training=training,
        scores=_score_table(about.get("scores", [])),
        parameters="\n".join(f"- `{name}`: {value!r}" for name, value in config["parameters"].items()),
        **{key: about.get(key, text) for key, text in known.items()},
        training_data="\n\n".join(filter(None, [about.get("training_data"), details.training_data])),
    )


def model_info(config: Mapping[str, Any], description: str, details: ModelDetails) -> dict[str, Any]:
    """Return the content of ``model_info.json``.

    Parameters
    ----------
    config, description, details : see write_card
        As in `write_card`.

    Returns
    -------
    dict
        JSON values: ``requirements``, ``metric_params`` and ``label_conversion``, which SpikeInterface reads, and the entries of the
        model card, with every input column.
    """
    return {
        "requirements": {
            "jaxephys": config["version"],
            "python": platform.python_version(),
            **config["packages"],
        },
        "metric_params": {},
        "label_conversion": {str(code): name for code, name in enumerate(details.classes)},
        "kind": config["kind"],
        "description": description,
        "task": details.task,
        "inputs": [column._asdict() for column in details.inputs],
        "outputs": details.outputs,
        "training": config["training"],
        "training_data": details.training_data,
        "intended_use": details.intended_use,
        "not_intended_use": details.not_intended_use,
        **config.get("about", {}),
    }


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


def _hub_header(config: Mapping[str, Any], details: ModelDetails) -> str:
    """The YAML header of a model card. Its values are written as JSON, which YAML includes."""
    entries: dict[str, Any] = {
        "library_name": "jaxephys",
        "tags": ["jaxephys", config["kind"], "electrophysiology", "neuroscience", *details.tags],
    }
    if "license" in config.get("about", {}):
        entries["license"] = config["about"]["license"]
    if len(details.classes):
        entries["pipeline_tag"] = "tabular-classification"
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in entries.items())


def _input_lines(columns: Sequence[InputColumn]) -> list[str]:
    """One line for each group of columns, with the first and the last name."""
    lines = []
    for (group, unit), some in groupby(columns, lambda column: (column.group, column.unit)):
        names = [column.name for column in some]
        several = f"{len(names)} columns, `{names[0]}` to `{names[-1]}`" if len(names) > 1 else f"`{names[0]}`"
        lines.append(f"- {group}: {several}, {unit or 'unit of the training table'}")
    return lines or ["See the class of this name."]


def _score_table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "No score is stored with this model: score it on your own data before you rely on it."
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
    lines += [" | ".join(str(value) for value in row.values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
