"""Entries of the model card of a `Hippie`: task, use, training data, and the samples of every curve with their unit."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jaxephys.models.model_card import InputColumn, ModelDetails

if TYPE_CHECKING:
    from jaxephys.hippie.estimator import Hippie

CURVES = {
    "wave": ("mean waveform", "any scale"),
    "isi": ("histogram of inter-spike intervals", "intervals per bin of 1 ms"),
    "acg": ("autocorrelogram", "any scale"),
}


def describe_model(model: Hippie) -> ModelDetails:
    """Return the entries of the model card.

    Parameters
    ----------
    model : Hippie
        A fitted estimator.

    Returns
    -------
    ModelDetails
        The entries. The training data are counted by data set, the part of the name of a unit before the first slash.
    """
    counts = Counter(str(name).partition("/")[0] for name in model.trained_on_)
    sets = ", ".join(f"{name} ({count})" for name, count in counts.most_common(20))
    others = f" and {len(counts) - 20} other data sets" if len(counts) > 20 else ""
    known = f"{len(model.trained_on_)} units of training and validation by data set: {sets}{others}. "
    known += f"Each network held out a share of {model.validation:g} of them for validation."
    return ModelDetails(
        task="Embeds sorted units by their mean waveform, inter-spike intervals and autocorrelogram, any of which may be missing, and predicts "
        "missing curves. Raw curves of any length are resampled and scaled as the model stores it.",
        intended_use="Maps, clusters and classifiers of sorted units, and imputation of a curve, on the recording technologies of the training "
        "data. A classifier on the embedding needs labelled units, and its score is that of its own test units.",
        not_intended_use="Units that were not sorted well, and proof that two recordings hold the same cell.",
        training_data=known if counts else "The names of the training units are not known.",
        inputs=[
            InputColumn(f"{name}_{sample}", CURVES[name][1], CURVES[name][0])
            for name, length in model.network_.modalities
            for sample in range(length)
        ],
        outputs=f"A vector of {model.network_.latent} numbers for each unit, in the space of one network.",
        tags=("spike-sorting", "embedding"),
    )
