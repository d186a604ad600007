"""The tables and figures of Schwider & Ramezani (2026), with the rows of our score tables that correspond to them.

The numbers themselves are in `jaxephys.patchseq.published`, from which the experiments quote them too. Start with `PUBLISHED`.
"""

from __future__ import annotations

from jaxephys.patchseq.published import (
    COMPONENT_FOREST,
    HUMAN_TABLE,
    MOUSE_TABLE,
    TRANSFER_TABLE,
    PublishedTable,
)
from jaxephys.reporting.headline import Question
from jaxephys.reporting.published_values import PublishedItem, PublishedPaper, PublishedRow

PAPER = (
    "Schwider T, Ramezani R (2026): Cross-Species Transfer Learning for Electrophysiology-to-Transcriptomics Mapping in Cortical "
    "GABAergic Interneurons. arXiv:2603.11000."
)
NAMES = {
    "bilstm": "BiLSTM",
    "attention": "BiLSTM with attention",
    "attention+smote": "the same with SMOTE",
    "arcface+smote": "the same with ArcFace",
    COMPONENT_FOREST: "sparse components and forest",
}
METRICS = ("macro_f1", "accuracy")
BASELINES = ("boosting", "svm", "forest", "logistic", "lda")
REFERENCE = "human-only average"
OTHER_CELLS = "Other cells and scalar features: the published cells and their 12 x 498 values are not public."


def _ablation_rows(table: PublishedTable) -> list[PublishedRow]:
    """The variants of a published ablation; ours are the same variants with our encoder, and the forest on features."""
    rows = []
    for variant, scores in table.items():
        forest = variant == COMPONENT_FOREST
        reproduced = (COMPONENT_FOREST,) if forest else (f"released {variant}", f"published {variant}")
        ours = ("average ensemble",) if forest else (variant,)
        for metric in METRICS:
            row = PublishedRow(NAMES[variant], scores[metric].text, metric, reproduced, ours, BASELINES, test_on="cell")
            rows.append(row)
    return rows


def _transfer_rows() -> list[PublishedRow]:
    rows = []
    texts = {"network": "human cells only", "joint network, tuned": "joint with mouse cells, then human cells alone"}
    for model, name in texts.items():
        reproduced = ("network by accuracy", model) if model == "network" else (model,)
        ours = (REFERENCE,) if model == "network" else ("kernel, mouse types", model)
        for metric in METRICS:
            score = TRANSFER_TABLE[model][metric].text
            baselines = ("kernel", "lda", "logistic", "svm") if model == "network" else (REFERENCE,)
            rows.append(PublishedRow(name, score, metric, reproduced, ours, baselines, test_on="cell"))
    return rows


QUESTIONS = {
    "patchseq_mouse": Question(
        "Which model names the subclass of a mouse interneuron best from its electrophysiology, and does attention help?",
        "Table 4: macro-F1 0.8601 (BiLSTM) to 0.8923 (attention, SMOTE and ArcFace), forest 0.8728, on 3,699 other cells.",
        PAPER,
    ),
    "patchseq_human": Question(
        "Which model names the subclass of a human interneuron best from its electrophysiology?",
        "Table 5: macro-F1 0.6685 (attention) to 0.6754 (attention with SMOTE), forest 0.6589, on 506 other cells.",
        PAPER,
    ),
    "patchseq_transfer": Question(
        "Do mouse cells improve the classification of human interneurons?",
        "Table 6: macro-F1 0.6580 with human cells only, 0.6795 after joint training with mouse cells, on other cells.",
        PAPER,
    ),
    "patchseq_forest": Question(
        "Do sparse components, the input of the published baseline, make a random forest better than plain features?",
        "The forest on sparse components has macro-F1 0.8728 (mouse) and 0.6589 (human), on other cells.",
        PAPER,
    ),
    "patchseq_attention": Question(
        "Does the attention of the network show which families of features its predictions depend on?",
        "Figures 4 and 5 show attention maps of the last run; no number is published.",
        PAPER,
    ),
    "patchseq_embedding": Question(
        "How pure are the neighborhoods of cells in an embedding, compared with chance?",
        "No purity is published.",
        "Gouwens NW et al. (2020): Integrated Morphoelectric and Transcriptomic Classification of Cortical GABAergic Cells. Cell 183.",
    ),
    "quickstart": Question(
        "Do the networks of the published ablation classify synthetic cells better than simple classifiers?",
        "The cells are synthetic: no number is published. The best possible score is known and drawn as a line.",
        PAPER,
    ),
}
PUBLISHED = PublishedPaper(
    "Patch-seq",
    PAPER,
    (
        PublishedItem(
            "Table 4",
            "Ablation on mouse cells, five subclasses",
            "patchseq_mouse",
            "published",
            f"{OTHER_CELLS} The released code selects epochs by accuracy and multiplies ArcFace's probabilities by class frequencies.",
            _ablation_rows(MOUSE_TABLE),
        ),
        PublishedItem(
            "Table 5",
            "Ablation on human cells, four subclasses",
            "patchseq_human",
            "published",
            f"{OTHER_CELLS} The released code selects the epoch of ArcFace by accuracy, and that of the others by macro-F1.",
            _ablation_rows(HUMAN_TABLE),
        ),
        PublishedItem(
            "Table 6",
            "Transfer from mouse to human cells",
            "patchseq_transfer",
            "released",
            f"{OTHER_CELLS} The released code selects the epoch of human cells only by accuracy and of transfer by macro-F1.",
            _transfer_rows(),
        ),
        PublishedItem(
            "Section 4.2",
            "Random forest on sparse components",
            "patchseq_forest",
            "default",
            f"{OTHER_CELLS} Components are ordinary ones of each family where features are scalar.",
            [
                PublishedRow(
                    f"forest, {species}",
                    table[COMPONENT_FOREST][metric].text,
                    metric,
                    (COMPONENT_FOREST,),
                    (COMPONENT_FOREST,),
                    ("forest",),
                    train_on=species,
                    test_on="cell",
                )
                for species, table in (("mouse", MOUSE_TABLE), ("human", HUMAN_TABLE))
                for metric in METRICS
            ],
        ),
        PublishedItem(
            "Figures 2, 3 and 7",
            "Confusion matrices of the forest and the networks",
            "patchseq_mouse",
            "published",
            "The matrices are in the reports of patchseq_mouse and patchseq_human, summed over all runs.",
        ),
        PublishedItem(
            "Figures 4 and 5",
            "Attention to each family of features",
            "patchseq_attention",
            "published",
            "The paper draws the last run; here all runs count, and the loss without each family is drawn beside it.",
        ),
    ),
    QUESTIONS,
)
