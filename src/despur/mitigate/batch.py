"""One training step's inputs, and what the loss terms share: embeddings and similarities, computed once when asked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from despur.backbones.heads import Heads, embed_images, inverse_temperature
from despur.errors import SettingsError
from despur.mitigate.kernels import self_similarity, unit_projection
from despur.mitigate.losses import Pairs, same_label_pairs, similarities
from despur.mitigate.membership import memberships, shared_group_pairs
from despur.mitigate.scratch import Scratch
from despur.mitigate.settings import TrainSettings
from despur.mitigate.span import PromptSpan
from despur.mitigate.study import Study

PROMPT_SETS = ("class_prompts", "group_prompts", "phrase_prompts")
"""The study's prompts, which a batch holds under the same names as unit vectors."""


class Batch:
    """What a loss term sees: a stack of runs, each with its own images and its own heads.

    Attributes:
        study: prompts and constants, the same for all runs.
        settings: what the runs have in common.
        heads: every tensor with a leading *runs* dimension.
        rows: index of each image into ``study.train``.
        labels, groups: class and group (or groups) of each image.
        templates: a random template for each image.
        state: what a method keeps from step to step beside the heads (Group DRO's weights); a term may update it.
        scratch: memory that steps hand on. Without it each step asks for its own.
        span: where ``heads`` hold coefficients of prompts in place of a text projection.
    """

    def __init__(
        self,
        study: Study,
        settings: TrainSettings,
        heads: Heads,
        *,
        rows: Int[Tensor, "runs images"],
        labels: Int[Tensor, "runs images"],
        groups: Int[Tensor, "runs images *slots"],
        templates: Int[Tensor, "runs images"],
        state: Mapping[str, Tensor],
        scratch: Scratch | None = None,
        span: PromptSpan | None = None,
    ) -> None:
        self.study = study
        self.settings = settings
        self.heads = heads
        self.rows = rows
        self.labels = labels
        self.groups = groups
        self.templates = templates
        self.state = state
        self.scratch = scratch
        self.span = span

    def _unit_projection(self, features: Tensor, side: str, of: str) -> Tensor:
        return unit_projection(features, self.heads[f"{side}.weight"], self.heads.get(f"{side}.bias"), self.scratch, of)

    @property
    def prompts_read(self) -> tuple[str, ...]:
        """The sets of prompts that were asked for so far, by their names in the study."""
        return tuple(name for name in PROMPT_SETS if name in vars(self))

    @cached_property
    def features(self) -> Tensor:
        """[runs, images, ...]: features before the projection."""
        return self.study.train.take(self.rows)

    @cached_property
    def inverse_temperature(self) -> Float[Tensor, "runs"]:
        """1/τ of each run, at most 100."""
        return inverse_temperature(self.heads)

    @cached_property
    def images(self) -> Float[Tensor, "runs images dim"]:
        """Images as unit vectors in the joint space."""
        if "image.weight" in self.heads and "adapter.in.weight" not in self.heads:
            return self._unit_projection(self.features, "image", "images")
        return embed_images(self.heads, self.features)

    @cached_property
    def _spanned(self) -> Mapping[str, Tensor]:
        """The prompts of every set of the span."""
        return {} if self.span is None else self.span.embed(self.heads, self.scratch)

    def _prompts(self, features: Tensor, of: str) -> Tensor:
        embedded = self._spanned[of] if self.span else self._unit_projection(features.flatten(0, 1), "text", of)
        return embedded.unflatten(-2, features.shape[:2])

    @cached_property
    def class_prompts(self) -> Float[Tensor, "runs templates classes dim"]:
        """Every template with every class name, as unit vectors."""
        return self._prompts(self.study.class_prompts, "class_prompts")

    @cached_property
    def group_prompts(self) -> Float[Tensor, "runs templates groups dim"]:
        """Templates with every group's phrase, as unit vectors: all of them, or ``study.prompt_window`` a step."""
        prompts, window = self.study.group_prompts, self.study.prompt_window
        if window == len(prompts):
            return self._prompts(prompts, "group_prompts")
        # Neighbours from where the first image's template says; each run has its own.
        chosen = (self.templates[:, :1] + torch.arange(window, device=prompts.device)) % len(prompts)
        rows = prompts[chosen].flatten(1, 2)
        return self._unit_projection(rows, "text", "group_prompts").unflatten(-2, (window, -1))

    @cached_property
    def phrase_prompts(self) -> Float[Tensor, "runs templates phrases dim"]:
        """Every template with every spurious phrase, as unit vectors.

        Raises:
            SettingsError: the study has none.
        """
        if self.study.phrase_prompts is None:
            raise SettingsError(
                "the cosine form of the loss 'ls' compares class prompts with the spurious phrases' own prompts, "
                "and this study has none",
                where="losses",
                now="give the attribute a phrase, or use the contrastive form",
            )
        return self._prompts(self.study.phrase_prompts, "phrase_prompts")

    @cached_property
    def class_texts(self) -> Float[Tensor, "runs classes dim"]:
        """The vector that classifies: the mean of a class's prompt embeddings, renormalised."""
        return F.normalize(self.class_prompts.mean(-3), dim=-1)

    @cached_property
    def paired_texts(self) -> Float[Tensor, "runs images dim"]:
        """For each image, its class's prompt under the template drawn for it."""
        rows = self.class_prompts.flatten(-3, -2)
        chosen = self.templates * self.study.class_prompts.shape[1] + self.labels
        return rows.gather(-2, chosen.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))

    @cached_property
    def class_logits(self) -> Float[Tensor, "runs images classes"]:
        """Zero-shot logits: 1/τ times the cosine with each class's vector."""
        return similarities(self.images, self.class_texts, self.inverse_temperature)

    @cached_property
    def image_similarity(self) -> Float[Tensor, "runs images images"]:
        """Images against images over τ, nobody against itself."""
        return self_similarity(self.images, self.inverse_temperature)

    @cached_property
    def class_prompt_similarity(self) -> Float[Tensor, "runs prompts prompts"]:
        """Class prompts against class prompts over τ, none against itself."""
        prompts = self.class_prompts.flatten(-3, -2)
        return self_similarity(prompts, self.inverse_temperature)

    @cached_property
    def group_prompt_similarity(self) -> Float[Tensor, "runs prompts prompts"]:
        """Group prompts against group prompts over τ, none against itself."""
        prompts = self.group_prompts.flatten(-3, -2)
        return self_similarity(prompts, self.inverse_temperature)

    @cached_property
    def same_class(self) -> Pairs:
        """Which images L_vc pulls together."""
        return same_label_pairs(self.labels, self.images.dtype)

    @cached_property
    def members(self) -> Float[Tensor, "runs images groups"]:
        """How much each image belongs to each group."""
        like, count = self.study.class_prompts, self.study.groups
        if self.groups.ndim == 2:
            return F.one_hot(self.groups, count).to(like.dtype)
        shares = self.study.train.shares
        return memberships(self.groups, None if shares is None else shares[self.rows], count, like)

    @cached_property
    def same_group(self) -> Pairs:
        """Which images L_vs pulls together."""
        if self.groups.ndim == 2:
            return same_label_pairs(self.groups, self.images.dtype)
        return shared_group_pairs(self.members)
