"""Glossary of the dimension names in the annotations of this package.

An annotation such as ``Float[Array, "batch family feature"]`` is checked against the arrays in the tests. Another test checks
that every name is explained here, so that one name has one meaning in the whole code.
"""

from typing import Any

AnyArray = Any  # a NumPy array on the host or a JAX array on the device, annotated as Float[AnyArray, "..."]

DIMENSIONS = {
    # Engine
    "run": "one training, such as a seed of a fold of a variant",
    "slot": "an entry of the stack of runs on the devices; padding slots hold no run",
    "row": "an entry of a row table: a sample of the data, or a mix of two samples",
    "epoch": "a pass over the training rows",
    "batch": "the rows of one optimizer step",
    "class": "a class that cells or units are labelled with",
    "draw": "a seed of the splits, all its folds together",
    "neighbor": "one of the nearest other cells of a cell",
    "score": "one score per seed and fold",
    "time": "a bin of a time series",
    "spike": "a spike of a recording",
    "some": "selected rows, or selected families of features",
    "others": "a second selection of rows, apart from some",
    "all": "all samples of the data on the device",
    "rest": "any further dimensions",
    "in": "what a product sums over",
    "out": "what a product returns",
    "slot_epoch": "a slot and an epoch of the chunk; within one run the epoch alone",
    # Patch-seq
    "cell": "a recorded neuron",
    "family": "an ordered group of electrophysiological features, one step of the recurrent network",
    "feature": "a feature within a family",
    "column": "a feature of the whole table, one family after the other",
    "quantile": "one of the evenly spaced quantiles of a feature over the training cells",
    "packed": "a column of the ragged layout, in which families are padded to the width of their block only",
    "direction": "direction of the recurrent network: forward 0, backward 1",
    "hidden": "a unit of the recurrent state",
    "gate": "the four gates of an LSTM side by side: 4 x hidden",
    "pooled": "an entry of the vector that represents a cell after pooling",
    "prototype": "one of the two prototypes of a synthetic class",
    "coefficient": "a coefficient of the cosine basis of a synthetic family",
    "component": "a principal component of a family, or of several families side by side",
    # HIPPIE
    "modality": "a kind of curve of a unit: waveform, inter-spike intervals or autocorrelogram",
    "pass": "a pass of a batch through the decoder, such as that without classes; each has batch statistics of its own",
    "position": "a sample of a waveform or a bin of a histogram, at any depth of the network",
    "channel": "a feature map of a convolutional layer",
    "tap": "a position of the kernel of a convolution",
    "knot": "one of the evenly spaced times that a time warp shifts",
    "encoding": "an entry of the vector that represents one curve",
    "latent": "an entry of the vector that represents a unit",
    "step": "a value of the latent dimension that is traversed",
    "subset": "a subset of the modalities that is given to the encoder",
    "condition": "an entry of the vector that represents a source, a class, a region or a layer",
    # Spike trains
    "unit": "a sorted unit of a recording",
    "byte": "eight units of a bin, packed into one byte",
    "split": "train, validation or test",
    "filter": "a time constant of an exponential mean",
    "regressor": "a value of a unit and bin that the linear expert reads",
    "weight": "a weight of the linear expert: the constant, then one per regressor",
    "window": "a stretch of time bins that is counted or read as one",
    "query": "a time bin that attends to others",
    "key": "a time bin that others attend to",
    "head": "one of the parallel attentions of a layer",
    "key_word": "one of the two numbers that a random key consists of",
    "width": "an entry of a vector that represents a bin within an attention head or a pool",
    "model": "an entry of the vector that a layer passes on for each bin",
    "entry": "a (time bin, unit) pair of a window that the loss is computed on",
    "block": "a stretch of time that a bootstrap draws as a whole",
    "resample": "all time blocks, or a random draw of them with replacement",
    "histogram_bin": "a bin of a histogram of logits",
    "lag": "number of bins between a spike and the bin it is compared with",
    "interval": "time between two successive spikes of one unit",
    "recording": "a row or column of the transfer grid",
    "restart": "a random start of the search for a map",
    "axis": "a direction of the map",
    "expert": "one of the forecasts that are mixed",
    "layer": "a block of the transformer",
    "choice": "one of the values tried, of which the best is kept",
}
