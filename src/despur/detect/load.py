"""Specs to detectors: what ``owlvit`` or ``hf:DIR`` on a command line stands for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    GroundingDinoForObjectDetection,
    Owlv2ForObjectDetection,
    OwlViTForObjectDetection,
)
from transformers.utils import logging

from despur.backbones.hub import address, expect_files
from despur.backbones.protocol import Backbone
from despur.detect.grounding_dino import GroundingDinoDetector
from despur.detect.owl import OwlDetector
from despur.detect.protocol import Detector
from despur.detect.tagger import Tagger
from despur.errors import ModelError, SettingsError, nearest
from despur.workspace import at_home

CHECKPOINTS = {
    "owlvit": "google/owlvit-base-patch32",
    "owlv2": "google/owlv2-base-patch16-ensemble",
    "grounding-dino": "IDEA-Research/grounding-dino-tiny",
}
"""What is fetched for a detector that is named without a place."""

WEIGHTS = "model.safetensors"

BUILDERS: dict[str, tuple[Any, Callable[..., Detector[Any]]]] = {
    "owlvit": (OwlViTForObjectDetection, OwlDetector),
    "owlv2": (Owlv2ForObjectDetection, OwlDetector),
    "grounding-dino": (GroundingDinoForObjectDetection, GroundingDinoDetector),
}
"""By ``model_type`` of a checkpoint's ``config.json``."""


@dataclass(frozen=True)
class Asked:
    """What a detector that is no checkpoint of transformers is made from.

    Attributes:
        spec: how the user named it.
        place: what follows the colon of ``spec``, or nothing.
        settings: ``threshold``, if one was chosen.
        device: where to compute.
        backbone: the model under study, where there is one.
    """

    spec: str
    place: str
    settings: Mapping[str, Any]
    device: str | torch.device
    backbone: Backbone | None


def _tagger(asked: Asked) -> Detector[Any]:
    if asked.backbone is None:
        raise SettingsError("the tagger asks the model under study, and none is given", now="give it as backbone")
    return Tagger(asked.backbone, **asked.settings)


DETECTORS: dict[str, Callable[[Asked], Detector[Any]]] = {"tagger": _tagger}
"""By the word that a spec starts with."""


def load_detector(
    spec: str,
    *,
    threshold: float | None = None,
    device: str | torch.device = "cpu",
    backbone: Backbone | None = None,
    others: Sequence[str] = (),
) -> Detector[Any]:
    """The detector that a spec names.

    ``column`` is no detector of images; see :func:`despur.detect.column.column_detections`.

    Args:
        spec: ``owlvit``, ``owlv2`` or ``grounding-dino`` (their usual checkpoints); ``hf:NAME-or-DIR`` (any checkpoint
            of these kinds); ``tagger`` (the model under study itself).
        threshold: score above which something is seen; None: the detector's own habit.
        backbone: the model under study, for ``tagger``.
        others: detectors that the caller makes itself; they are named where a spec is unknown.

    Raises:
        SettingsError: the spec is unknown, or ``tagger`` has no model to ask.
        ModelError: the checkpoint cannot be had, or is of another kind.
    """
    chosen: dict[str, Any] = {} if threshold is None else {"threshold": threshold}
    kind, _, place = spec.partition(":")
    if kind in DETECTORS:
        return DETECTORS[kind](Asked(spec, place, chosen, device, backbone))
    name = checkpoint_of(spec, others)
    try:
        return _from_checkpoint(name, spec, device, chosen)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _absent(name, spec, error) from error


def expect_detector(spec: str, *, others: Sequence[str] = ()) -> None:
    """Return if a detector's files are here, or the hub that has them answers; reads no weights.

    Args:
        others: as for :func:`load_detector`.

    Raises:
        SettingsError: the spec is unknown.
        ModelError: the files cannot be had.
    """
    if spec.partition(":")[0] in DETECTORS:
        return
    name = checkpoint_of(spec, others)
    folder = at_home(name)
    try:
        if not folder.is_dir():
            expect_files(name, WEIGHTS, f"{WEIGHTS}.index.json")
        elif not ((folder / "config.json").is_file() and any(folder.glob("*.safetensors"))):
            raise FileNotFoundError(f"it holds no config.json or no {WEIGHTS}")
    except OSError as error:
        raise _absent(name, spec, error) from error


def _absent(name: str, spec: str, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    source = "" if at_home(name).is_dir() else f" ({address(name, WEIGHTS)}, and the JSON files beside it)"
    return ModelError(
        f"the detector {name!r} cannot be had ({reason})",
        where=spec,
        now=f"download its files{source} where there is a network, name their folder with --detector hf:DIR, "
        "or use tagger",
    )


def checkpoint_of(spec: str, others: Sequence[str] = ()) -> str:
    """The checkpoint's name on the hub or its folder, for a spec that names one.

    Args:
        others: as for :func:`load_detector`.

    Raises:
        SettingsError: the spec is unknown.
    """
    kind, _, place = spec.partition(":")
    if spec not in CHECKPOINTS and (kind != "hf" or not place):
        known = [*CHECKPOINTS, *others, *DETECTORS, "hf:NAME-or-DIR"]
        raise SettingsError(f"there is no detector {spec!r}", now=nearest(spec, known))
    return CHECKPOINTS.get(spec, place)


@contextmanager
def _no_bar() -> Generator[None]:
    """Without the library's own bar over the tensors of a checkpoint; ours is about images."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _from_checkpoint(name: str, spec: str, device: str | torch.device, settings: dict[str, Any]) -> Detector[Any]:
    folder = at_home(name)
    if not folder.is_dir():
        expect_files(name, "config.json")
    place = str(folder) if folder.is_dir() else name
    config = AutoConfig.from_pretrained(place)
    if config.model_type not in BUILDERS:
        raise ModelError(
            f"it is a {config.model_type} model, and despur detects with {', '.join(BUILDERS)}", where=spec
        )
    model_class, detector_class = BUILDERS[config.model_type]
    with _no_bar():
        model = model_class.from_pretrained(place, use_safetensors=True).to(device)
    tokenizer, image_processor = AutoTokenizer.from_pretrained(place), AutoImageProcessor.from_pretrained(place)
    return detector_class(model, tokenizer, image_processor, spec=spec, **settings)
