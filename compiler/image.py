"""The image: one file that holds a compiled model, and its memory map on the chip."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

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
        (MemoryMap fields), ``tokenizer`` (description or None), ``sha256`` by section.
    sections
        uint8 arrays: ``program``, ``norms``, ``rope``, ``embedding``, ``tape``.
    """

    manifest: dict
    sections: dict[str, np.ndarray] = field(repr=False)

    @property
    def memory(self) -> MemoryMap:
        return MemoryMap(**self.manifest["memory"])

    def place(self, memory: np.ndarray) -> None:
        """Copy every section to its address in the chip's memory (uint8)."""
        for name, section in self.sections.items():
            start = self.manifest["memory"][name]
            memory[start : start + section.size] = section


def _digest(section: np.ndarray) -> str:
    return hashlib.sha256(section.data).hexdigest()


def new_image(manifest: dict, memory: MemoryMap, sections: dict[str, np.ndarray]) -> Image:
    """An image with its hashes."""
    sections = {k: np.ascontiguousarray(v).view(np.uint8).reshape(-1) for k, v in sections.items()}
    manifest = {
        "format": FORMAT,
        **manifest,
        "memory": asdict(memory),
        "sha256": {k: _digest(v) for k, v in sections.items()},
    }
    return Image(manifest, sections)


def write_image(image: Image, path: Path) -> None:
    """Write an image as a safetensors file with the manifest as metadata, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    save_file(image.sections, partial, metadata={"serrano": json.dumps(image.manifest)})
    partial.replace(path)


def read_image(path: Path) -> Image:
    """Read an image and check its hashes.

    Raises ``UserError`` for a file that is missing, damaged or not an image.
    """
    try:
        with safe_open(path, framework="numpy") as f:
            text = (f.metadata() or {}).get("serrano")
            if text is None:
                raise UserError(f"{path}: not a Serrano image; compile a checkpoint to make one")
            manifest = json.loads(text)
            if manifest.get("format") != FORMAT:
                raise UserError(
                    f"{path}: image format {manifest.get('format')!r}, this version reads "
                    f"{FORMAT!r}: compile the checkpoint again"
                )
            sections = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such image file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged image ({error}); compile it again") from None
    for name in _SECTIONS:
        if name not in sections:
            raise UserError(f"{path}: section {name} is missing; compile it again")
        if _digest(sections[name]) != manifest["sha256"].get(name):
            raise UserError(f"{path}: section {name} is damaged (hash differs); compile it again")
    return Image(manifest, sections)
