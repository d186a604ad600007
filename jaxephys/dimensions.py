"""The names of dimensions that stand in the annotations of this package.

An annotation such as ``Float[Array, "batch family feature"]`` is checked against the arrays in the tests; a second test
checks that every name used is explained here, so that one name means one thing in the whole code.
"""

from typing import Any

AnyArray = Any  # NumPy on the host, JAX on the device: what may be either is annotated Float[AnyArray, "..."]

DIMENSIONS = {
    # the engine
    "run": "one training: a seed of a fold of a variant of a data set",
    "slot": "a place in the stack of runs on the devices; padding slots hold no run",
    "row": "an entry of a row table, that is a sample of the data seen through index, partner and mix",
    "epoch": "a pass over the training rows",
    "batch": "the rows of one optimiser step",
    "class": "a label",
    "draw": "a seed of the splits, its folds taken together",
    "score": "one number a seed and fold",
    "time": "an instant of a time series",
    "some": "chosen rows, or the families that a rectangle of the staircase holds",
    "others": "rows chosen apart from some",
    "all": "every row of the data on the device",
    "rest": "whatever dimensions follow",
    "in": "what a product sums over",
    "out": "what a product makes",
    "slot_epoch": "a slot and an epoch of the chunk, or the latter alone within one run",
    # Patch-seq
    "cell": "a recorded neuron",
    "family": "an ordered group of electrophysiological features, one step of the recurrent network",
    "feature": "a feature within a family",
    "column": "a feature of the whole table, families one after the other",
    "quantile": "one of the evenly spaced quantiles of a feature over the training cells",
    "packed": "a column of the staircase layout, families padded to the width of their block only",
    "direction": "forward 0, backward 1",
    "hidden": "a unit of the recurrent state",
    "gate": "the four gates of an LSTM, side by side: 4 x hidden",
    "pooled": "an entry of the vector that stands for a cell after pooling",
    "kind": "one of the two prototypes of a planted class",
    "coefficient": "of the cosine basis of a planted family",
    # HIPPIE
    "modality": "a kind of curve of a unit: waveform, inter-spike intervals, autocorrelogram",
    "position": "a sample of a waveform or a bin of a histogram, at any depth of the network",
    "channel": "a feature map of a convolutional layer",
    "tap": "a position of a convolution's kernel",
    "knot": "one of the evenly spaced times that a time warp moves",
    "encoding": "an entry of the vector that stands for one curve",
    "latent": "an entry of the vector that stands for a unit",
    "step": "a place of a walk through the latent",
    "given": "a choice of the modalities that a unit shows",
    "condition": "an entry of the vector that stands for a source, a class, a region or a layer",
    # Spike trains
    "unit": "a neuron of a recording, or a channel that stands for one",
    "byte": "eight units of a bin, packed",
    "split": "train, validation, test",
    "filter": "a time constant of an exponential mean",
    "regressor": "a number of a unit and bin that the mixture's line goes through",
    "weight": "of the mixture's line: the constant, then one a regressor",
    "window": "a stretch of time bins that is counted or read as one",
    "key": "a bin that attention may look at",
    "head": "one of the parallel attentions of a layer",
    "width": "an entry of a vector that stands for a bin within a head or a pool",
    "model": "an entry of the vector that a layer passes on for each bin",
    "block": "a stretch of time that a bootstrap draws as a whole",
    "place": "a bin of a histogram of logits",
    "lag": "bins between a spike and the one it is compared with",
    "interval": "between two spikes of one unit",
    "recording": "a row or column of the transfer grid",
    "restart": "a random start of the map's search",
    "axis": "a direction of the map",
    "expert": "one of the forecasts that are mixed",
    "layer": "a block of the transformer",
    "choice": "one of the values tried, the best of which is kept",
}
