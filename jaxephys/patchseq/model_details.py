"""Entries of the model card of a `PatchSeqClassifier`: task, use, and name and unit of every feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxephys.models.model_card import InputColumn, ModelDetails

if TYPE_CHECKING:
    from jaxephys.patchseq.estimator import PatchSeqClassifier

UNITS = {  # of the feature families of IPFX, whose names some tables write without "spiking_"
    "step_subthresh": "mV",
    "subthresh_norm": "ratio",
    "subthresh_depol_norm": "ratio",
    "isi_shape": "mV",
    "first_ap_v": "mV",
    "psth": "spikes/s",
    "inst_freq": "spikes/s",
    "inst_freq_norm": "ratio",
    "upstroke_downstroke": "ratio",
    "upstroke_downstroke_ratio": "ratio",
    "peak_v": "mV",
    "fast_trough_v": "mV",
    "threshold_v": "mV",
    "width": "s",
}


def describe_model(model: PatchSeqClassifier) -> ModelDetails:
    """Return the entries of the model card.

    Parameters
    ----------
    model : PatchSeqClassifier
        A fitted classifier.

    Returns
    -------
    ModelDetails
        The entries. Units are those of the feature families of IPFX; a family of another name has the unit of its training table.
    """
    groups = [family for family, width in zip(model.families_, model.widths_, strict=True) for _ in range(width)]
    columns = zip(model.features_, groups, strict=True)
    classes = [str(name) for name in model.classes_]
    return ModelDetails(
        task="Predicts the class of a cell, such as its transcriptomic subclass, from electrophysiological features that are grouped into "
        "ordered families. Probabilities are the mean over networks, calibrated on validation cells.",
        intended_use="Cells that were recorded with the protocols of the training cells and are of one of its classes, with features "
        "extracted in the same way. Probabilities of other laboratories' cells should be compared with labelled cells first.",
        not_intended_use="Cells of other classes or species than those of the training cells, which are assigned to one of the known classes, "
        "and diagnosis or treatment of patients.",
        training_data=f"Cells of {len(classes)} classes with {len(model.features_)} features; each network held out a share of "
        f"{model.validation:g} of them for validation. The model stores no names of cells.",
        inputs=[InputColumn(name, UNITS.get(group.removeprefix("spiking_"), ""), group) for name, group in columns],
        outputs="One probability for each class, which sum to 1.",
        classes=classes,
        tags=("patch-seq", "cell-type"),
    )
