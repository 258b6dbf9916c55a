"""TOML files whose numbers each come with their source, as own chips and run-time constants do:

[cores]
value = 120
source = "our board's log, 2024-05-01"
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read(path: Path) -> dict[str, Any]:
    """The tree in a TOML file. Raises ValueError in one sentence."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file; check the path") from None
    except OSError as problem:
        raise ValueError(f"{path}: cannot be read ({problem.strerror}); name a file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no TOML file ({error})") from None


def split(where: str, entry: Any) -> tuple[Any, str]:
    """Value and source of the table `entry`; `where` names it in errors. Raises ValueError in one
    sentence for a table that holds less or more, and for an empty source."""
    if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
        raise ValueError(f"{where} must hold a value and its source, nothing else")
    source = entry["source"]
    if not isinstance(source, str) or not source.strip():
        raise ValueError(f"{where}: its source is empty; say where the number comes from")
    return entry["value"], source
