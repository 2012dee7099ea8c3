"""What can be chosen about a whole study: one frozen model a stage, the same in Python, YAML and the shell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from despur.data.quarantine import MAX_UNREADABLE
from despur.detect import DetectSettings
from despur.errors import SettingsError, nearest
from despur.features.batching import EmbedChoices
from despur.features.engines import EngineSettings
from despur.mitigate.methods import RECOMMENDED
from despur.mitigate.tuning import MOST_TRIED
from despur.rank import RankSettings
from despur.workspace import at_home, read_yaml

Settings = TypeVar("Settings", bound=BaseModel)

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""NumPy draws from no negative seed, and numbers of runs are counted up from it."""


def several(value: object) -> object:
    """One word where a list of words is meant: ``models: birdland:resnet``."""
    return (value,) if isinstance(value, str) else value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is given twice")
    return names


PAPER_METHODS = ("clip", "erm", "erm-prior", "group-dro", "clip+lc+vc+ls", "clip+lc+vc+vs")
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


class SearchSettings(BaseModel):
    """What is looked for in the images, with what.

    Attributes:
        detector: ``owlvit``, ``owlv2``, ``grounding-dino``, ``hf:NAME-or-DIR``, ``birdland:detector``, ``tagger`` (the
            model under study itself), or ``column`` (the attributes that the dataset states).
        vocabulary: ``builtin``, ``imagenet``, ``visual-genome:DIR``, ``file:PATH``, ``birdland``; several are merged.
        threshold: score above which something is seen; None: the detector's own habit.
        synonyms: phrases whose text embedding is at least this close to a class's are not looked for (cosine); None:
            only the names of classes, their plurals and compounds are left out.
        split: only this split's images are searched; None: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: str = "owlvit"
    vocabulary: Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(several)] = ("builtin",)
    threshold: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    synonyms: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    split: str | None = None


class DetectSection(SearchSettings, DetectSettings):
    """A study's section ``detect``: what is looked for, and how it is done, which changes nothing in the outcome."""

    @property
    def search(self) -> SearchSettings:
        """What is looked for, with what."""
        return SearchSettings.model_validate(self.model_dump(include=set(SearchSettings.model_fields)))

    @property
    def effort(self) -> DetectSettings:
        """Batches, shards and threads."""
        return DetectSettings.model_validate(self.model_dump(include=set(DetectSettings.model_fields)))


class MitigateSettings(BaseModel):
    """Which methods are trained, and how.

    Attributes:
        methods: names of methods, or losses joined by plus signs; by default what "despur" stands for.
        attribute: the spurious attribute; None: the only one there is.
        groups: whose groups methods are told and selected by: the attribute's, or those of all pairs that were judged
            spurious, by what the detector saw ("verdicts") or by its scores ("soft-verdicts"), or each class as one
            group where no shortcut is known ("classes"); None: the attribute's where the dataset has one, else the
            verdicts'.
        seeds: runs a method, numbered from ``seed``.
        seed: of the first run.
        memory: what features may take while heads are trained ("6GB"); larger ones are read from disk, which changes
            nothing in the outcome and needs ``shuffle_within`` among the settings; None: all are held in memory.
        train: settings for every method, over the method's own ("epochs", "learning_rate", ...).
        by_method: settings for one method, over ``train``.
        by_model: the same for one model's spec, over ``by_method``.
        track: where histories are handed on: "tensorboard", "mlflow" or "wandb".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: Annotated[tuple[str, ...], BeforeValidator(several)] = (RECOMMENDED,)
    attribute: str | None = None
    groups: Literal["attribute", "verdicts", "soft-verdicts", "classes"] | None = None
    seeds: Annotated[int, Field(ge=1, le=10_000)] = 1
    seed: Seed = 0
    memory: str | None = None
    train: dict[str, Any] = {}
    by_method: dict[str, dict[str, Any]] = {}
    by_model: dict[str, dict[str, dict[str, Any]]] = {}
    track: Annotated[tuple[str, ...], BeforeValidator(several)] = ()


class ExplainSettings(BaseModel):
    """How explanations are measured and shown.

    Attributes:
        images: test images to measure, drawn by ``seed``; None: all.
        method: how maps are made: "gradcam" (the paper's), "relevance", "rollout" or "similarity".
        strips: images of every group to draw; the report shows Grad-CAM's.
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


class RetainSettings(BaseModel):
    """Classes that are not repaired, on which a repaired model must not have forgotten what it knew.

    Attributes:
        images: ``folder:DIR``, a folder of images for each class.
        names: what the folders are called in prompts: "imagenet", or a YAML file of folder to phrase; None: as they
            are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: str
    names: str | None = None


def _named_engine(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


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
        prompts: a file of templates and of what classes and attributes are called in them, as
            :func:`~despur.pipeline.wording.read_wording` reads it; None: OpenAI's templates and the dataset's words.
        engine: what works through the images; "ray" is ``{name: ray}``.
        mirror: address in an object store where shards of features and detections are kept too; None: nowhere.
        detect: looks for a vocabulary's phrases in the images; None: this is left out.
        rank: orders what was seen by how much accuracy hangs on it; None: this is left out.
        tune: settings that are tried for every method before it is trained; None: none, those given are taken.
        retain: judges every run on classes that were not repaired, too; None: this is left out.
        blend: also judge blends of the original weights and those of the best run on validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    models: Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(several), AfterValidator(_each_once)]
    workspace: Path
    random_weights: bool = False
    trainable: Literal["projection", "attention-pool"] = "projection"
    seed: Seed = 0
    max_unreadable: Annotated[float, Field(ge=0, le=1)] = MAX_UNREADABLE
    allow_outside: bool = False
    prompts: Path | None = None
    engine: Annotated[EngineSettings, BeforeValidator(_named_engine)] = EngineSettings()
    mirror: str | None = None
    embed: EmbedChoices = EmbedChoices()
    detect: DetectSection | None = None
    rank: RankSettings | None = None
    tune: Annotated[int, Field(ge=1, le=MOST_TRIED)] | None = None
    mitigate: MitigateSettings = MitigateSettings()
    explain: ExplainSettings = ExplainSettings()
    retain: RetainSettings | None = None
    blend: bool = False

    @model_validator(mode="after")
    def _ranks_what_was_seen(self) -> StudySettings:
        if self.rank is not None and self.detect is None:
            raise ValueError("a section 'rank' needs a section 'detect' that says what is looked for")
        return self

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


SECTIONS = ("embed", "detect", "rank", "mitigate", "explain")
"""Settings of a study that are a stage's own."""

SHOWN = 200
"""Characters of a value that a sentence repeats."""


def read_study(file: Path) -> StudySettings:
    """A study from a YAML file; its ``workspace`` and the paths in its specs are relative to the file's folder.

    A section that is there and empty holds the stage's habits.

    Raises:
        SettingsError: the file is missing, is not plain YAML, or holds a setting that means nothing.
    """
    content = read_yaml(file, missing="name a study file")
    if not isinstance(content, dict):
        raise SettingsError("it holds no settings", where=file, now="give dataset, models and workspace")
    values = {name: {} if name in SECTIONS and said is None else said for name, said in content.items()}
    study = checked(StudySettings, values, where=str(file))
    home = file.resolve().parent
    update: dict[str, object] = {
        "dataset": _at_home(study.dataset, home),
        "workspace": home / at_home(study.workspace),
    }
    if study.prompts is not None:
        update["prompts"] = home / at_home(study.prompts)
    if study.detect is not None:
        specs = {
            "detector": _at_home(study.detect.detector, home),
            "vocabulary": tuple(_at_home(spec, home) for spec in study.detect.vocabulary),
        }
        update["detect"] = study.detect.model_copy(update=specs)
    return study.model_copy(update=update)


def _at_home(spec: str, home: Path) -> str:
    """A spec whose path, if it has one, begins at the study file's folder."""
    kind, _, tail = spec.partition(":")
    if "://" in tail.partition(",")[0]:  # an address
        return spec
    # A name on the hub is no path; a folder of the same name beside the study is what is meant.
    is_path = kind not in ("birdland", "hf") or (kind == "hf" and (home / tail.split(",")[0]).is_dir())
    return f"{kind}:{home / at_home(tail)}" if tail and is_path else spec


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
        if first["type"] == "literal_error" and isinstance(first["input"], str):
            choices = re.findall(r"'([^']*)'", str(first.get("ctx", {}).get("expected")))
            raise SettingsError(
                f"{name} cannot be {first['input']!r}", where=where, now=nearest(first["input"], choices)
            ) from error
        message = str(first["msg"]).removeprefix("Value error, ")
        raise SettingsError(
            f"{name}: {message[0].lower()}{message[1:]}, and {_shown(first['input'])} was given",
            where=where,
            now="change it",
        ) from error


def _shown(value: object) -> str:
    """A value as Python writes it; of a long one, how it begins."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _known(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """A hint at the names that the settings at a place have."""
    *sections, unknown = location
    for section in sections:
        field = kind.model_fields.get(str(section))
        models = [part for part in _parts(field.annotation) if _is_settings(part)] if field else []
        if len(models) != 1:
            return "see the settings of that section"
        kind = models[0]
    return nearest(str(unknown), list(kind.model_fields))


def _parts(annotation: object) -> tuple[Any, ...]:
    """What a field may hold: ``RankSettings | None`` may hold two things."""
    return get_args(annotation) or (annotation,)


def _is_settings(part: object) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)
