"""Models are pushed to and loaded from a hub on this machine, by the real client; a folder needs no network."""

import json
import socket

import numpy as np
import pytest

import jaxephys
from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.models import registry
from jaxephys.models.base import EnsembleEstimator
from jaxephys.models.hub import HubError, fetch_model, load_pretrained, push_model
from tests.models.hub_server import HubServer

NAME = "some-laboratory/line"


@pytest.fixture
def kind(monkeypatch):
    """An estimator class of one array that is registered during one test."""
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))

    class Line(EnsembleEstimator):
        def __init__(self, unit="mV"):
            self.unit = unit

        def fit(self, slope):
            self.variables_ = {"params": {"slope": np.asarray(slope)}}
            return self

        def _saved_arrays(self):
            return self.variables_

        def _saved_settings(self):
            return {}

        def _restore(self, arrays, config):
            self.variables_ = arrays

        def _summary(self):
            return "a line"

    return Line


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    server = HubServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def options(server, tmp_path):
    return {"endpoint": server.endpoint, "cache_dir": tmp_path / "cache"}


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def slope_of(model):
    return model.variables_["params"]["slope"].tolist()


def test_a_pushed_model_is_loaded_by_the_name_of_its_repository(kind, server, options, capsys):
    url = kind("pA").fit([[1.0, 2.0]]).push_to_hub(NAME, about={"license": "cc0-1.0"}, endpoint=server.endpoint)
    assert url.startswith(f"{server.endpoint}/{NAME}/commit/")
    model = load_pretrained(NAME, **options)
    assert type(model) is kind and model.unit == "pA" and slope_of(model) == [[1.0, 2.0]]
    assert model.about_ == {"license": "cc0-1.0"}
    printed = capsys.readouterr().err
    assert f"to {server.endpoint}/{NAME}" in printed and "uploading" in printed
    assert f"reading {NAME} (revision main) from {server.endpoint}, cache {options['cache_dir']}" in printed


def test_exactly_the_files_of_the_model_are_uploaded(kind, server, tmp_path):
    folder = kind().fit([[1.0]]).save(tmp_path / "model")
    expected = files_of(folder)
    (folder / "notes.txt").write_text("not for the hub")
    push_model(folder, NAME, endpoint=server.endpoint)
    assert server.repositories[NAME][-1] == expected


def test_a_second_model_replaces_the_first_and_each_revision_is_found(kind, server, options):
    kind().fit([[1.0]]).push_to_hub(NAME, endpoint=server.endpoint)
    server.repositories[NAME][-1][".gitattributes"] = b"of the hub"
    first = server.sha(NAME, 1)
    kind().fit([[2.0, 3.0]]).push_to_hub(NAME, endpoint=server.endpoint)
    assert ".gitattributes" in server.repositories[NAME][-1], "files that are not those of a model stay"
    assert slope_of(load_pretrained(NAME, **options)) == [[2.0, 3.0]]
    assert slope_of(load_pretrained(NAME, first, **options)) == [[1.0]]


def test_the_cache_is_used_where_the_hub_is_not_reached(kind, server, options):
    kind().fit([[1.0]]).push_to_hub(NAME, endpoint=server.endpoint)
    load_pretrained(NAME, **options)
    downloads = [request for request in server.requests if "/resolve/" in request]
    load_pretrained(NAME, **options)
    assert [request for request in server.requests if "/resolve/" in request] == downloads, "nothing comes twice"
    count = len(server.requests)
    assert slope_of(load_pretrained(NAME, local_files_only=True, **options)) == [[1.0]]
    assert len(server.requests) == count
    unreachable = {**options, "endpoint": "http://127.0.0.1:9"}
    assert slope_of(load_pretrained(NAME, **unreachable)) == [[1.0]]


def test_a_model_is_fetched_into_a_folder(kind, server, options, tmp_path):
    folder = kind().fit([[1.0]]).save(tmp_path / "model")
    push_model(folder, NAME, endpoint=server.endpoint)
    copy = fetch_model(NAME, tmp_path / "new" / "copy", **options)
    assert files_of(copy) == files_of(folder) and not any(path.is_symlink() for path in copy.rglob("*"))
    with pytest.raises(HubError, match="exists: choose another name"):
        fetch_model(NAME, copy, **options)


def test_a_folder_is_loaded_without_the_network(kind, tmp_path, monkeypatch):
    folder = kind().fit([[1.0]]).save(tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", None)
    assert slope_of(load_pretrained("owner/name")) == slope_of(jaxephys.load_pretrained(folder)) == [[1.0]]
    with pytest.raises(HubError, match="has no revision 'v1': leave revision out"):
        load_pretrained(folder, "v1")


@pytest.mark.parametrize("damage", ["byte", "missing"])
def test_a_damaged_download_is_refused(kind, server, options, damage):
    kind().fit([[1.0]]).push_to_hub(NAME, endpoint=server.endpoint)
    files = server.repositories[NAME][-1]
    if damage == "byte":
        files["params.npz"] = files["params.npz"][:-1] + b"?"
    else:
        del files["checksums.json"]
    with pytest.raises(CheckpointError, match=r"params.npz was damaged|checksums.json is missing"):
        load_pretrained(NAME, **options)


def test_a_damaged_folder_is_not_uploaded(kind, server, tmp_path):
    folder = kind().fit([[1.0]]).save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "version": "9"}))
    with pytest.raises(CheckpointError, match=r"config.json was damaged or changed"):
        push_model(folder, NAME, endpoint=server.endpoint)
    assert server.requests == []


def test_every_error_is_one_sentence_with_a_remedy(kind, server, options, tmp_path):
    server.repositories["other/model"] = [{"weights.bin": b"", "README.md": b""}]
    unreachable = {**options, "endpoint": "http://127.0.0.1:9"}
    cases = {
        ("nowhere", None, 0): "there is no folder nowhere, and a repository of the hub has the form owner/name",
        ("some/missing", None, 0): "there is no repository some/missing at .*: check the name, or log in",
        ("other/model", "v7", 0): "other/model has no revision 'v7' at .*: give a branch",
        ("other/model", None, 0): "other/model holds no saved model of jaxephys: config.json is missing",
        ("some/model", None, 1): "some/model is not in the cache, and .* was not reached: connect to the network",
    }
    for (name, revision, offline), expected in cases.items():
        with pytest.raises(ValueError, match=expected) as error:
            load_pretrained(name, revision, **(unreachable if offline else options))
        assert "\n" not in str(error.value)
    with pytest.raises(
        HubError, match="some/model is not in the cache, and the hub was not used: connect to the network"
    ):
        load_pretrained("some/model", local_files_only=True, **options)
    folder = kind().fit([[1.0]]).save(tmp_path / "model")
    with pytest.raises(HubError, match="'model' is no repository of the hub: give owner/name"):
        push_model(folder, "model", endpoint=server.endpoint)
    with pytest.raises(HubError, match="was not reached"):
        push_model(folder, NAME, endpoint="http://127.0.0.1:9")
    server.refused = 401
    with pytest.raises(HubError, match="log in with `hf auth login`"):
        push_model(folder, NAME, endpoint=server.endpoint)


def test_without_the_client_the_extra_is_named(kind, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(HubError, match=r'pip install "jaxephys\[hub\]"'):
        load_pretrained(NAME)
