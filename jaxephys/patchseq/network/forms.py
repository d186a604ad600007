"""The form of a network's operations: which of two equal ways to compute the encoder, and the type of activations.

`choose_form` is the one place where the form of a platform is chosen. The reasons are the counts of the programs as compiled, for
batches of 64 cells at the published family widths:

- CPU, runs one after the other: `jaxephys.patchseq.network.lstm`, in float32. A product with transposed operands takes twice the time
  there, so they are written to memory.
- GPU (H100 target), stacked runs: `jaxephys.patchseq.network.stacked`. A step of 10 runs moves 1.25 GB in 132 kernels instead of 1.63 GB
  in 138 with the published encoder, and 1.18 GB in 138 instead of 1.63 GB in 198 with ours; in bfloat16 it is 0.87 and 0.72 GB.
- TPU: the form of the GPU, because it has no transposed or joined copies of activations either.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ComputeForm:
    """How a network computes. Parameters are the same in all forms, and results are equal up to rounding.

    Parameters
    ----------
    stacked : bool, default False
        Compute the encoder by `jaxephys.patchseq.network.stacked`, which suits many runs side by side on an accelerator.
    dtype : {"float32", "bfloat16"}, default "float32"
        Type of products and activations of the stacked form and of tabular networks. Parameters, statistics of layer normalization, the cell state of the LSTM, softmax and logits are
        float32 with both.
    """

    stacked: bool = False
    dtype: str = "float32"


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
