"""What this machine and installation offer, and what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from despur.workspace import versions

State = Literal["ok", "note", "problem"]

ROOM = 5 * 1024**3
"""Bytes of memory or disk below which a study of a real dataset gets into trouble."""

HUB = "https://huggingface.co"

PATIENCE = 5.0
"""Seconds that the hub has to answer."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, whether that is well, and what to do where it is not."""

    name: str
    found: str
    state: State = "ok"
    advice: str = ""


def examine(folder: Path, *, ask_hub: bool = False) -> list[Finding]:
    """Versions, device, cores, memory, disk and optional extras.

    Args:
        folder: where a workspace is to lie; its disk is looked at.
        ask_hub: also ask the Hugging Face hub for an answer; nothing else uses the network.
    """
    needed, extras = _requirements()
    return [
        *(Finding(name, version) for name, version in versions().items()),
        *_missing(needed),
        *(_extra(extra, names) for extra, names in extras.items()),
        _device(),
        Finding("processor", f"{_cores()} cores of {platform.machine()}"),
        _room("memory", available_memory(), "close other programs, or embed with a smaller --batch-size"),
        _room(f"disk at {folder}", _free(folder), "make room, or give the workspace another place"),
        *([_hub()] if ask_hub else []),
    ]


def model_specs(architecture: str) -> list[str]:
    """Every set of weights that open_clip knows for an architecture, as ``--model`` takes it, the commonest first.

    Raises:
        ModelError: open_clip has no such architecture.
    """
    from despur.backbones.registry import tags_of

    return [f"open_clip:{architecture}/{tag}" for tag in tags_of(architecture)]


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Names of the packages that despur needs, and of those of each extra but development's."""
    needed: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in metadata.requires("despur") or []:
        name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if extra is None:
            needed.append(name)
        elif extra.group(1) != "dev":
            extras.setdefault(extra.group(1), []).append(name)
    return needed, extras


def _is_there(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _missing(needed: list[str]) -> list[Finding]:
    absent = [name for name in needed if not _is_there(name)]
    return [Finding(name, "missing", "problem", f"pip install {name}") for name in absent]


def _extra(extra: str, names: list[str]) -> Finding:
    absent = [name for name in names if not _is_there(name)]
    if absent:
        return Finding(f"extra [{extra}]", f"without {', '.join(absent)}", "note", f"pip install 'despur[{extra}]'")
    return Finding(f"extra [{extra}]", ", ".join(f"{name} {metadata.version(name)}" for name in names))


def _device() -> Finding:
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        built = torch.version.cuda
        why = f"torch is built for CUDA {built}, and no GPU answers" if built else "torch is built without CUDA"
        return Finding("device", f"cpu ({why})", "note", "a GPU embeds and detects many times faster")
    name = torch.cuda.get_device_name() if found.type == "cuda" else found.type
    return Finding("device", f"{found.type} ({name})")


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that can still be had, a container's limit included; None where the system does not say.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    known = [_meminfo(root / "proc" / "meminfo"), _container(root / "sys" / "fs" / "cgroup")]
    return min((amount for amount in known if amount is not None), default=None)


def _meminfo(file: Path) -> int | None:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found.group(1)) * 1024


def _container(folder: Path) -> int | None:
    try:
        limit, used = ((folder / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return None
    return max(int(limit) - int(used), 0) if limit.isdecimal() else None


def _free(folder: Path) -> int | None:
    """Bytes free on the disk of a folder, or of the one that it would be made in."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return None


def _room(name: str, amount: int | None, advice: str) -> Finding:
    if amount is None:
        return Finding(name, "the system does not say", "note")
    found = f"{amount / 1024**3:.1f} GB free"
    return Finding(name, found) if amount >= ROOM else Finding(name, found, "note", advice)


def _hub(environment: Mapping[str, str] | None = None) -> Finding:
    """Whether the hub answers, where the user's environment says that it is."""
    environment = os.environ if environment is None else environment
    address = environment.get("HF_ENDPOINT", HUB)
    if environment.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return Finding("hub", "not asked: HF_HUB_OFFLINE is set", "note", "unset it to fetch weights")
    by_hand = "fetch weights elsewhere and name the file: --model open_clip:ARCH/FILE"
    if not address.startswith(("https://", "http://")):
        return Finding("hub", f"HF_ENDPOINT is {address!r}, which is no web address", "problem", "mend or unset it")
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE):
            return Finding("hub", f"{address} answers")
    except urllib.error.HTTPError as error:
        return Finding("hub", f"{address} answers (status {error.code})")
    except (OSError, ValueError) as error:
        return Finding("hub", f"{address} does not answer ({error})", "note", by_hand)
