"""The leak test: does an output know of bins that come after it? For any function from bins to logits, as compiled.

Two proofs, at several times t. Other bins after t must leave every output up to t as it is, to the last bit; and the
gradient of the outputs at t to bins after t must be 0, exactly. A gradient to the bins up to t must exist, or nothing was
tested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray

Apply = Callable[[Array], Array]  # bins [time, unit] -> logits [time, unit], each of what follows its bin


class Leak(NamedTuple):
    """What was found, the largest over the times tried. A causal model has zeros in the first two."""

    moved: float  # an output up to t, when bins after t change
    gradient: float  # of an output at t to a bin after t
    reach: int  # bins before t with a gradient, the most
    times: tuple[int, ...]

    @property
    def causal(self) -> bool:
        return self.moved == 0 and self.gradient == 0

    def __str__(self) -> str:
        said = "causal" if self.causal else f"it LEAKS (outputs move by {self.moved:.2g}, gradient {self.gradient:.2g})"
        return f"leak test at {len(self.times)} times: {said}; outputs depend on up to {self.reach} bins before them"


def measure_leak(apply: Apply, spikes: Float[AnyArray, "time unit"], *, times: int = 6, seed: int = 0) -> Leak:
    """Try random times t, with random bins in place of those after t."""
    rng = np.random.default_rng(seed)
    spikes = np.asarray(spikes, np.float32)
    length = len(spikes)
    if length < 2:
        raise ValueError(f"the leak test has {length} bin: give a window of at least 2")
    tried = np.sort(rng.choice(length - 1, size=min(times, length - 1), replace=False))
    outputs = np.asarray(apply(jnp.asarray(spikes)))
    weight = jnp.asarray(rng.normal(size=outputs.shape[1:]), jnp.float32)

    @jax.jit
    @jax.grad
    def gradient_at(bins: Array, t: Array) -> Array:
        return jnp.sum(apply(bins)[t] * weight)

    moved, slope, reach = 0.0, 0.0, 0
    for t in tried:
        others = spikes.copy()
        others[t + 1 :] = rng.random(others[t + 1 :].shape) < 0.5
        change = np.abs(np.asarray(apply(jnp.asarray(others)))[: t + 1] - outputs[: t + 1])
        gradient = np.abs(np.asarray(gradient_at(jnp.asarray(spikes), jnp.int32(t))))
        if not (np.isfinite(change).all() and np.isfinite(gradient).all()):
            raise ValueError(f"the leak test at bin {t} gave numbers that are not finite: the model has diverged")
        moved, slope = max(moved, float(change.max())), max(slope, float(gradient[t + 1 :].max()))
        felt = np.flatnonzero(gradient[: t + 1].any(axis=1))
        reach = max(reach, int(t - felt[0] + 1) if len(felt) else 0)
    return Leak(moved, slope, reach, tuple(tried.tolist()))


def check_causal(apply: Apply, spikes: Float[AnyArray, "time unit"], *, times: int = 6, seed: int = 0) -> Leak:
    """The report of a model that passes; an error for one that does not, or that reads no bin at all."""
    found = measure_leak(apply, spikes, times=times, seed=seed)
    if not found.causal:
        raise ValueError(
            f"the model knows the future: bins after t move outputs up to t by {found.moved:.3g} and have a gradient of "
            f"{found.gradient:.3g}; use a causal one, or call its result a reconstruction"
        )
    if found.reach == 0:
        raise ValueError("no output has a gradient to any bin: the leak test says nothing of a model that reads none")
    return found
