"""The training task of HIPPIE: network, data and losses as the five functions that the engine trains.

    published   sum_m mean-squared error_m + beta KL + warm_up 0.15 sum_m |x_m(class) - x_m(no class)|^2
    ours        - log-likelihood + beta sum_d max(KL_d, free_bits) + contrast

Our objective encodes augmented curves, some of them masked, and reconstructs the whole unit as it was measured: augmentation
is not worth a latent dimension, and a missing curve, like an unknown technology, is a case that the network is trained for. The noise
variance of each modality is the running mean of its squared error, which maximizes its likelihood: one for curves that the encoder
received and one for masked curves, so that poor predictions of masked curves do not excuse poor reconstructions.

A run receives only the labels of its training rows; no other label is on the device, and the encoder receives none.

Validation is not augmented, draws no noise and receives no label, unless ``noisy_validation`` requests what the original does. A missing
curve does not count in the error, unless `fill_missing` has replaced it by the constant of the original.

Deviations of the published objective: the second pass of the consistency term decodes another sample of the same posterior, where the
original encodes once more, and does not update the averages of the batch statistics again.

Start with `HippieTask`; `make_data` and `make_run_inputs` build what it is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.compile_cache import memoize, padded_length
from jaxephys.engine.devices import use_all_cores
from jaxephys.engine.fit import take_runs
from jaxephys.engine.rows import map_row_blocks, pad_rows, plain_rows, stack_inputs
from jaxephys.engine.task import Backend, Key, PyTree, RowSet, RunInputs, Task, Variables
from jaxephys.evaluation.splits import Split
from jaxephys.hippie import losses
from jaxephys.hippie.augmentation import STRENGTHS, AugmentationStrength, augment
from jaxephys.hippie.network.cvae import ABSENT, ConditionalVAE, Conditions, VAEOutput
from jaxephys.hippie.network.initialization import initialize_variables
from jaxephys.hippie.network.published_layout import from_published
from jaxephys.hippie.preprocessing import DEFAULT, Preparation, prepare
from jaxephys.schemas.unit_table import UnitTable

BLOCK = 256  # units that are computed at a time on a CPU, and that are validated at a time
LARGE_BLOCK = 8192  # on accelerators, which 256 units leave idle
SMALL_TABLE, MIN_ROWS = (
    256,
    32,
)  # smallest tables of training, and of validation, embedding and decoding; smaller ones are padded
WARM_UP_STEPS = 50  # of the learning rate, see `warm_up_steps`
MOMENTUM = 0.1  # of the running squared error
MIN_VARIANCE = 1e-4  # of the noise: no curve is measured more precisely
CPU = Backend("cpu", "map", "float32")
MASKED, VISIBLE = 0, 1  # rows of the running squared error


@dataclass(frozen=True)
class Objective:
    """An objective. Runs with different objectives train in one program.

    Parameters
    ----------
    likelihood : bool
        Gaussian likelihood of the curves; False for the published mean squared error.
    beta : float
        Weight of the KL divergence.
    free_bits : float
        KL divergence of a latent dimension that has no cost, in nats.
    mask_probability : float
        Probability that a curve of a training unit, or its technology, is masked. One curve is always kept.
    clean_target : bool
        Reconstruct the curve as measured; False: as augmented.
    augmentation : {"off", "light", "strong"}
        Strength of the augmentation.
    conditioned : bool
        The decoder receives the class of training rows.
    consistency : float
        Weight of the squared difference between reconstructions with and without the class.
    warm_up : float
        Epochs until the consistency term has its full weight.
    contrast : float
        Weight of the supervised contrastive loss on labels of training rows.
    latent : int
        Number of latent dimensions that are used; 0 for all of the network's.

    Raises
    ------
    ValueError
        If ``augmentation`` is unknown or ``mask_probability`` is not in [0, 1).
    """

    likelihood: bool = True
    beta: float = 1.0
    free_bits: float = 0.5
    mask_probability: float = 0.3
    clean_target: bool = True
    augmentation: str = "light"
    conditioned: bool = False
    consistency: float = 0.0
    warm_up: float = 0.0
    contrast: float = 0.0
    latent: int = 0

    def __post_init__(self) -> None:
        if self.augmentation not in STRENGTHS:
            raise ValueError(f"augmentation {self.augmentation!r} is unknown: choose one of {', '.join(STRENGTHS)}")
        if not 0 <= self.mask_probability < 1:
            raise ValueError(
                f"mask_probability is {self.mask_probability}: give the share of masked curves, from 0 to below 1"
            )


OURS = Objective()
PUBLISHED = Objective(
    likelihood=False,
    free_bits=0.0,
    mask_probability=0.0,
    clean_target=False,
    conditioned=True,
    consistency=0.15,
    warm_up=5.0,
)
GENERATIVE = Objective(  # of the published generative model, which imputes curves and has no class
    likelihood=False,
    beta=0.1,
    free_bits=0.5,
    mask_probability=0.0,
    clean_target=False,
    augmentation="off",
)
OBJECTIVES = {"ours": OURS, "published": PUBLISHED, "generative": GENERATIVE}
_NO_CLASS = replace(PUBLISHED, conditioned=False, consistency=0.0)
_LIKELIHOOD = replace(_NO_CLASS, likelihood=True)
_FREE_BITS = replace(_LIKELIHOOD, free_bits=OURS.free_bits)
ABLATION = {  # from the published objective to ours, one change at a time, and two changes of ours
    "published": PUBLISHED,
    "no class": _NO_CLASS,
    "likelihood": _LIKELIHOOD,
    "free bits": _FREE_BITS,
    "clean target": replace(_FREE_BITS, clean_target=True),
    "masking": OURS,
    "no augmentation": replace(OURS, augmentation="off"),
    "contrast": replace(OURS, contrast=10.0),
}

SWEEPS = {  # objective, latent sizes, and values of beta that are crossed; the published sweep has 42 settings
    "sweep": (OURS, (5, 10, 20, 30), (0.25, 1.0, 4.0)),
    "published sweep": (PUBLISHED, (3, 9, 15, 30, 45, 60), (0.1, 0.5, 0.8, 1.0, 1.5, 2.0, 4.0)),
}


def sweep_objectives(name: str, largest: int) -> dict[str, Objective]:
    """Return objectives with all combinations of latent size and weight of the KL divergence.

    Parameters
    ----------
    name : {"sweep", "published sweep"}
        Our objective in a few combinations, or the published objective in the published ones.
    largest : int
        Latent size of the network; larger sizes are left out.

    Returns
    -------
    dict of Objective
        Objectives by name.

    Examples
    --------
    >>> objectives = sweep_objectives("published sweep", 60)
    >>> len(objectives), objectives["z 45, beta 0.5"].latent
    (42, 45)
    """
    objective, sizes, betas = SWEEPS[name]
    return {
        f"z {size}, beta {beta}": replace(objective, latent=size, beta=beta)
        for size in sizes
        if size <= largest
        for beta in betas
    }


class ObjectiveArrays(NamedTuple):
    """The numbers of an `Objective` as arrays of a run.

    Parameters
    ----------
    likelihood : bool array (run,)
        Gaussian likelihood instead of the mean squared error.
    beta : array (run,)
        Weight of the KL divergence.
    free_bits : array (run,)
        KL divergence of a dimension without cost, in nats.
    mask_probability : array (run,)
        Probability that a curve, or the technology, is masked.
    clean_target : bool array (run,)
        Reconstruct the curve as measured.
    conditioned : bool array (run,)
        The decoder receives the class.
    consistency : array (run,)
        Weight of the consistency term.
    warm_up : array (run,)
        Epochs until the consistency term has its full weight.
    contrast : array (run,)
        Weight of the contrastive loss.
    latent : array (run,)
        Number of used latent dimensions; 0 for all.
    """

    likelihood: Bool[AnyArray, "*run"]
    beta: Float[AnyArray, "*run"]
    free_bits: Float[AnyArray, "*run"]
    mask_probability: Float[AnyArray, "*run"]
    clean_target: Bool[AnyArray, "*run"]
    conditioned: Bool[AnyArray, "*run"]
    consistency: Float[AnyArray, "*run"]
    warm_up: Float[AnyArray, "*run"]
    contrast: Float[AnyArray, "*run"]
    latent: Float[AnyArray, "*run"]


class UnitArrays(NamedTuple):
    """The data that all runs share. They contain no labels.

    Parameters
    ----------
    curves : dict of arrays (n_units, length)
        Curves by modality, scaled to [-1, 1].
    present : bool array (n_units, n_modalities)
        Which curves each unit has.
    source : int array (n_units,)
        Technology; -1 if unknown.
    """

    curves: dict[str, Float[AnyArray, "cell _"]]
    present: Bool[AnyArray, "cell modality"]
    source: Int[AnyArray, "cell"]


class RunConstants(NamedTuple):
    """Constants of each run besides its rows and seed.

    Parameters
    ----------
    objective : ObjectiveArrays
        Objective of the run.
    augmentation : AugmentationStrength
        Strength of its augmentation.
    label : int array (run, n_units)
        Class of the training rows; -1 for all other units.
    steps : array (run,)
        Number of steps of an epoch.
    """

    objective: ObjectiveArrays
    augmentation: AugmentationStrength
    label: Int[AnyArray, "*run cell"]
    steps: Float[AnyArray, "*run"]


class UnitBatch(NamedTuple):
    """The rows of one step.

    Parameters
    ----------
    curves : dict of arrays (row, length)
        Input of the encoder.
    visible : bool array (row, modality)
        Which curves the encoder receives.
    targets : dict of arrays (row, length)
        What is to be reconstructed.
    present : bool array (row, modality)
        Which curves exist; only they count in the error.
    source : int array (row,)
        Technology; -1 if unknown or masked.
    label : int array (row,)
        Class; -1 if unknown.
    weight : array (row,)
        0 for padding.
    constants : RunConstants or ()
        Constants of the run; () where nothing is trained or scored.
    """

    curves: dict[str, Float[AnyArray, "row _"]]
    visible: Bool[AnyArray, "row modality"]
    targets: dict[str, Float[AnyArray, "row _"]]
    present: Bool[AnyArray, "row modality"]
    source: Int[AnyArray, "row"]
    label: Int[AnyArray, "row"]
    weight: Float[AnyArray, "row"]
    constants: Any


class Embedding(NamedTuple):
    """The posterior of units in the latent space of a run.

    Parameters
    ----------
    mu : array (run, row, latent)
        Mean; the embedding.
    log_var : array (run, row, latent)
        Logarithm of the variance.
    """

    mu: Float[AnyArray, "*run row latent"]
    log_var: Float[AnyArray, "*run row latent"]


def make_task(
    network: ConditionalVAE, objectives: Sequence[Objective] | None = None, *, noisy_validation: bool = False
) -> Task:
    """Return the task of a network for the engine.

    Parameters
    ----------
    network : ConditionalVAE
        The network. Equal networks share one task, so that their programs are compiled once.
    objectives : sequence of Objective, optional
        Objectives of the runs that are trained. If none of them has a consistency term, the reconstruction without the class is left
        out, which is half of the decoder's work. If all of them have the likelihood of the curves, biases whose gradient is zero but
        for rounding are not trained (see `jaxephys.hippie.network.resnet1d.ComputeForm`); with a published squared error they are.
    noisy_validation : bool
        Compute the validation loss from augmented curves, a sample of the latent and the class, as in training.

    Returns
    -------
    Task
        The methods of `HippieTask`.
    """
    consistency = objectives is None or any(objective.consistency > 0 for objective in objectives)
    ours = objectives is not None and all(objective.likelihood for objective in objectives)
    form = network.form._replace(frozen_biases=network.form.frozen_biases or ours)
    return _make_task(network.clone(form=form), consistency, noisy_validation)


@memoize
def _make_task(
    network: ConditionalVAE, consistency: bool, noisy_validation: bool = False, backend: Backend = CPU
) -> Task:
    task = HippieTask(network, consistency, noisy_validation, backend)
    searchable = ("beta", "free_bits", "mask_probability", "contrast") + ("consistency",) * consistency
    functions = (task.init, task.gather, task.loss, task.outputs, task.validate, task.upgrade, task.for_backend)
    return Task(*functions, searchable=searchable)


def warm_up_steps(network: ConditionalVAE, objectives: Sequence[Objective], n_steps: int) -> int:
    """Return the number of steps over which the learning rate rises at the start of training.

    Parameters
    ----------
    network : ConditionalVAE
        The network.
    objectives : sequence of Objective
        Objectives of the runs.
    n_steps : int
        Largest number of steps of a run. The learning rate rises during a quarter of them at most.

    Returns
    -------
    int
        0 for the dense networks and where an objective has the published squared error, whose learning rate is constant.

    Notes
    -----
    Adam divides the first gradients by their size, so that entries that are hardly more than rounding move as far as any other, and
    batch normalization amplifies the differences. The training losses of the same run in a stack and alone differ by 1e-7, 1e-4, 8e-4,
    2e-3 and 5e-3 of their value in the first five steps without a rise, and by 1e-7, 1e-7, 1e-6, 6e-6 and 1e-5 with it.
    """
    ours = all(objective.likelihood for objective in objectives)
    return min(WARM_UP_STEPS, n_steps // 4) if ours and network.trunk == "resnet" else 0


def network_for_backend(network: ConditionalVAE, backend: Backend, *, training: bool) -> ConditionalVAE:
    """Return a network with the operations that suit a backend.

    Parameters
    ----------
    network : ConditionalVAE
        The network.
    backend : Backend
        What the programs are compiled for.
    training : bool
        Whether gradients are computed.

    Returns
    -------
    ConditionalVAE
        The same network with other `~jaxephys.hippie.network.resnet1d.ComputeForm`.

    Notes
    -----
    On two CPU cores, a training step of a network of width 16 takes 0.2 s with "columns", 0.5 s with "tiles" and 2.5 s with "plain"; statistics
    in one pass take 1.4 times as long as in two. 256 units are embedded in 232 ms ("columns"), 264 ms ("plain") or 266 ms ("tiles").

    On accelerators, "plain" is the best choice without gradients: on an H100, a block of 8,192 units is embedded by 132 kernels that move
    22 GB, instead of 170 kernels and 38 GB ("tiles"), in float32 at width 64; with 10 stacked networks the proportion is the same. Kernels and
    bytes (operands and results of all kernels) of a training step of 25 stacked networks of width 16, batch size 128, published objective,
    compiled for an H100:

    ==================================================  =======  ====  ==============
    convolution, statistics, precision                  kernels  GB    compile, CPU s
    ==================================================  =======  ====  ==============
    columns, two passes, float32                        1,102    47    62
    shifted, two passes, float32                        1,325    56    39
    plain (grouped convolutions), two passes, float32   1,140    54    74
    columns, one pass, float32                          933      44    51
    plain (grouped convolutions), one pass, float32     1,036    33    73
    tiles, one pass, float32                            916      34    35
    tiles, one pass, bfloat16                           851      18
    ==================================================  =======  ====  ==============

    Rounding is amplified by this network: at its initial weights the gradient of a batch of 48 units changes by 1e-5 of its norm in float32,
    and by three quarters of its norm in bfloat16. Networks of width 4 learned as well in either.
    """
    on_cpu = backend.platform == "cpu"
    convolution = "columns" if on_cpu else "tiles" if training else "plain"
    dtype = "bfloat16" if backend.precision == "bfloat16" else "float32"
    form = network.form._replace(convolution=convolution, one_pass=not on_cpu, dtype=dtype)
    return network.clone(form=form)


def choose_block() -> int:
    """Return how many units are embedded or decoded at a time by the devices of this process.

    Returns
    -------
    int
        256 on a CPU; 8192 on accelerators, which smaller blocks leave idle.
    """
    use_all_cores()  # before JAX starts
    return BLOCK if jax.default_backend() == "cpu" else LARGE_BLOCK


@dataclass(frozen=True)
class HippieTask:
    """The five functions of one run, see `jaxephys.engine.task.Task`.

    Parameters
    ----------
    network : ConditionalVAE
        The network.
    consistency : bool
        Compute the consistency term.
    noisy_validation : bool
        Augment, sample and label validation rows as in training. The random numbers follow from the number of steps and the rows. The
        consistency term and the dropout of the class are left out, as in the original.
    backend : Backend
        What the programs are compiled for.

    Notes
    -----
    Besides ``params`` and ``batch_stats``, variables have a collection ``tally``: ``variance`` (2, n_modalities), the running mean
    squared error of masked and of visible curves, and ``steps``, the number of steps.
    """

    network: ConditionalVAE
    consistency: bool = True
    noisy_validation: bool = False
    backend: Backend = CPU

    @property
    def names(self) -> list[str]:
        """Modalities in the order of the network."""
        return [name for name, _ in self.network.modalities]

    def init(self, key: Key) -> Variables:
        """Draw initial variables.

        Parameters
        ----------
        key : jax.Array
            Random key.

        Returns
        -------
        dict
            Collections ``params``, ``batch_stats`` and ``tally``.
        """
        tally = {"variance": jnp.ones((2, len(self.names))), "steps": jnp.float32(0)}
        return {**initialize_variables(self.network, key), "tally": tally}

    def gather(self, data: UnitArrays, constants: Any, rows: RowSet, key: Key | None) -> UnitBatch:
        """Collect the rows of a step. In training, augment and mask their curves.

        Parameters
        ----------
        data : UnitArrays
            All units.
        constants : RunConstants or ()
            Constants of the run.
        rows : RowSet
            Rows of the step.
        key : jax.Array or None
            Random key in training. With None nothing is augmented, masked or labelled.

        Returns
        -------
        UnitBatch
            The batch.
        """
        real = rows.weight > 0  # padding points at row 0, which may be a test row
        targets = {name: jnp.where(real[:, None], data.curves[name][rows.index], ABSENT) for name in self.names}
        present = data.present[rows.index] & real[:, None]
        source = jnp.where(real, data.source[rows.index], -1)
        if key is None:
            unlabelled = jnp.full_like(source, -1)
            return UnitBatch(targets, present, targets, present, source, unlabelled, rows.weight, constants)
        augment_key, mask_key, source_key = jax.random.split(key, 3)
        objective = constants.objective
        curves = augment(targets, constants.augmentation, augment_key)
        visible = mask_curves(present, objective.mask_probability, mask_key)
        masked_source = jax.random.uniform(source_key, source.shape) < objective.mask_probability
        source = jnp.where(masked_source, -1, source)
        targets = {name: jnp.where(objective.clean_target, targets[name], curves[name]) for name in self.names}
        label = jnp.where(real, constants.label[rows.index], -1)
        return UnitBatch(curves, visible, targets, present, source, label, rows.weight, constants)

    def loss(
        self, variables: Variables, batch: UnitBatch, key: Key
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        """Compute the objective of a training batch.

        Parameters
        ----------
        variables : dict
            Variables of the run.
        batch : UnitBatch
            The batch.
        key : jax.Array
            Random key.

        Returns
        -------
        value : array ()
            The objective.
        rest : tuple
            Updated collections ``batch_stats`` and ``tally``, and the recorded terms ``reconstruction`` and ``kl``.
        """
        noise_key, dropout_key, consistency_key = jax.random.split(key, 3)
        objective, tally = batch.constants.objective, variables["tally"]
        noise = jax.random.normal(noise_key, (len(batch.weight), self.network.latent))
        inputs = (batch.curves, self._conditions(batch), batch.visible, noise, self._latent_mask(objective))
        if self.network.classes and self.consistency:
            inputs += (jax.random.normal(consistency_key, noise.shape),)
        options = {"rows": batch.weight > 0, "train": True, "deterministic": False}
        rngs, mutable = {"dropout": dropout_key}, ("batch_stats",)
        output, updated = apply_network(self.network, variables, *inputs, **options, rngs=rngs, mutable=mutable)
        errors = losses.squared_errors(output.curves, batch.targets, self.names)
        reconstruction = self._reconstruction_loss(errors, tally["variance"], batch)
        kl = losses.kl_loss(output.latent.mu, output.latent.log_var, batch.weight, objective.free_bits)
        value = reconstruction + objective.beta * kl + self._consistency_loss(output, tally["steps"], batch)
        value += objective.contrast * losses.contrastive_loss(output.latent.mu, batch.label, batch.weight)
        updated = {**updated, "tally": update_running_errors(tally, jax.lax.stop_gradient(errors), batch)}
        return value, (updated, {"reconstruction": reconstruction, "kl": kl})

    def outputs(self, variables: Variables, batch: UnitBatch) -> Embedding:
        """Embed units. No label is used.

        Parameters
        ----------
        variables : dict
            Variables of the run.
        batch : UnitBatch
            Units.

        Returns
        -------
        Embedding
            Their posterior.
        """
        encoder = network_for_backend(self.network, self.backend, training=False)
        conditions = Conditions(batch.source if self.network.sources else None)
        latent = apply_network(encoder, variables, batch.curves, conditions, batch.visible, method="encode")
        return Embedding(latent.mu, latent.log_var)

    def validate(
        self, variables: Variables, data: UnitArrays, constants: RunConstants, rows: RowSet
    ) -> dict[str, Array]:
        """Score rows that the run was not trained on, without augmentation, noise and labels unless ``noisy_validation`` is set.

        Parameters
        ----------
        variables : dict
            Variables of the run.
        data : UnitArrays
            All units.
        constants : RunConstants
            Constants of the run.
        rows : RowSet
            Rows to score.

        Returns
        -------
        dict of arrays ()
            ``loss``; ``r2``, the explained variance averaged over modalities, and ``r2_<modality>``; ``kl`` in nats; ``active``, the
            share of active latent dimensions.
        """
        objective = constants.objective
        latent_mask = self._latent_mask(objective)

        def reconstruct(block: RowSet) -> tuple[Array, Array, Array, AnyArray]:
            key, noise = None, None
            if self.noisy_validation:
                key = jax.random.fold_in(jax.random.key(block.index[0]), variables["tally"]["steps"].astype(int))
                key, noise_key = jax.random.split(key)
                noise = jax.random.normal(noise_key, (len(block.index), self.network.latent))
            batch = self.gather(data, constants, block, key)
            inputs = (batch.curves, self._conditions(batch), batch.visible, noise, latent_mask)
            output = apply_network(self.network, variables, *inputs)
            errors = losses.squared_errors(output.curves, batch.targets, self.names)
            return output.latent.mu, output.latent.log_var, errors, batch.visible

        mu, log_var, errors, visible = map_row_blocks(reconstruct, rows, BLOCK)
        batch = self.gather(data, constants, rows, None)._replace(visible=visible)
        explained = explained_variance(errors, batch, self.names)
        measured = batch.present.any(axis=0)
        kl = losses.kl_loss(mu, log_var, rows.weight, objective.free_bits)
        return {
            "loss": self._reconstruction_loss(errors, variables["tally"]["variance"], batch) + objective.beta * kl,
            "r2": losses.weighted_mean(explained, measured.astype(jnp.float32)),
            **{f"r2_{name}": explained[index] for index, name in enumerate(self.names)},
            "kl": losses.kl_loss(mu, log_var, rows.weight),
            "active": losses.active_dimensions(mu, log_var, rows.weight).sum() / latent_mask.sum(),
        }

    def for_backend(self, backend: Backend) -> Task:
        """Return the task with the operations that suit a backend.

        Parameters
        ----------
        backend : Backend
            What the programs are compiled for.

        Returns
        -------
        Task
            The task of `network_for_backend`.
        """
        network = network_for_backend(self.network, backend, training=True)
        return _make_task(network, self.consistency, self.noisy_validation, backend)

    def _conditions(self, batch: UnitBatch) -> Conditions:
        label = jnp.where(batch.constants.objective.conditioned, batch.label, -1)
        return Conditions(batch.source if self.network.sources else None, label if self.network.classes else None)

    def _latent_mask(self, objective: ObjectiveArrays) -> Bool[Array, "latent"]:
        return (jnp.arange(self.network.latent) < objective.latent) | (objective.latent == 0)

    def _reconstruction_loss(self, errors: Array, variance: Array, batch: UnitBatch) -> Float[Array, ""]:
        lengths = np.array([length for _, length in self.network.modalities], np.float32)
        published = losses.mean_squared_errors(errors, batch.present, batch.weight).sum()
        noise = jnp.where(batch.visible, variance[VISIBLE], variance[MASKED])
        likelihood = losses.gaussian_loss(errors, noise, lengths, batch.present, batch.weight)
        return jnp.where(batch.constants.objective.likelihood, likelihood, published)

    def _consistency_loss(self, output: VAEOutput, steps: Float[Array, ""], batch: UnitBatch) -> Float[Array, ""]:
        """Difference between the reconstruction with the class and a second one, with its own noise, without the class."""
        if output.unlabelled is None:
            return jnp.float32(0)
        objective = batch.constants.objective
        epoch = jnp.floor(steps / batch.constants.steps)
        warm_up = jnp.minimum(1.0, (epoch + (objective.warm_up == 0)) / jnp.maximum(objective.warm_up, 1e-9))
        errors = losses.squared_errors(output.unlabelled, output.curves, self.names)
        difference = losses.mean_squared_errors(errors, jnp.ones_like(batch.present), batch.weight).sum()
        return objective.consistency * warm_up * difference

    def upgrade(self, tree: Any, axis: int) -> Any:
        """Stack the weights of modalities in a training state of version 0.1.0, see `from_published`.

        Parameters
        ----------
        tree : nested dict of arrays
            The state.
        axis : int
            Number of leading axes of all arrays.

        Returns
        -------
        nested dict of arrays
            The state in the current layout.
        """
        return from_published(tree, self.network, axis)


def apply_network(network: ConditionalVAE, *inputs: Any, **options: Any) -> Any:
    """Apply a network as a function that is traced once for all uses with the same shapes.

    Without it, tracing a training program would run through the network five times, for several seconds.

    Parameters
    ----------
    network : ConditionalVAE
        The network.
    *inputs, **options
        Arguments of ``network.apply``.

    Returns
    -------
    tree of arrays
        Output of ``network.apply``.
    """
    return _traced_once(network)(*inputs, **options)


@memoize
def _traced_once(network: ConditionalVAE) -> Callable[..., Any]:
    return jax.jit(network.apply, static_argnames=("method", "mutable", "train", "deterministic"))


def mask_curves(
    present: Bool[AnyArray, "row modality"], probability: Float[AnyArray, ""], key: Key
) -> Bool[Array, "row modality"]:
    """Choose the curves that the encoder receives.

    Parameters
    ----------
    present : bool array (row, modality)
        Which curves exist.
    probability : float
        Probability that a curve is masked. If all curves of a unit would be masked, one of them is kept.
    key : jax.Array
        Random key.

    Returns
    -------
    bool array (row, modality)
        Curves that exist and are not masked.
    """
    number = jnp.where(present, jax.random.uniform(key, present.shape), -1.0)
    largest = number == number.max(axis=1, keepdims=True)
    return present & ((number >= probability) | largest)


def explained_variance(
    errors: Float[Array, "row modality"], batch: UnitBatch, names: Sequence[str]
) -> Float[Array, "modality"]:
    """Return the explained variance of each modality.

    Parameters
    ----------
    errors : array (row, modality)
        Squared error of each curve.
    batch : UnitBatch
        The units.
    names : sequence of str
        Order of the modalities.

    Returns
    -------
    array (modality,)
        ``1 - sum error / sum |x - mean of these units|^2``; NaN where no unit has the modality.
    """
    weights = batch.present * batch.weight[:, None]
    total = []
    for index, name in enumerate(names):
        weight, target = weights[:, index : index + 1], batch.targets[name]
        mean = (weight * target).sum(axis=0) / weight.sum()
        total.append((weight * (target - mean) ** 2).mean(axis=1).sum())
    return 1 - jnp.where(weights > 0, weights * errors, 0.0).sum(axis=0) / jnp.stack(total)


def update_running_errors(
    tally: dict[str, Array], errors: Float[Array, "row modality"], batch: UnitBatch
) -> dict[str, Array]:
    """Update the running squared errors of masked and of visible curves, and count the step.

    Parameters
    ----------
    tally : dict
        ``variance`` (2, modality) and ``steps``.
    errors : array (row, modality)
        Squared error of each curve.
    batch : UnitBatch
        The batch.

    Returns
    -------
    dict
        The new ``variance`` and ``steps``. An average stays where no row has such a curve.
    """
    running = []
    groups = (batch.present & ~batch.visible, batch.present & batch.visible)
    for group, old in zip(groups, tally["variance"], strict=True):
        mean = jnp.maximum(losses.mean_squared_errors(errors, group, batch.weight), MIN_VARIANCE)
        running.append(old + MOMENTUM * group.any(axis=0) * (mean - old))
    return {"variance": jnp.stack(running), "steps": tally["steps"] + 1}


def make_data(tables: UnitTable | Sequence[UnitTable], preparation: Preparation = DEFAULT) -> UnitArrays:
    """Preprocess the units of one or more tables, one after the other.

    Parameters
    ----------
    tables : UnitTable or sequence of UnitTable
        Units.
    preparation : Preparation
        Settings of the preprocessing.

    Returns
    -------
    UnitArrays
        Their curves and technologies.
    """
    tables = [tables] if isinstance(tables, UnitTable) else tables
    prepared = [prepare(table.raw, preparation) for table in tables]
    names = [name for name, _ in preparation.lengths]
    curves = {name: np.concatenate([part.curves[name] for part in prepared]) for name in names}
    present = np.concatenate([part.present for part in prepared])
    return UnitArrays(curves, present, np.concatenate([table.technology_codes for table in tables]))


def fill_missing(data: UnitArrays) -> UnitArrays:
    """Make missing curves curves like any other: the constant -1, which the network encodes and reconstructs, as in the original.

    Parameters
    ----------
    data : UnitArrays
        Units.

    Returns
    -------
    UnitArrays
        The same units, all of whose curves are present.
    """
    return data._replace(present=np.ones_like(data.present))  # the curves are -1 already


def make_run_inputs(
    label: Int[np.ndarray, "*run cell"],
    splits: Sequence[Split],
    objectives: Sequence[Objective],
    *,
    batch_size: int,
    label_validation: bool = False,
) -> RunInputs:
    """Build the row tables and constants of all runs.

    Parameters
    ----------
    label : int array (n_units,) or (n_runs, n_units)
        Class of each unit, the same for all runs or separate; -1 without one. A run receives those of its training rows.
    splits : sequence of Split
        Rows of each run. Test rows are not used.
    objectives : sequence of Objective
        Objective of each run.
    batch_size : int
        Rows of a step.
    label_validation : bool
        Add the labels of the validation rows, which a validation as in training needs.

    Returns
    -------
    RunInputs
        Inputs of `jaxephys.engine.fit.fit`.
    """
    constants = []
    labels = np.broadcast_to(label, (len(splits), label.shape[-1]))
    for split, objective, known in zip(splits, objectives, labels, strict=True):
        training_labels = np.full(len(known), -1, np.int32)
        used = np.concatenate([split.train, split.validation]) if label_validation else split.train
        training_labels[used] = known[used]
        constants.append(make_constants(objective, training_labels, -(-len(split.train) // batch_size)))
    train = [plain_rows(split.train) for split in splits]
    validation = [plain_rows(split.validation) for split in splits]
    return stack_inputs(train, validation, constants)


def initial_from_runs(variables: Variables, indices: Sequence[int] | Int[np.ndarray, "run"]) -> PyTree:
    """Return the variables of trained runs as the initial variables of new runs.

    Parameters
    ----------
    variables : dict
        Variables with a leading run axis.
    indices : sequence of int
        For each new run, the trained run that it starts from.

    Returns
    -------
    dict
        Variables with a leading run axis, without the count of steps, which starts at 0 again.
    """
    taken = take_runs(variables, indices)
    tally = {name: value for name, value in taken.get("tally", {}).items() if name != "steps"}
    return {**taken, "tally": tally}


def pad_units(data: UnitArrays, inputs: RunInputs) -> tuple[UnitArrays, RunInputs]:
    """Lengthen data, labels and rows to one of few lengths, so that tables of like size train with the same compiled program.

    All tables of up to `SMALL_TABLE` units have one length, for which a program is compiled once for each batch size.

    Parameters
    ----------
    data : UnitArrays of n_units
        The data.
    inputs : RunInputs
        Output of `make_run_inputs`.

    Returns
    -------
    data : UnitArrays
        The data with additional units, to which no row refers.
    inputs : RunInputs
        The inputs with labels of -1 for them, and with additional rows of weight 0, for which no step is taken.
    """
    length = max(SMALL_TABLE, padded_length(len(data.source)))
    label = inputs.constants.label
    label = np.pad(label, [(0, 0), (0, length - label.shape[-1])], constant_values=-1)
    rows = {"train": SMALL_TABLE, "validation": MIN_ROWS}
    tables = {name: getattr(inputs, name) for name in rows}
    padded = {name: pad_rows(tables[name], max(least, tables[name].index.shape[-1])) for name, least in rows.items()}
    return _pad_arrays(data, length), inputs._replace(constants=inputs.constants._replace(label=label), **padded)


def pad_query(data: UnitArrays, rows: RowSet) -> tuple[UnitArrays, RowSet]:
    """Lengthen the units and the rows of a prediction, so that tables of like size share a compiled program.

    All tables of up to `MIN_ROWS` units have one length. A unit then has the same embedding, to the last bit, in each of them.

    Parameters
    ----------
    data : UnitArrays of n_units
        The units.
    rows : RowSet (n_runs, n_rows)
        The rows to predict.

    Returns
    -------
    data : UnitArrays
        The units, and additional ones to which no row refers.
    rows : RowSet (n_runs, max(n_rows, MIN_ROWS))
        The rows, then rows of weight 0.
    """
    length = max(MIN_ROWS, padded_length(len(data.source)))
    return _pad_arrays(data, length), pad_rows(rows, max(MIN_ROWS, rows.index.shape[-1]))


def _pad_arrays(data: UnitArrays, length: int) -> UnitArrays:
    def pad(leaf: AnyArray) -> np.ndarray:
        leaf = np.asarray(leaf)
        return np.pad(leaf, [(0, length - len(leaf))] + [(0, 0)] * (leaf.ndim - 1))

    return jax.tree.map(pad, data)


def make_constants(objective: Objective, label: Int[np.ndarray, "cell"], steps: int = 1) -> RunConstants:
    """Return the constants of one run.

    Parameters
    ----------
    objective : Objective
        Objective of the run.
    label : int array (n_units,)
        Class of its training rows; -1 for all other units.
    steps : int
        Number of steps of an epoch.

    Returns
    -------
    RunConstants
        Its constants.
    """
    numbers = {name: getattr(objective, name) for name in ObjectiveArrays._fields}
    arrays = {name: np.bool_(x) if isinstance(x, bool) else np.float32(x) for name, x in numbers.items()}
    return RunConstants(ObjectiveArrays(**arrays), STRENGTHS[objective.augmentation], label, np.float32(steps))


def objective_from_dict(values: Mapping[str, Any]) -> Objective:
    """Return an objective from its fields, as a saved model stores them.

    Parameters
    ----------
    values : mapping
        Values by field name. Names of version 0.1.0 (``hidden``, ``clean``) are accepted.

    Returns
    -------
    Objective
        The objective.
    """
    renamed = {"hidden": "mask_probability", "clean": "clean_target"}
    return Objective(**{renamed.get(name, name): value for name, value in values.items()})


def even_batch_size(n_rows: Sequence[int], batch_size: int) -> int:
    """Return the batch size near ``batch_size`` that divides the rows of every run most evenly.

    The statistics of a last batch of one row are worthless. The smallest last batch of a run, as a share of a batch, is therefore made
    as large as possible.

    Parameters
    ----------
    n_rows : sequence of int
        Number of training rows of each run.
    batch_size : int
        Requested size.

    Returns
    -------
    int
        A size between two thirds and three halves of the requested one, at most the largest number of rows.

    Examples
    --------
    >>> even_batch_size([257], 128)
    129
    """
    counts = np.unique(n_rows)
    candidates = np.arange(-(-2 * batch_size // 3), max(3 * batch_size // 2, 1) + 1)
    sizes = np.minimum(candidates, counts.max())
    fullest = (((counts - 1) % sizes[:, None] + 1) / sizes[:, None]).min(axis=1)
    best = sizes[fullest == fullest.max()]
    return int(best[np.abs(best - batch_size).argmin()])
