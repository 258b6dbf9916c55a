"""What a network is placed on: chips, boards, and chips of your own from a TOML file.

A file names the chip that it starts from and each number that differs, with its source:

    base = "loihi2"
    name = "loihi2-early"
    [cores]
    value = 120
    source = "our board's log, 2024-05-01"

Numbers are those of `Chip` and `Core`, and `chips`, how many chips there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from spikeport.hw import sourced
from spikeport.hw.core import CORES, Core
from spikeport.hw.cost import Use
from spikeport.sim.chip import CHIPS, LOIHI_1, LOIHI_2, Chip


@dataclass(frozen=True, kw_only=True)
class Board:
    """A system that Intel has built. chips: how many of `chip` it carries."""

    chip: Chip
    chips: int
    source: str


_USABLE = "Intel, Hala Point, 2024: 140,544 cores on 1152 chips"
_HALA_POINT = replace(LOIHI_2, cores=122, sources={**LOIHI_2.sources, "cores": _USABLE})
BOARDS: Mapping[str, Board] = {
    "kapoho-bay": Board(chip=LOIHI_1, chips=2, source="Intel, Kapoho Bay: USB, 262 k neurons"),
    "nahuku-8": Board(chip=LOIHI_1, chips=8, source="Intel, Nahuku: 8 and 32 chips"),
    "nahuku-32": Board(chip=LOIHI_1, chips=32, source="Intel, Nahuku: 8 and 32 chips"),
    "pohoiki-springs": Board(chip=LOIHI_1, chips=768, source="Intel, Pohoiki Springs, 2020"),
    "oheo-gulch": Board(chip=LOIHI_2, chips=1, source="Intel, Loihi 2 technology brief"),
    "kapoho-point": Board(chip=LOIHI_2, chips=8, source="Intel, Loihi 2 technology brief"),
    "hala-point": Board(chip=_HALA_POINT, chips=1152, source="Intel, Hala Point, 2024"),
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """`chips` chips, what a core of them counts and how it stores. source: where `chips` is from;
    the other numbers have theirs in `chip` and `core`."""

    name: str
    chip: Chip
    core: Core
    chips: int = 1
    source: str = "a chip alone"

    @property
    def cores(self) -> int:
        """Cores of all chips together."""
        return self.chip.cores * self.chips

    @property
    def whole(self) -> Chip:
        """All chips as one, under the name of the target, as rules look at it."""
        return replace(self.chip, name=self.name, cores=self.cores)

    @property
    def limits(self) -> Use:
        """What one core has room for."""
        return Use(
            in_axons=self.chip.in_axons,
            neuron_groups=self.core.neuron_groups,
            neurons=self.chip.neurons,
            synapse_words=self.chip.synapse_words,
            out_axons=self.chip.out_axons,
        )


# What later versions of the compiler allow; whatever fits on "loihi2" fits here too.
_LATER = "later compile logs, MNIST and YOLO-KP: per cents are whole words of 16000 alone"
_LOIHI_2_LATER = replace(
    LOIHI_2, synapse_words=16000, sources={**LOIHI_2.sources, "synapse_words": _LATER}
)
TARGETS: Mapping[str, Target] = {
    **{name: Target(name=name, chip=CHIPS[name], core=core) for name, core in CORES.items()},
    "loihi2-2024": Target(name="loihi2-2024", chip=_LOIHI_2_LATER, core=CORES[LOIHI_2.name]),
    **{
        name: Target(
            name=name, chip=b.chip, core=CORES[b.chip.name], chips=b.chips, source=b.source
        )
        for name, b in BOARDS.items()
    },
}
MOST = 10**6  # of anything in a file; a floor plan draws every tile of a chip
# What `export` takes for a target, and nothing can be placed on.
NO_PLACE = {
    "loihi": "which is what export calls its present chip, loihi2",
    "lava": "a simulator, which has no cores",
}


def target(text: str) -> Target:
    """A chip or board by its name, or the file that `text` names if it ends in .toml.

    Raises ValueError in one sentence for anything else, and for a file with a mistake.
    """
    if text.endswith(".toml"):
        return read_target(Path(text))
    if text not in TARGETS:
        why = f", {NO_PLACE[text]}" if text in NO_PLACE else ""
        raise ValueError(
            f"target is {text!r}{why}; allowed are {', '.join(TARGETS)} and the name of a .toml"
            " file"
        )
    return TARGETS[text]


def read_target(path: Path) -> Target:
    """The chip that a TOML file describes. Raises ValueError in one sentence."""
    tree = sourced.read(path)
    base = tree.pop("base", None)
    if base not in CORES:
        raise ValueError(f"{path}: base is {base!r}; name the chip it starts from: {_or(CORES)}")
    name = tree.pop("name", None)
    if not isinstance(name, str) or not name or name in TARGETS:
        raise ValueError(f"{path}: name is {name!r}; give the chip a name of its own")
    made = replace(TARGETS[base], name=name)
    found = {key: _number(path, made, key, entry) for key, entry in tree.items()}
    numbers = {key: value for key, (value, _) in found.items()}
    sources = {key: source for key, (_, source) in found.items()}
    return replace(
        made,
        chip=_changed(replace(made.chip, name=name), numbers, {**sources, "name": str(path.name)}),
        core=_changed(made.core, numbers, sources),
        chips=numbers.get("chips", made.chips),
        source=sources.get("chips", made.source),
    )


def _number(path: Path, made: Target, key: str, entry: Any) -> tuple[Any, str]:
    """The checked value of one table, and its source."""
    known = {"chips": made.chips}
    for part in (made.chip, made.core):
        known.update({f.name: getattr(part, f.name) for f in fields(part)})
    known = {name: value for name, value in known.items() if _countable(value)}
    where = f"{path}: [{key}]"
    if key not in known:
        raise ValueError(f"{where} is no number of a chip; known are {', '.join(sorted(known))}")
    (value, source), old = sourced.split(where, entry), known[key]
    if isinstance(old, tuple):
        if not isinstance(value, list) or not value or not all(map(_natural, value)):
            raise ValueError(f"{where}: value is {value!r}; it must be a list of whole numbers")
        return tuple(sorted(value)), source
    least = min(old, 1)
    if not _natural(value) or not least <= value <= MOST:
        raise ValueError(
            f"{where}: value is {value!r}; it must be a whole number from {least} to {MOST}"
        )
    return value, source


def _countable(value: Any) -> bool:
    """Whether a field holds a number from 0, or widths, that a file may change."""
    return _natural(value) or (isinstance(value, tuple) and all(map(_natural, value)))


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _changed(part: Any, numbers: Mapping[str, Any], sources: Mapping[str, str]) -> Any:
    """`part`, a Chip or Core, with those of `numbers` that are its own."""
    own = {f.name for f in fields(part)}
    return replace(
        part,
        **{key: value for key, value in numbers.items() if key in own},
        sources={**part.sources, **{k: v for k, v in sources.items() if k in own}},
    )


def _or(names: Mapping[str, Any]) -> str:
    return " or ".join(names)
