"""A published PyTorch checkpoint of HIPPIE -> our network and its variables, without torch.

The network's sizes are read off the tensors. Every array of the network must then be in the checkpoint with its shape,
and every tensor of the checkpoint must be used: what is over or missing is an error, not a warning.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.engine.task import Variables
from jaxephys.hippie.network.cvae import LENGTHS, ConditionalVAE

State = dict[str, np.ndarray]
PREFIX = "model."  # what Lightning's module puts before every name
TABLES = {"label_embedding": "class_embedding", "region_embedding": "super_region_embedding"}
EMBEDDINGS = {
    "sources": "source_embedding",
    "classes": "class_embedding",
    "regions": "super_region_embedding",
    "layers": "layer_embedding",
}
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
COUNTER = "num_batches_tracked"  # torch counts batches where no momentum is given; nothing depends on it here
LISTED = 12


def variables_of(state: State) -> tuple[ConditionalVAE, Variables]:
    """The network that a state dict is of, and its variables in float32."""
    prefixed = all(name.startswith(PREFIX) for name in state)
    state = {name.removeprefix(PREFIX) if prefixed else name: value for name, value in state.items()}
    network = network_in(state)
    shapes: dict[tuple[str, ...], Any] = dict(traverse_util.flatten_dict(shapes_of(network)))
    names = {path: torch_name(path) for path in shapes}
    _account(state, {names[path]: torch_shape(path, leaf.shape) for path, leaf in shapes.items()})
    flat = {path: ours(path, state[names[path]]) for path in shapes}
    return network, traverse_util.unflatten_dict(flat)


def network_in(state: State) -> ConditionalVAE:
    """The network whose sizes the tensors tell. What they cannot tell: which conditions the encoder was trained to see."""
    found = {name.split(".")[1] for name in state if name.startswith("encoders.") and name.count(".") > 1}
    unknown = found - set(LENGTHS)
    if unknown or not found:
        said = f"an encoder of {min(unknown)!r}" if unknown else "no encoder of a modality"
        raise CheckpointError(f"the checkpoint has {said}: a HIPPIE has some of encoders.{{{','.join(LENGTHS)}}}")
    names = [name for name in LENGTHS if name in found]
    sizes = [f"encoders.{names[0]}.conv1.weight", "z_mean.weight", *(f"decoders.{n}.linear_out.weight" for n in names)]
    tables = {slot: f"{table}.weight" for slot, table in EMBEDDINGS.items() if f"{table}.weight" in state}
    missing = [name for name in (*sizes, *tables.values()) if name not in state or state[name].ndim < 2]
    if missing:
        raise CheckpointError(f"the checkpoint lacks {_listed(missing)}: its sizes cannot be told")
    rows: dict[str, Any] = {slot: len(state[table]) for slot, table in tables.items()}
    return ConditionalVAE(
        modalities=tuple((name, len(state[f"decoders.{name}.linear_out.weight"])) for name in names),
        latent=len(state["z_mean.weight"]),
        width=len(state[sizes[0]]),
        **rows,
        condition=max((state[table].shape[1] for table in tables.values()), default=ConditionalVAE.condition),
        mask_token=False,
    )


def shapes_of(network: ConditionalVAE) -> Variables:
    """Every array of the network, as its shape alone: nothing is computed."""

    def draw(key: jax.Array) -> Variables:
        curves = {name: np.zeros((1, length), np.float32) for name, length in network.modalities}
        return dict(network.init(key, curves))

    return jax.eval_shape(draw, jax.random.key(0))


def torch_name(path: tuple[str, ...]) -> str:
    """Where torch keeps the array at ``path``: ``params/decoders_acg/layer4_1/conv1/conv/kernel`` is
    ``decoders.acg.layer4.1.conv1.conv.weight``."""
    *modules, leaf = path[1:]
    if not modules:
        return f"{TABLES.get(leaf, leaf)}.weight"
    modules[0] = re.sub(rf"^(encoders|decoders|decoder_fcs)_({'|'.join(LENGTHS)})$", r"\1.\2", modules[0])
    modules = [re.sub(r"_(\d)$", r".\1", re.sub(r"^(dense|norm)_", "", module)) for module in modules]
    return ".".join([*modules, LEAVES.get(leaf, leaf)])


def torch_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1] if path[-1] == "kernel" else shape


def ours(path: tuple[str, ...], tensor: np.ndarray) -> np.ndarray:
    """Kernels backwards: dense (out, in) -> (in, out), convolution (out, in, tap) -> (tap, in, out)."""
    turned = tensor.T if path[-1] == "kernel" else tensor
    return np.ascontiguousarray(turned, dtype=np.float32)


def _account(state: State, shapes: dict[str, tuple[int, ...]]) -> None:
    """Every tensor has its place and every place its tensor."""
    end = "running_mean"
    counters = {name.removesuffix(end) + COUNTER for name in shapes if name.endswith(end)}
    wrong = {
        "missing": [name for name in shapes if name not in state],
        "not used": [name for name in state if name not in shapes and name not in counters],
        "of another shape": [
            f"{name} {state[name].shape} instead of {shape}"
            for name, shape in shapes.items()
            if name in state and state[name].shape != shape
        ],
    }
    if any(wrong.values()):
        said = "; ".join(f"{what}: {_listed(names)}" for what, names in wrong.items() if names)
        raise CheckpointError(f"the tensors are not those of a HIPPIE of these sizes: {said}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
