"""Conversion of a published PyTorch checkpoint of HIPPIE, without PyTorch.

The sizes of the network are inferred from the tensors. Every array of the network must then be in the checkpoint with its shape, and
every tensor of the checkpoint must be used; anything missing or left over is an error.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from flax import traverse_util

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.engine.task import Variables
from jaxephys.hippie.network.cvae import LENGTHS, ConditionalVAE
from jaxephys.hippie.network.initialization import variable_shapes

State = dict[str, np.ndarray]
PREFIX = "model."  # that Lightning's module puts before every name
TABLES = {"label_embedding": "class_embedding", "region_embedding": "super_region_embedding"}
EMBEDDINGS = {
    "sources": "source_embedding",
    "classes": "class_embedding",
    "regions": "super_region_embedding",
    "layers": "layer_embedding",
}
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
COUNTER = "num_batches_tracked"  # PyTorch counts batches; with a fixed momentum nothing depends on the count
MAX_LISTED = 12


def convert_state_dict(state: State) -> tuple[ConditionalVAE, Variables]:
    """Convert a state dict of the published network.

    Parameters
    ----------
    state : dict of arrays
        Tensors by name, with or without the prefix ``model.``.

    Returns
    -------
    network : ConditionalVAE
        The network that the tensors belong to.
    variables : dict
        Its variables in float32, without a run axis.

    Raises
    ------
    CheckpointError
        If a tensor is missing, left over or of another shape.
    """
    prefixed = all(name.startswith(PREFIX) for name in state)
    state = {name.removeprefix(PREFIX) if prefixed else name: value for name, value in state.items()}
    network = infer_network(state)
    shapes: dict[tuple[str, ...], Any] = dict(traverse_util.flatten_dict(variable_shapes(network)))
    names = {path: torch_name(path) for path in shapes}
    _check_tensors(state, {names[path]: torch_shape(path, leaf.shape) for path, leaf in shapes.items()})
    flat = {path: _to_flax(path, state[names[path]]) for path in shapes}
    return network, traverse_util.unflatten_dict(flat)


def infer_network(state: State) -> ConditionalVAE:
    """Infer the sizes of the network from the tensors of a state dict.

    Parameters
    ----------
    state : dict of arrays
        Tensors by name, without prefix.

    Returns
    -------
    ConditionalVAE
        The network. Which conditions its encoder was trained with cannot be inferred.

    Raises
    ------
    CheckpointError
        If the tensors are not those of a HIPPIE network.
    """
    found = {name.split(".")[1] for name in state if name.startswith("encoders.") and name.count(".") > 1}
    unknown = found - set(LENGTHS)
    if unknown or not found:
        content = f"an encoder of {min(unknown)!r}" if unknown else "no encoder of a modality"
        raise CheckpointError(f"the checkpoint has {content}: a HIPPIE has some of encoders.{{{','.join(LENGTHS)}}}")
    names = [name for name in LENGTHS if name in found]
    sizes = [f"encoders.{names[0]}.conv1.weight", "z_mean.weight", *(f"decoders.{n}.linear_out.weight" for n in names)]
    tables = {slot: f"{table}.weight" for slot, table in EMBEDDINGS.items() if f"{table}.weight" in state}
    missing = [name for name in (*sizes, *tables.values()) if name not in state or state[name].ndim < 2]
    if missing:
        raise CheckpointError(f"the checkpoint lacks {_shortened(missing)}: its sizes cannot be inferred")
    rows: dict[str, Any] = {slot: len(state[table]) for slot, table in tables.items()}
    return ConditionalVAE(
        modalities=tuple((name, len(state[f"decoders.{name}.linear_out.weight"])) for name in names),
        latent=len(state["z_mean.weight"]),
        width=len(state[sizes[0]]),
        **rows,
        condition=max((state[table].shape[1] for table in tables.values()), default=ConditionalVAE.condition),
        mask_token=False,
    )


def torch_name(path: tuple[str, ...]) -> str:
    """Return the name of an array in the PyTorch state dict.

    Parameters
    ----------
    path : tuple of str
        Path of the array in the Flax variables.

    Returns
    -------
    str
        Its name, without prefix.

    Examples
    --------
    >>> torch_name(("params", "decoders_acg", "layer4_1", "conv1", "conv", "kernel"))
    'decoders.acg.layer4.1.conv1.conv.weight'
    """
    *modules, leaf = path[1:]
    if not modules:
        return f"{TABLES.get(leaf, leaf)}.weight"
    modules[0] = re.sub(rf"^(encoders|decoders|decoder_fcs)_({'|'.join(LENGTHS)})$", r"\1.\2", modules[0])
    modules = [re.sub(r"_(\d)$", r".\1", re.sub(r"^(dense|norm)_", "", module)) for module in modules]
    return ".".join([*modules, LEAVES.get(leaf, leaf)])


def torch_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an array in PyTorch, where the axes of kernels are reversed.

    Parameters
    ----------
    path : tuple of str
        Path of the array in the Flax variables.
    shape : tuple of int
        Its shape in Flax.

    Returns
    -------
    tuple of int
        Its shape in PyTorch.
    """
    return shape[::-1] if path[-1] == "kernel" else shape


def _to_flax(path: tuple[str, ...], tensor: np.ndarray) -> np.ndarray:
    """Reverse the axes of kernels: dense (out, in) to (in, out), convolution (out, in, tap) to (tap, in, out)."""
    array = tensor.T if path[-1] == "kernel" else tensor
    return np.ascontiguousarray(array, dtype=np.float32)


def _check_tensors(state: State, shapes: dict[str, tuple[int, ...]]) -> None:
    """Check that the names and shapes of tensors are exactly those of the network."""
    end = "running_mean"
    counters = {name.removesuffix(end) + COUNTER for name in shapes if name.endswith(end)}
    problems = {
        "missing": [name for name in shapes if name not in state],
        "not used": [name for name in state if name not in shapes and name not in counters],
        "of another shape": [
            f"{name} {state[name].shape} instead of {shape}"
            for name, shape in shapes.items()
            if name in state and state[name].shape != shape
        ],
    }
    if any(problems.values()):
        text = "; ".join(f"{problem}: {_shortened(names)}" for problem, names in problems.items() if names)
        raise CheckpointError(f"the tensors are not those of a HIPPIE of these sizes: {text}")


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
