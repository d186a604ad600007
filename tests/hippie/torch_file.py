"""Files in the format of ``torch.save``, written without PyTorch, with contents that PyTorch would never write."""

import pickle
import zipfile
from typing import ClassVar, NamedTuple

import numpy as np

KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "u1": "Byte", "bfloat16": "BFloat16"}


class Global(NamedTuple):
    """A name that the pickle refers to, whether or not it exists."""

    module: str
    name: str

    def __call__(self):
        raise AssertionError("only its name is written")


class Storage(NamedTuple):
    key: str
    numbers: np.ndarray


class Call:
    """An object that the pickle creates by calling ``function`` with ``arguments`` and then setting ``state``."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


def tensor(storage, offset, size, stride):
    hooks = Call(Global("collections", "OrderedDict"))
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), storage, offset, size, stride, False, hooks)


def tensors(arrays):
    """A contiguous tensor for each array."""
    made = {}
    for key, (name, array) in enumerate(arrays.items()):
        steps = tuple(step // array.itemsize for step in np.ascontiguousarray(array).strides[: array.ndim])
        made[name] = tensor(Storage(str(key), array.reshape(-1)), 0, array.shape, steps)
    return made


class Writer(pickle._Pickler):  # the one written in Python: its table can be added to
    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, file, byteorder):
        super().__init__(file, protocol=2)
        self.byteorder, self.records = byteorder, {}

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        numbers = obj.numbers
        kind = KINDS.get(numbers.dtype.str[1:]) or KINDS[numbers.dtype.name]
        self.records[obj.key] = numbers.astype(numbers.dtype.newbyteorder(self.byteorder)).tobytes()
        return ("storage", Global("torch", f"{kind}Storage"), obj.key, "cpu", numbers.size)

    def save_name(self, obj):
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    dispatch[Global] = save_name


def write(path, content, byteorder="little"):
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("archive/data.pkl", "w") as file:
            writer = Writer(file, {"little": "<", "big": ">"}[byteorder])
            writer.dump(content)
        archive.writestr("archive/byteorder", byteorder)
        for key, record in writer.records.items():
            archive.writestr(f"archive/data/{key}", record)
    return path
