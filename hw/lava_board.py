"""Whether Lava on this machine can reach a Loihi board."""

from __future__ import annotations

from spikeport.hw.lava_import import available, quiet


def board_status() -> str | None:
    """None when Lava's closed extension for boards is installed, else what is missing."""
    missing = available()
    if missing is not None:
        return f"no board can be used: {missing}"
    with quiet():
        from lava.utils import loihi

        if loihi.is_installed():
            return None
    return (
        "no board can be used: Lava-Loihi, the extension that Intel gives to members of its"
        " research community, is not installed; ask Intel for access, or copy the folder to a"
        " machine that has it"
    )
