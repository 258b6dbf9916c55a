"""Run-time constants of your own from a TOML file, each number with its source:

    name = "our board"
    chip = "loihi2"
    status = "measured, 2024-05-01"
    [synapse]
    value = 0.9e-9
    source = "dense layers of 64 to 4096 neurons, log 17"

Numbers are those of `spikeport.hw.constants.RuntimeConstants`; one that the file does not name is
not known, and its term is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikeport.hw import sourced
from spikeport.hw.constants import RUNTIMES, RuntimeConstants

WORDS = ("name", "chip", "status")
NUMBERS = ("neuron", "synapse", "word", "link_bits", "message_bits", "barrier")
RANGE = 1e-30, 1e30  # what still adds up to finite seconds


def read_constants(path: Path) -> RuntimeConstants:
    """The constants in `path`. Raises ValueError in one sentence for a file with a mistake."""
    tree = sourced.read(path)
    words = {key: tree.pop(key, None) for key in WORDS}
    for key, text in words.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f'{path}: {key} is {text!r}; say it in words, as in {key} = "..."')
    if words["name"] in RUNTIMES:
        raise ValueError(f"{path}: name is {words['name']!r}, which is taken; choose another")
    if not tree:
        raise ValueError(f"{path}: holds no number; known are {', '.join(NUMBERS)}")
    numbers: dict[str, Any] = dict.fromkeys(NUMBERS)
    sources = dict.fromkeys(WORDS, path.name) | dict.fromkeys(NUMBERS, f"not in {path.name}")
    for key, entry in tree.items():
        where = f"{path}: [{key}]"
        if key not in NUMBERS:
            raise ValueError(f"{where} is no run-time constant; known are {', '.join(NUMBERS)}")
        numbers[key], sources[key] = sourced.split(where, entry)
        _check(where, numbers[key], whole=key == "message_bits")
    if (numbers["link_bits"] is None) != (numbers["message_bits"] is None):
        raise ValueError(
            f"{path}: link_bits and message_bits make one term of time; give both, or neither"
        )
    return RuntimeConstants(**words, **numbers, sources=sources)


def _check(where: str, value: Any, *, whole: bool) -> None:
    kinds = (int,) if whole else (int, float)
    good = isinstance(value, kinds) and not isinstance(value, bool)
    low, high = RANGE
    if not good or not low <= value <= high:
        kind = "whole number" if whole else "number"
        raise ValueError(
            f"{where}: value is {value!r}; it must be a {kind} above 0, from {low} to {high}"
        )
