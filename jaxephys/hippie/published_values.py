"""The tables and figures of Gonzalez-Ferrer et al. (2025), with the rows of our score tables that correspond to them.

Start with `PUBLISHED`. The values are those of the figures of the benchmarking release. Where the folder of the data holds
``published_scores.csv``, experiments quote that file instead.
"""

from __future__ import annotations

from jaxephys.reporting.headline import Question
from jaxephys.reporting.published_values import PublishedItem, PublishedPaper, PublishedRow

PAPER = (
    "Gonzalez-Ferrer J et al. (2025): HIPPIE: A Multimodal Deep Learning Model for Electrophysiological Classification of Neurons. "
    "bioRxiv, doi:10.1101/2025.03.14.642461."
)
PUBLISHED_ACCURACY = {  # balanced accuracy, mean and sd over folds, by data set and method
    "hull": {"HIPPIE": "0.949 ± 0.043", "VAE": "0.927 ± 0.068", "PhysMAP": "0.969 ± 0.034", "NEMO": "0.935 ± 0.077"},
    "lisberger": {
        "HIPPIE": "0.678 ± 0.030",
        "VAE": "0.449 ± 0.026",
        "PhysMAP": "0.511 ± 0.037",
        "NEMO": "0.654 ± 0.035",
    },
    "a1": {"HIPPIE": "0.569 ± 0.073", "VAE": "0.588 ± 0.038", "PhysMAP": "0.657 ± 0.088"},
    "s1": {"HIPPIE": "0.914 ± 0.057", "VAE": "0.581 ± 0.072", "PhysMAP": "0.689 ± 0.055"},
    "watson": {"HIPPIE": "0.770 ± 0.063", "PhysMAP": "0.684 ± 0.068", "NEMO": "0.805 ± 0.067"},
    "hausser": {"HIPPIE": "0.682 ± 0.073", "PhysMAP": "0.781 ± 0.121"},
    "ramachandran": {"HIPPIE": "0.690 ± 0.117", "PhysMAP": "0.638 ± 0.051"},
    "calvigioni": {"HIPPIE": "0.718 ± 0.025", "PhysMAP": "0.716 ± 0.012"},
    "cellexplorer": {"HIPPIE": "0.534 ± 0.039", "PhysMAP": "0.504 ± 0.059"},
}
PUBLISHED_AREAS = {"allen": "0.303", "ibl": "0.287"}  # areas, by networks of the other data sets
PUBLISHED_LINEAR_ACCURACY = {"hausser": "0.639", "lisberger": "0.631"}  # logistic regression on the generative model
PUBLISHED_SWEEP = {0.1: "0.665", 1.0: "0.734", 4.0: "0.770"}  # Hausser, neighbors at 30 dimensions, by beta
_PRETRAINED = ", target's units in pretraining"
PUBLISHED_TRANSFER = {  # balanced accuracy of single runs, by benchmark
    "lisberger to hull_counts": {
        f"NEMO{_PRETRAINED}": "0.721",
        f"HIPPIE{_PRETRAINED}": "0.646",
        f"VAE{_PRETRAINED}": "0.602",
        "PhysMAP": "0.595",
        "HIPPIE": "0.404",
    },
    "hull_counts to lisberger": {
        f"VAE{_PRETRAINED}": "0.593",
        "PhysMAP": "0.445",
        "NEMO": "0.375",
        f"HIPPIE{_PRETRAINED}": "0.371",
        "HIPPIE": "0.319",
    },
}
PUBLISHED_ERRORS = {  # of Hausser, on units that the network was trained on
    "network": {"mse_wave": "0.242", "mse_isi": "0.330", "mse_acg": "0.289"},
    "mean": {"mse_wave": "0.194", "mse_isi": "0.282", "mse_acg": "0.354"},
}
BASELINES = ("svm", "logistic", "forest", "knn", "pca + knn", "umap + knn")
OUR_MODELS = ("kernel on feature views", "knn on our embedding")
TRANSDUCTIVE = (
    "As published, the curves of test units are trained on, without their labels, in all stages of the reproduction."
)


def _accuracy_rows() -> list[PublishedRow]:
    """Neighbors on the embedding of each data set."""
    return [
        PublishedRow(
            f"{name}, neighbors",
            methods["HIPPIE"],
            "balanced_accuracy",
            ("knn on published embedding",),
            OUR_MODELS,
            BASELINES,
            test_on="hausser*" if name == "hausser" else name,  # the public copy has waveforms only
        )
        for name, methods in PUBLISHED_ACCURACY.items()
    ]


def _transfer_rows() -> list[PublishedRow]:
    return [
        PublishedRow(
            f"{direction}, HIPPIE{suffix}",
            values[f"HIPPIE{suffix}"],
            "balanced_accuracy",
            ("knn on published embedding",),
            OUR_MODELS,
            (*BASELINES, "svm, timing", "logistic, timing", "knn, timing", "forest, timing"),
            test_on=direction,
        )
        for direction, values in PUBLISHED_TRANSFER.items()
        for suffix in (_PRETRAINED, "")
    ]


QUESTIONS = {
    "hippie_probe": Question(
        "Which model names the cell type of a sorted unit best: neighbors on the embedding of HIPPIE, our classifiers, or baselines?",
        "Balanced accuracy of neighbors on the embedding: Hull 0.949, Lisberger 0.678, A1 0.569, S1 0.914, Watson 0.770, with the "
        "curves of test units in training.",
        PAPER,
    ),
    "hippie_transfer": Question(
        "Can cell types of one laboratory be named by a model that is trained on the units of another?",
        "Balanced accuracy of HIPPIE: 0.646 from Lisberger to Hull and 0.371 back with the target's units in pretraining, 0.404 and "
        "0.319 without, in single runs.",
        PAPER,
    ),
    "hippie_impute": Question(
        "Can a missing curve of a unit be predicted from the others better than by regression or neighbors?",
        "Mean squared error on Hausser, on units that were trained on: waveform 0.242, intervals 0.330, autocorrelogram 0.289, against "
        "0.194, 0.282 and 0.354 of the mean profile.",
        PAPER,
    ),
    "hippie_ablation": Question(
        "Which parts of the objective make the embedding of HIPPIE informative?",
        "The sweep on Hausser: neighbors at 30 dimensions have 0.665 at beta 0.1, 0.734 at 1 and 0.770 at 4.",
        PAPER,
    ),
    "hippie_pretrain": Question(
        "Does pretraining on other data sets improve the reconstruction of new units?",
        "The paper has no table of this comparison.",
        PAPER,
    ),
    "hippie_finetune": Question(
        "Does fine-tuning a trained network on the labelled units of a data set improve the classification of held-out units?",
        "There is no published number of this command.",
        PAPER,
    ),
    "hippie_embed": Question(
        "Do clusters of embedded units agree with their labels, and does the network reconstruct the units?",
        "The model card reports no number for this command.",
        PAPER,
    ),
}
PUBLISHED = PublishedPaper(
    "HIPPIE",
    PAPER,
    (
        PublishedItem(
            "Cell types",
            "Balanced accuracy in the published folds",
            "hippie_probe",
            "published",
            f"{TRANSDUCTIVE} The published score on S1 is explained by the layer as an input. Hausser chose the published settings.",
            _accuracy_rows(),
        ),
        PublishedItem(
            "Brain areas",
            "Areas of Allen and IBL by networks of the other data sets",
            "hippie_probe",
            "hold_out",
            "No unit of these data sets is trained on.",
            [
                PublishedRow(
                    f"{name}, neighbors",
                    text,
                    "balanced_accuracy",
                    ("knn on published embedding",),
                    OUR_MODELS,
                    BASELINES,
                    test_on=name,
                )
                for name, text in PUBLISHED_AREAS.items()
            ],
        ),
        PublishedItem(
            "Generative model",
            "Logistic regression on the embedding of the generative model",
            "hippie_probe",
            "generative",
            TRANSDUCTIVE,
            [
                PublishedRow(
                    f"{name}, logistic regression",
                    text,
                    "balanced_accuracy",
                    ("balanced linear, C = 1 on generative embedding",),
                    OUR_MODELS,
                    BASELINES,
                    test_on=name,
                )
                for name, text in PUBLISHED_LINEAR_ACCURACY.items()
            ],
        ),
        PublishedItem(
            "Between laboratories",
            "Balanced accuracy on another data set",
            "hippie_transfer",
            "published",
            "The reproduction has the target's units in pretraining.",
            _transfer_rows(),
        ),
        PublishedItem(
            "Missing curves",
            "Mean squared error of imputed curves",
            "hippie_impute",
            "published",
            "Published values are of units that were trained on; the reproduction and ours are of test units.",
            [
                PublishedRow(
                    f"hausser, {modality}",
                    PUBLISHED_ERRORS["network"][f"mse_{modality}"],
                    f"mse_{modality}",
                    ("network",),
                    ("ensemble", "network"),
                    ("mean", "ridge", "knn 10"),
                    test_on="hausser*",
                )
                for modality in ("wave", "isi", "acg")
            ],
        ),
        PublishedItem(
            "Latent size and beta",
            "Neighbors on the embedding of Hausser at 30 dimensions",
            "hippie_ablation",
            "published",
            "The published test folds chose 30 dimensions and beta 1; here a stage on training units is scored on test units.",
            [
                PublishedRow(
                    f"beta {beta:g}",
                    text,
                    "balanced_accuracy",
                    (f"z 30, beta {beta}",),
                    (),
                    (),
                    test_on="hausser*",
                )
                for beta, text in PUBLISHED_SWEEP.items()
            ],
        ),
        PublishedItem(
            "Pretraining",
            "Pretraining on other data sets, then fine-tuning",
            "hippie_pretrain",
            "published",
            "The held-out data set and its copies are excluded from pretraining, unlike in the paper.",
        ),
        PublishedItem(
            "Model card",
            "Fine-tuning of a published checkpoint",
            "hippie_finetune",
            "published",
            TRANSDUCTIVE,
        ),
        PublishedItem(
            "Model card", "Embedding, map and clusters", "hippie_embed", "default", "With the published weights."
        ),
    ),
    QUESTIONS,
)
