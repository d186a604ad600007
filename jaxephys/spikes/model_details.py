"""Entries of the model card of a `SpikeTransformer`: task, use, training recordings and input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxephys.models.model_card import InputColumn, ModelDetails

if TYPE_CHECKING:
    from jaxephys.spikes.estimator import SpikeTransformer


def describe_model(model: SpikeTransformer) -> ModelDetails:
    """Return the entries of the model card.

    Parameters
    ----------
    model : SpikeTransformer
        A fitted estimator.

    Returns
    -------
    ModelDetails
        The entries.
    """
    kind, bin_ms = model.network_options.kind, f"{model.bin_ms_:g} ms"
    units = "any number of units" if kind == "population" else f"the {model.units_} units of the training recording"
    target = "the bin that it is shown, a reconstruction" if kind == "legacy" else f"the next bin of {bin_ms}"
    return ModelDetails(
        task=f"Predicts the probability of a spike of every unit in {target}, from all bins up to now. It takes {units}.",
        intended_use="Forecasts, generated spikes and transfer between recordings of the same bin width.",
        not_intended_use="Evidence of synapses: weights of attention and predictability do not show that one unit drives another.",
        training_data=f"Recordings {', '.join(dict.fromkeys(model.sources_))}, each of {model.units_} units in bins of {bin_ms}. The "
        "training split of a recording trains, its validation split selects the epoch and calibrates, and its test split was not used.",
        inputs=[InputColumn("spikes", f"0 or 1 in each bin of {bin_ms}", "spikes of each unit")],
        outputs="A probability for every bin and unit.",
        tags=("spike-trains", "forecasting"),
    )
