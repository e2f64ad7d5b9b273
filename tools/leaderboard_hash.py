"""The hash of code, for the keys of results: it changes with what the code does, not with its comments."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from pathlib import Path


def source_hash(root: Path, parts: Sequence[str]) -> str:
    """The hash of source files in or below `root`, Python without comments, docstrings and layout; C++ as it is."""
    total = hashlib.sha256()
    for part in parts:
        base = root / part
        files = [base] if base.is_file() else sorted(path for path in base.rglob("*") if path.is_file())
        for path in files:
            if path.suffix == ".py":
                text = ast.unparse(_without_docstrings(ast.parse(path.read_text(encoding="utf-8")))).encode()
            elif path.suffix in (".cpp", ".hpp", ".h", ".inl") and "tests" not in path.parts[len(base.parts) :]:
                text = path.read_bytes()
            else:
                continue
            total.update(path.relative_to(root).as_posix().encode() + b"\0" + text + b"\0")
    return total.hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
