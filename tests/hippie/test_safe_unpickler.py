"""Reading PyTorch files without PyTorch: every layout of a tensor, and pickles that must not run."""

import os
import pickle
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.hippie.safe_unpickler import InertObject, read_state_dict, read_torch_file
from tests.hippie.torch_file import Call, Global, Storage, tensor, tensors, write

NUMBERS = np.arange(12, dtype=np.float32)


def one(storage, offset, size, stride):
    return {"state_dict": {"w": tensor(storage, offset, size, stride)}}


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i8", "u1", jnp.bfloat16])
def test_every_number_format_in_either_byte_order(tmp_path, dtype, byteorder):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    read = read_state_dict(write(tmp_path / "a.ckpt", {"state_dict": tensors({"w": array})}, byteorder))
    assert read["w"].dtype.itemsize == array.dtype.itemsize
    np.testing.assert_array_equal(read["w"].astype(np.float64), array.astype(np.float64))


@pytest.mark.parametrize(
    "offset, size, stride, expected",
    [
        (0, (3, 4), (4, 1), NUMBERS.reshape(3, 4)),
        (0, (4, 3), (1, 4), NUMBERS.reshape(3, 4).T),
        (2, (2, 2), (5, 2), [[2, 4], [7, 9]]),
        (11, (), (), 11),
        (3, (2, 2), (0, 1), [[3, 4], [3, 4]]),
        (0, (0, 4), (4, 1), np.zeros((0, 4))),
    ],
    ids=["plain", "transposed", "slice", "scalar", "expanded", "empty"],
)
def test_any_view_of_a_storage(tmp_path, offset, size, stride, expected):
    read = read_state_dict(write(tmp_path / "a.pt", one(Storage("0", NUMBERS), offset, size, stride)))
    np.testing.assert_array_equal(read["w"], expected)


@pytest.mark.parametrize(
    "offset, size, stride", [(0, (3, 5), (4, 1)), (12, (1,), (1,)), (-1, (2,), (1,)), (0, (2,), (-1,))]
)
def test_a_view_that_leaves_its_storage_is_refused(tmp_path, offset, size, stride):
    with pytest.raises(CheckpointError, match="it is no checkpoint"):
        read_torch_file(write(tmp_path / "a.pt", one(Storage("0", NUMBERS), offset, size, stride)))


def test_tensors_that_share_a_storage_and_parameters_are_read(tmp_path):
    shared = Storage("7", NUMBERS)
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), tensor(shared, 6, (6,), (1,)), True, OrderedDict())
    read = read_state_dict(write(tmp_path / "a.pt", {"a": tensor(shared, 0, (6,), (1,)), "b": parameter}))
    np.testing.assert_array_equal(np.concatenate([read["a"], read["b"]]), NUMBERS)


def test_other_objects_of_a_lightning_checkpoint_are_inert(tmp_path):
    config = Call(Global("hippie.config", "CVAEConfig"), 3, state={"z_dim": 30})
    listed = Call(Global("lightning.utilities", "AttributeDict"), state=({"a": 1}, {"b": 2}))
    content = {
        "epoch": 3,
        "hyper_parameters": {"config": config, "more": listed, "kind": Global("torch", "float16")},
        "state_dict": OrderedDict(tensors({"model.w": NUMBERS})),
    }
    read = read_torch_file(write(tmp_path / "a.ckpt", content))
    kept = read["hyper_parameters"]
    assert isinstance(kept["config"], InertObject) and type(kept["config"]).origin == "hippie.config.CVAEConfig"
    assert kept["kind"].origin == "torch.float16" and read["epoch"] == 3
    np.testing.assert_array_equal(read["state_dict"]["model.w"], NUMBERS)


class Harm:
    """What a pickle can do: call anything with anything."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"echo harm > {self.path}",)


@pytest.mark.parametrize("wrap", ["all", "table", "tensor", "storage", "settings"])
def test_a_pickle_that_calls_runs_nothing(tmp_path, wrap):
    harm, trace = Harm(tmp_path / "harm"), tmp_path / "harm"
    content = {
        "all": harm,
        "table": {"state_dict": harm},
        "tensor": {"state_dict": {**tensors({"w": NUMBERS}), "v": harm}},
        "storage": {"state_dict": {"w": tensor(harm, 0, (2,), (1,))}},
        "settings": {"hyper_parameters": harm, "state_dict": tensors({"w": NUMBERS})},
    }[wrap]
    path = write(tmp_path / "a.ckpt", content)
    if wrap == "settings":
        np.testing.assert_array_equal(read_state_dict(path)["w"], NUMBERS)
    else:
        with pytest.raises(CheckpointError, match=rf"{os.name}\.system") as caught:
            read_state_dict(path)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert not trace.exists()


def test_the_malicious_pickle_would_run_without_protection(tmp_path):
    pickle.loads(pickle.dumps(Harm(tmp_path / "harm")))
    assert (tmp_path / "harm").exists()


def test_other_files_are_refused_in_one_sentence(tmp_path):
    old, text, empty, torn = (tmp_path / name for name in ("old.pt", "text.pt", "empty.pt", "torn.pt"))
    old.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2))
    text.write_text("wave,isi\n")
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("archive/version", "3")
    whole = write(tmp_path / "whole.pt", tensors({"w": NUMBERS}))
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(torn, "w") as copy:
        copy.writestr("archive/data.pkl", archive.read("archive/data.pkl")[:-20])
    for path, message in [
        (old, "torch before 1.6"),
        (text, "is no zip"),
        (empty, "0 records data.pkl"),
        (torn, "is damaged"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            read_torch_file(path)
