"""What open_clip knows by name: architectures, tags, and where their weights lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf, get_pretrained_cfg
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from despur.backbones import hub
from despur.backbones.tokens import Tokenizer
from despur.errors import ModelError, nearest
from despur.workspace import at_home

WEIGHTS_ENDINGS = (".safetensors", ".pt", ".pth", ".bin")

CONFIG_FILE = "open_clip_config.json"
"""What open_clip reads an architecture and its preprocessing from, in a folder or a hub's repository."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

LOCAL, HUB = "local-dir:", "hf-hub:"
"""open_clip's own words for models that bring their configuration with them."""


@dataclass(frozen=True)
class Choice:
    """An architecture and where its weights come from.

    Attributes:
        spec: how the user named the model ("open_clip:RN50/openai").
        architecture: open_clip's name ("RN50").
        tag: one of open_clip's tags, or None.
        file: a weights file, or None; without any of the three the model has no weights.
        folder: a folder with configuration and weights, or None; there ``architecture`` is open_clip's name for it.
        repository: a hub's repository of the same, or None.
    """

    spec: str
    architecture: str
    tag: str | None = None
    file: Path | None = None
    folder: Path | None = None
    repository: str | None = None

    @property
    def has_weights(self) -> bool:
        """Whether there is anything to load; without it the weights are random."""
        return any(source is not None for source in (self.tag, self.file, self.folder, self.repository))

    @property
    def settings(self) -> dict[str, Any]:
        """What open_clip records of the tag: addresses, preprocessing, activation; empty without a tag."""
        return get_pretrained_cfg(self.architecture, self.tag) if self.tag else {}


def choose(tail: str) -> Choice:
    """Read what follows ``open_clip:`` in a spec: ARCH, ARCH/TAG, ARCH/FILE, hf-hub:OWNER/NAME or local-dir:DIR.

    Slashes within an architecture's name are open_clip's hyphens ("ViT-B/32/openai", "ViT-L/14@336px/openai").

    Raises:
        ModelError: an architecture or a tag that open_clip does not have; the message names the nearest, or the tags.
    """
    spec = f"open_clip:{tail}"
    if tail.startswith(LOCAL):
        return Choice(spec, tail, folder=at_home(tail.removeprefix(LOCAL)))
    if tail.startswith(HUB):
        return Choice(spec, tail, repository=tail.removeprefix(HUB))
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
        file = at_home(source)
        if file.is_file() or "/" in source or file.suffix in WEIGHTS_ENDINGS:
            return Choice(spec, architecture, file=file)
        close = get_close_matches(tag, tags, n=1)
        meant = f"did you mean {close[0]!r}? it has" if close else "choose"
        raise ModelError(
            f"{architecture} has no tag {source!r}",
            where=spec,
            now=f"{meant} {offered_tags(architecture)}, or give a weights file" if tags else "give a weights file",
        )
    raise _no_architecture(parts[0], known, spec)


def _no_architecture(name: str, known: list[str], spec: str) -> ModelError:
    hint = nearest(name, known)
    now = hint if hint.startswith("did you mean") else "choose one such as RN50, ViT-B-32 or ViT-L-14-336"
    return ModelError(f"open_clip has no architecture {name!r}", where=spec, now=now)


def choose_weights(tail: str, *, random_weights: bool = False) -> Choice:
    """:func:`choose`, of a model that has weights to load unless they are to be random.

    Raises:
        ModelError: also where an architecture is named without weights.
    """
    choice = choose(tail)
    if choice.has_weights or random_weights:
        return choice
    offered = offered_tags(choice.architecture)
    raise ModelError(
        f"{choice.architecture} is an architecture without weights",
        where=choice.spec,
        now=f"name a tag, as in open_clip:{choice.architecture}/{tags_of(choice.architecture)[0]} (it has {offered}), "
        "or pass --random-weights"
        if offered
        else "name a weights file, or pass --random-weights",
    )


COMMON_TAGS = ("openai", "laion2b_s", "webli", "datacomp_xl", "datacomp1b", "dfn", "metaclip", "laion")
"""How the tags begin that most people mean, the commonest first; of the others there are many of one experiment."""

OFFERED = 4
"""Tags that a sentence lists."""


def tags_of(architecture: str) -> list[str]:
    """The tags of an architecture, those first that most people mean.

    Raises:
        ModelError: open_clip has no such architecture.
    """
    known = open_clip.list_models()
    if architecture not in known:
        raise _no_architecture(architecture, known, f"open_clip:{architecture}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    order = {tag: [not tag.startswith(common) for common in COMMON_TAGS] for tag in tags}
    return sorted(tags, key=lambda tag: order[tag])


def offered_tags(architecture: str) -> str:
    """The commonest tags as a list in words, and how to see the others; empty where there are none."""
    tags = tags_of(architecture)
    more = len(tags) - OFFERED
    if more <= 0:
        return ", ".join(tags)
    return f"{', '.join(tags[:OFFERED])} and {more} more, which despur doctor --tags {architecture} lists"


def model_config(choice: Choice) -> dict[str, Any]:
    """The architecture's configuration, before anything is fetched or built that it does not ask for.

    Raises:
        ModelError: it cannot be had, or is of a kind that despur does not know.
    """
    config = _described(choice).get("model_cfg") if choice.folder or choice.repository else None
    config = config or open_clip.get_model_config(choice.architecture) or {}
    if "multimodal_cfg" in config:
        raise ModelError(
            f"{choice.architecture} has a tower of CoCa, which despur does not know yet",
            where=choice.spec,
            now="choose a CLIP model with two encoders, such as RN50 or ViT-B-32",
        )
    if not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise ModelError(f"its {CONFIG_FILE} describes no model", where=choice.spec, now="check the file")
    return config


def _described(choice: Choice) -> dict[str, Any]:
    """What a folder or a repository says of its model.

    Raises:
        ModelError: there is no such file, or it is no JSON.
    """
    file = _own_file(choice, CONFIG_FILE)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"it has no {CONFIG_FILE}", where=choice.spec, now="name a folder that open_clip or despur export wrote"
        ) from error
    except ValueError as error:
        raise ModelError("it is not JSON", where=file, now="fetch it again") from error
    return content if isinstance(content, dict) else {}


def _own_file(choice: Choice, *names: str) -> Path:
    """The first of these files that a folder has, or that a hub gives.

    Raises:
        ModelError: no hub answers, or it has none of them.
    """
    if choice.folder is not None:
        return next(
            (choice.folder / name for name in names if (choice.folder / name).is_file()), choice.folder / names[0]
        )
    repository = str(choice.repository)
    try:
        hub.expect_files(repository, *names)
        return Path(download_pretrained_from_hf(repository, filename=names[0]))
    except (OSError, RuntimeError) as error:
        wanted = " and ".join(hub.address(repository, name) for name in (CONFIG_FILE, HF_SAFE_WEIGHTS_NAME))
        raise ModelError(
            f"{names[0]} is not on this machine and no hub gives it",
            where=choice.spec,
            now=f"fetch {wanted} (and the tokenizer files beside them, if there are any) where there is a network, "
            "put them into one folder here and give --model open_clip:local-dir:FOLDER",
        ) from error


def weights_file(choice: Choice) -> Path:
    """The weights on this machine: the file itself, or from the cache or from where open_clip keeps them.

    Raises:
        ModelError: the tag's weights are not here and no hub answers; the message says what to fetch and where to
            put it.
    """
    if choice.file is not None:
        return choice.file
    if choice.folder or choice.repository:
        return _own_file(choice, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
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
    """How the weights want their images: as their folder or tag says, else as all tags agree on, else as CLIP does."""
    if choice.folder or choice.repository:
        told = merge_preprocess_dict(PreprocessCfg(), _described(choice).get("preprocess_cfg", {}))
        return PreprocessCfg(**{**told, "size": size})  # pyright: ignore[reportArgumentType]
    tags = [choice.tag] if choice.tag else open_clip.list_pretrained_tags_by_model(choice.architecture)
    wanted = [merge_preprocess_dict(PreprocessCfg(), get_pretrained_cfg(choice.architecture, tag)) for tag in tags]
    agreed = wanted[0] if wanted and all(entry == wanted[0] for entry in wanted) else {}
    return PreprocessCfg(**{**agreed, "size": size})  # pyright: ignore[reportArgumentType]


def tokenizer_of(choice: Choice, config: dict[str, Any]) -> Tokenizer:
    """The architecture's tokenizer: open_clip's own, or the one beside the weights, or a hub's.

    Raises:
        ModelError: it is none of open_clip's own, not here, and no hub answers.
    """
    settings = config["text_cfg"]
    name = settings.get("hf_tokenizer_name")
    if not name:
        return open_clip.get_tokenizer(choice.architecture, context_length=settings.get("context_length"))
    if name == "." and choice.repository:
        name = choice.repository  # what our own export says of a vocabulary that lies beside the weights
    beside = choice.folder or (choice.file.parent if choice.file else None)
    here = beside is not None and any((beside / file).is_file() for file in TOKENIZER_FILES)
    try:
        if not here:
            hub.expect_files(name, *reversed(TOKENIZER_FILES))
        return HFTokenizer(
            str(beside) if here else name,
            context_length=settings.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
            tokenizer_mode=settings.get("tokenizer_mode"),
            **settings.get("tokenizer_kwargs", {}),
        )
    except (OSError, ValueError, ImportError) as error:
        wanted = " and ".join(hub.address(name, file) for file in TOKENIZER_FILES)
        raise ModelError(
            f"its tokenizer {name!r} is not on this machine and no hub answers",
            where=choice.spec,
            now=f"fetch {wanted} where there is a network, put them here beside the weights file and give "
            f"--model open_clip:{'ARCHITECTURE' if choice.folder else choice.architecture}/FOLDER/FILE",
        ) from error
