"""What can be chosen about a whole study: one frozen model a stage, the same in Python, YAML and the shell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from despur.data.quarantine import MAX_UNREADABLE
from despur.errors import SettingsError, nearest
from despur.features.store import EmbedSettings

Settings = TypeVar("Settings", bound=BaseModel)

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""NumPy draws from no negative seed, and numbers of runs are counted up from it."""


def _several(value: object) -> object:
    """One word where a list of words is meant: ``models: birdland:resnet``."""
    return (value,) if isinstance(value, str) else value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is given twice")
    return names


DEFAULT_METHODS = ("clip", "erm", "erm-prior", "group-dro", "clip+lc+vc+ls", "clip+lc+vc+vs")
"""The rows of the paper's Table 4 below the pre-trained model, and ERM with the class prior."""


class ModelSettings(BaseModel):
    """Which model is studied.

    Attributes:
        spec: as :func:`~despur.catalog.load_backbone` reads it: ``open_clip:RN50/openai``, ``hf:NAME``, ...
        random_weights: let an architecture run without weights.
        trainable: the part that is retrained; the pool can be chosen for a ResNet only.
        seed: of random weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: str
    random_weights: bool = False
    trainable: Literal["projection", "attention-pool"] = "projection"
    seed: Seed = 0


class MitigateSettings(BaseModel):
    """Which methods are trained, and how.

    Attributes:
        methods: names of methods, or losses joined by plus signs.
        attribute: the spurious attribute; None: the only one there is.
        groups: whose groups methods are told and selected by: the attribute's, or those of all pairs that were judged
            spurious, by what the detector saw ("verdicts") or by its scores ("soft-verdicts").
        seeds: runs a method, numbered from ``seed``.
        seed: of the first run.
        train: settings for every method, over the method's own ("epochs", "learning_rate", ...).
        by_method: settings for one method, over ``train``.
        by_model: the same for one model's spec, over ``by_method``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: Annotated[tuple[str, ...], BeforeValidator(_several)] = DEFAULT_METHODS
    attribute: str | None = None
    groups: Literal["attribute", "verdicts", "soft-verdicts"] = "attribute"
    seeds: Annotated[int, Field(ge=1)] = 1
    seed: Seed = 0
    train: dict[str, Any] = {}
    by_method: dict[str, dict[str, Any]] = {}
    by_model: dict[str, dict[str, dict[str, Any]]] = {}


class ExplainSettings(BaseModel):
    """How explanations are measured and shown.

    Attributes:
        images: test images to measure, drawn by ``seed``; None: all.
        method: how maps are made: "gradcam" (the paper's), "relevance", "rollout" or "similarity".
        strips: images of every group that the report shows.
        checks: images on which the maps themselves are checked (deletion, insertion, randomisation); 0: none.
        contour: draw maps as contour lines and not as colours.
        batch_size: images at once.
        seed: draws the images to measure, to check and to show.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Annotated[int, Field(ge=1)] | None = None
    method: str = "gradcam"
    strips: Annotated[int, Field(ge=0)] = 3
    checks: Annotated[int, Field(ge=0)] = 6
    contour: bool = False
    batch_size: Annotated[int, Field(ge=1)] = 32
    seed: Seed = 0


class StudySettings(BaseModel):
    """Everything from images to a report: what a study file holds.

    Attributes:
        dataset: as :func:`~despur.catalog.load_dataset` reads it: ``waterbirds:DIR``, ``table:FILE``, ``birdland``, ...
        models: one spec or several; with several, each has a workspace of its own inside ``workspace``.
        workspace: the folder.
        random_weights, trainable: as in :class:`ModelSettings`.
        seed: of random weights and of splits; and of the sections' draws where they do not give their own.
        max_unreadable: share of the images that may be unreadable.
        allow_outside: let a table name images outside its own folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    models: Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_several), AfterValidator(_each_once)]
    workspace: Path
    random_weights: bool = False
    trainable: Literal["projection", "attention-pool"] = "projection"
    seed: Seed = 0
    max_unreadable: Annotated[float, Field(ge=0, le=1)] = MAX_UNREADABLE
    allow_outside: bool = False
    embed: EmbedSettings = EmbedSettings()
    mitigate: MitigateSettings = MitigateSettings()
    explain: ExplainSettings = ExplainSettings()

    def seeded(self, seed: int | None = None) -> StudySettings:
        """The same study with ``seed`` for every draw; None: the study's own, where a section does not give one.

        Raises:
            SettingsError: ``seed`` is below 0 or too large.
        """
        if seed is not None:
            checked(MitigateSettings, {"seed": seed}, where="study")

        def section(settings: Settings) -> Settings:
            own = seed is None and "seed" in settings.model_fields_set
            return settings if own else settings.model_copy(update={"seed": self.seed if seed is None else seed})

        return self.model_copy(
            update={
                "seed": self.seed if seed is None else seed,
                "mitigate": section(self.mitigate),
                "explain": section(self.explain),
            }
        )

    def model(self, spec: str) -> ModelSettings:
        """The settings of one of its models."""
        return ModelSettings(spec=spec, random_weights=self.random_weights, trainable=self.trainable, seed=self.seed)


def read_study(file: Path) -> StudySettings:
    """A study from a YAML file; its ``workspace`` and the path in ``dataset`` are relative to the file's folder.

    Raises:
        SettingsError: the file is missing, is not plain YAML, or holds a setting that means nothing.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"it cannot be read ({error.strerror})", where=file, now="name a study file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"it is not plain YAML ({reason})", where=file, now="mend or rewrite it") from error
    if not isinstance(content, dict):
        raise SettingsError("it holds no settings", where=file, now="give dataset, models and workspace")
    study = checked(StudySettings, content, where=str(file))
    kind, _, tail = study.dataset.partition(":")
    home = file.resolve().parent
    # A name on the hub is no path; a folder of the same name beside the study is what is meant.
    is_path = kind not in ("birdland", "hf") or (kind == "hf" and (home / tail.split(",")[0]).is_dir())
    dataset = f"{kind}:{home / Path(tail).expanduser()}" if tail and is_path else study.dataset
    return study.model_copy(update={"dataset": dataset, "workspace": home / study.workspace.expanduser()})


def checked(kind: type[Settings], values: Mapping[str, Any], *, where: str) -> Settings:
    """Settings from plain values; the first thing that is wrong becomes one sentence.

    Raises:
        SettingsError: naming the setting, what is wrong with it and what was given.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"there is no setting {name!r}", where=where, now=_known(kind, first["loc"])) from error
        if first["type"] == "missing":
            raise SettingsError(f"the setting {name!r} is missing", where=where, now="give it") from error
        message = str(first["msg"]).removeprefix("Value error, ")
        raise SettingsError(
            f"{name}: {message[0].lower()}{message[1:]}, and {first['input']!r} was given", where=where, now="change it"
        ) from error


def _known(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    names = list(kind.model_fields)
    return nearest(str(location[-1]), names) if len(location) == 1 else "see the settings of that section"
