"""Run the network of this folder on Lava and compare every spike with the expected ones.

    python run.py [--samples N] [--simulator] [--timeout S] ...

Needs Python 3.10 with lava-nc 0.10 and lava-dl 0.6. With Lava-Loihi installed it runs on a board,
else on Lava's CPU simulator, and says which. Writes result.json; exit code 0: no spike differs, 1:
some do, 2: it could not run, 130: Ctrl-C stopped it. Nothing else of the folder is imported before
it is known to be whole.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULT = "result.json"
SUMS = "SHA256SUMS"
CODE = frozenset({".py", ".pyc", ".so"})  # what Python imports
STOPPED = 130  # 128 + SIGINT, as of a command of a shell
NEEDS = "it needs Python 3.10 with `pip install lava-nc==0.10.0 lava-dl==0.6.0 setuptools`"


def main(words: Sequence[str]) -> int:
    """Run as `words`, the command line, say; the exit code."""
    try:
        check_sums(HERE)
        from spikeport.sim.interrupt import heard

        with heard():
            from spikeport.hw.lava_folder import compare

            return compare.main(words)
    except KeyboardInterrupt:
        return fail("stopped by the user; what was already written is whole", code=STOPPED)
    except (ValueError, OSError, ImportError) as problem:
        with suppress(OSError):
            (HERE / RESULT).unlink()  # so that it does not pass for this run's
        return fail(f"{problem}; {NEEDS}" if isinstance(problem, ImportError) else str(problem))


def fail(sentence: str, *, code: int = 2) -> int:
    """Say why there is no result; the exit code."""
    print(f"run.py: {sentence}", file=sys.stderr)
    return code


def sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file by its name, as SHA256SUMS says."""
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: expected for expected, _, name in (line.partition("  ") for line in lines)}


def check_sums(folder: Path) -> None:
    """Raise ValueError if a file is not what SHA256SUMS says, or code is there that it does not
    know: Python would import, and Lava execute it."""
    if not (folder / SUMS).is_file():
        raise ValueError(f"{SUMS} is missing from the folder; deploy again")
    found = sums(folder)
    if not {"network.json", "vectors.npz"} <= found.keys():
        raise ValueError(f"{SUMS} is damaged; deploy again")
    for name, expected in found.items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{name} is missing from the folder; deploy again")
        if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise ValueError(f"{name} was changed since the folder was written; deploy again")
    places = ("*", "*/__init__.*", "processes/*")
    for file in (each for place in places for each in sorted(folder.glob(place))):
        name = file.relative_to(folder).as_posix()
        if file.suffix in CODE and name not in found:
            raise ValueError(f"{name} is not in {SUMS}, but would be executed; move it elsewhere")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
