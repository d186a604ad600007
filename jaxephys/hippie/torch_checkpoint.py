"""Conversion of a published PyTorch checkpoint of HIPPIE, without PyTorch.

The sizes of the network are inferred from the shapes of the tensors. The tensors of the checkpoint must then be exactly the arrays of
this network, with their shapes; a missing or an additional tensor is an error. Start with :func:`convert_state_dict`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from flax import traverse_util

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.engine.task import Variables
from jaxephys.hippie.network.cvae import LENGTHS, STACKED, ConditionalVAE
from jaxephys.hippie.network.initialization import variable_shapes
from jaxephys.hippie.network.published_layout import from_published, published_paths

StateDict = dict[str, np.ndarray]  # tensors by their name in PyTorch
PREFIX = "model."  # PyTorch Lightning adds it to every name
# Embedding tables with another name in PyTorch: Flax -> PyTorch.
TORCH_TABLES = {"label_embedding": "class_embedding", "region_embedding": "super_region_embedding"}
# Field of ConditionalVAE with the number of levels of a condition -> its embedding table in PyTorch.
CONDITION_TABLES = {
    "sources": "source_embedding",
    "classes": "class_embedding",
    "regions": "super_region_embedding",
    "layers": "layer_embedding",
}
# Arrays of a layer with another name in PyTorch: Flax -> PyTorch.
TORCH_ARRAYS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
BATCH_COUNT = "num_batches_tracked"  # of PyTorch's batch normalization, which uses it only without a fixed momentum
MAX_LISTED = 12  # tensors that an error message lists


def convert_state_dict(state: StateDict) -> tuple[ConditionalVAE, Variables]:
    """Convert a state dict of the published network.

    Parameters
    ----------
    state : dict of arrays
        Tensors by name, as NumPy arrays; all names have the prefix ``model.``, or none.

    Returns
    -------
    network : ConditionalVAE
        The network that the tensors belong to.
    variables : dict
        The variables of the network, as float32 arrays of a single run.

    Raises
    ------
    CheckpointError
        If a tensor is missing, of another shape, or not one of the network.
    """
    prefixed = all(name.startswith(PREFIX) for name in state)
    state = {name.removeprefix(PREFIX) if prefixed else name: value for name, value in state.items()}
    network = infer_network(state)
    shapes = published_shapes(network)
    names = {path: torch_name(path) for path in shapes}
    _check_tensors(state, {names[path]: torch_shape(path, shape) for path, shape in shapes.items()})
    flat = {path: _to_flax(path, state[names[path]]) for path in shapes}
    return network, from_published(traverse_util.unflatten_dict(flat), network)


def published_shapes(network: ConditionalVAE) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Return the arrays of a network in the published layout, in which each modality has its own encoder and decoder.

    Parameters
    ----------
    network : ConditionalVAE
        The network.

    Returns
    -------
    dict of tuple of str to tuple of int
        Shape by path in the variables.
    """
    shapes, arrays = {}, dict[Any, Any](traverse_util.flatten_dict(variable_shapes(network)))
    for (collection, *path), leaf in arrays.items():
        shape = leaf.shape[1:] if path[0].startswith(STACKED) else leaf.shape
        shapes.update({(collection, *published): shape for published in published_paths(tuple(path), network)})
    return shapes


def infer_network(state: StateDict) -> ConditionalVAE:
    """Infer the sizes of the network from the tensors of a state dict.

    Parameters
    ----------
    state : dict of arrays
        Tensors by name, without prefix.

    Returns
    -------
    ConditionalVAE
        The network.

    Raises
    ------
    CheckpointError
        If the tensors are not those of a HIPPIE network.
    """
    found = {name.split(".")[1] for name in state if name.startswith("encoders.") and name.count(".") > 1}
    unknown = found - set(LENGTHS)
    if unknown or not found:
        content = f"an encoder of {min(unknown)!r}" if unknown else "no encoder of a modality"
        raise CheckpointError(
            f"the checkpoint has {content}: a HIPPIE network has encoders.NAME with NAME one of {', '.join(LENGTHS)}"
        )
    modalities = [name for name in LENGTHS if name in found]
    first_kernel, latent_kernel = f"encoders.{modalities[0]}.conv1.weight", "z_mean.weight"
    output_kernels = {name: f"decoders.{name}.linear_out.weight" for name in modalities}
    tables = {field: f"{table}.weight" for field, table in CONDITION_TABLES.items() if f"{table}.weight" in state}
    required = (first_kernel, latent_kernel, *output_kernels.values(), *tables.values())
    missing = [name for name in required if name not in state or state[name].ndim < 2]
    if missing:
        raise CheckpointError(f"the checkpoint lacks {_shortened(missing)}: its sizes cannot be inferred")
    n_levels: dict[str, Any] = {field: len(state[table]) for field, table in tables.items()}
    return ConditionalVAE(
        modalities=tuple((name, len(state[kernel])) for name, kernel in output_kernels.items()),
        latent=len(state[latent_kernel]),
        width=len(state[first_kernel]),
        **n_levels,
        condition=max((state[table].shape[1] for table in tables.values()), default=ConditionalVAE.condition),
        mask_token=False,
    )


def torch_name(path: tuple[str, ...]) -> str:
    """Return the name in the PyTorch state dict of an array of the Flax variables.

    Parameters
    ----------
    path : tuple of str
        Path of the array in the Flax variables.

    Returns
    -------
    str
        Its name in PyTorch, without the prefix ``model.``.

    Examples
    --------
    >>> torch_name(("params", "decoders_acg", "layer4_1", "conv1", "conv", "kernel"))
    'decoders.acg.layer4.1.conv1.conv.weight'
    """
    *modules, leaf = path[1:]
    if not modules:
        return f"{TORCH_TABLES.get(leaf, leaf)}.weight"
    # encoders_acg -> encoders.acg; layer4_1 -> layer4.1; dense_NAME and norm_NAME -> NAME
    modules[0] = re.sub(rf"^(encoders|decoders|decoder_fcs)_({'|'.join(LENGTHS)})$", r"\1.\2", modules[0])
    modules = [re.sub(r"_(\d)$", r".\1", re.sub(r"^(dense|norm)_", "", module)) for module in modules]
    return ".".join([*modules, TORCH_ARRAYS.get(leaf, leaf)])


def torch_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in PyTorch of an array of the Flax variables: the axes of kernels are reversed, other arrays are equal.

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
    """Convert a tensor to its Flax array: dense kernels (out, in) to (in, out), convolutions (out, in, tap) to (tap, in, out)."""
    array = tensor.T if path[-1] == "kernel" else tensor
    return np.ascontiguousarray(array, dtype=np.float32)


def _check_tensors(state: StateDict, shapes: dict[str, tuple[int, ...]]) -> None:
    """Check that the names and shapes of tensors are exactly those of the network.

    PyTorch's batch counts have no counterpart in Flax and are ignored.
    """
    mean = "running_mean"
    batch_counts = {name.removesuffix(mean) + BATCH_COUNT for name in shapes if name.endswith(mean)}
    problems = {
        "missing": [name for name in shapes if name not in state],
        "not used": [name for name in state if name not in shapes and name not in batch_counts],
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
    """Return a list for an error message, at most `MAX_LISTED` names long."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
