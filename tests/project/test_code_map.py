"""docs/code.md names files, functions and classes that exist, and every package.

A name in backticks is checked by its form. A path has a slash. `function()` and `Class.method()` are in the file that
follows behind "of" or "in", else in the file that was named last, and so is a constant in capitals. `Class` may be in
any file of src/heed. Code between fences is copied from the file that was named last.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers.models import ROOT

PACKAGE = ROOT / "src" / "heed"
PAGE = (ROOT / "docs" / "code.md").read_text(encoding="utf-8").partition("## The packages")[2]
PATH = r"[\w.-]+/(?:[\w./-]+\.\w+|[\w/]*/)?"
OWNER = re.compile(rf"\s+(?:of|in)\s+`({PATH})`")


def found_at(path: str) -> Path | None:
    return next((base / path for base in (PACKAGE, ROOT) if (base / path).exists()), None)


@cache
def defined(file: Path) -> frozenset[str]:
    """The functions, classes, methods and constants of a file."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(names)


def named() -> Iterator[tuple[str, str]]:
    """Each name or piece of code of the page, with the file that it must be in: "" for any."""
    last = ""
    for match in re.finditer(r"^```python\n(.*?)^```|`([^`\n]+)`", PAGE, re.DOTALL | re.MULTILINE):
        code, name = match.groups()
        owner = OWNER.match(PAGE, match.end())
        if code:
            yield code, last
        elif re.fullmatch(PATH, name):
            yield name, name
            last = name if name.endswith(".py") else last
        elif re.fullmatch(r"[\w.]+\(\)|[A-Z_]{3,}", name):
            yield name.removesuffix("()"), owner[1] if owner else last
        elif re.fullmatch(r"[A-Z][a-z]\w+", name) and name != "Makefile":
            yield name, ""


@pytest.mark.parametrize(("name", "path"), sorted(set(named())))
def test_what_the_page_names_exists(name: str, path: str) -> None:
    file = found_at(path)
    assert file, f"{path} does not exist"
    if name == path:
        return
    if "\n" in name:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").split("\n")]
        assert "\n".join(line.strip() for line in name.split("\n")) in "\n".join(lines), f"not in {path}"
    elif path:
        assert name in defined(file), f"{path} does not define {name}"
    else:
        assert any(name in defined(one) for one in PACKAGE.rglob("*.py")), f"there is no class {name}"


def test_every_package_is_named() -> None:
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert packages <= set(re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE))
    figure = (ROOT / "docs" / "images" / "packages.svg").read_text(encoding="utf-8")
    assert packages <= set(re.findall(r">(\w+)</text>", figure))
