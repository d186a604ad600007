"""Fine-tuning of a trained HIPPIE network on one data set: loss curves, scores of held-out units, and the fine-tuned model.

    python -m experiments.hippie_finetune --data DIR --training-dataset hull --pretrain-checkpoint hippie_techcond_v1.ckpt
    python -m experiments.hippie_finetune --training-dataset TABLE --pretrain-checkpoint MODEL --beta 0.5
    python -m experiments.hippie_finetune published --data DIR --training-dataset hull --fetch
    python -m experiments.hippie_finetune smoke --data DIR --training-dataset hull

The options have their published names: ``--training-dataset`` is a folder of DIR, or the path of a table; ``--pretrain-checkpoint`` a PyTorch
checkpoint of HIPPIE or a saved model; ``--config`` the objective; ``--z_dim`` the number of latent dimensions, which must be that of the
checkpoint; ``--beta`` the weight of the KL divergence. Without a checkpoint the published weights are taken from the working folder or
from the cache of the hub, and with ``--fetch`` from the hub; ``--pretrain-checkpoint None`` starts from random weights.

As published, the network is trained for at most 20 epochs without labels, then for at most 10 with labels and a new table of classes, both at
a tenth of the learning rate of pretraining. Each fold of the labelled units is held out once; the model that is saved is that of a
further run on all units. The preset published trains on the curves of test units, too, without their labels, selects the epoch by a
loss that is computed as in training, and has batches of exactly 128; the default does none of these. With a table without labels only the first stage is run.

The report has balanced accuracies of the published probes on the embeddings before and after fine-tuning, beside classifiers on the curves of
the same units. There are no published numbers of this command. For a hundred units and the published checkpoint (24 million parameters) six
networks take 30 steps each, so that compilation is most of the time; `python -m jaxephys plan hippie_finetune` estimates both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.units.registry import find_dataset
from experiments.command_line import main
from jaxephys.hippie.datasets import fill_technology, read_tables
from jaxephys.hippie.fine_tuning import (
    BASELINES,
    PROBES,
    FineTuningSettings,
    fine_tune,
    loss_curves,
    score_curves,
    score_probes,
)
from jaxephys.hippie.published_values import QUESTIONS
from jaxephys.reporting.bars import draw_bars
from jaxephys.reporting.headline import Headline
from jaxephys.reporting.plots import draw_curves
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.tables import model_table
from jaxephys.schemas.unit_table import UnitTable


@dataclass(frozen=True)
class Finetune(FineTuningSettings):
    """Settings of the experiment."""

    data: Path = Path("hippie")
    """Folder with one folder per data set."""
    training_dataset: str = ""
    """Data set to train on: the name of its folder, or the path of a table of units. By default the first of the folder."""


PRESETS = {
    "default": Finetune(),
    "published": Finetune(transductive=True, noisy_validation=True, even_batches=False),
    "ours": Finetune(config="ours"),
    "smoke": Finetune(
        pretrain_checkpoint=None, trunk="dense", width=4, z_dim=6, finetune_max_epochs=2, supervised_max_epochs=2
    ),
}

INTRODUCTION = """{model}, fine-tuned on {name} ({units} units) with the objective {config}: balanced accuracy of classifiers on units that are
held out in folds, and explained variance of their curves. "checkpoint" is the network before fine-tuning, "curves" the
preprocessed curves without a network. {curves_of_test_units}"""
HEADLINE_PROBE = PROBES[0]


def run(settings: Finetune, folder: RunFolder) -> None:
    """Fine-tune, score the held-out units, save the model and write the report.

    Parameters
    ----------
    settings : Finetune
        Settings of the run.
    folder : RunFolder
        Its folder.
    """
    name, units = _training_units(settings)
    tuned = fine_tune(folder, units, settings)
    scores = score_probes(tuned, units, name) + (curves := score_curves(tuned, name))
    if not folder.is_first_host:
        return
    tuned.model.save(folder.path / "model", overwrite=True)
    metrics = sorted({score.metric for score in curves})
    report = {"Curves of held-out units": model_table(curves, metrics)}
    figures = {
        "Training and validation loss of each stage": draw_curves(
            folder.path, *loss_curves(tuned), ["train_loss", "valid_loss"]
        )
    }
    headlines = []
    if probes := scores[: -len(curves)]:
        n_train = len(tuned.splits[0].train) + len(tuned.splits[0].validation)
        baselines = [f"{probe} on curves" for probe in BASELINES]
        others = list(dict.fromkeys(s.variant for s in probes if not s.variant.endswith("on fine-tuned")))
        model = f"{HEADLINE_PROBE} on fine-tuned"
        table = model_table(probes, ["balanced_accuracy"], reference=model, n_train=n_train)
        report = {"Classes of held-out units": table, **report}
        figures["Balanced accuracy on held-out units, before and after fine-tuning"] = draw_bars(
            folder.path, probes, "balanced_accuracy", {"chance": 1 / len(units.classes)}, baselines=baselines
        )
        headlines = [Headline("balanced_accuracy", model, others, name, n_train, label=f"held-out units of {name}")]
    used = (
        "Test units were trained on without their labels." if settings.transductive else "No test unit was trained on."
    )
    introduction = INTRODUCTION.format(
        model=tuned.model.describe(), name=name, units=len(units), config=settings.config, curves_of_test_units=used
    )
    notes = [f"The saved model is that of all {len(units)} units: none of them is a test unit for it."]
    question = QUESTIONS["hippie_finetune"]
    folder.write_report(scores, "Fine-tuning of HIPPIE", introduction, report, figures, notes, question, headlines)


def _training_units(settings: Finetune) -> tuple[str, UnitTable]:
    path = Path(settings.training_dataset)
    if settings.training_dataset and path.exists():
        name = path.parent.name if path.suffix == ".npz" else path.resolve().name
        return name, fill_technology(name, UnitTable.read(path), find_dataset)
    required = [settings.training_dataset] if settings.training_dataset else []
    tables = read_tables(settings.data, find_dataset, required)
    name = settings.training_dataset or next(iter(tables))
    return name, tables[name]


if __name__ == "__main__":
    main("hippie_finetune", __doc__, PRESETS, run)
