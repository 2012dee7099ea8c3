"""Everything that training reads, as tensors on one device: features, labels, groups, prompts, heads to start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from hashlib import blake2b

import torch
from jaxtyping import Float, Int
from torch import Tensor

from despur.backbones.heads import Heads
from despur.errors import TrainingError
from despur.features.streamed import StreamedFeatures
from despur.metrics.groups import group_name
from despur.mitigate.losses import Pairs, prompt_labels, same_label_pairs
from despur.mitigate.membership import sizes_of, unpaired

MOST_PROMPTS = 640
"""Group prompts that are compared with each other in a step: 80 templates of eight groups. Where pairs make more
groups, a step takes some templates, other ones each time."""


@dataclass(frozen=True)
class Examples:
    """The images of one split.

    Attributes:
        features: [images, d_image], or [images, channels, height, width] where the attention pool is trained; on disk
            where they are larger than memory.
        labels: class of each image, int64.
        groups: 2 * label + (1 where the attribute is present), int64; where several pairs are spurious, the groups
            of every image (see ``membership.py``).
        shares: how much an image belongs to each of its groups; None: wholly.
    """

    features: Tensor | StreamedFeatures
    labels: Int[Tensor, "images"]
    groups: Int[Tensor, "images *slots"]
    shares: Float[Tensor, "images slots"] | None = None

    def __len__(self) -> int:
        return self.labels.shape[0]

    def take(self, rows: Int[Tensor, "*chosen"]) -> Tensor:
        """Features of the chosen images: [*chosen, ...]."""
        if isinstance(self.features, StreamedFeatures):
            return self.features.take(rows)
        return self.features.index_select(0, rows.flatten()).unflatten(0, rows.shape)

    def whole(self, method: str) -> Tensor:
        """All features, for methods that solve on them at once.

        Raises:
            TrainingError: they are on disk, since they are larger than memory.
        """
        if isinstance(self.features, StreamedFeatures):
            raise TrainingError(
                f"{method} needs all features in memory, and they are read from disk",
                where=method,
                now="raise --memory, or choose a method that trains in steps (erm, group-dro, a sum of losses)",
            )
        return self.features


@dataclass(frozen=True)
class Study:
    """One task: tell the classes apart without leaning on the attribute.

    Attributes:
        train, val: images to train on, and to choose the epoch by.
        class_prompts: text features of every template filled with every class name.
        group_prompts: the same with what names each group ("waterbird on water"), in the order of the group index.
        heads: the pre-trained projections and temperature that every run starts from.
        classes, attribute: names, for messages and for the columns of a run's history.
        pairs: (class, attribute) of every spurious pair, where there are several; None: ``attribute`` for every class.
        phrase_prompts: the same prompts for the spurious phrases alone ("water"); only ``similarity="cosine"`` asks for
            them.
    """

    train: Examples
    val: Examples
    class_prompts: Float[Tensor, "templates classes d_text"]
    group_prompts: Float[Tensor, "templates groups d_text"]
    heads: Heads
    classes: tuple[str, ...]
    attribute: str
    phrase_prompts: Float[Tensor, "templates phrases d_text"] | None = field(default=None)
    pairs: tuple[tuple[int, str], ...] | None = None

    @property
    def groups(self) -> int:
        """How many groups there are: two a class, or two a pair and one for each class that no pair is of."""
        return 2 * len(self.classes) if self.pairs is None else 2 * len(self.pairs) + len(self.unpaired)

    @cached_property
    def unpaired(self) -> list[int]:
        """The classes that no pair is of, where there are pairs."""
        return [] if self.pairs is None else unpaired([label for label, _ in self.pairs], len(self.classes))

    def group_name(self, group: int) -> str:
        """What a group is called in a message: "waterbird without water"; of a class that no pair is of, its name."""
        if self.pairs is not None and group >= 2 * len(self.pairs):
            return self.classes[self.unpaired[group - 2 * len(self.pairs)]]
        label, attribute = (group // 2, self.attribute) if self.pairs is None else self.pairs[group // 2]
        return group_name(self.classes[label], attribute, present=bool(group % 2))

    @cached_property
    def group_sizes(self) -> Tensor:
        """Training images of each group; shares of images are added up."""
        if self.train.groups.ndim == 2:
            return sizes_of(self.train.groups, self.train.shares, self.groups)
        return torch.bincount(self.train.groups, minlength=self.groups)

    @cached_property
    def log_prior(self) -> Float[Tensor, "classes"]:
        """Log of each class's share of the training images; a class without any counts as half an image."""
        sizes = torch.bincount(self.train.labels, minlength=len(self.classes)).to(self.class_prompts.dtype)
        return (sizes.clamp(min=0.5) / len(self.train)).log()

    @cached_property
    def class_prompt_pairs(self) -> Pairs:
        """Which class prompts L_lc pulls together; the same at every step."""
        return same_label_pairs(prompt_labels(self.class_prompts), self.class_prompts.dtype)

    @cached_property
    def group_prompt_pairs(self) -> Pairs:
        """Which group prompts L_ls pulls together; the same at every step."""
        return same_label_pairs(prompt_labels(self.group_prompts[: self.prompt_window]), self.group_prompts.dtype)

    @property
    def prompt_window(self) -> int:
        """Templates whose group prompts L_ls compares in a step: all, or with many pairs those that its cost allows."""
        templates = self.group_prompts.shape[0]
        return templates if self.pairs is None else min(templates, max(2, MOST_PROMPTS // self.group_prompts.shape[1]))

    @cached_property
    def _computed(self) -> dict[tuple[str, int], dict[str, Tensor]]:
        return {}

    def once(self, name: str, seed: int, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What a method computes from this study and a seed alone: the same tensors for every run that asks."""
        key = (name, seed)
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Study:
        """The same study on a device; numbers that are not indices in ``dtype``, the precision of training."""

        def move(value: object) -> object:
            if isinstance(value, StreamedFeatures):
                return value.to(device, dtype)
            if isinstance(value, Tensor):
                return value.to(device, dtype if value.is_floating_point() else value.dtype)
            if isinstance(value, dict):
                return {name: move(entry) for name, entry in value.items()}
            if isinstance(value, Examples):
                return Examples(*(move(getattr(value, part.name)) for part in fields(value)))  # pyright: ignore[reportArgumentType]
            return value

        return Study(**{part.name: move(getattr(self, part.name)) for part in fields(self)})  # pyright: ignore[reportArgumentType]

    def fingerprint(self) -> str:
        """Hexadecimal digest over every tensor and name: what a checkpoint of this study may be resumed with."""
        digest = blake2b(digest_size=32)
        for name, tensor in self._tensors():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            for part in tensor.parts() if isinstance(tensor, StreamedFeatures) else [tensor]:
                digest.update(part.detach().cpu().flatten().view(torch.uint8).numpy().data)
        digest.update("\0".join((*self.classes, self.attribute, *map(str, self.pairs or ()))).encode())
        return digest.hexdigest()

    def _tensors(self) -> Iterator[tuple[str, Tensor | StreamedFeatures]]:
        for split in ("train", "val"):
            examples: Examples = getattr(self, split)
            own = ((f"{split}.{part.name}", getattr(examples, part.name)) for part in fields(examples))
            yield from ((name, tensor) for name, tensor in own if tensor is not None)
        yield "class_prompts", self.class_prompts
        yield "group_prompts", self.group_prompts
        if self.phrase_prompts is not None:
            yield "phrase_prompts", self.phrase_prompts
        yield from sorted(self.heads.items())
