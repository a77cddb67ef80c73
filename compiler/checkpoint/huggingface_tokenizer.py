"""Tokenizer files of a Hugging Face directory -> `HuggingFaceSpec`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compiler.checkpoint.files import read_json
from compiler.checkpoint.model import LlamaConfig
from compiler.checkpoint.tokenizer import HuggingFaceSpec
from compiler.errors import UserError

__all__ = ["load_huggingface_tokenizer"]

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


def load_huggingface_tokenizer(path: Path, config: LlamaConfig) -> HuggingFaceSpec | None:
    """Tokenizer of a directory, or in a ``tokenizer.json``; None where there is none.

    ``chat_template.jinja``, where it is there, goes before ``tokenizer_config.json``.
    """
    folder = path if path.is_dir() else path.parent
    definition_path = path if path.is_file() else path / "tokenizer.json"
    if not definition_path.is_file():
        return None
    definition = read_json(definition_path)
    if not isinstance(definition.get("model"), dict):
        raise UserError(f"{definition_path} is not a tokenizer.json: it has no 'model'")
    settings_path = folder / "tokenizer_config.json"
    settings = read_json(settings_path) if settings_path.is_file() else {}
    try:
        return _spec(folder, definition, settings, config)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{definition_path} or tokenizer_config.json beside it is malformed ({error!r})"
        ) from error


def _spec(
    folder: Path, definition: dict[str, Any], settings: dict[str, Any], config: LlamaConfig
) -> HuggingFaceSpec:
    special = {name: _text(settings[name]) for name in _SPECIAL if settings.get(name)}
    ids = _token_ids(definition)
    bos = ids.get(special.get("bos_token", ""), config.bos_id)
    ends = {*config.eos_ids}
    if (end := ids.get(special.get("eos_token", ""))) is not None and end < config.vocab:
        ends.add(end)
    # As in transformers 5: an explicit setting goes before tokenizer.json's post-processor.
    add_bos = settings.get("add_bos_token")
    return HuggingFaceSpec(
        vocab=config.vocab,
        bos_id=bos,
        eos_ids=tuple(sorted(ends)),
        add_bos=add_bos if isinstance(add_bos, bool) else None,
        chat_template=_chat_template(folder, settings),
        special=special,
        definition=json.dumps(definition, ensure_ascii=False),
    )


def _text(token: Any) -> str:
    """A special token's text: written as such, or as a serialised AddedToken."""
    return token["content"] if isinstance(token, dict) else str(token)


def _token_ids(definition: dict[str, Any]) -> dict[str, int]:
    vocab = definition["model"].get("vocab")
    ids = dict(vocab) if isinstance(vocab, dict) else {}
    added = definition.get("added_tokens") or []
    return ids | {token["content"]: token["id"] for token in added}


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        try:
            return jinja.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{jinja} can not be read: {error}") from error
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        return next((t["template"] for t in template if t.get("name") == "default"), None)
    return template
