"""Identity of frozen values: a SHA-256 over a canonical spelling of every field."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

# Metadata of dataclass fields that say where a value comes from, not what it is.
NO_IDENTITY: Mapping[str, bool] = {"identity": False}


def digest(value: Any) -> str:
    """64 hex digits over type names, field names and values, NO_IDENTITY fields left out."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if is_dataclass(value):
        sha.update(f"<{type(value).__name__}".encode())
        for item in fields(value):
            if item.metadata.get("identity", True):
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
