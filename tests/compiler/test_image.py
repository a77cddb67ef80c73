"""The image file: written, read, and refused when anything in it has changed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from compiler.checkpoint import SentencePieceSpec
from compiler.errors import UserError
from compiler.image import FORMAT, Image, read_image, write_image
from runtime.device import Device
from runtime.golden_chip import GoldenChip
from tests.devices import checkpoint, image, logits

TOKENIZER = SentencePieceSpec(
    vocab=96,
    bos_id=1,
    eos_ids=(2,),
    tokens=("<unk>", "<s>", "</s>", "\u2581a", 'quote"', "\n", "\U0001f600"),
    scores=(0.0, 0.0, 0.0, -1.5, -2.0, -3.0, -4.0),
    types=(2, 3, 3, 1, 1, 1, 1),
)


@pytest.fixture(scope="module")
def made() -> Image:
    return image(replace(checkpoint(), tokenizer=TOKENIZER), context=40, sequences=2)


@pytest.fixture
def file(made: Image, tmp_path: Path) -> Path:
    path = tmp_path / "model.image"
    write_image(made, path)
    return path


def test_an_image_comes_back_whole(made: Image, file: Path) -> None:
    found = read_image(file)
    assert found.memory == made.memory
    assert found.manifest == json.loads(json.dumps(made.manifest))
    assert set(found.sections) == set(made.sections)
    for name, section in made.sections.items():
        assert section.dtype == np.uint8
        np.testing.assert_array_equal(found.sections[name], section)
    assert found.tokenizer == TOKENIZER
    text = [5, 6, 7, 8, 9]
    one, other = Device(made, GoldenChip), Device(found, GoldenChip)
    np.testing.assert_array_equal(logits(one, text), logits(other, text))


def test_an_image_without_head_or_tokenizer_comes_back(tmp_path: Path) -> None:
    made = image(checkpoint(), with_head=False)
    path = tmp_path / "layer.image"
    write_image(made, path)
    found = read_image(path)
    assert found.tokenizer is None
    assert found.sections["embedding"].size == 0


def test_the_manifest_says_what_it_promises(made: Image) -> None:
    manifest = made.manifest
    assert manifest["format"] == FORMAT
    assert manifest["config"]["name"] == "edge"
    assert manifest["model"]["head_dim"] == 8
    assert manifest["rows"] == 64
    assert manifest["with_head"] is True
    assert manifest["memory"]["context"] == 40
    assert manifest["memory"]["kv_pages"] == 4
    assert set(manifest["sha256"]) == set(made.sections)


def test_sections_lie_apart_at_their_addresses(made: Image) -> None:
    map = made.memory
    memory = np.zeros(map.size, np.uint8)
    made.place(memory)
    spans = sorted((getattr(map, name), s.size) for name, s in made.sections.items())
    for (start, size), (after, _) in pairwise(spans):
        assert start + size <= after
    assert spans[0][0] > 0
    assert spans[-1][0] + spans[-1][1] <= map.descriptor
    order = ("descriptor", "result", "page_tables", "kv_owners", "kv_base", "size")
    places = [getattr(map, name) for name in order]
    assert places == sorted(set(places))
    for name, section in made.sections.items():
        at = getattr(map, name)
        assert memory[at : at + section.size].tobytes() == section.tobytes()


def parts(file: Path) -> tuple[dict[str, Any], bytes]:
    """Header and body of a safetensors file."""
    data = file.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def put(file: Path, header: dict[str, Any], body: bytes) -> None:
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + body)


@pytest.mark.parametrize("name", ["program", "norms", "rope", "embedding", "tape"])
def test_a_flipped_bit_is_found_and_its_section_named(file: Path, name: str) -> None:
    header, body = parts(file)
    start, end = header[name]["data_offsets"]
    changed = bytearray(body)
    changed[(start + end) // 2] ^= 4
    put(file, header, bytes(changed))
    with pytest.raises(UserError, match=f"section {name} is damaged"):
        read_image(file)


@pytest.mark.parametrize("name", ["program", "tape"])
def test_a_missing_section_is_named(made: Image, tmp_path: Path, name: str) -> None:
    sections = {k: v for k, v in made.sections.items() if k != name}
    write_image(Image(made.manifest, sections), tmp_path / "image")
    with pytest.raises(UserError, match=f"section {name} is missing"):
        read_image(tmp_path / "image")


def change_manifest(text: str) -> str:
    return text.replace('"context": 40', '"context": 41')


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (change_manifest, "the manifest is damaged"),
        (lambda text: text[:-1], "the manifest is damaged"),
        (lambda text: "[]", "the manifest is damaged"),
        (lambda text: "{}", "the manifest is damaged"),
        (lambda text: text.replace(FORMAT, "serrano-image-9"), "image format 'serrano-image-9'"),
    ],
)
def test_a_changed_manifest_is_found(file: Path, change: Callable[[str], str], text: str) -> None:
    header, body = parts(file)
    before = header["__metadata__"]["serrano"]
    header["__metadata__"]["serrano"] = change(before)
    assert header["__metadata__"]["serrano"] != before
    put(file, header, body)
    with pytest.raises(UserError, match=text):
        read_image(file)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.none() | st.integers(0, 7))
def test_a_file_cut_short_or_changed_anywhere_is_refused(
    file: Path, made: Image, share: float, bit: int | None
) -> None:
    write_image(made, file)
    data = bytearray(file.read_bytes())
    at = int(share * len(data))
    if bit is None:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    file.write_bytes(data)
    found = None
    with suppress(UserError):
        found = read_image(file)
    if found is not None:  # white space in the header of the file
        assert bit is not None
        assert found.manifest == json.loads(json.dumps(made.manifest))
        assert all((found.sections[k] == v).all() for k, v in made.sections.items())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "no such image file"),
        (b"", "damaged, or not an image"),
        (b"GGUF" + bytes(100), "damaged, or not an image"),
        (bytes(1000), "damaged, or not an image"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=text):
        read_image(path)
    with pytest.raises(UserError, match="damaged, or not an image"):
        read_image(tmp_path)


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"w": np.zeros(3)}, tmp_path / "other", metadata={"format": "pt"})
    with pytest.raises(UserError, match="not a Serrano image"):
        read_image(tmp_path / "other")


def test_an_image_is_written_whole_or_not_at_all(made: Image, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't write the image"):
        write_image(made, tmp_path / "absent" / "image")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match="can't write the image"):
        write_image(made, folder)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
