"""The GGUF container: metadata and tensor table, every length checked against the file.

Source: the format's specification, ``docs/gguf.md`` of ggml-org/ggml, versions 2 and 3,
little-endian. Weights are dequantised by the ``gguf`` package. Its own reader is not used because
it takes seconds on a large vocabulary and, on a damaged file, can not say what is wrong.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from compiler.checkpoint.files import read_head
from compiler.errors import UserError

__all__ = ["GgufFile", "GgufTensor"]

_MAGIC = b"GGUF"
_OLD_MAGICS = (b"lmgg", b"fmgg", b"tjgg", b"algg")  # GGML, GGMF, GGJT, GGLA, little-endian
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies. ``shape`` is row-major, the order of NumPy: the reverse of the file's.

    ``offset`` and ``size_bytes`` count from the start of the file.
    """

    name: str
    type: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


class GgufFile:
    """A GGUF file opened for reading.

    Members
    -------
    metadata : key -> bool, int, float, str, or a list of these
    tensors : name -> `GgufTensor`

    Raises `UserError` naming what is wrong when the file is no GGUF, of another version or byte
    order, truncated, or inconsistent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        head = read_head(path, 8)
        if head[:4] in _OLD_MAGICS:
            raise UserError(f"{path} is a GGML file from before GGUF; convert it with llama.cpp")
        if head[:4] != _MAGIC:
            raise UserError(f"{path} is not a GGUF file")
        if len(head) < 8:
            raise UserError(f"{path} is truncated: it ends in its header")
        with open(path, "rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        version = struct.unpack_from("<I", head, 4)[0]
        if not version & 0xFFFF:
            raise UserError(f"{path} is a big-endian GGUF file; only little-endian is supported")
        if version not in (2, 3):
            raise UserError(f"{path} is GGUF version {version}; versions 2 and 3 are supported")
        self._at = 8
        tensors, keys = self._scalar("Q"), self._scalar("Q")
        self.metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self._string()
            self.metadata[key] = self._value(self._scalar("I"))
        self.tensors = self._tensor_table(tensors)

    def read(self, name: str) -> NDArray[np.float32]:
        """One tensor, dequantised to float32."""
        tensor = self.tensors[name]
        data = np.frombuffer(self._data, np.uint8, tensor.size_bytes, tensor.offset)
        rows = data.reshape(math.prod(tensor.shape[:-1]), -1)
        try:
            # A bad block's infinite scale is found by the caller, in its own words.
            with np.errstate(all="ignore"):
                values = gguf.dequantize(rows, tensor.type)
        except NotImplementedError as error:
            raise UserError(
                f"{self.path}: tensor '{name}' is {tensor.type.name}, which the gguf package can "
                "not dequantise; convert the model to F16 or Q8_0"
            ) from error
        return values.astype(np.float32, copy=False).reshape(tensor.shape)

    def _tensor_table(self, count: int) -> dict[str, GgufTensor]:
        entries = []
        for _ in range(count):
            name = self._string()
            dimensions = self._scalar("I")
            if not 1 <= dimensions <= _MAX_DIMENSIONS:
                raise UserError(
                    f"{self.path} is damaged: tensor '{name}' has {dimensions} dimensions"
                )
            shape = tuple(reversed([self._scalar("Q") for _ in range(dimensions)]))
            entries.append((name, shape, self._scalar("I"), self._scalar("Q")))
        alignment = self.metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise UserError(f"{self.path}: general.alignment {alignment!r} is no power of two")
        start = -(-self._at // alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        for name, shape, code, offset in entries:
            if name in tensors:
                raise UserError(f"{self.path} is damaged: tensor '{name}' is there twice")
            tensors[name] = self._tensor(name, shape, code, start + offset)
        return tensors

    def _tensor(self, name: str, shape: tuple[int, ...], code: int, offset: int) -> GgufTensor:
        try:
            kind = gguf.GGMLQuantizationType(code)
        except ValueError as error:
            raise UserError(f"{self.path}: tensor '{name}' is of unknown type {code}") from error
        if not all(shape):
            raise UserError(f"{self.path}: tensor '{name}' is empty, its shape is {shape}")
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        if shape[-1] % block:
            raise UserError(
                f"{self.path}: tensor '{name}' has rows of {shape[-1]}, {kind.name} needs a "
                f"multiple of {block}"
            )
        size = math.prod(shape) // block * block_bytes
        if offset + size > len(self._data):
            raise UserError(
                f"{self.path} is truncated: tensor '{name}' ends at byte {offset + size}, the file "
                f"at byte {len(self._data)}"
            )
        return GgufTensor(name, kind, shape, offset, size)

    def _take(self, size: int) -> int:
        """Offset of the next ``size`` bytes, stepping over them."""
        at = self._at
        if at + size > len(self._data):
            raise UserError(
                f"{self.path} is truncated or damaged: its metadata runs past the end of the file "
                f"(byte {len(self._data)})"
            )
        self._at = at + size
        return at

    def _scalar(self, code: str) -> Any:
        return struct.unpack_from("<" + code, self._data, self._take(struct.calcsize(code)))[0]

    def _string(self) -> str:
        size = self._scalar("Q")
        at = self._take(size)
        try:
            return self._data[at : at + size].decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path} is damaged: bad UTF-8 at byte {at}") from error

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise UserError(f"{self.path} is damaged: metadata of unknown type {kind}")
        item, count = self._scalar("I"), self._scalar("Q")
        if item in _SCALARS:
            dtype = np.dtype("<" + _SCALARS[item] if item != 7 else "?")
            at = self._take(count * dtype.itemsize)
            return np.frombuffer(self._data, dtype, count, at).tolist()
        if item == _ARRAY:
            raise UserError(f"{self.path}: nested arrays in metadata are not supported")
        return [self._value(item) for _ in range(count)]
