"""A public class or function has a name of its own in the whole package."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.unit.repository.test_rooms import modules

ENTRY_POINTS = ("command", "group", "get", "post", "put", "delete", "websocket", "middleware")
"""Decorators of functions that a user calls by the name of a command or an address."""


def _entry_point(node: ast.AST) -> bool:
    for decorator in getattr(node, "decorator_list", ()):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Attribute) and called.attr in ENTRY_POINTS:
            return True
    return False


def test_a_public_name_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if not node.name.startswith("_") and not _entry_point(node):
                places[node.name].append(module)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
