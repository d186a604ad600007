"""Settings of the experiments: sizes of the network, stages of a protocol, and settings of runs of earlier versions."""

import json
from dataclasses import fields

import pytest

from jaxephys.hippie.protocol import (
    DENSE,
    HOLD_OUT_BENCHMARK,
    PUBLISHED_BENCHMARK,
    PUBLISHED_STAGES,
    TRANSFER_STAGES,
    BenchmarkSettings,
    EmbeddingSettings,
    NetworkSettings,
    NetworkSize,
    make_stages,
)
from jaxephys.reporting.settings import settings_from_json, settings_to_json


def test_the_default_network_is_the_published_one():
    settings = NetworkSettings()
    assert (settings.trunk, settings.width, settings.seeds) == ("resnet", 64, 10)
    assert [settings.latent_size(count) for count in (2, 3)] == [20, 30]
    assert NetworkSize(latent=16).latent_size(3) == 16
    assert settings.network_note == "Networks: ResNet-18 of width 64, latent 10 per modality."
    assert NetworkSize(width=0).network_note == ""


def test_the_default_protocol_uses_no_curve_of_a_test_unit():
    for settings in (EmbeddingSettings(), EmbeddingSettings(**DENSE), BenchmarkSettings(**HOLD_OUT_BENCHMARK)):
        assert not settings.uses_test_curves
    for options in (PUBLISHED_STAGES, TRANSFER_STAGES):
        assert EmbeddingSettings(**options).uses_test_curves
    assert EmbeddingSettings(transductive=True, pretraining=0).uses_test_curves
    assert not EmbeddingSettings(pretrain_on="all", pretraining=0).uses_test_curves


def test_stages_without_epochs_are_left_out():
    settings = BenchmarkSettings(**PUBLISHED_BENCHMARK)
    assert [(stage.name, stage.epochs) for stage in make_stages(settings)] == [
        ("pretrain", 100),
        ("fine_tune", 20),
        ("folds", 10),
    ]
    assert [stage.by_fold for stage in make_stages(settings)] == [False, False, True]
    assert [stage.name for stage in make_stages(EmbeddingSettings())] == ["pretrain", "folds"]
    (only,) = make_stages(BenchmarkSettings(**HOLD_OUT_BENCHMARK))
    assert only.pretraining and not only.labels and not only.by_fold
    assert make_stages(EmbeddingSettings(fine_tuning=1))[1].by_fold, "without test units, folds differ"


def test_runs_without_the_new_options_continue_as_they_were():
    now = settings_to_json(BenchmarkSettings(**DENSE))
    before = {name: value for name, value in now.items() if name not in BenchmarkSettings.added}
    assert len(before) < len(now)
    preset = BenchmarkSettings(**PUBLISHED_BENCHMARK)
    assert settings_from_json(preset, json.loads(json.dumps(before))) == BenchmarkSettings(**DENSE)
    assert set(BenchmarkSettings.added) <= {item.name for item in fields(BenchmarkSettings)}
    del before["contrast"]
    with pytest.raises(ValueError, match="differ in the field 'contrast'"):
        settings_from_json(preset, before)
