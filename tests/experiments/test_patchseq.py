"""The Patch-seq experiments on a small table of known classes: every arm is scored on every split, and nothing leaks."""

import csv

import numpy as np
import pytest

from experiments import patchseq_human, patchseq_mouse
from experiments._patchseq import Arms, draw_splits, read_cells
from jaxephys.report import read_scores
from tests.experiments.command import only_run, run

CLASSES = ("Lamp5", "Pvalb", "Sst", "Vip")


def write_cells(path, cells: int = 96, species: str = "human") -> None:
    """Three features tell the classes, one does not; some values are missing, and donors hold three cells each."""
    rng = np.random.default_rng(0)
    label = rng.permutation(np.resize(CLASSES, cells))
    values = rng.normal(size=(cells, 4)) + 3 * np.array([[name == c for c in CLASSES] for name in label]) @ np.eye(4)
    names = ("vrest", "ri", "updown_ramp", "threshold_v_ramp")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("cell_id", "species", "subclass4", "subclass5", "donor", "condition", *names))
        for i in range(cells):
            row = ["" if rng.random() < 0.05 else f"{value:.4f}" for value in values[i]]
            writer.writerow((i, species, label[i], label[i], f"d{i // 3}", ("acute", "culture")[i % 2], *row))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("human")
    write_cells(folder / "human.csv")
    small = ("--seeds", "1", "--parts", "2", "--members", "2", "--hidden", "4", "--max-epochs", "3")
    done = run("experiments.patchseq_human", "smoke", "--data", str(folder), *small, cwd=folder)
    assert done.returncode == 0, done.stderr
    return only_run(folder)


def test_every_arm_is_scored_on_every_split(finished):
    scores = [score for score in read_scores(finished / "scores.csv") if score.metric == "macro_f1"]
    arms = {*patchseq_human.LADDER, *patchseq_human.BASELINES, *patchseq_human.NAMES, "tabular", "vote"}
    assert {score.variant for score in scores} == arms
    for kind in ("cell", "donor"):
        assert len([score for score in scores if score.test_on == kind]) == 2 * len(arms)
    parts = {score.test_on for score in scores}
    assert parts == {"cell", "donor"} | {f"{a}, {b}" for a in ("cell", "donor") for b in ("acute", "culture")}
    both = {part: sum(score.n for score in scores if (score.test_on, score.variant) == (part, "lda")) for part in parts}
    assert both["cell"] == both["cell, acute"] + both["cell, culture"] == 96


def test_what_is_planted_is_found(finished):
    scores = read_scores(finished / "scores.csv")
    for arm in ("lda", "vote", "robust svm"):
        found = [s.value for s in scores if (s.variant, s.metric, s.test_on) == (arm, "macro_f1", "cell")]
        assert np.mean(found) > 0.7, arm


def test_the_report_has_its_tables_and_figures(finished):
    report = (finished / "report.md").read_text()
    assert "## Folds by cell" in report and "## Folds by donor" in report and "## Test cells: donor, culture" in report
    assert len(list((finished / "figures").glob("*.png"))) == 2


def test_donors_stay_together_and_no_row_is_in_two_parts(tmp_path):
    write_cells(tmp_path / "human.csv")
    cells = read_cells(tmp_path, "human.csv", "subclass4")
    splits = draw_splits(cells, ("donor",), 2, lambda codes, seed, groups: patchseq_mouse.cut_once(codes, seed, groups))
    assert set(splits) == {("donor", 0, 0), ("donor", 1, 0)}
    for split in splits.values():
        donors = [set(cells.donor[part]) for part in split]
        assert not (donors[0] & donors[1] or donors[0] & donors[2] or donors[1] & donors[2])
        assert sorted(np.concatenate(split)) == list(range(96))


def test_a_vote_is_the_mean_of_its_members_and_cools_who_is_too_sure(tmp_path):
    write_cells(tmp_path / "human.csv")
    cells = read_cells(tmp_path, "human.csv", "subclass4")
    splits = draw_splits(cells, ("cell",), 1, patchseq_mouse.cut_once)
    ((place, split),) = splits.items()
    rng, codes = np.random.default_rng(0), cells.codes()
    arms = Arms(splits, {})
    for name, sure in (("calm", 1.0), ("sure", 8.0)):
        logits = {
            part: 1.5 * np.eye(4)[codes[rows]] + rng.normal(size=(len(rows), 4))
            for part, rows in split._asdict().items()
        }
        test, valid = (np.exp(sure * logits[part]) for part in ("test", "validation"))
        arms.add(name, place, test / test.sum(1, keepdims=True), valid / valid.sum(1, keepdims=True))
    arms.vote(("calm", "sure"))
    np.testing.assert_allclose(arms.said["vote"][place], (arms.said["calm"][place] + arms.said["sure"][place]) / 2)
    plain = arms.said["vote"][place].max(axis=1).mean()
    arms.vote(("calm", "sure"), codes)
    assert arms.said["vote"][place].max(axis=1).mean() < plain, "the one that was too sure is cooled"


def test_a_folder_without_cells_is_one_sentence(tmp_path):
    done = run("experiments.patchseq_human", "smoke", "--data", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2 and "holds neither human.csv nor a table of data_prep" in done.stderr
    assert done.stderr.strip().count("\n") == 0
