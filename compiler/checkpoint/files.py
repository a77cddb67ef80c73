"""Small things every checkpoint reader needs: JSON files, and the files that only look like one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compiler.errors import UserError

__all__ = ["read_head", "read_json"]

_LFS = b"version https://git-lfs"


def read_head(path: Path, size: int) -> bytes:
    """The first ``size`` bytes of a file; fewer if it is shorter.

    Raises `UserError` where the file can not be read, or is a Git LFS pointer in place of a file.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(max(size, len(_LFS)))
    except OSError as error:
        raise UserError(f"{path} can not be read: {error.strerror or error}") from error
    if head.startswith(_LFS):
        raise UserError(f"{path} is a Git LFS pointer, not the file; fetch it with 'git lfs pull'")
    return head[:size]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `UserError` naming the file and the place in it."""
    read_head(path, 1)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not valid JSON: {error.msg}, line {error.lineno} column {error.colno}"
        ) from error
    except (UnicodeDecodeError, OSError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a JSON {type(value).__name__}, an object is needed")
    return value
