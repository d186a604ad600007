"""The form in which spike networks are computed on each kind of device, with the reasons: the only choice of this kind.

**Attention.** On a CPU blocks of one window after the other, because those of several windows do not fit into the cache. On a GPU the flash
attention of cuDNN, whose products are bfloat16 and whose softmax is float32; widths of heads are filled up to a multiple of 8. It has neither
float32 nor dropout of weights: where either is required, and on a TPU, blocks of all windows and runs are computed at once. For the published layer (12 runs, 16 windows of 3,125 bins, 16 heads of 8; compiled for an H100), attention
moves 4.7 GiB a step with cuDNN and about 1,600 GiB in blocks. Heads padded to 16 and 64 move 7.5 and 24.7 GiB with cuDNN; ``"pallas"``, whose
products are 16 wide, moves 8.2 GiB. It may be faster all the same, because products and not bytes limit heads of 8, but has not been timed.

**Activations.** bfloat16 with the precision ``"bfloat16"``, float32 otherwise. bfloat16 reduces the bytes of a training step of 12 runs from 27.8 to
18.0 GiB (published layer) and from 13.6 to 8.7 GiB (population network).

**Sums by index** (gradients of gathered rows, histograms). On a CPU a scatter, which adds one value after the other. Elsewhere a scatter is parallel:
its order, and hence rounding, differs from call to call, and entries of equal index wait for each other. Products with one-hot matrices and counts
of sorted numbers do not.

Start with :func:`network_for_backend`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax

from jaxephys.engine import devices
from jaxephys.engine.task import Backend
from jaxephys.spikes.network import ComputeForm, SpikeNetwork

KERNELS = {"cpu": "sequential", "gpu": "cudnn", "tpu": "blocked"}


def form_for_backend(backend: Backend) -> ComputeForm:
    """Return the form that suits a backend.

    Parameters
    ----------
    backend : Backend
        What programs are compiled for.

    Returns
    -------
    ComputeForm
        Attention kernel, type of activations, and whether sums may be scattered.
    """
    kernel = KERNELS.get(backend.platform, "blocked")
    if kernel != "sequential" and backend.precision == "float32":
        kernel = "blocked"
    dtype = "bfloat16" if backend.precision == "bfloat16" else "float32"
    return ComputeForm(kernel, dtype, scatter=backend.platform == "cpu")


def network_for_backend(network: Any, backend: Backend) -> Any:
    """Return a network with its operations in the form that suits a backend. Variables fit both.

    Parameters
    ----------
    network : SpikeNetwork
        A network, or a module with the field ``network`` that contains one, such as `AlteredAttention`.
    backend : Backend
        What programs are compiled for.

    Returns
    -------
    SpikeNetwork
        The same network.
    """
    if hasattr(network, "network"):
        return replace(network, network=network_for_backend(network.network, backend))
    return replace(network, form=form_for_backend(backend)) if hasattr(network, "form") else network


def local_backend() -> Backend:
    """Return the backend of the first device of this process, on which fitted networks are evaluated.

    Returns
    -------
    Backend
        With the precision that the engine chooses for the device.
    """
    return devices.choose_backend(jax.local_devices()[0])


def local_network(network: SpikeNetwork) -> SpikeNetwork:
    """Return a network in the form that suits the first device of this process.

    Parameters
    ----------
    network : SpikeNetwork
        The network.

    Returns
    -------
    SpikeNetwork
        The same network.
    """
    return network_for_backend(network, local_backend())
