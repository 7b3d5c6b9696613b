"""Which files a service is made of: what its entry imports from the system's own folder, and what that imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path


class Imports:
    """The import graph of one folder, read from the source and never run; good until a file changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._imported: dict[Path, set[str]] = {}

    def files(self, module: str) -> set[Path]:
        """Every file of the folder that importing ``module`` reads, packages' ``__init__`` included."""
        found: set[Path] = set()
        waiting = [module]
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if "." in name:
                waiting.append(name.rpartition(".")[0])
            file = self._file(name)
            if file is not None and file not in found:
                found.add(file)
                waiting += self._imports(file, name)
        return found

    def changed(self, files: Iterable[Path]) -> None:
        """Read these files anew; one that cannot be parsed just now keeps what it imported before."""
        for file in files:
            if file in self._imported:
                before = self._imported.pop(file)
                self._imported[file] = self._read(file, self._name(file)) or before

    def _file(self, module: str) -> Path | None:
        base = self.folder.joinpath(*module.split("."))
        for file in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if file.is_file():
                return file
        return None

    def _imports(self, file: Path, module: str) -> set[str]:
        if file not in self._imported:
            self._imported[file] = self._read(file, module)
        return self._imported[file]

    def _read(self, file: Path, module: str) -> set[str]:
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):  # it is being written, or wrong: the service itself will say so
            return set()
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        return {name for node in ast.walk(tree) for name in _named(node, package)}

    def _name(self, file: Path) -> str:
        parts = file.relative_to(self.folder).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _named(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that an import statement may read; a name imported from a package may be one of its modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *([node.module] if node.module else [])])
        if base:
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def affected(changed: Iterable[Path], parts: dict[str, set[Path]]) -> set[str]:
    """The services that a change touches: those made of the changed files; all, when a file is no known part of any."""
    touched: set[str] = set()
    for file in changed:
        owners = {name for name, files in parts.items() if file in files}
        touched |= owners or set(parts)
    return touched
