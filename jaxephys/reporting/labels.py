"""Names of metrics in words, for headings of tables and axes of figures. Files such as ``scores.csv`` keep the metric keys."""

from __future__ import annotations

METRIC_LABELS = {
    # Classification.
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "ece": "Expected calibration error",
    "brier": "Brier score",
    "log_loss": "Log loss (nats)",
    # Uncertainty.
    "selective_error": "Selective error",
    "covered": "Coverage",
    "set_size": "Mean number of classes in a set",
    "single": "Share of sets with one class",
    "empty": "Share of empty sets",
    "several": "Share of sets with several classes",
    # Embeddings and reconstruction.
    "loss": "Loss",
    "kl": "KL divergence (nats)",
    "active": "Share of active latent dimensions",
    "r2": "Explained variance",
    "r2_wave": "Explained variance, waveform",
    "r2_isi": "Explained variance, inter-spike intervals",
    "r2_acg": "Explained variance, autocorrelogram",
    "mse_wave": "Mean squared error, waveform",
    "mse_isi": "Mean squared error, inter-spike intervals",
    "mse_acg": "Mean squared error, autocorrelogram",
    "mse_counterfactual": "Mean squared error, counterfactual waveform",
    # Spike prediction.
    "roc_auc_within_unit": "Within-unit ROC AUC",
    "average_precision_within_unit": "Within-unit average precision",
    "ap_over_prevalence": "Average precision over prevalence",
    "ap_over_prevalence_within_unit": "Within-unit average precision over prevalence",
    "bits_per_spike": "Bits per spike",
    "bits_per_spike_training": "Bits per spike, training rates",
    "accuracy_on_0": "Accuracy on bins without a spike",
    "accuracy_on_1": "Accuracy on bins with a spike",
    "prevalence": "Share of bins with a spike",
    "units_scored": "Number of scored units",
    # Distances of generated spikes from real ones.
    "rate": "Distance of firing rates (octaves)",
    "intervals": "Distance of inter-spike intervals (octaves)",
    "cv2": "Distance of CV2",
    "autocorrelation": "Distance of autocorrelations",
    "pairwise_correlation": "Distance of pairwise correlations",
    "population_coupling": "Distance of population couplings",
}
LOWER_IS_BETTER = frozenset(
    {"ece", "brier", "log_loss", "selective_error", "mse_wave", "mse_isi", "mse_acg", "mse_counterfactual"}
    | {"rate", "intervals", "cv2", "autocorrelation", "pairwise_correlation", "population_coupling"}
)
PARTS = {"train_": "training", "valid_": "validation", "test_": "test"}


def metric_label(metric: str) -> str:
    """Return the name of a metric in words.

    Parameters
    ----------
    metric : str
        Key of a metric. A prefix such as ``valid_`` names the part of the rows, and a class may follow after a space.

    Returns
    -------
    str
        The entry of `METRIC_LABELS`; for other keys the key with spaces for underscores and a capital letter.

    Examples
    --------
    >>> metric_label("macro_f1"), metric_label("valid_macro_f1"), metric_label("recall Sst"), metric_label("set_width")
    ('Macro F1', 'Validation macro F1', 'Recall, Sst', 'Set width')
    """
    if metric in METRIC_LABELS:
        return METRIC_LABELS[metric]
    for prefix, part in PARTS.items():
        if metric.startswith(prefix):
            return f"{part.capitalize()} {in_sentence(metric.removeprefix(prefix))}"
    key, _, name = metric.partition(" ")
    if name and key in METRIC_LABELS:
        return f"{METRIC_LABELS[key]}, {name}"
    words = metric.replace("_", " ")
    return words[:1].upper() + words[1:]


def in_sentence(metric: str) -> str:
    """Return the name of a metric as it is written within a sentence.

    Parameters
    ----------
    metric : str
        Key of a metric.

    Returns
    -------
    str
        `metric_label` with a small first letter, unless the word is an abbreviation or a name.

    Examples
    --------
    >>> in_sentence("macro_f1"), in_sentence("roc_auc"), in_sentence("brier")
    ('macro F1', 'ROC AUC', 'Brier score')
    """
    label = metric_label(metric)
    keep = label[1:2].isupper() or label[1:2].isdigit() or label.startswith("Brier")
    return label if keep else label[:1].lower() + label[1:]
