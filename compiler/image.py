"""The image: one file that holds a compiled model, and its memory map on the chip."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from compiler.checkpoint.tokenizer import TokenizerSpec, tokenizer_from_json
from compiler.errors import UserError

__all__ = ["FORMAT", "Image", "MemoryMap", "new_image", "read_image", "write_image"]

FORMAT = "serrano-image-1"

_SECTIONS = ("program", "norms", "rope", "embedding", "tape")


@dataclass(frozen=True)
class MemoryMap:
    """Byte addresses in the chip's memory.

    Sections of the image lie at their addresses; what follows is the host's: descriptor, result,
    page tables (``tables``), the owner table and the KV pages. ``size`` is one past the last byte.
    """

    program: int
    norms: int
    rope: int
    embedding: int
    tape: int
    tape_block_tiles: int
    descriptor: int
    result: int
    page_tables: int
    kv_owners: int
    kv_base: int
    kv_pages: int
    context: int
    rows_in: int
    rows_out: int
    size: int


@dataclass
class Image:
    """A compiled model.

    Attributes
    ----------
    manifest
        JSON-able facts: ``format``, ``config`` (hdl.config.Config fields), ``model``
        (LlamaConfig fields), ``source``, ``rows`` (a step's rows at the most), ``memory``
        (MemoryMap fields), ``tokenizer`` (JSON text or None), ``sha256`` by section.
    sections
        uint8 arrays: ``program``, ``norms``, ``rope``, ``embedding``, ``tape``.
    """

    manifest: dict
    sections: dict[str, np.ndarray] = field(repr=False)

    @property
    def memory(self) -> MemoryMap:
        return MemoryMap(**self.manifest["memory"])

    @property
    def tokenizer(self) -> TokenizerSpec | None:
        """What `runtime.tokenizer.make` needs, if the checkpoint had a tokenizer."""
        text = self.manifest["tokenizer"]
        return tokenizer_from_json(text) if text else None

    def place(self, memory: np.ndarray) -> None:
        """Copy every section to its address in the chip's memory (uint8)."""
        for name, section in self.sections.items():
            start = self.manifest["memory"][name]
            memory[start : start + section.size] = section


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def new_image(manifest: dict, memory: MemoryMap, sections: dict[str, np.ndarray]) -> Image:
    """An image with its hashes."""
    sections = {k: np.ascontiguousarray(v).view(np.uint8).reshape(-1) for k, v in sections.items()}
    manifest = {
        "format": FORMAT,
        **manifest,
        "memory": asdict(memory),
        "sha256": {k: _digest(v.data) for k, v in sections.items()},
    }
    return Image(manifest, sections)


def write_image(image: Image, path: Path) -> None:
    """Write an image as a safetensors file with the manifest as metadata, whole or not at all.

    Raises ``UserError`` where that fails.
    """
    text = json.dumps(image.manifest)
    metadata = {"serrano": text, "sha256": _digest(text.encode())}
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(image.sections, partial, metadata=metadata)
        partial.replace(path)
    except (SafetensorError, OSError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path}: can't write the image ({error})") from None


def _read_manifest(path: Path, metadata: dict[str, str]) -> dict:
    text = metadata.get("serrano")
    if text is None:
        raise UserError(f"{path}: not a Serrano image; compile a checkpoint to make one")
    try:
        manifest = json.loads(text)
        found = manifest["format"]
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path}: the manifest is damaged; compile the image again") from None
    if found != FORMAT:
        raise UserError(
            f"{path}: image format {found!r}, this version reads {FORMAT!r}: compile the "
            "checkpoint again"
        )
    if metadata.get("sha256") != _digest(text.encode()):
        raise UserError(f"{path}: the manifest is damaged (hash differs); compile the image again")
    return manifest


def read_image(path: Path) -> Image:
    """Read an image and check its hashes.

    Raises ``UserError`` for a file that is missing, damaged or not an image.
    """
    try:
        with safe_open(path, framework="numpy") as f:
            manifest = _read_manifest(path, f.metadata() or {})
            sections = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such image file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged, or not an image ({error}); compile it again") from None
    for name in _SECTIONS:
        if name not in sections:
            raise UserError(f"{path}: section {name} is missing; compile it again")
        if _digest(sections[name].data) != manifest["sha256"][name]:
            raise UserError(f"{path}: section {name} is damaged (hash differs); compile it again")
    return Image(manifest, sections)
