"""The ranges in pyproject.toml, the pinned versions and the lowest versions fit together."""

import re
import tomllib

from helpers.models import ROOT
from packaging.requirements import Requirement
from packaging.version import Version


def name_of(text: str) -> str:
    """Return a package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", text).lower()


def pins(file: str) -> dict[str, Version]:
    """Return the version of each package in a file of constraints."""
    lines = (ROOT / file).read_text(encoding="utf-8").split("\n")
    found = (line.split("#")[0].strip().partition("==") for line in lines)
    return {name_of(name): Version(version) for name, _, version in found if version}


def promised() -> dict[str, Requirement]:
    """Return what pyproject.toml requires, except for development."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {name_of(one.name): one for one in map(Requirement, project["dependencies"])}


def test_every_required_package_is_pinned_within_its_range() -> None:
    pinned = pins("constraints.txt")
    for package, requirement in promised().items():
        assert pinned[package] in requirement.specifier, package


def test_the_lowest_tested_versions_are_the_lower_bounds() -> None:
    lowest = pins("constraints-lowest.txt")
    assert set(lowest) == set(promised())
    for package, requirement in promised().items():
        bounds = [one for one in requirement.specifier if one.operator in (">=", "==")]
        assert [lowest[package]] == [Version(one.version) for one in bounds], package
