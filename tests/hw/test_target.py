"""Chips of one's own, and the boards."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikeport.hw.target import BOARDS, TARGETS, target
from spikeport.sim.chip import CHIPS, unsourced
from spikeport.sim.chip import TARGETS as CHIP_TARGETS

GOOD = """\
base = "loihi2"
name = "mine"
[cores]
value = 120
source = "our board's log"
[weight_formats]
value = [8, 4]
source = "a guess"
[chips]
value = 3
source = "on the desk"
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    made, base = target(written(tmp_path, GOOD)), TARGETS["loihi2"]
    assert (made.name, made.chip.name, made.cores) == ("mine", "mine", 360)
    assert made.chip.sources["cores"] == "our board's log"
    assert made.core.weight_formats == (4, 8)
    assert made.core.sources["weight_formats"] == "a guess"
    assert made.source == "on the desk"
    assert made.limits == base.limits
    assert (made.whole.name, made.whole.cores) == ("mine", 360)
    assert base.chip.cores == 128


@pytest.mark.parametrize(("bits", "sums"), [(1, 0), (6, 0), (7, 0), (8, 1), (22, 32767)])
def test_any_number_of_bits_leaves_room_for_some_sums(tmp_path: Path, bits: int, sums: int) -> None:
    text = f'base = "loihi1"\nname = "mine"\n[sum_bits]\nvalue = {bits}\nsource = "a guess"\n'
    chip = target(written(tmp_path, text)).chip
    assert (chip.sum_bits, chip.sum_max, chip.drive_max) == (bits, sums, (1 << 23) - 1)
    widest = target(written(tmp_path, text.replace(f"value = {bits}", "value = 1000000"))).chip
    assert widest.sum_max == CHIPS["loihi2"].sum_max == (1 << 25) - 1


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('base = "loihi2"', "base = 2", "base is 2; name the chip it starts from"),
        ('base = "loihi2"', 'base = "lava"', "name the chip it starts from: loihi1 or loihi2"),
        ('name = "mine"', 'name = "loihi1"', "give the chip a name of its own"),
        ('name = "mine"', "", "name is None; give the chip a name of its own"),
        ("[cores]", "[horses]", r"\[horses\] is no number of a chip; known are bias_exp_max, "),
        ("[cores]", "[v_init]", r"\[v_init\] is no number of a chip"),
        ('source = "a guess"', "", "must hold a value and its source, nothing else"),
        ("[cores]\nvalue = 120", "cores = 120\n[x]", "must hold a value and its source"),
        ('"a guess"', '" "', "its source is empty; say where the number comes from"),
        ('"a guess"', "3", "its source is empty; say where the number comes from"),
        ("120", "0", "value is 0; it must be a whole number from 1"),
        ("120", "1000001", "value is 1000001; it must be a whole number from 1 to 1000000"),
        ("120", "1.5", "value is 1.5; it must be a whole number from 1"),
        ("120", "true", "value is True; it must be a whole number from 1"),
        ("[8, 4]", "8", "value is 8; it must be a list of whole numbers"),
        ("[8, 4]", "[]", r"value is \[\]; it must be a list of whole numbers"),
        ("[8, 4]", "[-1]", r"value is \[-1\]; it must be a list of whole numbers"),
        ("[cores]", "[cores", "is no TOML file"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in GOOD
    with pytest.raises(ValueError, match=sentence):
        target(written(tmp_path, GOOD.replace(old, new)))


def test_a_missing_file_and_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file; check the path"):
        target(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ValueError, match=r"folder.toml: cannot be read \(Is a directory\)"):
        target(str(tmp_path / "folder.toml"))
    with pytest.raises(ValueError, match=r"target is 'x'; allowed are loihi1, .*\.toml file"):
        target("x")


@pytest.mark.parametrize("name", sorted(set(CHIP_TARGETS) - set(TARGETS)))
def test_what_only_export_takes(name: str) -> None:
    why = {"loihi": "export calls its present chip, loihi2", "lava": "a simulator, which has no"}
    with pytest.raises(ValueError, match=f"target is '{name}', .*{why[name]}.*; allowed are"):
        target(name)


def test_boards_say_where_they_are_from() -> None:
    assert all(board.source for board in BOARDS.values())
    assert all(TARGETS[name].source == board.source for name, board in BOARDS.items())
    for found in TARGETS.values():
        assert found.source
        assert unsourced(found.chip) == unsourced(found.core) == []
    # Intel: 262 k neurons on Kapoho Bay, 140,544 cores on Hala Point.
    bay = TARGETS["kapoho-bay"]
    assert bay.cores * bay.limits.neurons == 262_144
    assert TARGETS["hala-point"].cores == 140_544
    assert all(target(name) is found for name, found in TARGETS.items())
