"""The form of a network's operations: which of two equal ways to compute the encoder, the type of activations, and unrolled scans.

`choose_form` and `choose_unroll` are the one place where the form of a platform and of a number of families is chosen. The reasons are
the counts of the programs as compiled and times, for batches of 64 cells at the published family widths:

- CPU, runs one after the other: the plain form, in float32. A product with transposed operands takes twice the time there, so they are
  written to memory.
- GPU (H100 target), stacked runs: the stacked form.
- TPU: the form of the GPU, because it has no transposed or joined copies of activations either.

The recurrence alone, forward and backward, with 12 families and 128 units; on a CPU the whole published network:

=============================  ==========================  =============================  ======================
form of the scan               H100 target, 100 runs       CPU, one run, shortest time    CPU time of compilation
=============================  ==========================  =============================  ======================
unrolled, gradient by hand     61 kernels, 5.4 GiB         29.5 ms                        3.7 s
unrolled, automatic gradient   77 kernels, 7.7 GiB         as by hand to 8 % more         3.0 s
loop, gradient by hand         181 kernels, 8.9 GiB        26.3 ms                        1.7 s
loop, automatic gradient                                   18 % more than by hand         1.3 s
=============================  ==========================  =============================  ======================

A CPU prefers the loop by a tenth, but rounds its gradients differently; the unrolled scan reproduces earlier results of the published
encoder to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from jax.lax import optimization_barrier

Arrays = TypeVar("Arrays")
MAX_UNROLLED = 16  # steps of a scan that are written out one after the other
LOOP_UNROLL = 4  # steps of an iteration where there are more


@dataclass(frozen=True)
class ComputeForm:
    """How a network computes. Parameters are the same in all forms, and results are equal up to rounding.

    Parameters
    ----------
    stacked : bool, default False
        Keep the states of both directions apart, each in its own order, as it suits many runs side by side on an accelerator; see
        `jaxephys.patchseq.network.stacked`.
    dtype : {"float32", "bfloat16"}, default "float32"
        Type of products and activations of the stacked form and of tabular networks. Parameters, statistics of layer normalization,
        the cell state of the LSTM, softmax and logits are float32 with both.
    """

    stacked: bool = False
    dtype: str = "float32"

    def separate(self, arrays: Arrays) -> Arrays:
        """Keep the compiler from merging the computation of arrays with what reads them, in the stacked form only.

        Parameters
        ----------
        arrays : tree of arrays
            Results that several operations read. Merged with each of them, they would be computed as often.

        Returns
        -------
        tree of arrays
            The same arrays.
        """
        return optimization_barrier(arrays) if self.stacked else arrays


DEFAULT_FORM = ComputeForm()


def choose_form(platform: str, precision: str) -> ComputeForm:
    """Return the form that suits a platform.

    Parameters
    ----------
    platform : {"cpu", "gpu", "tpu"}
        Kind of the devices.
    precision : {"float32", "tf32", "bfloat16"}
        Precision of products and, for ``"bfloat16"``, of activations.

    Returns
    -------
    ComputeForm
        The form.
    """
    if precision == "bfloat16":
        return ComputeForm(stacked=True, dtype="bfloat16")  # the other form is in float32
    return ComputeForm(stacked=platform != "cpu")


def choose_unroll(n_families: int) -> int:
    """Return how many steps of a scan over families are written out in each iteration.

    Parameters
    ----------
    n_families : int
        Number of steps.

    Returns
    -------
    int
        All of them up to `MAX_UNROLLED`, so that no loop is left. Beyond, `LOOP_UNROLL`, so that the size of the program does not
        depend on the number of families.
    """
    return n_families if n_families <= MAX_UNROLLED else LOOP_UNROLL
