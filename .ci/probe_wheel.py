"""Look at the installed wheel from outside the checkout: all parts, all data, nothing else."""

import importlib
import sys
from importlib import metadata, resources
from importlib.util import find_spec

PARTS = ("train", "export", "hw", "sim")


def main() -> int:
    """Return 0 when the installed package is complete, else print what is wrong and return 1."""
    faults = [f"top-level module {name!r} was installed" for name in PARTS if find_spec(name)]
    for name in ("spikeport", "spikeport.cli", *(f"spikeport.{part}" for part in PARTS)):
        file = importlib.import_module(name).__file__ or ""
        if "site-packages" not in file:
            faults.append(f"{name} comes from {file!r}")
    root = resources.files("spikeport")
    for file in metadata.files("spikeport") or ():
        if file.suffix == ".toml" and not root.joinpath(*file.parts[1:]).read_text("utf-8"):
            faults.append(f"{file} is empty")
    if not root.joinpath("py.typed").is_file():
        faults.append("py.typed is missing")
    print("\n".join(faults) or f"spikeport {metadata.version('spikeport')}: the wheel is complete")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
