"""The tensors in a file that ``torch.save`` or Lightning has written, without torch and without running its pickle.

Such a file is a zip: ``NAME/data.pkl`` describes the objects, ``NAME/data/0``, ``NAME/data/1``, ... hold the numbers,
``NAME/byteorder`` says which byte comes first. A pickle is a program that may call anything. Here it may rebuild tensors
and ordered dictionaries; every other name in it becomes an inert object that remembers the name and does nothing.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxephys.engine.checkpoint import CheckpointError

STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
}
OLD = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)[:-1]  # how a file of torch before 1.6 begins


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Name -> array. The file holds a state dict, or a Lightning checkpoint with one under ``state_dict``."""
    content = read_torch(path)
    table = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(table, dict):
        raise CheckpointError(
            f"{path} holds {name_of(table)} where a table of tensors should be: nothing of it was run, and it is no checkpoint"
        )
    for name, value in table.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise CheckpointError(
                f"{path} holds {name_of(value)} under {name!r}, where a tensor should be: nothing of it was run, "
                "save the state_dict alone"
            )
    return dict(table)


def read_torch(path: str | Path) -> Any:
    """The object in the file: dictionaries, lists, numbers, NumPy arrays, and ``Inert`` for everything else."""
    with open(path, "rb") as file:
        if file.read(len(OLD)) == OLD:
            raise CheckpointError(f"{path} is in the format of torch before 1.6: load it and save it with a newer one")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is no zip, as a PyTorch checkpoint is: give the .ckpt, .pt or .pth file itself")
    try:
        with zipfile.ZipFile(path) as archive:
            roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise CheckpointError(f"it holds {len(roots)} records data.pkl, where a PyTorch checkpoint has one")
            return TensorUnpickler(archive, roots[0]).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # pickle and zipfile raise a dozen kinds for a damaged file
        raise CheckpointError(f"{path} is damaged ({error}): download or save it again") from error


class Inert:
    """Stands for a global that a pickle names, or for what it makes of it. Takes whatever is done to it and does nothing."""

    origin = ""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return self

    def ignore(self, *_: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = ignore


def name_of(value: Any) -> str:
    """What an object is, for a message."""
    kind = value if isinstance(value, type) else type(value)
    return kind.origin if issubclass(kind, Inert) else kind.__name__


class StorageKind(NamedTuple):
    dtype: np.dtype


class TensorUnpickler(pickle.Unpickler):
    """Admits what rebuilds tensors. Numbers stay in the buffer they were read into; arrays are views that none can write."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in archive.namelist() else b"little"
        if order not in (b"little", b"big"):
            raise CheckpointError(f"the byte order is {order!r}, neither little nor big")
        self._archive, self._root = archive, root
        self._order: Literal["<", ">"] = "<" if order == b"little" else ">"
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Bound methods, not functions: a pickle cannot set attributes on them."""
        if module == "torch" and name in STORAGES:
            return StorageKind(np.dtype(STORAGES[name]))
        admitted = {
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            "collections.OrderedDict": OrderedDict,
        }
        full = f"{module}.{name}"
        return admitted.get(full) or type(name, (Inert,), {"origin": full})

    def persistent_load(self, pid: Any) -> np.ndarray:
        word, kind, key, _, count = pid
        if word != "storage" or not isinstance(kind, StorageKind):
            raise CheckpointError(f"numbers of the kind {name_of(kind)} cannot be read: save them as float32")
        if key not in self._storages:
            raw = self._archive.read(f"{self._root}data/{key}")
            dtype = kind.dtype if kind.dtype.itemsize == 1 else kind.dtype.newbyteorder(self._order)
            self._storages[key] = np.frombuffer(raw, dtype)
        storage = self._storages[key]
        if len(storage) != count:
            raise CheckpointError(f"record {key} holds {len(storage)} numbers instead of {count}: download it again")
        return storage

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
        """The view of a storage. Its corners are checked: a stride that leads outside would read foreign memory."""
        if not isinstance(storage, np.ndarray) or not isinstance(size, tuple) or not isinstance(stride, tuple):
            raise CheckpointError(f"a tensor is made of {name_of(storage)}: it is no checkpoint")
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise CheckpointError(f"a tensor has the offset, sizes and strides {numbers}: it is no checkpoint")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if math.prod(size) and last >= len(storage):
            raise CheckpointError(f"a tensor reaches to number {last} of {len(storage)}: it is no checkpoint")
        steps = tuple(step * storage.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)

    def _parameter(self, tensor: Any, *_: Any) -> Any:
        return tensor
