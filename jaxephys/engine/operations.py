"""Count the arithmetic of a training before it is compiled, from the operations that JAX records when it traces a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

# Operations without arithmetic that the compiler merges with others.
FREE = {"reshape", "squeeze", "expand_dims", "broadcast_in_dim", "convert_element_type", "stop_gradient", "copy", "iota"}
EXPENSIVE = {"exp", "exp2", "expm1", "log", "log1p", "tanh", "logistic", "erf", "erf_inv", "erfc", "sin", "cos", "pow"}
RANDOM = {"threefry2x32", "random_bits", "random_wrap", "random_unwrap", "random_fold_in", "random_split", "random_seed"}


class Work(NamedTuple):
    flops: float = 0.0
    bytes: float = 0.0
    operations: float = 0.0
    expensive: float = 0.0
    random: float = 0.0
    moved: float = 0.0
    gathered: float = 0.0
    reduced: float = 0.0
    conv: float = 0.0

    def plus(self, other, times=1.0):
        return Work(*(a + times * b for a, b in zip(self, other, strict=True)))


class Counts(NamedTuple):
    once: Work
    loop: Work
    equations: int


def inner(eqn: JaxprEqn) -> Iterator[Any]:
    for value in eqn.params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, Jaxpr):
                yield part


def size(variable) -> int:
    return int(np.prod(getattr(variable.aval, "shape", ()), dtype=np.int64))


def nbytes(variable) -> float:
    dtype = getattr(variable.aval, "dtype", None)
    return size(variable) * (getattr(dtype, "itemsize", 4) or 4)


def product_flops(eqn) -> float:
    (lhs, rhs), (out,) = (v.aval for v in eqn.invars), eqn.outvars
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2.0 * size(out) * np.prod([lhs.shape[i] for i in contracted], dtype=float)
    spec = eqn.params["dimension_numbers"].rhs_spec
    return 2.0 * size(out) * np.prod([rhs.shape[i] for i in spec[1:]], dtype=float)


def count(jaxpr: Jaxpr) -> Counts:
    once, loop, equations = Work(), Work(), 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        equations += 1
        if name == "while":
            body = count(eqn.params["body_jaxpr"].jaxpr)
            cond = count(eqn.params["cond_jaxpr"].jaxpr)
            loop = loop.plus(body.once).plus(body.loop)
            equations += body.equations + cond.equations
        elif name == "scan":
            body = count(eqn.params["jaxpr"].jaxpr)
            once = once.plus(body.once, eqn.params["length"])
            loop = loop.plus(body.loop, eqn.params["length"])
            equations += body.equations
        elif name == "cond":
            branches = [count(b.jaxpr) for b in eqn.params["branches"]]
            most = max(branches, key=lambda b: b.once.plus(b.loop).flops + b.once.bytes)
            once, loop = once.plus(most.once), loop.plus(most.loop)
            equations += sum(b.equations for b in branches)
        elif name in ("dot_general", "conv_general_dilated"):
            f = product_flops(eqn)
            w = Work(flops=f, bytes=nbytes(eqn.outvars[0]), operations=1, conv=f if name != "dot_general" else 0)
            once = once.plus(w)
        elif parts := list(inner(eqn)):
            # reductions and scatters carry a small jaxpr of their own
            if name.startswith(("scatter", "reduce", "select_and")) :
                out = sum(map(nbytes, eqn.outvars))
                once = once.plus(Work(bytes=out, operations=1, gathered=sum(map(nbytes, eqn.invars[1:]))))
                continue
            for part in parts:
                c = count(part)
                once, loop, equations = once.plus(c.once), loop.plus(c.loop), equations + c.equations
        elif name not in FREE:
            out = sum(map(nbytes, eqn.outvars))
            w = Work(bytes=out, operations=1)
            if name in EXPENSIVE: w = w._replace(expensive=out)
            elif name in RANDOM: w = w._replace(random=out)
            elif name in ("transpose", "concatenate", "pad", "slice", "dynamic_slice", "dynamic_update_slice", "rev"): w = w._replace(moved=out)
            elif name in ("gather", "sort"): w = w._replace(gathered=out)
            elif name.startswith("reduce") or name.startswith("cum") or name.startswith("arg"): w = w._replace(reduced=sum(nbytes(v) for v in eqn.invars if hasattr(v, "aval")))
            once = once.plus(w)
    return Counts(once, loop, equations)
