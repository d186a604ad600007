"""The layout of the published network: one encoder and one decoder for each modality, where `ConditionalVAE` stacks their weights.

PyTorch's checkpoints and models saved by jaxephys 0.1.0 have this layout. Start with `from_published`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxephys.hippie.network.cvae import STACKED, ConditionalVAE
from jaxephys.hippie.network.initialization import variable_shapes

Path = tuple[str, ...]  # of an array in a collection such as "params"


def published_paths(path: Path, network: ConditionalVAE) -> list[Path]:
    """Return where the published layout has the content of an array.

    Parameters
    ----------
    path : tuple of str
        Path of an array of the network inside its collection.
    network : ConditionalVAE
        The network.

    Returns
    -------
    list of tuple of str
        A path for each modality whose weights are stacked in the array; otherwise a single path.

    Examples
    --------
    >>> published_paths(("encoders_isi_acg", "bn1", "scale"), ConditionalVAE())
    [('encoders_isi', 'bn1', 'scale'), ('encoders_acg', 'bn1', 'scale')]
    """
    module, *rest = path
    if module.startswith("outputs_"):
        return [(module.replace("outputs_", "decoders_", 1), *_in_trunk(rest, network))]
    if not module.startswith(STACKED):
        return [path]
    groups = {f"encoders_{'_'.join(group)}": group for group in network.equal_lengths}
    names = groups.get(module, [name for name, _ in network.modalities])
    part = "encoders" if module in groups else module
    inside = rest if part == "decoder_fcs" else _in_trunk(rest, network)
    return [(f"{part}_{name}", *inside) for name in names]


def from_published(tree: Any, network: ConditionalVAE, axis: int = 0) -> Any:
    """Stack the weights of modalities everywhere in a tree of dicts, such as the variables or the training state of a network.

    Parameters
    ----------
    tree : nested dict of arrays
        Any dict in it with encoders of the published layout is changed; the rest, and a tree without such a dict, is returned as it is.
    network : ConditionalVAE
        The network.
    axis : int
        Axis of the modalities in the result: the number of leading axes of all arrays, such as that of runs.

    Returns
    -------
    nested dict of arrays
        The tree in the layout of the network.
    """
    if not isinstance(tree, Mapping):
        return tree
    first = network.modalities[0][0]
    old_layout = f"decoder_fcs_{first}" in tree
    if not old_layout:
        return {name: from_published(branch, network, axis) for name, branch in tree.items()}
    flat: dict[Any, Any] = dict(traverse_util.flatten_dict(dict(tree)))
    paths = [path[1:] for path in traverse_util.flatten_dict(variable_shapes(network))]
    stacked = {}
    for path in paths:
        old = published_paths(path, network)
        if old[0] in flat:
            arrays = [flat[published] for published in old]
            stacked[path] = np.stack(arrays, axis) if path[0].startswith(STACKED) else arrays[0]
    return traverse_util.unflatten_dict(stacked)


def _in_trunk(rest: list[str], network: ConditionalVAE) -> list[str]:
    """The path inside an encoder or decoder; a dense one had a single submodule ``trunk``."""
    return rest if network.trunk == "resnet" else ["trunk", *(name for name in rest if name != "output")]
