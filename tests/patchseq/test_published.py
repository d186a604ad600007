"""The published protocol: its splits, its rules, and what the text and the released code have in common."""

import math

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, train_test_split

from jaxephys.engine.config import TrainConfig
from jaxephys.patchseq.grid import SplitSettings
from jaxephys.patchseq.published import HUMAN, MOUSE, TRANSFER_TABLE, draw_notebook_splits
from jaxephys.patchseq.task import ABLATION
from jaxephys.schemas.feature_table import FeatureTable

CELLS = 200
LABEL = np.array(["Lamp5", "Pvalb", "Sst", "Vip"])[np.random.default_rng(0).integers(0, 4, CELLS)]
TABLE = FeatureTable.from_arrays(np.ones((CELLS, 2), np.float32), {"a": 2}, LABEL)


def test_a_hold_out_divides_training_cells_off_first():
    splits = draw_notebook_splits(TABLE, 2, MOUSE.first_seed)
    assert [tuple(key) for key in splits] == [("cell", 23, 0), ("cell", 24, 0)]
    for (_, seed, _), split in splits.items():
        train, rest = train_test_split(np.arange(CELLS), test_size=0.4, random_state=seed, stratify=LABEL)
        validation, test = train_test_split(rest, test_size=0.5, random_state=seed, stratify=LABEL[rest])
        for part, rows in zip(split, (train, validation, test), strict=True):
            np.testing.assert_array_equal(part, np.sort(rows))
        assert [len(part) for part in split] == [120, 40, 40]


def test_the_folds_of_a_draw_have_seeds_of_their_numbers_from_one():
    splits = draw_notebook_splits(TABLE, 1, HUMAN.first_seed, 5)
    assert [tuple(key) for key in splits] == [("cell", 9, fold) for fold in range(5)]
    folds = StratifiedKFold(5, shuffle=True, random_state=9).split(LABEL, LABEL)
    for number, (split, (rest, test)) in enumerate(zip(splits.values(), folds, strict=True), start=1):
        train, validation = train_test_split(rest, test_size=0.25, random_state=9 + 1000 * number, stratify=LABEL[rest])
        for part, rows in zip(split, (train, validation, test), strict=True):
            np.testing.assert_array_equal(part, np.sort(rows))
    assert sorted(np.concatenate([split.test for split in splits.values()])) == list(range(CELLS))


def test_settings_draw_ours_or_those_of_the_notebooks():
    ours = SplitSettings(folds=("cell",), seeds=2).draw_splits(TABLE, 23)
    assert [key.seed for key in ours] == [0, 1]
    theirs = SplitSettings(folds=("cell",), seeds=2, notebook_splits=True).draw_splits(TABLE, 23)
    assert [key.seed for key in theirs] == [23, 24]
    with pytest.raises(ValueError, match="give --folds cell"):
        SplitSettings(notebook_splits=True).draw_splits(TABLE, 23)


@pytest.mark.parametrize("protocol", [MOUSE, HUMAN])
def test_the_text_has_adam_and_macro_f1_and_the_code_adamw_with_clipping(protocol):
    text, code = (TrainConfig(**ablation.training) for ablation in (protocol.published, protocol.released))
    assert (text.optimizer, text.weight_decay, text.clip_norm, text.monitor) == ("adam", 0.0, None, "macro_f1")
    assert (code.optimizer, code.weight_decay, code.clip_norm, code.monitor) == ("adamw", 1e-4, 2.0, "selection")
    for config in (text, code):
        assert (config.learning_rate, config.batch_size, config.max_epochs, config.patience) == (1e-3, 64, 50, 7)
    assert {variant.selection for variant in protocol.published.variants.values()} == {"macro_f1"}
    assert list(protocol.published.variants) == list(protocol.released.variants) == list(ABLATION)
    assert not protocol.published.token_encoder and not protocol.released.token_encoder


def test_human_networks_without_smote_weigh_classes_by_inverse_frequency():
    for ablation in (HUMAN.published, HUMAN.released):
        weights = {name: variant.weights for name, variant in ablation.variants.items()}
        assert weights["bilstm"] == weights["attention"] == "inverse" and weights["attention+smote"] == "none"
    assert {variant.weights for name, variant in MOUSE.published.variants.items() if name != "arcface+smote"} == {
        "none"
    }


def test_every_published_score_is_possible_and_has_a_text():
    rows = [*MOUSE.table.values(), *HUMAN.table.values(), *TRANSFER_TABLE.values()]
    assert all(set(row) == {"macro_f1", "accuracy"} for row in rows)
    for score in (score for row in rows for score in row.values()):
        assert 0.6 < score.mean < 1 and (math.isnan(score.sd) or score.sd < 0.03)
        assert score.text.startswith(f"{score.mean:.4f}")
    assert TRANSFER_TABLE["joint network, tuned"]["macro_f1"].text == "0.6795 ± 0.0120"
