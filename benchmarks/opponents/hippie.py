"""PyTorch baseline of HIPPIE: the published tri-modal conditional autoencoder, written from the published sizes.

Augmentation is left out here and in the measurement of this package.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]


class Down(nn.Module):
    """Residual block of the encoder.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    stride : int
        Stride of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv1d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm1d(outputs) for _ in range(2))
        self.shortcut = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv1d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm1d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the block.

        Parameters
        ----------
        x : tensor, shape (batch, channels, length)
            Input.

        Returns
        -------
        tensor, shape (batch, channels, length)
            Output.
        """
        y = F.leaky_relu(self.norms[0](self.first(x)))
        return F.leaky_relu(self.norms[1](self.second(y)) + self.shortcut(x))


class Up(nn.Module):
    """Residual block of the decoder.

    Parameters
    ----------
    channels : int
        Channels of the input.
    grows : bool
        Whether the block doubles the length and halves the channels.
    """

    def __init__(self, channels: int, grows: bool) -> None:
        super().__init__()
        outputs = channels // 2 if grows else channels
        self.first = nn.Conv1d(channels, channels, 3, 1, 1, bias=False)
        self.second = nn.Conv1d(channels, outputs, 3, 1, 1, bias=grows)
        self.norms = nn.ModuleList((nn.BatchNorm1d(channels), nn.BatchNorm1d(outputs)))
        self.grows = grows
        if grows:
            self.shortcut = nn.Sequential(nn.Conv1d(channels, outputs, 3, 1, 1), nn.BatchNorm1d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the block.

        Parameters
        ----------
        x : tensor, shape (batch, channels, length)
            Input.

        Returns
        -------
        tensor, shape (batch, channels, length)
            Output.
        """
        y = F.leaky_relu(self.norms[0](self.first(x)))
        if self.grows:
            x, y = (F.interpolate(one, scale_factor=2) for one in (x, y))
            x = self.shortcut(x)
        return F.leaky_relu(self.norms[1](self.second(y)) + x)


class Encoder(nn.Sequential):
    """ResNet-18 in one dimension from a curve to features.

    Parameters
    ----------
    features : int
        Length of the output.
    width : int
        Channels of the first layer.
    """

    def __init__(self, features: int, width: int) -> None:
        blocks: list[nn.Module] = [nn.Conv1d(1, width, 3, 2, 1, bias=False), nn.BatchNorm1d(width), nn.LeakyReLU()]
        channels = width
        for layer in range(4):
            wider = width * 2**layer
            blocks += [Down(channels, wider, 1 if layer == 0 else 2), Down(wider, wider, 1)]
            channels = wider
        super().__init__(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8 * width, features))


class Decoder(nn.Module):
    """Mirrored ResNet from features to a curve.

    Parameters
    ----------
    features : int
        Length of the input.
    length : int
        Length of the curve.
    width : int
        Channels of the last layer.
    """

    def __init__(self, features: int, length: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 8 * width)
        pairs = [(Up(width * 2**layer, False), Up(width * 2**layer, layer > 0)) for layer in (3, 2, 1, 0)]
        self.blocks = nn.Sequential(*(block for pair in pairs for block in pair))
        self.last = nn.Conv1d(width, 1, 3, 1, 1)
        self.out = nn.Linear(64, length)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the curve of each unit.

        Parameters
        ----------
        features : tensor, shape (batch, features)
            Input.

        Returns
        -------
        tensor, shape (batch, length)
            Curves.
        """
        x = self.blocks(F.interpolate(self.linear(features)[..., None], scale_factor=4))
        return self.out(self.last(F.interpolate(x, scale_factor=2)).flatten(1))


class TriModalVAE(nn.Module):
    """The published autoencoder of three curves per unit.

    Parameters
    ----------
    lengths : sequence of int
        Lengths of the curves.
    latent : int
        Dimensions of the embedding.
    width : int
        Channels of the first layer.
    sources, classes : int
        Number of data sources and of classes that the network is conditioned on.
    """

    def __init__(self, lengths: Sequence[int], latent: int, width: int, sources: int, classes: int) -> None:
        super().__init__()
        twice = 2 * latent
        self.encoders = nn.ModuleList(Encoder(twice, width) for _ in lengths)
        self.decoders = nn.ModuleList(Decoder(twice, length, width) for length in lengths)
        self.source, self.label = nn.Embedding(sources, 5), nn.Embedding(classes, 5)
        self.fusion = nn.Sequential(
            nn.Linear(twice * len(lengths) + 10, twice),
            nn.BatchNorm1d(twice),
            nn.LeakyReLU(0.2),
            nn.Linear(twice, latent),
        )
        self.mean, self.log_var = nn.Linear(latent, latent), nn.Linear(latent, latent)
        self.expand = nn.ModuleList(
            nn.Sequential(
                nn.Linear(latent + 10, twice), nn.LeakyReLU(0.2), nn.Linear(twice, twice), nn.BatchNorm1d(twice), nn.LeakyReLU(0.2)
            )
            for _ in lengths
        )  # fmt: skip

    def encode(self, curves: Sequence[torch.Tensor], source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean and log variance of the embedding.

        Parameters
        ----------
        curves : sequence of tensor, shape (batch, length)
            Curves of each modality.
        source : tensor of int, shape (batch,)
            Data source of each unit.

        Returns
        -------
        mean, log_var : tensor, shape (batch, latent)
            Parameters of the posterior.
        """
        condition = self.source(source)
        encoded = [encoder(curve[:, None]) for encoder, curve in zip(self.encoders, curves, strict=True)]
        hidden = self.fusion(torch.cat([*encoded, condition, torch.zeros_like(condition)], dim=1))
        return self.mean(hidden), self.log_var(hidden)

    def decode(self, z: torch.Tensor, source: torch.Tensor, label: torch.Tensor) -> list[torch.Tensor]:
        """Return the reconstructed curves.

        Parameters
        ----------
        z : tensor, shape (batch, latent)
            Embedding.
        source : tensor of int, shape (batch,)
            Data source of each unit.
        label : tensor, shape (batch, 5)
            Embedding of the class of each unit, or zeros.

        Returns
        -------
        list of tensor, shape (batch, length)
            Curves of each modality.
        """
        inputs = torch.cat([z, self.source(source), label], dim=1)
        return [decoder(expand(inputs)) for decoder, expand in zip(self.decoders, self.expand, strict=True)]

    def loss(self, curves: Sequence[torch.Tensor], source: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the published loss. As in this package, both decodings of the consistency term use the same posterior.

        Parameters
        ----------
        curves : sequence of tensor, shape (batch, length)
            Curves of each modality.
        source, label : tensor of int, shape (batch,)
            Data source and class of each unit.

        Returns
        -------
        tensor
            Scalar loss.
        """
        mean, log_var = self.encode(curves, source)
        sd = torch.exp(0.5 * log_var)
        classes = F.dropout(self.label(label), 0.3, self.training)
        conditioned = self.decode(mean + torch.randn_like(mean) * sd, source, classes)
        unconditioned = self.decode(mean + torch.randn_like(mean) * sd, source, torch.zeros_like(classes))
        reconstruction = sum(F.mse_loss(one, curve) for one, curve in zip(conditioned, curves, strict=True))
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(dim=1).mean()
        consistency = sum(F.mse_loss(*pair) for pair in zip(conditioned, unconditioned, strict=True))
        return reconstruction + kl + 0.15 * consistency
