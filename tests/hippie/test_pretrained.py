"""Models are opened from folders, files and the cache of the hub; the network is used only on request."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.pretrained import open_model
from tests.hippie.test_estimator import card_checkpoint
from tests.hippie.test_torch_checkpoint import TINY


def hub(monkeypatch, path=None):
    """Replace the library of the hub; without a path its cache is empty and there is no network."""
    calls = []

    def download(**options):
        calls.append(options)
        if path is None:
            raise OSError("Cannot find the requested files in the disk cache\nand outgoing traffic is disabled")
        return str(path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    return calls


def test_a_file_and_a_folder_are_opened(tmp_path, monkeypatch):
    calls = hub(monkeypatch)
    from_file = open_model(card_checkpoint(tmp_path))
    assert isinstance(from_file, Hippie) and from_file.network_ == TINY
    from_folder = open_model(from_file.save(tmp_path / "model"))
    kernels = [model.variables_["params"]["z_mean"]["kernel"] for model in (from_file, from_folder)]
    np.testing.assert_array_equal(*kernels)
    assert calls == []


def test_the_published_weights_are_those_of_the_working_folder(tmp_path, monkeypatch):
    calls = hub(monkeypatch)
    card_checkpoint(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert open_model().network_ == TINY and calls == []


@pytest.mark.parametrize("fetch", [False, True])
def test_the_published_weights_are_those_of_the_hub(tmp_path, monkeypatch, fetch):
    calls = hub(monkeypatch, card_checkpoint(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert open_model(fetch=fetch).network_ == TINY
    assert [(call["repo_id"], call["local_files_only"]) for call in calls] == [("Jesusgf23/hippie", not fetch)]


def test_what_is_not_there_is_named_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub(monkeypatch)
    with pytest.raises(ValueError, match=r"not on this machine \(Cannot find .*\): give the path .* --fetch") as caught:
        open_model()
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match="huggingface_hub is not installed"):
        open_model(fetch=True)
    with pytest.raises(ValueError, match="there is no model other.ckpt: give the path"):
        open_model("other.ckpt")


def test_a_repository_of_the_hub_is_opened_on_request_only(tmp_path, monkeypatch):
    model = open_model(card_checkpoint(tmp_path))
    requested = []
    monkeypatch.setattr("jaxephys.hippie.pretrained.load_pretrained", lambda name: requested.append(name) or model)
    with pytest.raises(ValueError, match="there is no model some/units"):
        open_model("some/units")
    assert requested == [] and open_model("some/units", fetch=True) is model and requested == ["some/units"]
    monkeypatch.setattr("jaxephys.hippie.pretrained.load_pretrained", lambda name: object())
    with pytest.raises(ValueError, match="some/units is a object: give the repository of a Hippie"):
        open_model("some/units", fetch=True)
