"""Specs to things: what ``waterbirds:DIR`` or ``open_clip:RN50/openai`` on a command line stands for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from despur.data.examples import Dataset
from despur.data.load import KINDS, Reading
from despur.data.specs import parse_spec
from despur.errors import DataError, ModelError, nearest
from despur.progress import Progress, silent

if TYPE_CHECKING:
    import torch

    from despur.backbones.protocol import Backbone


def generated_folder() -> Path:
    """Where built-in worlds are written when no folder is given: the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "despur"


def load_dataset(
    spec: str,
    *,
    seed: int = 0,
    allow_outside: bool = False,
    folder: Path | None = None,
    progress: Progress = silent,
) -> Dataset:
    """The examples that a spec names.

    Args:
        spec: ``waterbirds:DIR``, ``imagenet:DIR,classes=680,898``, ``celeba:DIR``, ``wilds:DIR``, ``spuco:DIR``,
            ``subpopbench:FILE``, ``fiftyone:DIR``, ``table:FILE``, ``folder:DIR``, ``hf:DIR`` or ``hf:NAME``; or the
            built-in world: ``birdland``, ``birdland:birds:0.5`` (a part of it), ``birdland:objects``.
        seed: of splits that are drawn, and of the built-in world.
        allow_outside: let a table name images outside its own folder.
        folder: where ``birdland`` is written, if it is not there yet, and images are unpacked; by default the user's
            cache.
        progress: shows the drawing of a world that is not there yet.

    Raises:
        DataError: the kind is unknown, or the data are not what the spec promises.
    """
    said = parse_spec(spec)
    known = [*KINDS, "birdland"]
    if said.kind not in known:
        raise DataError(f"there is no kind of dataset {said.kind!r}", where=spec, now=nearest(said.kind, known))
    place = folder or generated_folder()
    if said.kind == "birdland":
        said.check(())
        return _birdland(said.place, seed, place, progress)
    if not said.place:
        raise DataError("the spec names no place", where=spec, now=f"write {said.kind}:PATH")
    return KINDS[said.kind](said, Reading(seed, place, allow_outside, progress))


def _birdland(tail: str, seed: int, folder: Path, progress: Progress) -> Dataset:
    """``birds`` (the default), ``birds:0.5`` for half of its images, or ``objects``."""
    from despur.birdland.write import write_birds, write_objects
    from despur.data.table import load_table
    from despur.data.waterbirds import load_waterbirds

    study, _, scale = (tail or "birds").partition(":")
    place = folder / "-".join(["birdland", study, *([scale] if scale else []), str(seed)])
    if study == "birds":
        try:
            share = float(scale or 1)
        except ValueError as error:
            raise DataError(
                f"{scale!r} is no number", where=f"birdland:{tail}", now="write birdland:birds:0.5"
            ) from error
        write_birds(place, seed=seed, scale=share, progress=progress)
        return load_waterbirds(place)
    if study == "objects":
        if scale:
            raise DataError("the study of objects has one size", where=f"birdland:{tail}", now="write birdland:objects")
        write_objects(place, seed=seed, progress=progress)
        return load_table(place / "examples.csv")
    raise DataError(f"birdland has no study {study!r}", now=nearest(study, ["birds", "objects"]))


MODELS = ("open_clip", "hf", "birdland")
"""The kinds of models, by the word that a spec starts with."""


def check_model(spec: str, *, random_weights: bool = False) -> None:
    """Refuse a model's spec that is mistyped, before anything is read, fetched or built.

    Raises:
        ModelError: the kind is unknown; or open_clip has no such architecture or tag, or weights are not named.
    """
    kind, _, tail = spec.partition(":")
    if kind not in MODELS:
        raise ModelError(f"there is no kind of model {kind!r}", where=spec, now=nearest(kind, MODELS))
    if kind == "open_clip":
        from despur.backbones.registry import choose_weights

        choose_weights(tail, random_weights=random_weights)


def load_backbone(
    spec: str,
    *,
    random_weights: bool = False,
    trainable: str = "projection",
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Backbone:
    """The model that a spec names, frozen, its heads taken off.

    Args:
        spec: ``open_clip:ARCH/TAG``, ``open_clip:ARCH/FILE``, ``open_clip:hf-hub:OWNER/NAME``,
            ``open_clip:local-dir:DIR``, ``hf:NAME``, ``hf:DIR``, ``birdland:resnet`` or ``birdland:vit``.
        random_weights: let an architecture run without weights, drawn from ``seed``.
        trainable: "projection", or "attention-pool" for a ResNet's whole pool.
        device: where its encoders run.
        seed: of random weights.

    Raises:
        ModelError: the kind or name is unknown, or its weights cannot be had.
        SettingsError: the model has no such trainable part.
    """
    check_model(spec, random_weights=random_weights)
    kind, _, tail = spec.partition(":")
    if kind == "open_clip":
        from despur.backbones.open_clip import load_open_clip

        return load_open_clip(tail, random_weights=random_weights, trainable=trainable, device=device, seed=seed)
    if kind == "hf":
        from despur.backbones.huggingface import load_huggingface

        return load_huggingface(tail, random_weights=random_weights, trainable=trainable, device=device, seed=seed)
    from despur.birdland.models import load_birdland

    return load_birdland(tail or "resnet", trainable=trainable, device=device)


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the best that is there.

    Raises:
        ModelError: the name means nothing, or that device is not there.
    """
    import torch

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # "meta" makes tensors that hold nothing
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the device {name!r} cannot be used ({reason})", now="try --device cpu") from error
    return device
