"""What the review page asks of the stages: whether the ranking still holds, and maps of where the model looks."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from threading import Lock

from PIL import Image

from despur.data.images import read_image
from despur.explain.methods import GRADCAM
from despur.explain.overlay import overlay
from despur.pipeline.detecting import DETECT
from despur.pipeline.embedded import EMBED, PREDICT, Embedded
from despur.pipeline.ranking import RANK
from despur.pipeline.runner import stage_state
from despur.workspace import Workspace, fingerprint


def ranking_is_current(workspace: Workspace) -> bool:
    """Whether the ranking was computed from the embedding, predictions and detections that are there now."""
    record = workspace.record(RANK)
    if record is None:
        return False
    read = fingerprint(*(stage_state(workspace, stage) for stage in (EMBED, PREDICT, DETECT)))
    return record.inputs == fingerprint(record.settings, read)


def review_maps(embedded: Embedded) -> Callable[[int], Image.Image]:
    """Grad-CAM of an image's own class under the model under study, by the image's row in the dataset.

    Maps are computed one at a time, when they are asked for.
    """
    lock = Lock()

    @lru_cache(maxsize=256)
    def drawn(row: int) -> Image.Image:
        photograph = read_image(embedded.dataset.image_paths()[row])
        backbone = embedded.backbone
        pixels = backbone.preprocess(photograph).unsqueeze(0).to(embedded.device)
        maps = GRADCAM.class_maps(backbone, embedded.heads, pixels, embedded.class_prompts)
        return overlay(backbone.framing.image(photograph), maps[0, int(embedded.dataset.labels[row])])

    def draw(row: int) -> Image.Image:
        with lock:
            return drawn(row)

    return draw
