"""Count the operations of a function that JAX has traced, before anything is compiled or computed.

`count_operations` is the one function. The cost analysis of the compiler counts every loop once and merges the optimizer steps of an
epoch with its validation; here loops of a fixed length are multiplied out, and loops of unknown length are counted apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

PRODUCTS = ("dot_general", "conv_general_dilated")
FUNCTIONS = frozenset(
    ("exp", "exp2", "expm1", "log", "log1p", "tanh", "logistic", "erf", "erf_inv", "erfc", "sin", "cos", "pow")
)
# These change no number, and the compiler merges them with others.
FREE = frozenset(
    ("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "convert_element_type", "stop_gradient", "copy", "iota")
)
# Their inner functions, such as the sum of two numbers, are not loops over the operation's elements.
WITH_SCALAR_FUNCTION = ("scatter", "reduce", "select_and", "sort")


class Work(NamedTuple):
    """Amount of computation.

    Parameters
    ----------
    flops : float
        Multiplications and additions of matrix products and convolutions.
    bytes : float
        Bytes that operations write, without fusion.
    functions : float
        Values of exponentials, logarithms and the like.
    operations : float
        Number of operations that are executed.
    """

    flops: float = 0.0
    bytes: float = 0.0
    functions: float = 0.0
    operations: float = 0.0

    def plus(self, other: Work, times: float = 1.0) -> Work:
        """Return the sum of two amounts.

        Parameters
        ----------
        other : Work
            The other amount.
        times : float
            Factor of the other amount.

        Returns
        -------
        Work
            ``self + times * other``.
        """
        return Work(*(ours + times * theirs for ours, theirs in zip(self, other, strict=True)))


class OperationCounts(NamedTuple):
    """What a function computes.

    Parameters
    ----------
    once : Work
        Everything outside loops of unknown length.
    loop : Work
        One iteration of all loops of unknown length together.
    equations : int
        Number of operations as written, inner ones included: the size of the program for the compiler.
    """

    once: Work
    loop: Work
    equations: int


def count_operations(function: ClosedJaxpr | Jaxpr) -> OperationCounts:
    """Count the operations of a traced function.

    Parameters
    ----------
    function : jax.extend.core.ClosedJaxpr or Jaxpr
        Such as ``jax.make_jaxpr(function)(*arguments)``. Of several branches the one with the most work counts.

    Returns
    -------
    OperationCounts
        The work and the size of the program.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxephys.engine.operations import count_operations
    >>> def power(x, n):
    ...     return jax.lax.fori_loop(0, n, lambda _, y: y @ x, x)
    >>> counts = count_operations(jax.make_jaxpr(power)(jnp.ones((10, 10)), 3))
    >>> counts.loop.flops, counts.once.flops
    (2000.0, 0.0)
    """
    jaxpr = function.jaxpr if isinstance(function, ClosedJaxpr) else function
    once, loop, equations = Work(), Work(), 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        inner = [] if name.startswith(WITH_SCALAR_FUNCTION) else list(map(count_operations, _inner_functions(equation)))
        equations += 1 + sum(counts.equations for counts in inner)
        if not inner:
            once = once.plus(_work(equation))
        elif name == "while":
            for counts in inner:
                loop = loop.plus(counts.once).plus(counts.loop)
        elif name == "cond":
            most = max(inner, key=lambda counts: counts.once.plus(counts.loop))
            once, loop = once.plus(most.once), loop.plus(most.loop)
        else:
            times = float(equation.params["length"]) if name == "scan" else 1.0
            for counts in inner:
                once, loop = once.plus(counts.once, times), loop.plus(counts.loop, times)
    return OperationCounts(once, loop, equations)


def _inner_functions(equation: JaxprEqn) -> Iterator[ClosedJaxpr | Jaxpr]:
    """The functions that an operation calls: the body of a loop, the branches of a condition, or the function under jit."""
    for value in equation.params.values():
        parts = value if isinstance(value, tuple | list) else (value,)
        yield from (part for part in parts if isinstance(part, ClosedJaxpr | Jaxpr))


def _work(equation: JaxprEqn) -> Work:
    """The work of an operation without inner operations."""
    name = equation.primitive.name
    if name in FREE:
        return Work()
    written = float(sum(_size(out) * _itemsize(out) for out in equation.outvars))
    flops = _product_flops(equation) if name in PRODUCTS else 0.0
    functions = float(sum(map(_size, equation.outvars))) if name in FUNCTIONS else 0.0
    return Work(flops, written, functions, 1.0)


def _product_flops(equation: JaxprEqn) -> float:
    """Two for each multiplication: the size of the result times the number of terms of each of its elements."""
    left, right = (np.array(_shape(variable), float) for variable in equation.invars)
    if equation.primitive.name == "dot_general":
        terms = left[list(equation.params["dimension_numbers"][0][0])]
    else:
        terms = right[list(equation.params["dimension_numbers"].rhs_spec[1:])]
    return 2.0 * _size(equation.outvars[0]) * float(np.prod(terms))


def _shape(variable: Var | Literal) -> tuple[int, ...]:
    return getattr(variable.aval, "shape", ())


def _size(variable: Var | Literal) -> int:
    return int(np.prod(_shape(variable), dtype=np.int64))


def _itemsize(variable: Var | Literal) -> int:
    return getattr(getattr(variable.aval, "dtype", None), "itemsize", 4)  # random keys have no such size
