"""The embed stage: everything that training and evaluation read of a dataset, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from despur.backbones.prompts import check_templates, openai_templates
from despur.backbones.protocol import Backbone
from despur.data.examples import Attribute, Dataset
from despur.features.encode import encode_prompts
from despur.features.store import FeatureStore, Precision, build_store
from despur.progress import Progress, silent
from despur.workspace import fingerprint, write_whole

TEXTS = "texts.safetensors"


class EmbedSettings(BaseModel):
    """Settings of the embed stage.

    Attributes:
        batch_size: images in one forward pass.
        dtype: how features lie on disk; float16 halves the store and moves a feature by at most 1 part in 2,000.
        shard_rows: images in one file, and the most that an interrupted run computes twice.
        templates: each with one slot ``{}``; None: OpenAI's 80.
        workers: threads that read images ahead of the encoder; None: one a core, at most 8.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    batch_size: int = Field(default=64, ge=1)
    dtype: Precision = "float16"
    shard_rows: int = Field(default=1024, ge=1)
    templates: tuple[str, ...] | None = None
    workers: int | None = Field(default=None, ge=1)


@dataclass(frozen=True)
class Features:
    """What the frozen encoders make of a dataset.

    Attributes:
        ids: of the images that could be read, in the dataset's order.
        images: [images, d_image], or [images, channels, height, width] where the attention pool is trained; float32.
        prompts: [templates, classes, d_text], float32.
        group_prompts: [templates, groups, d_text], groups in the order of ``Dataset.groups``; no groups where the
            dataset has no attribute, or several and none was chosen.
        unreadable: (row of the dataset, reason) of the images that are not among ``ids``.
    """

    ids: list[str]
    images: Tensor
    prompts: Float[Tensor, "templates classes d_text"]
    group_prompts: Float[Tensor, "templates groups d_text"]
    unreadable: tuple[tuple[int, str], ...] = ()


def embed(
    dataset: Dataset,
    backbone: Backbone,
    folder: Path,
    settings: EmbedSettings | None = None,
    *,
    attribute: str | None = None,
    progress: Progress = silent,
) -> Features:
    """The features of a dataset, from the store in ``folder`` where it is up to date, computed and kept where not.

    Args:
        attribute: the one whose groups get prompts; None: the dataset's only one.

    Raises:
        SettingsError: a template without its slot.
        ModelError: a prompt longer than the model's context, or features that the dtype cannot hold.
        WorkspaceError: the folder cannot be written, or no image could be read.
    """
    settings = settings or EmbedSettings()
    templates = check_templates(openai_templates() if settings.templates is None else settings.templates)
    chosen = dataset.attribute(attribute) if attribute is not None or len(dataset.attributes) == 1 else None
    # Texts first: a prompt that does not fit should not wait for an hour of images.
    prompts, group_prompts = _texts(dataset, backbone, folder, templates, chosen, progress)
    ids = dataset.ids
    store = build_store(
        folder,
        ids,
        dataset.image_paths(),
        backbone,
        batch_size=settings.batch_size,
        dtype=settings.dtype,
        shard_rows=settings.shard_rows,
        workers=settings.workers,
        progress=progress,
    )
    return load_features(dataset, store, prompts, group_prompts)


def load_features(dataset: Dataset, store: FeatureStore, prompts: Tensor, group_prompts: Tensor) -> Features:
    """A store and its prompts as one thing in memory."""
    ids = dataset.ids
    return Features([ids[row] for row in store.rows()], store.load(), prompts, group_prompts, tuple(store.unreadable))


def _texts(
    dataset: Dataset,
    backbone: Backbone,
    folder: Path,
    templates: tuple[str, ...],
    attribute: Attribute | None,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    """Features of class prompts and group prompts, from ``texts.safetensors`` where it was made from the same."""
    phrases = [] if attribute is None else dataset.group_phrases(attribute)
    state = fingerprint(backbone.fingerprint(), list(templates), list(dataset.classes), phrases)
    path = folder / TEXTS
    kept = _read_texts(path, state)
    if kept is not None:
        return kept
    both = encode_prompts(backbone, templates, [*dataset.classes, *phrases], progress=progress)
    prompts, group_prompts = both[:, : len(dataset.classes)], both[:, len(dataset.classes) :]
    tensors = {"prompts": prompts.contiguous(), "group_prompts": group_prompts.contiguous()}
    with write_whole(path) as temporary:
        save_file(tensors, temporary, metadata={"state": state})
    return tensors["prompts"], tensors["group_prompts"]


def _read_texts(path: Path, state: str) -> tuple[Tensor, Tensor] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("state") != state:
                return None
            return file.get_tensor("prompts"), file.get_tensor("group_prompts")
    except (SafetensorError, OSError):
        return None
