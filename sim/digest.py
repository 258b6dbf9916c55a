"""Identity of frozen values: a SHA-256 over a canonical spelling of every field."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def digest(value: Any, *, leave_out: tuple[str, ...] = ()) -> str:
    """64 hex digits over type names, field names and values; `leave_out` skips top-level fields."""
    sha = hashlib.sha256()
    _feed(sha, value, leave_out)
    return sha.hexdigest()


def _feed(sha: Any, value: Any, leave_out: tuple[str, ...] = ()) -> None:
    if is_dataclass(value):
        sha.update(f"<{type(value).__name__}".encode())
        for item in fields(value):
            if item.name not in leave_out:
                sha.update(f"|{item.name}=".encode())
                _feed(sha, getattr(value, item.name))
        sha.update(b">")
    elif isinstance(value, np.ndarray):
        sha.update(f"array{value.dtype.str}{value.shape}".encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value):
            sha.update(f"|{key}:".encode())
            _feed(sha, value[key])
    elif isinstance(value, (tuple, list)):
        sha.update(f"({len(value)}".encode())
        for item in value:
            _feed(sha, item)
        sha.update(b")")
    else:
        sha.update(repr(value).encode())
