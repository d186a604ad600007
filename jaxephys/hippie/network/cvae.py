"""ConditionalVAE: curves of a unit -> one joint latent -> the curves again, given what is known besides.

    encoding_m        = Encoder_m(curve_m)                                       2z numbers a modality
    hidden            = fusion(encoding_1, ..., source, class = 0, region, layer)
    mu, log_var       = dense(hidden), dense(hidden)
    reconstruction_m  = Decoder_m(expand_m(z, source, class, region, layer))

The class reaches the decoder alone: its slot in the encoder exists, as in the published tensors, and is always zero, so
that no embedding can hold the label of the unit it embeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.hippie.network.dense import DenseDecoder, DenseEncoder
from jaxephys.hippie.network.resnet1d import FORM, BatchNorm, Decoder, Encoder, dense_init

LENGTHS = {"wave": 50, "isi": 100, "acg": 100}  # the published modalities, in the order of the fusion's input
TRUNKS = {"resnet": (Encoder, Decoder), "dense": (DenseEncoder, DenseDecoder)}
F = TypeVar("F", bound=Callable)
SLOPE = 0.2  # of the leaky ReLU between dense layers
ABSENT = -1.0  # what the original's scaling makes of a curve of zeros


class Conditions(NamedTuple):
    """What is known of units besides their curves. -1, or None for all of them, says unknown and is a vector of zeros."""

    source: Int[AnyArray, "batch"] | None = None  # the technology, or the data set
    label: Int[AnyArray, "batch"] | None = None  # the class: seen by the decoder only
    region: Int[AnyArray, "batch"] | None = None
    layer: Int[AnyArray, "batch"] | None = None


UNKNOWN = Conditions()


class Latent(NamedTuple):
    mu: Float[Array, "batch latent"]
    log_var: Float[Array, "batch latent"]
    hidden: Float[Array, "batch latent"]  # the fusion's output


class Reading(NamedTuple):
    latent: Latent
    z: Float[Array, "batch latent"]
    curves: dict[str, Float[Array, "batch _"]]


class ConditionalVAE(nn.Module):
    """Any subset of modalities, each with its length. A number of sources, classes, regions or layers of 0: no such slot.

    With ``mask_token`` a learnt vector stands for the encoding of an absent modality, whose content is then neither seen
    nor counted in batch statistics. Without, as published and so in any converted checkpoint, an absent curve is the
    constant -1, which the original's scaling makes of zeros, and goes through the encoder like any other.
    """

    modalities: tuple[tuple[str, int], ...] = tuple(LENGTHS.items())
    latent: int = 30
    width: int = 64
    sources: int = 0
    classes: int = 0
    regions: int = 0
    layers: int = 0
    condition: int = 5  # numbers that stand for a source, a class, ...
    class_dropout: float = 0.3
    mask_token: bool = True
    trunk: str = "resnet"  # published; "dense" for a few hundred units
    form: str = FORM  # of the convolutions; changes no number

    def setup(self) -> None:
        if self.trunk not in TRUNKS:
            raise ValueError(f"the trunk {self.trunk!r} is unknown: choose one of {', '.join(TRUNKS)}")
        encoder, decoder = TRUNKS[self.trunk]
        twice, names = 2 * self.latent, [name for name, _ in self.modalities]
        self.encoders = {name: encoder(twice, self.width, self.form) for name in names}
        self.fusion_encoder = Fusion(self.latent)
        self.z_mean, self.z_log_var = (nn.Dense(self.latent, kernel_init=dense_init) for _ in range(2))
        self.decoder_fcs = {name: Expansion(twice) for name in names}
        self.decoders = {name: decoder(length, self.width, self.form) for name, length in self.modalities}
        self.embeddings = {
            slot: self.param(f"{slot}_embedding", nn.initializers.normal(1.0), (size, self.condition))
            for slot, size in self.slots.items()
        }
        tokens = names if self.mask_token else []
        self.tokens = {name: self.param(f"mask_token_{name}", nn.initializers.zeros, (twice,)) for name in tokens}
        self.dropout = nn.Dropout(self.class_dropout)

    @property
    def slots(self) -> dict[str, int]:
        """The conditions that this network has a table for, in the order of the concatenation, and its rows."""
        sizes = {"source": self.sources, "label": self.classes, "region": self.regions, "layer": self.layers}
        return {slot: size for slot, size in sizes.items() if size}

    def __call__(
        self,
        curves: dict[str, Float[AnyArray, "batch _"]],
        conditions: Conditions = UNKNOWN,
        present: Bool[AnyArray, "batch modality"] | None = None,
        noise: Float[AnyArray, "batch latent"] | None = None,
        kept: Bool[AnyArray, "latent"] | None = None,
        *,
        rows: Bool[AnyArray, "batch"] | None = None,
        train: bool = False,
        deterministic: bool = True,
    ) -> Reading:
        """Encode, draw ``z = mu + noise exp(log_var / 2)``, mu itself without noise, and decode.

        ``rows`` are those that count in the batch statistics of ``train``; ``deterministic`` drops no class embedding. Only
        ``kept`` dimensions say anything, so that networks of several sizes train in one program.
        """
        latent = self.encode(curves, conditions, present, rows=rows, train=train)
        if kept is not None:
            latent = latent._replace(mu=latent.mu * kept, log_var=latent.log_var * kept)
        z = latent.mu
        if noise is not None:
            z = z + noise * jnp.exp(latent.log_var / 2) * (1 if kept is None else kept)
        drawn = self.decode(z, conditions, rows=rows, train=train, deterministic=deterministic)
        return Reading(latent, z, drawn)

    def encode(
        self,
        curves: dict[str, Float[AnyArray, "batch _"]],
        conditions: Conditions = UNKNOWN,
        present: Bool[AnyArray, "batch modality"] | None = None,
        *,
        rows: Bool[AnyArray, "batch"] | None = None,
        train: bool = False,
    ) -> Latent:
        """``present`` None: every modality of every unit."""
        lengths = {name: curve.shape[1] for name, curve in curves.items()}
        if lengths != dict(self.modalities):
            raise ValueError(f"the curves have the lengths {lengths}: this network reads {dict(self.modalities)}")
        encodings = [
            self._encode_one(name, curves[name], None if present is None else present[:, place], rows, train=train)
            for place, (name, _) in enumerate(self.modalities)
        ]
        slots = self._embed(conditions._replace(label=None), len(encodings[0]))
        hidden = self.fusion_encoder(jnp.concatenate([*encodings, *slots.values()], axis=1), rows, train=train)
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
        """All curves of each z, whichever its unit had."""
        slots = self._embed(conditions, len(z))
        if "label" in slots:
            slots["label"] = self.dropout(slots["label"], deterministic=deterministic)
        conditioned = jnp.concatenate([z, *slots.values()], axis=1)
        return {
            name: self.decoders[name](self.decoder_fcs[name](conditioned, rows, train=train), rows, train=train)
            for name, _ in self.modalities
        }

    def _encode_one(
        self,
        name: str,
        curve: Float[AnyArray, "batch position"],
        present: Bool[AnyArray, "batch"] | None,
        rows: Bool[AnyArray, "batch"] | None,
        *,
        train: bool,
    ) -> Float[Array, "batch encoding"]:
        encoder = self.encoders[name]
        if present is None:
            return encoder(jnp.asarray(curve), rows, train=train)
        curve = jnp.where(present[:, None], curve, ABSENT)
        if not self.mask_token:
            return encoder(curve, rows, train=train)
        counted = present if rows is None else present & rows
        return jnp.where(present[:, None], encoder(curve, counted, train=train), self.tokens[name])

    def _embed(self, conditions: Conditions, batch: int) -> dict[str, Float[Array, "batch condition"]]:
        """A vector for each slot. A number past the end of a table gives NaN, not a neighbour's vector."""
        for slot, numbers in conditions._asdict().items():
            if numbers is not None and slot not in self.slots:
                raise ValueError(f"conditions give a {slot}, for which this network has no table: leave it None")
        found = {}
        for slot in self.slots:
            index = getattr(conditions, slot)
            index = jnp.full(batch, -1) if index is None else jnp.asarray(index)
            vectors = jnp.take(self.embeddings[slot], index, axis=0, mode="fill", fill_value=jnp.nan)
            found[slot] = jnp.where((index >= 0)[:, None], vectors, 0.0)
        return found


class Fusion(nn.Module):
    """All encodings and conditions -> the hidden vector of a unit. Dense, batch normalisation, leaky ReLU, dense."""

    latent: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch in"], rows: Bool[AnyArray, "batch"] | None, *, train: bool
    ) -> Float[Array, "batch latent"]:
        x = nn.Dense(2 * self.latent, kernel_init=dense_init, name="dense_0")(x)
        x = nn.leaky_relu(BatchNorm(name="norm_1")(x, rows, train=train), SLOPE)
        return nn.Dense(self.latent, kernel_init=dense_init, name="dense_3")(x)


class Expansion(nn.Module):
    """z and conditions -> what a decoder draws from. Dense, leaky ReLU, dense, batch normalisation, leaky ReLU."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch in"], rows: Bool[AnyArray, "batch"] | None, *, train: bool
    ) -> Float[Array, "batch encoding"]:
        x = nn.leaky_relu(nn.Dense(self.features, kernel_init=dense_init, name="dense_0")(x), SLOPE)
        x = nn.Dense(self.features, kernel_init=dense_init, name="dense_2")(x)
        return nn.leaky_relu(BatchNorm(name="norm_3")(x, rows, train=train), SLOPE)


def remember(function: F) -> F:
    """Answer from memory when asked again of the same network, which compiles nothing anew. Modules of flax are hashable."""
    return lru_cache(maxsize=16)(function)  # pyright: ignore[reportReturnType]


def settings_of(network: ConditionalVAE) -> dict[str, Any]:
    """What a saved model needs to build the network again, as JSON."""
    own = {field.name: getattr(network, field.name) for field in fields(network)}
    return {name: value for name, value in own.items() if name not in ("form", "parent", "name")}


def network_of(settings: dict[str, Any]) -> ConditionalVAE:
    """The inverse; lists, which JSON makes of tuples, are tuples again."""
    return ConditionalVAE(**{**settings, "modalities": tuple(map(tuple, settings["modalities"]))})
