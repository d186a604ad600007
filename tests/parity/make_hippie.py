"""Reference arrays of the published HIPPIE network, computed by NumPy from the published description and not by the code that they test.

``python -m tests.parity.make_hippie`` writes ``hippie_width2.npz``: a state dict with the names and shapes of the published checkpoint, of width 2
instead of 64, and what the network computes from it. The description:

    encoder      conv 3, stride 2 -> norm -> leaky 0.01; four layers of two blocks, strides 1, 2, 2, 2; mean over positions; dense
      block      leaky(norm2(conv2(leaky(norm1(conv1(x))))) + shortcut); with a stride the shortcut is norm(conv 1 with that stride)
    fusion       encodings, source, class (zeros) -> dense -> norm -> leaky 0.2 -> dense; mean and log-variance are dense layers of it
    expansion    latent, source, class -> dense -> leaky 0.2 -> dense -> norm -> leaky 0.2
    decoder      dense -> 1 position -> 4 positions -> layers 4, 3, 2, 1 -> doubled conv to one channel -> 64 numbers -> dense
      block      leaky(norm1(conv1(leaky(norm2(conv2(x))))) + shortcut); the second block of layers 4, 3 and 2 doubles the positions
                 before conv1 and before the convolution of its shortcut, by repeating each

Convolutions have three taps and zeros beyond the ends. Norms use running averages, with an epsilon of 1e-5. Arrays are (row, channel, position).
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("hippie_width2.npz")
LENGTHS = {"wave": 50, "isi": 100, "acg": 100}
WIDTH, LATENT, SOURCES, CLASSES, CONDITION = 2, 30, 4, 6, 5
UNITS = 6


def state_shapes(width=WIDTH, latent=LATENT, sources=SOURCES, classes=CLASSES):
    """Return the shape of every tensor of the published checkpoint by its name, without the prefix ``model.``."""
    shapes = {"source_embedding.weight": (sources, CONDITION), "class_embedding.weight": (classes, CONDITION)}

    def dense(name, out, into):
        shapes.update({f"{name}.weight": (out, into), f"{name}.bias": (out,)})

    def norm(name, channels):
        names = ("weight", "bias", "running_mean", "running_var")
        shapes.update({f"{name}.{leaf}": (channels,) for leaf in names} | {f"{name}.num_batches_tracked": ()})

    def conv(name, out, into, taps=3, bias=False):
        shapes.update({f"{name}.weight": (out, into, taps)} | ({f"{name}.bias": (out,)} if bias else {}))

    for curve, length in LENGTHS.items():
        encoder, decoder, expansion = f"encoders.{curve}", f"decoders.{curve}", f"decoder_fcs.{curve}"
        conv(f"{encoder}.conv1", width, 1)
        norm(f"{encoder}.bn1", width)
        for layer, block in np.ndindex(4, 2):
            name, channels = f"layer{layer + 1}.{block}", width * 2**layer
            into = channels // 2 if layer and not block else channels
            conv(f"{encoder}.{name}.conv1", channels, into)
            conv(f"{encoder}.{name}.conv2", channels, channels)
            norm(f"{encoder}.{name}.bn1", channels)
            norm(f"{encoder}.{name}.bn2", channels)
            if into != channels:
                conv(f"{encoder}.{name}.shortcut.0", channels, into, taps=1)
                norm(f"{encoder}.{name}.shortcut.1", channels)
            doubles = layer > 0 and block == 1
            out = channels // 2 if doubles else channels
            conv(f"{decoder}.{name}.conv2", channels, channels)
            conv(f"{decoder}.{name}.conv1{'.conv' * doubles}", out, channels, bias=doubles)
            norm(f"{decoder}.{name}.bn1", out)
            norm(f"{decoder}.{name}.bn2", channels)
            if doubles:
                conv(f"{decoder}.{name}.shortcut.0.conv", out, channels, bias=True)
                norm(f"{decoder}.{name}.shortcut.1", out)
        dense(f"{encoder}.linear", 2 * latent, 8 * width)
        dense(f"{decoder}.linear", 8 * width, 2 * latent)
        conv(f"{decoder}.conv1.conv", 1, width, bias=True)
        dense(f"{decoder}.linear_out", length, 64)
        dense(f"{expansion}.0", 2 * latent, latent + 2 * CONDITION)
        dense(f"{expansion}.2", 2 * latent, 2 * latent)
        norm(f"{expansion}.3", 2 * latent)
    dense("fusion_encoder.0", 2 * latent, 2 * latent * len(LENGTHS) + 2 * CONDITION)
    norm("fusion_encoder.1", 2 * latent)
    dense("fusion_encoder.3", latent, 2 * latent)
    dense("z_mean", latent, latent)
    dense("z_log_var", latent, latent)
    return shapes


class Network:
    """The published network in evaluation, with the tensors of a state dict."""

    def __init__(self, state):
        self.state = {name.removeprefix("model."): np.asarray(tensor, float) for name, tensor in state.items()}

    def dense(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name, x):
        weight, bias, mean, var = (
            self.state[f"{name}.{leaf}"].reshape(-1, *[1] * (x.ndim - 2))
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    def conv(self, name, x, stride=1):
        kernel = self.state[f"{name}.weight"]
        taps = kernel.shape[2]
        padded = np.pad(x, ((0, 0), (0, 0), (taps // 2, taps // 2)))
        starts = range(0, padded.shape[2] - taps + 1, stride)
        y = np.stack([np.einsum("nct,oct->no", padded[:, :, i : i + taps], kernel) for i in starts], axis=2)
        return y + self.state[f"{name}.bias"][:, None] if f"{name}.bias" in self.state else y

    def doubled(self, name, x):
        return self.conv(f"{name}.conv", np.repeat(x, 2, axis=2))

    def encode_curve(self, curve, x):
        name = f"encoders.{curve}"
        x = leaky(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x[:, None], 2)))
        for layer, block in np.ndindex(4, 2):
            here, stride = f"{name}.layer{layer + 1}.{block}", 2 if layer and not block else 1
            y = leaky(self.norm(f"{here}.bn1", self.conv(f"{here}.conv1", x, stride)))
            y = self.norm(f"{here}.bn2", self.conv(f"{here}.conv2", y))
            if stride == 2:
                x = self.norm(f"{here}.shortcut.1", self.conv(f"{here}.shortcut.0", x, 2))
            x = leaky(y + x)
        return self.dense(f"{name}.linear", x.mean(axis=2))

    def encode(self, encodings, source):
        nothing = np.zeros((len(source), CONDITION))
        x = np.concatenate([*encodings.values(), self.embedding("source", source), nothing], axis=1)
        x = leaky(self.norm("fusion_encoder.1", self.dense("fusion_encoder.0", x)), 0.2)
        hidden = self.dense("fusion_encoder.3", x)
        return hidden, self.dense("z_mean", hidden), self.dense("z_log_var", hidden)

    def decode_curve(self, curve, z, source, label):
        name, expansion = f"decoders.{curve}", f"decoder_fcs.{curve}"
        x = np.concatenate([z, self.embedding("source", source), self.embedding("class", label)], axis=1)
        x = self.dense(f"{expansion}.2", leaky(self.dense(f"{expansion}.0", x), 0.2))
        x = leaky(self.norm(f"{expansion}.3", x), 0.2)
        x = np.repeat(self.dense(f"{name}.linear", x)[:, :, None], 4, axis=2)
        for layer, block in ((layer, block) for layer in (4, 3, 2, 1) for block in (0, 1)):
            here, doubles = f"{name}.layer{layer}.{block}", layer > 1 and block == 1
            y = leaky(self.norm(f"{here}.bn2", self.conv(f"{here}.conv2", x)))
            y = self.norm(f"{here}.bn1", (self.doubled if doubles else self.conv)(f"{here}.conv1", y))
            if doubles:
                x = self.norm(f"{here}.shortcut.1", self.doubled(f"{here}.shortcut.0", x))
            x = leaky(y + x)
        return self.dense(f"{name}.linear_out", self.doubled(f"{name}.conv1", x)[:, 0])

    def embedding(self, name, index):
        """Return rows of an embedding table; zeros where the index is -1."""
        return np.where(index[:, None] < 0, 0, self.state[f"{name}_embedding.weight"][index])


def leaky(x, slope=0.01):
    return np.where(x > 0, x, slope * x)


def compute(state, curves, source, label, some):
    """Return what the network computes, by the names of the reference arrays. ``label`` and ``some`` are two lists of classes."""
    network = Network(state)
    encodings = {curve: network.encode_curve(curve, x) for curve, x in curves.items()}
    hidden, mu, log_var = network.encode(encodings, source)
    arrays = {f"enc/{curve}": encoding for curve, encoding in encodings.items()} | {
        "h": hidden,
        "mu": mu,
        "logvar": log_var,
    }
    for name, index in (("class", label), ("noclass", np.full_like(label, -1)), ("halfmasked", some)):
        for curve in curves:
            arrays[f"rec_{name}/{curve}"] = network.decode_curve(curve, mu, source, index)[:, None]
    return arrays


def random_state():
    """Return a state dict. Values are multiples of 1/32, so that the file is small; sums keep a size of about 1."""
    rng, state = np.random.default_rng(0), {}
    for name, shape in state_shapes().items():
        values = rng.uniform(-1, 1, shape)
        if name.endswith("num_batches_tracked"):
            values = np.array(30)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            values = 1 + 0.5 * values
        elif len(shape) > 1 and "embedding" not in name:
            values *= (4 / np.prod(shape[1:])) ** 0.5
        state[f"model.{name}"] = values if values.ndim == 0 else (np.round(32 * values) / 32).astype(np.float32)
    return state


def make():
    """Return the arrays of the file by name."""
    rng, state = np.random.default_rng(1), random_state()
    curves = {curve: np.round(rng.uniform(-1, 1, (UNITS, n)), 2).astype(np.float32) for curve, n in LENGTHS.items()}
    source, label = np.arange(UNITS) % SOURCES, np.arange(UNITS) % CLASSES
    some = np.where(np.arange(UNITS) % 2, label, -1)
    inputs = {f"in/{curve}": x[:, None] for curve, x in curves.items()}
    inputs |= {"in/source": source, "in/class": label, "in/class_halfmasked": some}
    outputs = {name: array.astype(np.float32) for name, array in compute(state, curves, source, label, some).items()}
    return {f"sd/{name}": tensor for name, tensor in state.items()} | inputs | outputs


if __name__ == "__main__":
    np.savez_compressed(FILE, **make())
