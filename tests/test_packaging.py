"""The package in the wheel is the package in the folders, whole and alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("train", "export", "hw", "sim")
SHIPPED = {".py", ".toml"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that is built from a copy of the sources."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in (*FOLDERS, "spikeport"):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", "out", "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = (copy / "out").glob("spikeport-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def shipped() -> set[str]:
    """The files that belong into the wheel, by their names there."""
    found = {"spikeport/py.typed", "spikeport/report.html"}
    found |= {f"spikeport/{file.name}" for file in (ROOT / "spikeport").glob("*.py")}
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in SHIPPED:
                found.add(f"spikeport/{file.relative_to(ROOT).as_posix()}")
    return found


def test_every_package_is_listed(project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    found = {"spikeport"}
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in SHIPPED:
                found.add(".".join(("spikeport", *file.parent.relative_to(ROOT).parts)))
    assert set(listed) == found
    assert len(listed) == len(set(listed))


def test_every_package_has_an_init_file() -> None:
    holders = {file.parent for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")}
    assert {folder for folder in holders if not (folder / "__init__.py").is_file()} == set()


def test_every_folder_is_mapped_and_linked(project: dict[str, Any]) -> None:
    mapping = {f"spikeport.{folder}": folder for folder in FOLDERS}
    assert project["tool"]["setuptools"]["package-dir"] == {"spikeport": "spikeport", **mapping}
    for folder in FOLDERS:
        link = ROOT / "spikeport" / folder
        assert link.is_symlink(), f"{link} is no link; clone with core.symlinks=true"
        assert link.readlink().as_posix() == f"../{folder}"


def test_the_wheel_holds_the_whole_package(wheel_files: set[str]) -> None:
    assert {name for name in wheel_files if name.startswith("spikeport/")} == shipped()


def test_the_wheel_holds_nothing_else(wheel_files: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_files if not name.startswith("spikeport/")}
    assert len(tops) == 1
    assert re.fullmatch(r"spikeport-[0-9.]+\.dist-info", tops.pop())
    assert any(name.endswith("licenses/LICENSE") for name in wheel_files)


@pytest.mark.parametrize("pins", ["py310.txt", "py311.txt"])
def test_every_dependency_is_pinned(project: dict[str, Any], pins: str) -> None:
    lines = (ROOT / "requirements" / pins).read_text("utf-8").splitlines()
    pinned = {}
    for line in lines:
        match = re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)", line)
        assert match, f"{pins}: {line!r} is not a name and a version"
        pinned[match[1]] = match[2]
    extras = project["project"]["optional-dependencies"]
    wanted = project["project"]["dependencies"] + extras["dev"] + extras["conformance"]
    wanted += extras["readers"]
    names = {re.split(r"[<>=; ]", line)[0] for line in wanted}
    emulators = {"nengo", "nengo-loihi", "brian2", "brian2-loihi"}
    old_python_only = {"tomli", "lava-nc", "lava-dl", "rockpool", *emulators}
    assert names - set(pinned) <= (set() if pins == "py310.txt" else old_python_only)
    assert pinned["torch"] == {"py310.txt": "2.3.1", "py311.txt": "2.13.0"}[pins]
