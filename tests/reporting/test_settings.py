"""Settings are stored in config.json and read again when a run is resumed."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jaxephys.reporting.settings import Settings, settings_from_json, settings_to_json


@dataclass(frozen=True)
class Example(Settings):
    data: Path | None = None
    seeds: int = 10
    losses: tuple[str, ...] = ("bce",)


def test_settings_survive_a_round_trip():
    settings = Example(data=Path("cells.csv"), seeds=3, losses=("dice", "bce"), out=Path("elsewhere"), device="cpu")
    saved = json.loads(json.dumps(settings_to_json(settings)))
    stored = {"data": "cells.csv", "seeds": 3, "losses": ["dice", "bce"], "search": []}
    stored |= {"precision": "auto", "execution": "auto"}
    assert saved == stored, "folder and device are not stored"
    assert settings_from_json(Example(), saved) == replace(settings, out=Path("runs"), device=None)
    assert settings_from_json(Example(data=Path("x")), saved | {"data": None}).data is None


def test_settings_of_another_version_raise():
    with pytest.raises(ValueError, match="differ in the field 'epochs'"):
        settings_from_json(Example(), settings_to_json(Example()) | {"epochs": 5})


def test_settings_of_versions_without_a_field_are_read():
    assert settings_from_json(Example(), {"data": None, "seeds": 2, "losses": []}) == Example(seeds=2, losses=())
