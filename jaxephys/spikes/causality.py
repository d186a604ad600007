"""A test whether outputs depend on future bins, for any function from bins to logits as it is compiled.

Two conditions are checked at several bins t. Replacing all bins after t must leave every output up to t unchanged to the
last bit, and the gradient of the outputs at t with respect to bins after t must be exactly 0. A gradient with respect to
bins up to t must exist, or nothing was tested. Start with :func:`check_causality`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray
from jaxephys.engine.devices import jit_local

Apply = Callable[[Array], Array]  # bins (bins, units) -> logits (bins, units); row t belongs to bin t + 1
N_TESTS = 6  # bins t that are tested


class CausalityReport(NamedTuple):
    """Result of the test, the largest values over the tested bins. The first two are 0 for a causal model.

    Parameters
    ----------
    output_change : float
        Change of an output up to t when bins after t are replaced.
    future_gradient : float
        Gradient of an output at t with respect to a bin after t.
    reach : int
        Number of bins up to t, counted back from t, that outputs at t depend on.
    tested_bins : tuple of int
        The bins t.
    """

    output_change: float
    future_gradient: float
    reach: int
    tested_bins: tuple[int, ...]

    @property
    def causal(self) -> bool:
        """Whether no output depends on a later bin."""
        return self.output_change == 0 and self.future_gradient == 0

    def __str__(self) -> str:
        result = "causal"
        if not self.causal:
            result = f"NOT causal (outputs change by {self.output_change:.2g}, gradient {self.future_gradient:.2g})"
        return f"causality test at {len(self.tested_bins)} bins: {result}; outputs depend on up to {self.reach} bins before them"


def measure_causality(apply: Apply, spikes: Float[AnyArray, "time unit"]) -> CausalityReport:
    """Test at a few bins how outputs depend on later bins, without judging the result.

    Parameters
    ----------
    apply : callable
        Maps bins of shape (bins, units) to logits of the same number of rows; row t must depend on bins up to t only.
    spikes : float array of shape (bins, units)
        Zeros and ones, two bins or more.

    Returns
    -------
    CausalityReport
        What was measured.

    Raises
    ------
    ValueError
        If there are fewer than two bins, or the outputs are not finite.
    """
    rng = np.random.default_rng(0)
    spikes = np.asarray(spikes, np.float32)
    length = len(spikes)
    if length < 2:
        raise ValueError(f"the causality test has {length} bin: give a window of at least 2")
    tested = np.sort(rng.choice(length - 1, size=min(N_TESTS, length - 1), replace=False))
    shape = jax.eval_shape(apply, jnp.asarray(spikes)).shape[1:]
    weight = jnp.asarray(rng.normal(size=shape), jnp.float32)

    @jit_local
    def outputs_and_gradient(bins: Array, t: Array) -> tuple[Array, Array]:
        outputs, pull = jax.vjp(apply, bins)
        return outputs, pull(jnp.zeros_like(outputs).at[t].set(weight))[0]

    outputs = np.asarray(outputs_and_gradient(jnp.asarray(spikes), jnp.int32(0))[0])

    output_change, future_gradient, reach = 0.0, 0.0, 0
    for t in tested:
        replaced = spikes.copy()
        replaced[t + 1 :] = rng.random(replaced[t + 1 :].shape) < 0.5
        other_outputs, _ = outputs_and_gradient(jnp.asarray(replaced), jnp.int32(t))
        with np.errstate(invalid="ignore"):
            change = np.abs(np.asarray(other_outputs)[: t + 1] - outputs[: t + 1])
        gradient = np.abs(np.asarray(outputs_and_gradient(jnp.asarray(spikes), jnp.int32(t))[1]))
        if not (np.isfinite(change).all() and np.isfinite(gradient).all()):
            raise ValueError(
                f"outputs or gradients of the causality test at bin {t} are not finite: the model has diverged"
            )
        output_change = max(output_change, float(change.max()))
        future_gradient = max(future_gradient, float(gradient[t + 1 :].max()))
        used = np.flatnonzero(gradient[: t + 1].any(axis=1))
        reach = max(reach, int(t - used[0] + 1) if len(used) else 0)
    return CausalityReport(output_change, future_gradient, reach, tuple(tested.tolist()))


def check_causality(apply: Apply, spikes: Float[AnyArray, "time unit"]) -> CausalityReport:
    """Test a model that must be causal.

    Parameters
    ----------
    apply : callable
        Maps bins of shape (bins, units) to logits of the same number of rows; row t must depend on bins up to t only.
    spikes : float array of shape (bins, units)
        Zeros and ones, two bins or more.

    Returns
    -------
    CausalityReport
        Report of a causal model.

    Raises
    ------
    ValueError
        If an output depends on a later bin, or if no output depends on any bin.
    """
    report = measure_causality(apply, spikes)
    if not report.causal:
        raise ValueError(
            f"the model uses future bins: replacing bins after t changes outputs up to t by {report.output_change:.3g}, and "
            f"the gradient is {report.future_gradient:.3g}; use a causal model, or call its result a reconstruction"
        )
    if report.reach == 0:
        raise ValueError("no output has a gradient to any bin: the causality test needs a model that reads its input")
    return report
