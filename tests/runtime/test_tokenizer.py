"""Tokenizers against independent, slower statements of their algorithms, and round trips."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from compiler.catalog import CATALOG, is_available, resolve
from compiler.checkpoint import (
    BytePairSpec,
    HuggingFaceSpec,
    SentencePieceSpec,
    TokenizerSpec,
    TokenType,
    load_checkpoint,
    tokenizer_from_json,
    tokenizer_to_json,
)
from compiler.errors import UserError
from runtime.tokenizer import Tokenizer, make
from tests.checkpoints import (
    SHARED_MODELS,
    random_tensors,
    small_config,
    write_gguf,
    write_huggingface,
    write_llama2c,
    write_tokenizer_bin,
)

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXTS = st.text(st.sampled_from("aaab  cé日😀\n<>"), max_size=24)


def sentencepiece(
    pieces: list[str], scores: list[float], llama2c: bool, **changes: Any
) -> SentencePieceSpec:
    tokens = ["<unk>", "\n<s>\n" if llama2c else "<s>", "</s>", *BYTES, *pieces]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    types = [*kinds, *[TokenType.BYTE] * 256, *[TokenType.NORMAL] * len(pieces)]
    values: dict[str, Any] = {
        "vocab": len(tokens),
        "bos_id": 1,
        "eos_ids": (2,),
        "tokens": tuple(tokens),
        "scores": (0.0,) * 259 + tuple(scores),
        "types": tuple(map(int, types)),
        "space": " " if llama2c else "\u2581",
        "bytes_first": llama2c,
    }
    return SentencePieceSpec(**(values | changes))


def by_the_book(spec: SentencePieceSpec, text: str) -> list[int]:
    """``encode`` of llama2.c's run.c: look at every pair, merge the best, leftmost first.

    Without ``bytes_first``, ``llm_tokenizer_spm`` of llama.cpp: the same on characters, bytes last.
    """
    ids = {piece: token for token, piece in reversed(list(enumerate(spec.tokens)))}
    if not text:
        return [1]
    parts = []
    for char in (" " + text).replace(" ", spec.space):
        if char in ids or not spec.bytes_first:
            parts.append(char)
        else:
            parts += [spec.tokens[byte + 3] for byte in char.encode()]
    while True:
        best_score, best = -1e10, -1
        for i in range(len(parts) - 1):
            token = ids.get(parts[i] + parts[i + 1])
            if token is not None and spec.scores[token] > best_score:
                best_score, best = spec.scores[token], i
        if best < 0:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    tokens = [1]
    for part in parts:
        tokens += [ids[part]] if part in ids else [byte + 3 for byte in part.encode()]
    return tokens


@st.composite
def piece_sets(draw: st.DrawFn, space: str) -> tuple[list[str], list[float]]:
    alphabet = "abcé" + space
    extra = st.text(st.sampled_from(alphabet + "日"), min_size=2, max_size=4)
    pieces = list(alphabet) + sorted(draw(st.sets(extra, max_size=14)))
    # Few scores, so that many are equal.
    scores = draw(st.lists(st.integers(-4, 0), min_size=len(pieces), max_size=len(pieces)))
    return pieces, list(map(float, scores))


@settings(max_examples=300, deadline=None)
@given(llama2c=st.booleans(), data=st.data(), text=TEXTS)
def test_sentencepiece_by_the_book(llama2c: bool, data: st.DataObject, text: str) -> None:
    space = " " if llama2c else "\u2581"
    spec = sentencepiece(*data.draw(piece_sets(space)), llama2c=llama2c)
    tokenizer = make(spec)
    tokens = tokenizer.encode(text)
    # Special tokens written out are the other test's matter.
    if not llama2c and any(special in text for special in ("<s>", "</s>", "<unk>")):
        return
    assert tokens == by_the_book(spec, text)
    assert tokenizer.decode(tokens) == text


def shared_tokenizer() -> Tokenizer:
    folder = SHARED_MODELS / "stories260K"
    if not folder.is_dir():
        pytest.skip("../shared/models/stories260K is not here")
    return make(load_checkpoint(folder / "stories260K.bin", folder / "tok512.bin").tokenizer)


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("Onceupatim lyTh.,!\n'qz日é"), max_size=60))
def test_llama2c_vocabulary_by_the_book(text: str) -> None:
    tokenizer = shared_tokenizer()
    assert isinstance(tokenizer.spec, SentencePieceSpec)
    tokens = tokenizer.encode(text)
    assert tokens == by_the_book(tokenizer.spec, text)
    assert tokenizer.decode(tokens) == text


def test_llama2c_known_tokens() -> None:
    # What run.c of llama2.c gives with this vocabulary.
    assert shared_tokenizer().encode("Once upon a time") == [1, 403, 407, 261, 378]


def test_long_text_is_quick() -> None:
    text = "Once upon a time, there was a little girl named Lily. " * 400
    tokenizer = shared_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_sentencepiece_special_tokens() -> None:
    spec = sentencepiece(["a", "b", "\u2581", "\u2581a"], [-1.0, -2.0, -3.0, 0.0], llama2c=False)
    b, space, space_a = range(260, 263)
    tokenizer = make(spec)
    # As llama.cpp: a text after a special token has its space too.
    assert tokenizer.encode("a</s>a b") == [1, space_a, 2, space_a, space, b]
    assert tokenizer.encode("", bos=True) == [1]
    assert tokenizer.encode("<s>", bos=False) == [1]
    assert tokenizer.decode([1, space_a, 2, space_a]) == "a a"
    plain = make(sentencepiece(["a", "b"], [0.0, 0.0], False, space_prefix=False, add_bos=False))
    assert plain.encode("ab") == [259, 260]
    # Without a piece for it, a character is its bytes; without those, unknown.
    assert plain.encode("\u00e9") == [3 + 0xC3, 3 + 0xA9]
    few = SentencePieceSpec(
        vocab=2, tokens=("<unk>", "a"), scores=(0.0, 0.0), types=(2, 1), add_bos=False
    )
    assert make(few).encode("a\u00e9") == [0, 1, 0]


def byte_pair(merges: list[str], pre: str = "gpt-2", **changes: Any) -> BytePairSpec:
    """Bytes, results of merges, then <bos>, <eos> (control) and <tool> (user-defined)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(merge.replace(" ", "") for merge in merges)]
    tokens = [*words, "<bos>", "<eos>", "<tool>"]
    types = [TokenType.NORMAL] * len(words)
    types += [TokenType.CONTROL, TokenType.CONTROL, TokenType.USER_DEFINED]
    values: dict[str, Any] = {
        "vocab": len(tokens) + 2,  # the embedding is padded
        "bos_id": len(words),
        "eos_ids": (len(words) + 1,),
        "special": {"bos_token": "<bos>", "eos_token": "<eos>"},
        "tokens": tuple(tokens),
        "types": tuple(map(int, types)),
        "merges": tuple(merges),
        "pre": pre,
    }
    return BytePairSpec(**(values | changes))


MERGES = ["1 2", "12 3", "a b", "Ġ a", "Ġa b", "n '", "' t", "ab c", "Ġ Ġ", "123 4"]
BOS = 256 + len(MERGES)


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [
        ("gpt-2", "12345", ["1234", "5"]),
        ("smollm", "1234", ["1", "2", "3", "4"]),
        ("llama-bpe", "1234", ["123", "4"]),
        ("qwen2", "123", ["1", "2", "3"]),
        ("tekken", "123", ["1", "2", "3"]),
        ("gpt-2", "ab   ab", ["ab", "ĠĠ", "Ġ", "ab"]),
        ("gpt-2", "n't", ["n", "'t"]),
        ("llama-bpe", "n'T", ["n", "'", "T"]),
        ("llama-bpe", "abc", ["abc"]),
        ("gpt-2", "é", ["Ã", "©"]),
    ],
)
def test_byte_pair_pre_tokenizers(pre: str, text: str, words: list[str]) -> None:
    spec = byte_pair(MERGES, pre)
    assert [spec.tokens[i] for i in make(spec).encode(text, bos=False)] == words


def test_byte_pair_whole_words() -> None:
    """A word that is a token needs no merges in llama-bpe, and does in gpt-2."""
    merges = ["b c", "a b", "ab c"]  # on "abc", b c goes first and leaves a
    assert len(make(byte_pair(merges, "gpt-2")).encode("abc")) == 2
    assert len(make(byte_pair(merges, "llama-bpe")).encode("abc", bos=False)) == 1


def test_byte_pair_special_tokens() -> None:
    spec = byte_pair(MERGES)
    bos, eos, tool = len(spec.tokens) - 3, len(spec.tokens) - 2, len(spec.tokens) - 1
    tokenizer = make(spec)
    a = spec.tokens.index("a")
    assert tokenizer.encode("a<eos>a<tool>") == [a, eos, a, tool]
    assert tokenizer.decode([bos, a, eos, tool, a, spec.vocab - 1]) == "a<tool>a"
    assert make(byte_pair(MERGES, "llama-bpe")).encode("a") == [bos, a]
    assert make(byte_pair(MERGES, "llama-bpe")).encode("a", bos=False) == [a]
    assert make(byte_pair(MERGES, "llama-bpe", add_bos=False)).encode("a") == [a]
    assert make(byte_pair(MERGES, add_bos=True)).encode("a") == [bos, a]
    assert tokenizer.eos_ids == (eos,)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (byte_pair(MERGES, "deepseek-llm"), "'deepseek-llm'"),
        (byte_pair(MERGES, "default"), "'default'"),
        (byte_pair([*MERGES, "x yz"], tokens=byte_pair(MERGES).tokens), "damaged"),
        (byte_pair(MERGES, tokens=("a",) * 270), "twice"),
        (HuggingFaceSpec(vocab=9, definition='{"model": {}}'), "tokenizer.json"),
        (sentencepiece([], [], False, bos_id=None), "BOS"),
        (None, "without a tokenizer"),
    ],
)
def test_refused_descriptions(spec: TokenizerSpec | None, word: str) -> None:
    if isinstance(spec, BytePairSpec):  # as many types as tokens
        types = (spec.types + (1,) * 9)[: len(spec.tokens)]
        spec = BytePairSpec(**(spec.__dict__ | {"types": types}))
    with pytest.raises(UserError, match=word):
        make(spec)


def byte_level_library(merges: list[str], split_digits: bool) -> Library:
    """tokenizer.json of a byte-level BPE, built as SmolLM's is."""
    spec = byte_pair(merges)
    vocab = {text: token for token, text in enumerate(spec.tokens)}
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    library = Library(models.BPE(vocab, pairs))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    library.pre_tokenizer = pre_tokenizers.Sequence([digits, level]) if split_digits else level
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens(["<bos>", "<eos>"])
    return library


def metaspace_library() -> Library:
    """tokenizer.json in the manner of Llama 2: metaspace, byte fallback, a space taken away."""
    tokens = ["<unk>", "<s>", "</s>", *BYTES, "\u2581", "a", "b", "\u2581a", "ab"]
    vocab = {text: token for token, text in enumerate(tokens)}
    merges = [("\u2581", "a"), ("a", "b")]
    library = Library(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    library.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    library.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair=None, special_tokens=[("<s>", 1)]
    )
    return library


@cache
def tokenizers() -> dict[str, Tokenizer]:
    byte_level = byte_level_library(MERGES, False)
    byte_level.enable_truncation(3)
    byte_level.enable_padding(length=40)
    huggingface = HuggingFaceSpec(vocab=300, bos_id=BOS, definition=byte_level.to_str())
    metaspace = HuggingFaceSpec(vocab=300, definition=metaspace_library().to_str())
    pieces = ["a", "b", "\u2581", "\u2581a", "ab"]
    return {
        "byte-pair": make(byte_pair(MERGES)),
        "sentencepiece": make(sentencepiece(pieces, [-1.0] * 5, False)),
        "huggingface": make(huggingface),
        "metaspace": make(metaspace),
    }


@pytest.mark.parametrize("split_digits", [False, True])
@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("ab cn't123 \n½é日😀٣"), max_size=30))
def test_byte_pair_equals_the_library(split_digits: bool, text: str) -> None:
    library = byte_level_library(MERGES, split_digits)
    spec = byte_pair(MERGES, "smollm" if split_digits else "gpt-2")
    assert make(spec).encode(text) == library.encode(text, add_special_tokens=False).ids


KINDS = ["byte-pair", "sentencepiece", "huggingface", "metaspace"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, prompt=TEXTS)
def test_round_trip_and_stream(kind: str, text: str, prompt: str) -> None:
    tokenizer = tokenizers()[kind]
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    # Token by token is the same text, and no piece of it is ever taken back.
    stream = tokenizer.stream()
    parts = [*map(stream.push, tokens), stream.finish()]
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)
    # After a prompt, the rest is what the whole has more.
    both = tokenizer.encode(prompt) + tokenizer.encode(text, bos=False)
    before = tokenizer.encode(prompt)
    stream = tokenizer.stream(before)
    rest = "".join([*map(stream.push, both[len(before) :]), stream.finish()])
    assert tokenizer.decode(before) + rest == tokenizer.decode(both)


@pytest.mark.parametrize("kind", KINDS)
def test_stream_holds_incomplete_characters(kind: str) -> None:
    tokenizer = tokenizers()[kind]
    tokens = tokenizer.encode("a😀b", bos=False)
    stream = tokenizer.stream()
    parts = [stream.push(token) for token in tokens]
    assert "".join(parts) == "a😀b"
    assert parts.count("😀") == 1
    # A character that never gets complete comes out at the end.
    cut = tokens[: parts.index("😀")]
    stream = tokenizer.stream()
    assert "".join(map(stream.push, cut)) == "a"
    assert set(stream.finish()) == {"\ufffd"}
    assert stream.push(tokens[-1]) == "b"


@pytest.mark.parametrize("kind", KINDS)
def test_stream_does_not_wait_for_ever(kind: str) -> None:
    """A model that only writes continuation bytes still shows something."""
    tokenizer = tokenizers()[kind]
    bad = tokenizer.encode("日", bos=False)[-1]
    stream = tokenizer.stream()
    assert "".join(stream.push(bad) for _ in range(40))


def test_huggingface_start_of_a_text() -> None:
    definition = metaspace_library().to_str()
    spec = {"vocab": 300, "bos_id": 1, "definition": definition}
    assert make(HuggingFaceSpec(**spec)).encode("a") == [1, 262]  # type: ignore[arg-type]
    assert make(HuggingFaceSpec(**spec)).encode("a", bos=False) == [262]  # type: ignore[arg-type]
    without = HuggingFaceSpec(**spec, add_bos=False)  # type: ignore[arg-type]
    assert make(without).encode("a") == [262]
    plain = HuggingFaceSpec(
        vocab=300, bos_id=7, definition=byte_level_library(MERGES, False).to_str()
    )
    assert make(plain).encode("") == []
    with_bos = HuggingFaceSpec(**(plain.__dict__ | {"add_bos": True}))
    assert make(with_bos).encode("") == [7]


def test_tokens_outside_the_model() -> None:
    spec = HuggingFaceSpec(vocab=260, definition=metaspace_library().to_str())
    with pytest.raises(UserError, match="token 262, the model has 260"):
        make(spec).encode("a")
    for kind in ("byte-pair", "sentencepiece"):
        with pytest.raises(UserError, match="outside the vocabulary"):
            tokenizers()[kind].decode([100_000])


def test_text_that_is_no_unicode() -> None:
    with pytest.raises(UserError, match="not valid UTF-8, at character 1"):
        tokenizers()["huggingface"].encode("a\udcff")


CHATML = (
    "{% for message in messages %}\n"
    "    {% if message.role == 'bad' %}\n"
    "        {{ raise_exception('no role ' + message.role) }}\n"
    "    {% endif %}\n"
    "{{ bos_token + message['role'] + ':' + message['content'] + eos_token }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}{{ bos_token + 'assistant:' }}{% endif %}"
)


def chat_tokenizer(template: str | None) -> Tokenizer:
    return make(byte_pair(MERGES, add_bos=True, chat_template=template))


def test_chat() -> None:
    tokenizer = chat_tokenizer(CHATML)
    messages = [{"role": "user", "content": "a b"}]
    text = "<bos>user:a b<eos>\n<bos>assistant:"
    assert tokenizer.render_chat(messages) == text
    assert tokenizer.chat(messages) == tokenizer.encode(text, bos=False)
    assert tokenizer.chat(messages)[0] == tokenizer.bos_id
    assert tokenizer.chat(messages)[1] != tokenizer.bos_id
    assert tokenizer.render_chat(messages, add_generation_prompt=False) == text[:19]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "<é>"}'),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", "<é>!"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% if tools is none and not documents %}plain{% endif %}", "plain"),
        ("{{ missing }}|", "|"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{% set ns = namespace(n=0) %}{% set ns.n = 3 %}{{ ns.n }}", "3"),
    ],
)
def test_template_semantics(template: str, text: str) -> None:
    rendered = chat_tokenizer(template).render_chat([{"role": "user", "content": "<é>"}])
    assert rendered == text


@pytest.mark.parametrize(
    ("template", "word"),
    [
        (CHATML, "no role bad"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "append"),
        ("{% if %}", "chat template fails"),
        ("{{ 1 + 'a' }}", "chat template fails"),
        (None, "no chat template"),
    ],
)
def test_template_refusals(template: str | None, word: str) -> None:
    with pytest.raises(UserError, match=word) as caught:
        chat_tokenizer(template).chat([{"role": "bad", "content": ""}])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        byte_pair(MERGES, chat_template=CHATML),
        sentencepiece(["a"], [-0.5], True),
        HuggingFaceSpec(vocab=3, eos_ids=(1, 2), definition="{}"),
    ],
)
def test_specs_survive_json(spec: TokenizerSpec) -> None:
    assert tokenizer_from_json(tokenizer_to_json(spec)) == spec


def test_tokenizer_of_a_gguf(tmp_path: Path) -> None:
    spec = byte_pair(MERGES)
    config = small_config(vocab=272, bos_id=BOS, eos_ids=(BOS + 1,))
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": list(spec.tokens),
        "tokenizer.ggml.token_type": list(spec.types),
        "tokenizer.ggml.merges": list(spec.merges),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": CHATML,
    }
    path = write_gguf(tmp_path / "m.gguf", config, random_tensors(config), metadata=metadata)
    tokenizer = make(load_checkpoint(path).tokenizer)
    assert tokenizer.encode("ab 123") == make(byte_pair(MERGES, add_bos=True)).encode("ab 123")
    assert tokenizer.chat([{"role": "user", "content": "ab"}])[0] == BOS
    assert tokenizer.eos_ids == (BOS + 1,)
    # The same as another model's tokenizer.
    other = write_llama2c(tmp_path / "m.bin", config, random_tensors(config))
    assert make(load_checkpoint(other, path).tokenizer).encode("ab") == tokenizer.encode("ab")


def test_tokenizer_of_a_directory(tmp_path: Path) -> None:
    config = small_config(vocab=300, eos_ids=(2,))
    write_huggingface(tmp_path, config, random_tensors(config))
    assert load_checkpoint(tmp_path).tokenizer is None
    library = byte_level_library(MERGES, True)
    library.save(str(tmp_path / "tokenizer.json"))
    settings: dict[str, Any] = {
        "bos_token": {"content": "<bos>", "lstrip": False},
        "eos_token": "<eos>",
        "add_bos_token": True,
        "chat_template": [
            {"name": "tool_use", "template": "no"},
            {"name": "default", "template": CHATML},
        ],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = make(load_checkpoint(tmp_path).tokenizer)
    assert tokenizer.encode("12") == [BOS, *library.encode("12").ids]
    assert tokenizer.eos_ids == (2, BOS + 1)
    assert tokenizer.render_chat([], add_generation_prompt=True) == "<bos>assistant:"
    (tmp_path / "chat_template.jinja").write_text("{{ eos_token }}")
    assert make(load_checkpoint(tmp_path).tokenizer).render_chat([]) == "<eos>"
    path = write_llama2c(tmp_path / "m.bin", config, random_tensors(config))
    for given_path in (tmp_path, tmp_path / "tokenizer.json"):
        assert make(load_checkpoint(path, given_path).tokenizer).encode("12")[0] == BOS


def test_tokenizer_beside_llama2c(tmp_path: Path) -> None:
    pieces = [" ", "a", "b", " a", "ab"]
    spec = sentencepiece(pieces, [-3.0, -4.0, -5.0, -1.0, -2.0], True)
    config = small_config(vocab=spec.vocab)
    path = write_llama2c(tmp_path / "m.bin", config, random_tensors(config))
    assert load_checkpoint(path).tokenizer is None
    file = write_tokenizer_bin(tmp_path / "t.bin", spec.tokens, spec.scores)
    found = make(load_checkpoint(path, file).tokenizer)
    assert found.encode("ab a") == by_the_book(spec, "ab a")
    assert found.decode(found.encode("ab a")) == "ab a"
    file.rename(tmp_path / "tokenizer.bin")
    assert load_checkpoint(path).tokenizer == found.spec
    assert found.eos_ids == (1, 2)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("t.bin", b"\x01\x00\x00\x00\x00\x00", "truncated"),
        ("t.bin", b"\x05\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x7fab", "bad token 0"),
        ("t.bin", b"\x05\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\xff", "not UTF-8"),
        ("t.bin", b"\x05\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00a", "1 tokens"),
        ("t.json", b"{", "not valid JSON"),
        ("t.json", b'{"model": 3}', "no 'model'"),
        ("t.json", b'{"model": {}, "added_tokens": [1]}', "malformed"),
        ("t.txt", None, "no such tokenizer"),
    ],
)
def test_damaged_tokenizer_files(
    name: str, content: bytes | None, word: str, tmp_path: Path
) -> None:
    config = small_config()
    path = write_llama2c(tmp_path / "m.bin", config, random_tensors(config))
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=word) as caught:
        load_checkpoint(path, tmp_path / name)
    assert name in str(caught.value)


# Tokens of llama-cpp-python 0.3.36 for this model.
SMOLLM2_TOKENS = {
    "The capital of France is": [504, 3575, 282, 4649, 314],
    "  leading spaces": [216, 2899, 5600],
    "tabs\tand\nnewlines\r\n\r\n  x": [100, 7366, 197, 397, 198, 2241, 5110, 18682, 216, 1792],
    "don't I'LL we'Ve": [12420, 982, 339, 23, 16421, 392, 23, 25917],
    "123 1,234.56 ½": [33, 34, 35, 216, 33, 28, 34, 35, 36, 30, 37, 38, 216, 16738],
    "日本語": [23274, 115, 40993, 179, 120, 248],
    "flag🇫🇷": [17631, 10813, 225, 121, 10813, 225, 132],
    " a  b   c    d": [253, 216, 278, 256, 265, 333, 287],
    "<|im_start|>user\nhi<|im_end|>": [1, 4093, 198, 6004, 2],
}


def test_smollm2() -> None:
    if not is_available(CATALOG["smollm2"]):
        pytest.skip("smollm2 is not in the cache; './serrano run --model smollm2' puts it there")
    tokenizer = make(load_checkpoint(resolve("smollm2")).tokenizer)
    for text, tokens in SMOLLM2_TOKENS.items():
        assert tokenizer.encode(text) == tokens
        plain = text.replace("<|im_start|>", "").replace("<|im_end|>", "")
        assert tokenizer.decode(tokens) == plain
