"""What open_clip knows by name: architectures, tags, and where their weights lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from despur.backbones import hub
from despur.errors import ModelError, nearest

WEIGHTS_ENDINGS = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Choice:
    """An architecture and where its weights come from.

    Attributes:
        spec: how the user named the model ("open_clip:RN50/openai").
        architecture: open_clip's name ("RN50").
        tag: one of open_clip's tags, or None.
        file: a weights file, or None; with neither the model has no weights.
    """

    spec: str
    architecture: str
    tag: str | None = None
    file: Path | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What open_clip records of the tag: addresses, preprocessing, activation; empty without a tag."""
        return get_pretrained_cfg(self.architecture, self.tag) if self.tag else {}


def choose(tail: str) -> Choice:
    """Read what follows ``open_clip:`` in a spec: ``ARCH``, ``ARCH/TAG`` or ``ARCH/FILE``.

    Slashes within an architecture's name are open_clip's hyphens ("ViT-B/32/openai", "ViT-L/14@336px/openai").

    Raises:
        ModelError: an architecture or a tag that open_clip does not have; the message names the nearest, or the tags.
    """
    spec = f"open_clip:{tail}"
    known = open_clip.list_models()
    parts = tail.replace("@336px", "-336", 1).split("/")
    for length in range(len(parts), 0, -1):
        architecture = "-".join(parts[:length])
        if architecture not in known:
            continue
        source = "/".join(parts[length:])
        if not source:
            return Choice(spec, architecture)
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        tag = source.lower().replace("-", "_")
        if tag in tags:
            return Choice(spec, architecture, tag=tag)
        file = Path(source).expanduser()
        if file.is_file() or "/" in source or file.suffix in WEIGHTS_ENDINGS:
            return Choice(spec, architecture, file=file)
        offered = ", ".join(tags) or "none"
        raise ModelError(
            f"{architecture} has no tag {source!r}",
            where=spec,
            now=f"choose a tag ({offered}) or give a weights file",
        )
    hint = nearest(parts[0], known)
    now = hint if hint.startswith("did you mean") else "such as RN50, ViT-B-32 or ViT-L-14-336"
    raise ModelError(f"open_clip has no architecture {parts[0]!r}", where=spec, now=now)


def weights_file(choice: Choice) -> Path:
    """The weights on this machine: the file itself, or the tag's from the cache or from where open_clip keeps them.

    Raises:
        ModelError: the tag's weights are not here and no hub answers; the message says what to fetch and where to
            put it.
    """
    if choice.file is not None:
        return choice.file
    repository, _, name = choice.settings.get("hf_hub", "").rpartition("/")
    names = (name,) if name else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    try:
        if repository:
            hub.expect_files(repository, *names)
        return Path(download_pretrained(choice.settings))
    except (OSError, RuntimeError) as error:
        address = hub.address(repository, names[0]) if repository else choice.settings["url"]
        file = f"{choice.architecture}-{choice.tag}{Path(address).suffix}"
        raise ModelError(
            "the weights are not on this machine and no hub answers",
            where=choice.spec,
            now=f"fetch {address} where there is a network, put it here as {file} and give "
            f"--model open_clip:{quick_name(choice)}/{file}",
        ) from error


def quick_name(choice: Choice) -> str:
    """The architecture's name with the activation that the tag was trained with: "RN50-quickgelu" for RN50/openai.

    open_clip keeps two configurations of such models; OpenAI's weights read with the other one give wrong features.
    """
    quick = f"{choice.architecture}-quickgelu"
    return quick if choice.settings.get("quick_gelu") and quick in open_clip.list_models() else choice.architecture


def preprocessing(choice: Choice, size: int | tuple[int, int]) -> PreprocessCfg:
    """How the weights want their images: the tag's, else what all of the architecture's tags agree on, else CLIP's."""
    tags = [choice.tag] if choice.tag else open_clip.list_pretrained_tags_by_model(choice.architecture)
    wanted = [merge_preprocess_dict(PreprocessCfg(), get_pretrained_cfg(choice.architecture, tag)) for tag in tags]
    agreed = wanted[0] if wanted and all(entry == wanted[0] for entry in wanted) else {}
    return PreprocessCfg(**{**agreed, "size": size})  # pyright: ignore[reportArgumentType]
