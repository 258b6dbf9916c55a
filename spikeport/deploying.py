"""The `deploy` command: rules, deployment folder, and a plain word on the board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikeport.hw import deploy as folders
from spikeport.sim import bundle as bundles
from spikeport.simulating import expected


def deploy(source: Path, folder: Path, *, board: str) -> dict[str, Any]:
    """Check the bundle against `board`'s chip and write deployment `folder`; a JSON summary.

    `missing` says what a run on the board would need that is not here, None when nothing is.
    Raises ValueError in one sentence for an unknown board, a broken rule or an existing folder.
    """
    bundle = bundles.read(source)
    written = folders.write_folder(
        bundle.net, folder, board=board, vectors=(bundle.vectors.inputs, expected(bundle))
    )
    return {
        "passed": True,
        "folder": str(folder),
        "board": board,
        "files": [path.name for path in written],
        "missing": folders.board_status(),
    }


def describe_deployment(result: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [f"wrote {result['folder']} for {result['board']}: {', '.join(result['files'])}"]
    if result["missing"]:
        lines.append(f"not run on the board: {result['missing']}")
    return "\n".join(lines)
