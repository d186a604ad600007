"""Packed training states: hundreds of arrays joined to a few vectors while runs are on the devices.

Clipping, the optimizer, the choice of the best variables and the transfer of states are then a few operations on vectors instead of a
few on each array of a network, which a compiler needs more time for than for the network itself. Checkpoints and results hold
the arrays of the network, see `StatePacking.unpack`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from jaxephys.dimensions import AnyArray
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.optimizer import split_frozen
from jaxephys.engine.task import PyTree, RunState, Task, Variables

Vectors = dict[str, Shaped[AnyArray, "..."]]  # by dtype: the arrays of a tree side by side


def join_arrays(tree: PyTree, n_leading: int = 0, module: ModuleType = jnp) -> Vectors:
    """Join the arrays of a tree to one vector for each dtype.

    Parameters
    ----------
    tree : tree of arrays (leading, ...)
        Arrays with the same leading axes, such as that of runs.
    n_leading : int
        Number of leading axes, which are kept.
    module : module
        ``jax.numpy``, or ``numpy`` for arrays on the host.

    Returns
    -------
    dict of str to array (leading, n)
        Vectors by name of the dtype, in the order of the leaves.
    """
    groups: dict[str, list] = {}
    for leaf in jax.tree.leaves(tree):
        groups.setdefault(str(leaf.dtype), []).append(leaf.reshape(*leaf.shape[:n_leading], -1))
    return {dtype: module.concatenate(parts, axis=-1) for dtype, parts in groups.items()}


def split_vectors(vectors: Vectors, shapes: PyTree, module: ModuleType = jnp) -> PyTree:
    """Split vectors into the arrays of a tree: the inverse of `join_arrays`.

    Parameters
    ----------
    vectors : dict of str to array (leading, n)
        Vectors by name of the dtype.
    shapes : tree of jax.ShapeDtypeStruct
        Shapes and dtypes of the arrays without leading axes.
    module : module
        ``jax.numpy``, or ``numpy`` for views of arrays on the host.

    Returns
    -------
    tree of arrays (leading, ...)
        The arrays.
    """
    leaves, structure = jax.tree.flatten(shapes)
    parts = {}
    for dtype, vector in vectors.items():
        sizes = [int(np.prod(leaf.shape)) for leaf in leaves if str(leaf.dtype) == dtype]
        parts[dtype] = iter(module.split(vector, np.cumsum(sizes)[:-1], axis=-1))
    arrays = []
    for leaf in leaves:
        part = next(parts[str(leaf.dtype)])
        arrays.append(part.reshape((*part.shape[:-1], *leaf.shape)))
    return jax.tree.unflatten(structure, arrays)


class StatePacking:
    """The packed form of the states of a grid.

    ``params``, ``best_params`` and the moments of the optimizer become `Vectors`. ``mutables`` and ``best_mutables`` become two
    `Vectors` each: ``"updated"``, what the forward pass updates, and ``"frozen"``, the parameters that are not trained.

    Parameters
    ----------
    state : RunState of jax.ShapeDtypeStruct
        The state of one run.
    config : TrainConfig
        ``freeze`` names the modules that are not trained.
    """

    def __init__(self, state: RunState, config: TrainConfig) -> None:
        self.config, self.state = config, state
        self.moving, self.frozen = split_frozen(state.params, config)

    def pack(self, state: RunState, n_leading: int = 0, module: ModuleType = jnp) -> RunState:
        """Pack a state, or the states of a stack.

        Parameters
        ----------
        state : RunState
            Arrays of the network.
        n_leading, module : see join_arrays
            As in `join_arrays`.

        Returns
        -------
        RunState
            Vectors.
        """

        def join(tree: PyTree) -> Vectors:
            return join_arrays(tree, n_leading, module)

        def pack_variables(params: PyTree, mutables: PyTree) -> tuple[Vectors, dict[str, Vectors]]:
            moving, frozen = split_frozen(params, self.config)
            return join(moving), {"updated": join(mutables), "frozen": join(frozen)}

        params, mutables = pack_variables(state.params, state.mutables)
        best_params, best_mutables = pack_variables(state.best_params, state.best_mutables)
        return state._replace(
            params=params,
            mutables=mutables,
            opt_state=_map_like(join, self.moving, state.opt_state),
            best_params=best_params,
            best_mutables=best_mutables,
        )

    def unpack(self, packed: RunState, module: ModuleType = np) -> RunState:
        """Unpack a state, or the states of a stack: the inverse of `pack`.

        Parameters
        ----------
        packed : RunState
            Vectors.
        module : module
            ``numpy``, or ``jax.numpy`` inside compiled programs.

        Returns
        -------
        RunState
            Arrays of the network; on the host, views of the vectors.
        """

        def split(vectors: Vectors) -> PyTree:
            return split_vectors(vectors, self.moving, module)

        params, mutables = self._unpack_variables(packed.params, packed.mutables, module)
        best_params, best_mutables = self._unpack_variables(packed.best_params, packed.best_mutables, module)
        return packed._replace(
            params=params,
            mutables=mutables,
            opt_state=_map_like(split, packed.params, packed.opt_state),
            best_params=best_params,
            best_mutables=best_mutables,
        )

    def task(self, task: Task) -> Task:
        """Return a task for packed variables.

        Parameters
        ----------
        task : Task
            The task of the network.

        Returns
        -------
        Task
            The same with ``loss`` and ``validate`` for packed variables.
        """

        def unpack(variables: Variables) -> Variables:
            params = variables["params"]
            mutables = {name: part for name, part in variables.items() if name != "params"}
            params, mutables = self._unpack_variables(params, mutables, jnp)
            return {"params": params, **mutables}

        def loss(variables: Variables, *rest: Any) -> tuple[Any, tuple[PyTree, Any]]:
            value, (mutables, metrics) = task.loss(unpack(variables), *rest)
            return value, ({"updated": join_arrays(mutables), "frozen": variables["frozen"]}, metrics)

        def validate(variables: Variables, *rest: Any) -> Any:
            return task.validate(unpack(variables), *rest)

        return task._replace(loss=loss, validate=validate)

    def _unpack_variables(self, params: Vectors, mutables: PyTree, module: ModuleType) -> tuple[PyTree, PyTree]:
        moving = split_vectors(params, self.moving, module)
        if self.frozen:
            moving = {**moving, **split_vectors(mutables["frozen"], self.frozen, module)}
        return moving, split_vectors(mutables["updated"], self.state.mutables, module)


def _map_like(function: Callable[[PyTree], PyTree], example: PyTree, tree: PyTree) -> PyTree:
    """Apply a function to every part of a tree that has the structure of the example."""
    structure = jax.tree.structure(example)

    def matches(part: PyTree) -> bool:
        return jax.tree.structure(part) == structure

    return jax.tree.map(lambda part: function(part) if matches(part) else part, tree, is_leaf=matches)
