"""ConditionalVAE: the curves of a unit are encoded into one joint latent vector, from which all curves are decoded.

    encoding_m        = Encoder_m(curve_m)                                       2 x latent numbers per modality
    hidden            = fusion(encoding_1, ..., source, class = 0, region, layer)
    mu, log_var       = dense(hidden), dense(hidden)
    reconstruction_m  = Decoder_m(expand_m(z, source, class, region, layer))

Modalities of equal length share one encoder and all modalities share one decoder, up to its last layer, with weights that have a leading
axis of modalities: one part under ``vmap`` compiles in a third of the time of three parts.

Only the decoder receives the class. Its slot in the input of the encoder exists, as in the published tensors, but is always zero,
so that no embedding can contain the label of the unit that it embeds.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.hippie.network.dense import DenseDecoder, DenseEncoder, DenseOutput
from jaxephys.hippie.network.resnet1d import (
    CPU_FORM,
    BatchNorm,
    ComputeForm,
    Decoder,
    Encoder,
    NormalizedDense,
    Output,
    dense_init,
)

LENGTHS = {"wave": 50, "isi": 100, "acg": 100}  # the published modalities, in the order of the fusion's input
TRUNKS = {"resnet": (Encoder, Decoder, Output), "dense": (DenseEncoder, DenseDecoder, DenseOutput)}
STACKED = ("encoders_", "decoder_fcs", "decoders")  # modules whose weights have a leading axis of modalities
SLOPE = 0.2  # of the leaky ReLU between dense layers
ABSENT = -1.0  # the constant that the original's scaling makes of a curve of zeros


class Conditions(NamedTuple):
    """Properties of each unit besides its curves. -1 (or None for all units) means unknown and has an embedding of zeros.

    Parameters
    ----------
    source : int array (batch,), optional
        Recording technology, or data set.
    label : int array (batch,), optional
        Class. Only the decoder receives it.
    region : int array (batch,), optional
        Brain region.
    layer : int array (batch,), optional
        Cortical layer.
    """

    source: Int[AnyArray, "batch"] | None = None
    label: Int[AnyArray, "batch"] | None = None
    region: Int[AnyArray, "batch"] | None = None
    layer: Int[AnyArray, "batch"] | None = None


UNKNOWN = Conditions()


class Latent(NamedTuple):
    """The posterior of each unit, a normal distribution with independent dimensions.

    Parameters
    ----------
    mu : array (batch, latent)
        Mean; it is the embedding of a unit.
    log_var : array (batch, latent)
        Logarithm of the variance.
    hidden : array (batch, latent)
        Output of the fusion layers, from which both are computed.
    """

    mu: Float[Array, "batch latent"]
    log_var: Float[Array, "batch latent"]
    hidden: Float[Array, "batch latent"]


class VAEOutput(NamedTuple):
    """Output of the whole network.

    Parameters
    ----------
    latent : Latent
        Posterior of each unit.
    z : array (batch, latent)
        Latent vector that was decoded: a sample of the posterior, or its mean.
    curves : dict of arrays (batch, length)
        Reconstruction of each modality, scaled like its input.
    unlabelled : dict of arrays (batch, length), optional
        Reconstruction of each modality without the class, where one was requested.
    """

    latent: Latent
    z: Float[Array, "batch latent"]
    curves: dict[str, Float[Array, "batch _"]]
    unlabelled: dict[str, Float[Array, "batch _"]] | None = None


class ConditionalVAE(nn.Module):
    """The conditional variational autoencoder of HIPPIE for any subset of modalities.

    Parameters
    ----------
    modalities : tuple of (str, int)
        Name and number of samples of each modality.
    latent : int
        Number of latent dimensions.
    width : int
        Channels of the first layer of the encoders; 64 is published.
    sources, classes, regions, layers : int
        Number of levels of each condition; 0 if the network does not receive it.
    condition : int
        Length of the embedding of a condition.
    class_dropout : float
        Dropout rate of the class embedding in training.
    mask_token : bool
        With True, a learned vector replaces the encoding of an absent curve, whose content then affects neither the encoding nor the
        batch statistics. With False, as published and in converted checkpoints, an absent curve is the constant -1 and passes
        through the encoder like any other.
    trunk : {"resnet", "dense"}
        Type of encoders and decoders. "resnet" is published; "dense" suits a few hundred units.
    form : ComputeForm
        How the layers are computed. It changes results by rounding only.
    """

    modalities: tuple[tuple[str, int], ...] = tuple(LENGTHS.items())
    latent: int = 30
    width: int = 64
    sources: int = 0
    classes: int = 0
    regions: int = 0
    layers: int = 0
    condition: int = 5
    class_dropout: float = 0.3
    mask_token: bool = True
    trunk: str = "resnet"
    form: ComputeForm = CPU_FORM

    def setup(self) -> None:
        """Create the submodules. Flax calls it.

        Raises
        ------
        ValueError
            If ``trunk`` is unknown.
        """
        if self.trunk not in TRUNKS:
            raise ValueError(f"the trunk {self.trunk!r} is unknown: choose one of {', '.join(TRUNKS)}")
        encoder, decoder, output = TRUNKS[self.trunk]
        twice, names = 2 * self.latent, [name for name, _ in self.modalities]
        self.encoders = {
            "_".join(group): _for_each_modality(encoder)(twice, self.width, self.form) for group in self.equal_lengths
        }
        self.fusion_encoder = Fusion(self.latent, self.form)
        self.z_mean, self.z_log_var = (nn.Dense(self.latent, kernel_init=dense_init) for _ in range(2))
        count = len(names)
        self.decoder_fcs = _for_each_modality(Expansion, inputs=None, rows=None, count=count)(twice, self.form)
        self.decoders = _for_each_modality(decoder, inputs=0, rows=None, count=count)(self.width, self.form)
        self.outputs = {name: output(length) for name, length in self.modalities}
        self.embeddings = {
            slot: self.param(f"{slot}_embedding", nn.initializers.normal(1.0), (size, self.condition))
            for slot, size in self.slots.items()
        }
        tokens = names if self.mask_token else []
        self.tokens = {name: self.param(f"mask_token_{name}", nn.initializers.zeros, (twice,)) for name in tokens}
        self.dropout = nn.Dropout(self.class_dropout)

    @property
    def equal_lengths(self) -> list[tuple[str, ...]]:
        """Groups of modalities whose curves have the same length; each group has one encoder."""
        groups: dict[int, tuple[str, ...]] = {}
        for name, length in self.modalities:
            groups[length] = (*groups.get(length, ()), name)
        return list(groups.values())

    @property
    def slots(self) -> dict[str, int]:
        """Number of levels of each condition that this network has an embedding table for, in the order of concatenation."""
        sizes = {"source": self.sources, "label": self.classes, "region": self.regions, "layer": self.layers}
        return {slot: size for slot, size in sizes.items() if size}

    def __call__(
        self,
        curves: dict[str, Float[AnyArray, "batch _"]],
        conditions: Conditions = UNKNOWN,
        present: Bool[AnyArray, "batch modality"] | None = None,
        noise: Float[AnyArray, "batch latent"] | None = None,
        latent_mask: Bool[AnyArray, "latent"] | None = None,
        unlabelled_noise: Float[AnyArray, "batch latent"] | None = None,
        *,
        rows: Bool[AnyArray, "batch"] | None = None,
        train: bool = False,
        deterministic: bool = True,
    ) -> VAEOutput:
        """Encode, draw ``z = mu + noise exp(log_var / 2)`` (``mu`` without noise), and decode.

        ``latent_mask`` selects the dimensions that are used; mu, log-variance and noise of the others are 0, so that networks of
        several latent sizes train in one program. With ``unlabelled_noise`` a second vector is drawn and decoded without the class,
        in a pass with its own batch statistics. ``deterministic`` disables the dropout of the class embedding. The other arguments
        are those of `encode`.
        """
        latent = self.encode(curves, conditions, present, rows=rows, train=train)
        if latent_mask is not None:
            latent = latent._replace(mu=latent.mu * latent_mask, log_var=latent.log_var * latent_mask)

        def draw(noise: Float[AnyArray, "batch latent"]) -> Float[Array, "batch latent"]:
            return latent.mu + noise * jnp.exp(latent.log_var / 2) * (1 if latent_mask is None else latent_mask)

        z = latent.mu if noise is None else draw(noise)
        if unlabelled_noise is None:
            return VAEOutput(latent, z, self.decode(z, conditions, rows=rows, train=train, deterministic=deterministic))
        second = draw(unlabelled_noise), conditions._replace(label=None)
        inputs = [self._decoder_input(z, conditions, deterministic=deterministic), self._decoder_input(*second)]
        two_passes = jnp.stack([jnp.ones(len(z), bool) if rows is None else rows] * 2)
        decoded = self._decode(jnp.concatenate(inputs), two_passes, train=train)
        halves = {name: jnp.split(curve, 2) for name, curve in decoded.items()}
        labelled, unlabelled = ({name: half[i] for name, half in halves.items()} for i in (0, 1))
        return VAEOutput(latent, z, labelled, unlabelled)

    def encode(
        self,
        curves: dict[str, Float[AnyArray, "batch _"]],
        conditions: Conditions = UNKNOWN,
        present: Bool[AnyArray, "batch modality"] | None = None,
        *,
        rows: Bool[AnyArray, "batch"] | None = None,
        train: bool = False,
    ) -> Latent:
        """Compute the posterior of each unit.

        Parameters
        ----------
        curves : dict of arrays (batch, length)
            Curves of every modality of the network, scaled to [-1, 1].
        conditions : Conditions
            Properties of the units besides their curves. The class is ignored.
        present : bool array (batch, modality), optional
            Which curves a unit has; by default all.
        rows : bool array (batch,), optional
            Rows that count in the batch statistics; by default all.
        train : bool
            Normalize by the statistics of the batch and update the running averages.

        Returns
        -------
        Latent
            The posterior.

        Raises
        ------
        ValueError
            If modalities or lengths are not those of the network.
        """
        lengths = {name: curve.shape[1] for name, curve in curves.items()}
        if lengths != dict(self.modalities):
            raise ValueError(f"the curves have the lengths {lengths}: this network reads {dict(self.modalities)}")
        encodings = self.encode_curves(curves, present, rows, train=train)
        counted = None if rows is None else rows[None]
        slots = self._embed(conditions._replace(label=None), encodings[self.modalities[0][0]])
        joined = jnp.concatenate([*(encodings[name] for name, _ in self.modalities), *slots.values()], axis=1)
        hidden = self.fusion_encoder(joined, counted, train=train)
        return Latent(self.z_mean(hidden), self.z_log_var(hidden), hidden)

    def decode(
        self,
        z: Float[AnyArray, "batch latent"],
        conditions: Conditions = UNKNOWN,
        *,
        rows: Bool[AnyArray, "batch"] | None = None,
        train: bool = False,
        deterministic: bool = True,
    ) -> dict[str, Float[Array, "batch _"]]:
        """Compute all curves of each latent vector, including those that its unit did not have.

        Parameters
        ----------
        z : array (batch, latent)
            Latent vectors.
        conditions : Conditions
            What is known of the units, including the class.
        rows : bool array (batch,), optional
            Rows that count in the batch statistics; by default all.
        train : bool
            Normalize by the statistics of the batch and update the running averages.
        deterministic : bool
            Disable the dropout of the class embedding.

        Returns
        -------
        dict of arrays (batch, length)
            Curves by modality.
        """
        inputs = self._decoder_input(z, conditions, deterministic=deterministic)
        return self._decode(inputs, None if rows is None else rows[None], train=train)

    def encode_curves(
        self,
        curves: dict[str, Float[AnyArray, "batch _"]],
        present: Bool[AnyArray, "batch modality"] | None = None,
        rows: Bool[AnyArray, "batch"] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Float[Array, "batch encoding"]]:
        """Encode each modality by itself.

        Parameters
        ----------
        curves, present, rows, train : see encode
            As in `encode`.

        Returns
        -------
        dict of arrays (batch, 2 latent)
            Encodings by modality.
        """
        encodings = {}
        order = [name for name, _ in self.modalities]
        for group in self.equal_lengths:
            curve = jnp.stack([jnp.asarray(curves[name]) for name in group])
            exists = None if present is None else present.T[np.array([order.index(name) for name in group])]
            if exists is not None:
                curve = jnp.where(exists[..., None], curve, ABSENT)
            counted = rows
            if exists is not None and self.mask_token:
                counted = exists if rows is None else exists & rows
            if counted is not None:
                counted = jnp.broadcast_to(counted, curve.shape[:2])[:, None]
            encoding = self.encoders["_".join(group)](curve, counted, train)
            if exists is not None and self.mask_token:
                tokens = jnp.stack([self.tokens[name] for name in group])
                encoding = jnp.where(exists[..., None], encoding, tokens[:, None])
            encodings.update(zip(group, encoding, strict=True))
        return encodings

    def _decoder_input(
        self, z: Float[AnyArray, "batch latent"], conditions: Conditions, *, deterministic: bool = True
    ) -> Float[Array, "batch in"]:
        slots = self._embed(conditions, z)
        if "label" in slots:
            slots["label"] = self.dropout(slots["label"], deterministic=deterministic)
        return jnp.concatenate([z, *slots.values()], axis=1)

    def _decode(
        self, inputs: Float[Array, "row in"], rows: Bool[Array, "pass batch"] | None, *, train: bool
    ) -> dict[str, Float[Array, "row _"]]:
        decoded = self.decoders(self.decoder_fcs(inputs, rows, train), rows, train)
        return {
            name: self.outputs[name](jax.tree.map(lambda leaf, index=index: leaf[index], decoded))
            for index, (name, _) in enumerate(self.modalities)
        }

    def _embed(
        self, conditions: Conditions, rows: Float[AnyArray, "batch _"]
    ) -> dict[str, Float[Array, "batch condition"]]:
        """Return a vector for each condition, with as many rows as ``rows``. An index past the end of a table gives NaN, not another level's vector."""
        for slot, indices in conditions._asdict().items():
            if indices is not None and slot not in self.slots:
                raise ValueError(f"conditions give a {slot}, for which this network has no table: leave it None")
        vectors = {}
        for slot in self.slots:
            index = getattr(conditions, slot)
            index = jnp.full(rows.shape[0], -1) if index is None else jnp.asarray(index)
            # A sum, not an indexing, whose gradient would add in an order that changes on a GPU.
            size = self.slots[slot]
            one_hot = (index[:, None] == np.arange(size)).astype(jnp.float32)
            vector = (one_hot[:, :, None] * self.embeddings[slot]).sum(axis=1)
            vectors[slot] = jnp.where((index >= size)[:, None], jnp.nan, vector)
        return vectors


class Fusion(nn.Module):
    """Encodings and conditions to the hidden vector of a unit: dense, batch normalization, leaky ReLU, dense.

    Parameters
    ----------
    latent : int
        Length of the hidden vector.
    form : ComputeForm
        How batch normalization is computed.
    """

    latent: int
    form: ComputeForm = CPU_FORM

    @nn.compact
    def __call__(
        self, x: Float[Array, "row in"], rows: Bool[AnyArray, "pass batch"] | None, train: bool
    ) -> Float[Array, "row latent"]:
        x = NormalizedDense(2 * self.latent, self.form, name="dense_0")(x)
        x = BatchNorm(self.form, name="norm_1")(x, rows, train=train, slope=SLOPE)
        return nn.Dense(self.latent, kernel_init=dense_init, name="dense_3")(x)


class Expansion(nn.Module):
    """Latent vector and conditions to the input of a decoder: dense, leaky ReLU, dense, batch normalization, leaky ReLU.

    Parameters
    ----------
    features : int
        Length of the decoder's input.
    form : ComputeForm
        How batch normalization is computed.
    """

    features: int
    form: ComputeForm = CPU_FORM

    @nn.compact
    def __call__(
        self, x: Float[Array, "row in"], rows: Bool[AnyArray, "pass batch"] | None, train: bool
    ) -> Float[Array, "row encoding"]:
        x = nn.leaky_relu(nn.Dense(self.features, kernel_init=dense_init, name="dense_0")(x), SLOPE)
        x = NormalizedDense(self.features, self.form, name="dense_2")(x)
        return BatchNorm(self.form, name="norm_3")(x, rows, train=train, slope=SLOPE)


def _for_each_modality(
    module: type[nn.Module], *, inputs: int | None = 0, rows: int | None = 0, count: int | None = None
):
    """Return a module like the given one with weights, and batch statistics, for each modality along a leading axis."""
    in_axes: Any = (inputs, rows, None)
    return nn.vmap(
        module,
        in_axes=in_axes,
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True},
        axis_size=count,
    )


def network_config(network: ConditionalVAE) -> dict[str, Any]:
    """Return the fields of a network as JSON values, for ``config.json`` of a saved model.

    Parameters
    ----------
    network : ConditionalVAE
        The network.

    Returns
    -------
    dict
        Values by field name, without ``form``, which depends on the device.
    """
    values = {field.name: getattr(network, field.name) for field in fields(network)}
    return {name: value for name, value in values.items() if name not in ("form", "parent", "name")}


def network_from_config(config: dict[str, Any]) -> ConditionalVAE:
    """Build a network from the output of `network_config`.

    Parameters
    ----------
    config : dict
        Values by field name. JSON turns tuples into lists; they become tuples again.

    Returns
    -------
    ConditionalVAE
        The network.
    """
    return ConditionalVAE(**{**config, "modalities": tuple(map(tuple, config["modalities"]))})
