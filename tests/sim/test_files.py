"""Whole files or none: what a reader finds after success, failure and in between."""

from __future__ import annotations

import os
import stat
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from spikeport.sim.files import atomic, read_array, refuse_taken, write_text


def test_replaces_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with atomic(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize("older", [None, "old"])
def test_an_exception_leaves_no_trace(tmp_path: Path, older: str | None) -> None:
    path = tmp_path / "result.json"
    if older:
        path.write_text(older)

    def half() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half of the ne")
            raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        half()
    assert os.listdir(tmp_path) == (["result.json"] if older else [])
    assert not older or path.read_text() == older


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "result.json"
    with pytest.raises(FileNotFoundError) as refusal, atomic(path):
        pass
    assert str(refusal.value) == (
        f"{path}: the folder {path.parent} does not exist; create it first"
    )


def test_errors_name_the_file_and_not_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the folder itself too, although temporary files have absolute names."""
    (tmp_path / "taken").mkdir()
    monkeypatch.chdir(tmp_path)
    for path in (Path("taken"), tmp_path / "taken"):
        with pytest.raises(IsADirectoryError) as refusal, atomic(path):
            pass
        assert refusal.value.filename == str(path)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_an_ordinary_new_file(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a", "text")
        assert os.umask(umask) == umask  # looking at it did not change it
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(str(tmp_path / "a.txt"), "μ\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xce\xbc\n"


def test_an_array_is_read_and_nothing_else(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(read_array(tmp_path / "x.npy"), [[0, 1, 2], [3, 4, 5]])
    np.savez(tmp_path / "whole.npz", x=np.zeros(3))
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes(b"PK\x03\x04cut")
    header = "{'descr': '<i8', 'fortran_order': False, 'shape': (%d,)}\n"
    for name, n in {"huge.npy": 10**15, "beyond.npy": 10**30}.items():
        text = (header % n).encode()
        magic = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
        (tmp_path / name).write_bytes(magic + text)
    for name in ("none.npy", "whole.npz", "pickled.npy", "cut.npy", "huge.npy", "beyond.npy"):
        with pytest.raises(ValueError, match=f"{name}: cannot be read as a .npy file .*numpy.save"):
            read_array(tmp_path / name)


def test_whatever_bit_of_an_array_is_wrong_it_is_an_array_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(6, dtype=np.uint8))
    good = path.read_bytes()
    refused: list[str] = []
    for place, bit in product(range(len(good)), range(8)):
        bad = bytearray(good)
        bad[place] ^= 1 << bit
        path.write_bytes(bad)
        try:
            assert isinstance(read_array(path), np.ndarray)
        except ValueError as problem:
            refused.append(str(problem))
    assert len(refused) > 500
    assert all("cannot be read as a .npy file" in said for said in refused)


def test_only_new_places_are_taken(tmp_path: Path) -> None:
    refuse_taken(tmp_path / "new", what="file")
    with pytest.raises(ValueError, match=r": exists already; name a new folder$"):
        refuse_taken(tmp_path, what="folder")
    with pytest.raises(ValueError, match=r"none does not exist; create it first$"):
        refuse_taken(tmp_path / "none" / "new", what="file")
