"""Pins without known vulnerabilities, as far as this list knows; licences; lower bounds that are tried."""

import os
import re
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from helpers.runs import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

# The first release in which the latest vulnerability known here was repaired. It needs no network, and so grows old:
# `make audit` asks the advisory databases.
REPAIRED = {
    "certifi": ("2024.7.4", "CVE-2024-39689"),
    "filelock": ("3.20.3", "CVE-2026-22701"),
    "fonttools": ("4.60.2", "CVE-2025-66034"),
    "h11": ("0.16.0", "CVE-2025-43859"),
    "idna": ("3.7", "CVE-2024-3651"),
    "jinja2": ("3.1.6", "CVE-2025-27516"),
    "markdown": ("3.8.1", "CVE-2025-69534"),
    "pillow": ("11.3.0", "CVE-2025-48379"),
    "protobuf": ("6.31.1", "CVE-2025-4565"),
    "pyyaml": ("5.4", "CVE-2020-14343"),
    "requests": ("2.32.4", "CVE-2024-47081"),
    "sentencepiece": ("0.2.1", "CVE-2026-1260"),
    "setuptools": ("78.1.1", "CVE-2025-47273"),
    "torch": ("2.8.0", "CVE-2025-2953"),
    "tqdm": ("4.66.3", "CVE-2024-34062"),
    "urllib3": ("2.6.0", "CVE-2025-66471"),
    "werkzeug": ("3.1.4", "CVE-2025-66221"),
}
LICENCES = ROOT / "docs" / "licences.md"
FREE = r"MIT|BSD|Apache|PSF|Python Software Foundation|HPND|MPL|Mozilla|ISC|Unlicense|OFL|Zlib"


def name_of(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def pins(file: str) -> dict[str, Version]:
    lines = (ROOT / file).read_text(encoding="utf-8").split("\n")
    found = (line.split("#")[0].strip().partition("==") for line in lines)
    return {name_of(name): Version(version) for name, _, version in found if version}


def promised() -> dict[str, Requirement]:
    """Return what pyproject.toml asks for, but for development."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {name_of(one.name): one for one in map(Requirement, project["dependencies"])}


@pytest.mark.parametrize("package", REPAIRED)
def test_pins_and_lower_bounds_have_the_repair(package: str) -> None:
    version, advisory = REPAIRED[package]
    found = pins("constraints.txt").get(package)
    assert found is None or found >= Version(version), advisory
    if package in promised():
        lowest = pins("constraints-lowest.txt")[package]
        assert lowest >= Version(version), f"pyproject.toml promises {lowest}, which has {advisory}"


def test_the_lowest_versions_that_are_tried_are_those_that_are_promised() -> None:
    lowest = pins("constraints-lowest.txt")
    assert set(lowest) == set(promised())
    for package, requirement in promised().items():
        bounds = [one for one in requirement.specifier if one.operator in (">=", "==")]
        assert len(bounds) == 1 and pins("constraints.txt")[package] in requirement.specifier
        assert lowest[package] == Version(bounds[0].version), package


def licence(package: str) -> str:
    about = distribution(package).metadata
    classifiers = [
        one.rpartition(" :: ")[2] for one in about.get_all("Classifier", []) if one.startswith("License")
    ]
    named = (
        about.get("License-Expression")
        or "; ".join(classifiers)
        or (about.get("License") or "").split("\n")[0]
    )
    return named.strip() or "?"


def needed(names: set[str]) -> set[str]:
    """These packages and all that they need, as installed here."""
    there = {name_of(one.metadata["Name"]): one for one in distributions()}
    found: set[str] = set()
    while names:
        found |= names
        asked = (Requirement(text) for name in names for text in there[name].requires or ())
        names = {name_of(one.name) for one in asked if not one.marker or one.marker.evaluate({"extra": ""})}
        names = {name for name in names if name in there} - found
    return found


def test_licences_are_listed_and_free() -> None:
    rows = [f"| {name} | {licence(name)} |" for name in sorted(needed(set(promised())))]
    text = (
        "# Licences of the dependencies of heed\n\nMade by `HEED_WRITE_LICENCES=1 python -m pytest "
        "tests/project/test_dependencies.py`\nfrom the metadata of the packages.\n\n| package | licence |\n|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )
    if "HEED_WRITE_LICENCES" in os.environ:
        LICENCES.write_text(text, encoding="utf-8")
    listed = set(Path(LICENCES).read_text(encoding="utf-8").split("\n"))
    assert not set(rows) - listed, "list them anew"
    for row in rows:
        assert re.search(FREE, row), row
