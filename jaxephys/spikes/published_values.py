"""The tables and figures of Shimono (2026), with the rows of our score tables that correspond to them. Start with `PUBLISHED`."""

from __future__ import annotations

from jaxephys.reporting.headline import Question
from jaxephys.reporting.published_values import PublishedItem, PublishedPaper, PublishedRow

PAPER = (
    "Shimono M (2026): In Vitro to In Vivo: Bidirectional and High-Precision Generation of In Vitro and In Vivo Neuronal Spike Data. "
    "Algorithms 19(4):305, doi:10.3390/a19040305."
)
PUBLISHED_AUC = {  # Table 2: pooled ROC AUC, mean and standard deviation over pairs
    "in vitro, training": "0.92 ± 0.06",
    "in vivo, training": "0.93 ± 0.06",
    "in vitro, self": "0.93 ± 0.05",
    "in vitro, others": "0.75 ± 0.07",
    "in vivo, self": "0.77 ± 0.10",
    "in vivo, others": "0.74 ± 0.10",
    "in vitro -> in vivo": "0.70 ± 0.09",
    "in vivo -> in vitro": "0.80 ± 0.10",
}
NETWORKS = ("units", "population", "published layer")
BASELINES = ("training rate", "running rate", "exponential*", "shared GLM*", "per-unit GLM*")
SAME_BIN = "The published code sees the bin that it predicts: the reproduction is a reconstruction, ours is a forecast of the next bin."


def _group_rows() -> list[PublishedRow]:
    """The groups of Table 2 except the training bins, on which no baseline is scored."""
    rows = []
    for group, text in PUBLISHED_AUC.items():
        source, target = group.split(" -> ") if "->" in group else [group.split(",")[0]] * 2
        patterns = {"train_on": f"*{source[3:]}*", "test_on": f"*{target[3:]}*"}
        training = group.endswith("training")
        same = "same" if group.endswith(("self", "training")) else "different"
        # Networks for known units are applied to other recordings by channel number, which pairs unrelated units.
        networks = NETWORKS if same == "same" else NETWORKS[1:]
        rows.append(
            PublishedRow(
                group,
                text,
                "roc_auc",
                ("legacy, reconstruction",),
                networks,
                () if training else BASELINES,
                pairs=same,
                split="train" if training else "test",
                **patterns,
            )
        )
    return rows


QUESTIONS = {
    "spikes_grid": Question(
        "Does a network that is trained on one recording predict the next spikes of others better than simple baselines?",
        "Table 2: pooled ROC AUC 0.93 in vitro and 0.77 in vivo on the recording of training, 0.70 from in vitro to in vivo and 0.80 "
        "from in vivo to in vitro, by a layer that sees the bin that it predicts.",
        PAPER,
    ),
    "spikes_train": Question(
        "Does the Dice loss give better predictions than focal loss and cross-entropy?",
        "Figure 3: Dice is better than focal loss in vitro and in vivo, and accuracy on silent bins exceeds 0.95; no table is published.",
        PAPER,
    ),
    "spikes_generate": Question(
        "Are the rates of generated spikes nearer to the real ones than those of a Poisson process with known rates?",
        "Figure 4c and d show rasters; no distance is published.",
        PAPER,
    ),
    "spikes_attention": Question(
        "Do the predictions of the described layer depend on its attention?",
        "Figure 5: disabling attention reduces the AUC only slightly; query sides correlate with the rate positively, key sides "
        "negatively (p < .01). No number is published.",
        PAPER,
    ),
    "spikes_sensitivity": Question(
        "Does a larger network predict spikes better than the described one?",
        "Figures S1 to S3 compare window length, depth, heads and dropout; several panels are missing, and no table is published.",
        PAPER,
    ),
    "spikes_layout": Question(
        "Does a map in three dimensions represent how well recordings predict each other?",
        "Figure 4 shows one map; local populations are good to train on and the cerebellum is easy to predict. No stress is published.",
        PAPER,
    ),
}
PUBLISHED = PublishedPaper(
    "Spike trains",
    PAPER,
    (
        PublishedItem(
            "Table 2, Figure 4b and e",
            "Pooled ROC AUC by group of recordings",
            "spikes_grid",
            "legacy",
            f"{SAME_BIN} Recordings are those of the run, not the twelve of the paper.",
            _group_rows(),
        ),
        PublishedItem(
            "Figure 3",
            "Dice and focal loss",
            "spikes_train",
            "paper",
            "The layer is causal, so that accuracy on spikes stays low.",
            [
                PublishedRow(
                    "Dice against focal loss, ROC AUC",
                    "Dice better",
                    "roc_auc",
                    ("dice",),
                    ("dice",),
                    ("focal",),
                    pairs="same",
                )
            ],
        ),
        PublishedItem(
            "Figure 4a and f", "Map of the recordings", "spikes_layout", "default", "SMACOF from many starts."
        ),
        PublishedItem(
            "Figure 4c and d",
            "Generated spikes",
            "spikes_generate",
            "paper",
            "The published script copies the bin that it is shown; here the layer predicts one step ahead, and runs freely.",
        ),
        PublishedItem("Figure 5", "Attention", "spikes_attention", "paper", "The layer is causal."),
        PublishedItem(
            "Figures S1 to S3",
            "Window length, depth, heads, dropout and time",
            "spikes_sensitivity",
            "paper",
            "The lengths of the paper are not known; 125 to 15,625 bins are compared.",
        ),
    ),
    QUESTIONS,
)
