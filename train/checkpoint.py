"""Checkpoints: one safetensors file, whose header carries the rest as JSON.

One file is replaced in one step, so tensors and facts never disagree, and nothing in it can run
code when it is read. A run draws its random numbers from (seed, epoch), see
`spikeport.train.epochs`, so a checkpoint between two epochs needs no generator states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from spikeport.sim.files import atomic

FORMAT = "spikeport checkpoint 1"


def save(
    path: Path | str,
    model: nn.Module,
    *,
    facts: dict[str, Any],
    optimiser: torch.optim.Optimizer | None = None,
    best: Mapping[str, Tensor] | None = None,
) -> None:
    """Write model, optimiser (moments and settings) and JSON-able `facts` to `path` atomically, and
    beside them the state of the `best` model so far."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in (best or {}).items()}
    scalars: dict[str, Any] = {}
    if optimiser is not None:
        state = optimiser.state_dict()
        scalars = {"groups": state["param_groups"], "state": {}}
        for index, entries in state["state"].items():
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser.{index}.{name}"] = value
                else:
                    scalars["state"][f"{index}.{name}"] = value
    header = {
        "format": FORMAT,
        "facts": json.dumps(facts),
        "optimiser": json.dumps(scalars),
    }
    # Copies: safetensors refuses tensors that share memory, such as tied weights.
    copies = {
        k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()
    }
    with atomic(path) as temporary:
        try:
            save_file(copies, temporary, metadata=header)
        except SafetensorError as error:  # as if from the system, which it does not tell apart
            raise ValueError(f"{path}: cannot be written ({error}); make room there") from error


def facts(path: Path | str) -> dict[str, Any]:
    """The facts in a checkpoint; ValueError if the file is missing, cut or of another kind."""
    return _read(Path(path))[1]


def best(path: Path | str) -> dict[str, Tensor]:
    """The state of the best model so far, on the CPU; empty if none was saved."""
    return _part(_read(Path(path))[0], "best")


def load(
    path: Path | str, model: nn.Module, *, optimiser: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Put a checkpoint into `model` and `optimiser` (in place) and return its facts.

    Raises ValueError in one sentence if the file is missing, truncated, corrupt, or was saved from
    another network or without optimiser; the model then is as it was.
    """
    path = Path(path)
    tensors, known, scalars = _read(path)
    _check_fit(path, model.state_dict(), _part(tensors, "model"))
    if optimiser is not None:
        _load_optimiser(path, optimiser, tensors=_part(tensors, "optimiser"), scalars=scalars)
    model.load_state_dict(_part(tensors, "model"))
    return known


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint; train first or check the folder")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise ValueError(
                    f"{path}: format is {header.get('format')!r}, readable is {FORMAT!r}"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            known, scalars = json.loads(header["facts"]), json.loads(header["optimiser"])
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise ValueError(
            f"{path}: truncated or no checkpoint of ours ({error}); go back to an older one"
        ) from error
    if not (isinstance(known, dict) and isinstance(scalars, dict)):
        raise ValueError(f"{path}: its facts are damaged; go back to an older one")
    for key, tensor in _part(tensors, "model").items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"{path}: {key!r} holds NaN or infinity; train again with a smaller lr, or go back"
                " to an older one"
            )
    return tensors, known, scalars


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}


def _check_fit(path: Path, wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for key in sorted(wanted.keys() | found.keys()):
        need, got = (t[key].shape if key in t else None for t in (wanted, found))
        if need != got:
            describe = ["absent" if s is None else f"of shape {tuple(s)}" for s in (got, need)]
            raise ValueError(
                f"{path}: saved from another network: {key!r} is {describe[0]} in the file and "
                f"{describe[1]} in the model"
            )


def _load_optimiser(
    path: Path,
    optimiser: torch.optim.Optimizer,
    *,
    tensors: dict[str, Tensor],
    scalars: dict[str, Any],
) -> None:
    if not scalars:
        raise ValueError(f"{path}: saved without optimiser, so training cannot resume from it")
    state: dict[int, dict[str, Any]] = {}
    try:
        for key, value in (*tensors.items(), *scalars["state"].items()):
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({"state": state, "param_groups": scalars["groups"]})
    except ValueError as error:
        raise ValueError(f"{path}: saved with another optimiser ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: what it holds of the optimiser is damaged; go back to an older one"
        ) from error
