"""The demo model's text: the running Python's standard library, cleaned to plain code.

Every machine with Python has this text, so the demo model can be made again anywhere. The order of
files is the sorted order of their paths; a file is held out by the hash of its path, so that adding
or removing other files does not move it between the two parts.
"""

import ast
import hashlib
import io
import sysconfig
import tokenize
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Corpus", "clean_source", "read_corpus"]

# Folders that hold tests, generated tables, vendored archives or nothing that looks like code.
SKIPPED_FOLDERS = frozenset(
    {
        "site-packages",
        "dist-packages",
        "__pycache__",
        "test",
        "tests",
        "idle_test",
        "encodings",
        "pydoc_data",
        "ensurepip",
        "lib-dynload",
    }
)
SKIPPED_FILES = ("_sysconfigdata", "__phello__", "keyword.py", "this.py", "antigravity.py")
HELD_OUT_ONE_IN = 20
MINIMUM_BYTES = 400
LITERAL_SHARE_LIMIT = 0.5  # a file with more of its text in strings and numbers is a table


@dataclass(frozen=True)
class Corpus:
    """Cleaned source texts, one string a file, and the hash of all of them in order."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    sha256: str


def read_corpus(root: Path | None = None) -> Corpus:
    """Read and clean every usable module under `root` (default: the standard library)."""
    root = root or Path(sysconfig.get_paths()["stdlib"])
    train: list[str] = []
    held_out: list[str] = []
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        relative = path.relative_to(root)
        if _is_skipped(relative):
            continue
        text = clean_source(path.read_bytes())
        if text is None:
            continue
        digest.update(f"{relative.as_posix()}\0{text}\0".encode())
        (held_out if _is_held_out(relative) else train).append(text)
    return Corpus(tuple(train), tuple(held_out), digest.hexdigest())


def clean_source(data: bytes) -> str | None:
    """Return the code of a module without comments and docstrings, or None if it is of no use.

    A model of under a million parameters can learn the shape of code or the shape of prose, not
    both: comments, docstrings and licence headers would take a third of its capacity.
    """
    try:
        source = data.decode("utf-8").replace("\r\n", "\n").expandtabs(8)
        tree = ast.parse(source)
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, UnicodeDecodeError, ValueError, tokenize.TokenError):
        return None
    if not source.isascii() or _literal_share(tokens) > LITERAL_SHARE_LIMIT:
        return None
    lines = source.split("\n")
    dropped = _drop_docstrings(tree, lines)
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
            if not lines[row - 1]:
                dropped.add(row - 1)
    text = _squeeze(line for number, line in enumerate(lines) if number not in dropped)
    return text if len(text) >= MINIMUM_BYTES else None


def _is_skipped(relative: Path) -> bool:
    return (
        any(part in SKIPPED_FOLDERS or part.startswith("config-") for part in relative.parts[:-1])
        or relative.name.startswith(SKIPPED_FILES)
        or relative.name.startswith("test_")
    )


def _is_held_out(relative: Path) -> bool:
    return hashlib.sha256(relative.as_posix().encode()).digest()[0] % HELD_OUT_ONE_IN == 0


def _literal_share(tokens: list[tokenize.TokenInfo]) -> float:
    """Share of literals (docstrings aside) in the characters of a module's tokens."""
    literal = total = 0
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT):
            continue
        statement_start = before is None or before.type in (
            tokenize.NEWLINE,
            tokenize.NL,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.COMMENT,
        )
        if token.type == tokenize.STRING and statement_start and token.string.endswith('"""'):
            continue
        total += len(token.string)
        if token.type in (tokenize.STRING, tokenize.NUMBER):
            literal += len(token.string)
    return literal / max(total, 1)


def _drop_docstrings(tree: ast.Module, lines: list[str]) -> set[int]:
    """Blank every string that is a statement of its own; return the line numbers to leave out."""
    dropped: set[int] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for statement in body:
            if not (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            ):
                continue
            first, last = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
            alone = not lines[first][: statement.col_offset].strip()
            if not alone or lines[last][statement.end_col_offset :].strip():
                continue
            dropped.update(range(first, last + 1))
            if len(body) == 1 and not isinstance(node, ast.Module):
                lines[first] = " " * statement.col_offset + "pass"
                dropped.discard(first)
    return dropped


def _squeeze(lines) -> str:
    """Join lines: no blank line after a block opener, at most two (one when indented) in a row."""
    kept: list[str] = []
    blanks = 0
    for raw in lines:
        line = raw.rstrip()
        if not line:
            blanks += 1
            continue
        if kept and not kept[-1].endswith(":"):
            kept.extend([""] * min(blanks, 1 if line[0] == " " else 2))
        blanks = 0
        kept.append(line)
    return "\n".join(kept) + "\n"
