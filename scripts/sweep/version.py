"""Which sources a result stands on."""

import ast
import hashlib
from functools import cache
from pathlib import Path

__all__ = ["code_version", "sources"]

_ROOT = Path(__file__).resolve().parents[2]


def _file_of(module: str) -> Path | None:
    """The file of a module of this repository."""
    path = _ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _imports(module: str, file: Path) -> set[str]:
    """Modules that a file may import, and the packages they are in."""
    names: set[str] = set()
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_bytes(), file)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *filter(None, [node.module])])
            names.update(f"{start}.{alias.name}" for alias in node.names)
    parents = {name.rsplit(".", n)[0] for name in names for n in range(name.count(".") + 1)}
    return names | parents


def sources(module: str) -> dict[str, Path]:
    """The files of this repository that importing ``module`` reads, by module."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = None if name in found else _file_of(name)
        if file:
            found[name] = file
            waiting.extend(_imports(name, file))
    return found


@cache
def code_version(module: str) -> str:
    """Hash of those files: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, file in sorted(sources(module).items()):
        digest.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
