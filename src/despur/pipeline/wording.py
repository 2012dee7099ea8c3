"""The words that a model is asked with: templates, what classes are called, and what follows for an attribute."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from despur.backbones.prompts import SLOT, fill, openai_templates
from despur.backbones.protocol import Backbone
from despur.data.examples import Attribute, Dataset
from despur.errors import SettingsError, nearest
from despur.pipeline.runner import run_stage
from despur.pipeline.settings import checked, several
from despur.workspace import Workspace, read_yaml

WORDING = "wording"
ABSENT = "no "
"""What stands before an attribute's name in a prompts file where the phrase is for images without it: "no water"."""


def _each_once(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if not text.strip():
            raise ValueError("it holds an empty text")
        if texts.count(text) > 1:
            raise ValueError(f"{text!r} is given twice")
    return texts


def _with_slot(templates: tuple[str, ...]) -> tuple[str, ...]:
    for template in templates:
        if template.count(SLOT) != 1:
            raise ValueError(f"a template has one place {SLOT} for a name, and {template!r} has {template.count(SLOT)}")
    return templates


Texts = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(several), AfterValidator(_each_once)]


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(f"“{text}”" for text in texts)


class Wording(BaseModel):
    """What a prompts file holds; what it leaves out stays as it is without one.

    Attributes:
        templates: each with one ``{}`` where the name goes; by default OpenAI's 80.
        classes: what a class is called in prompts, one phrase or several that all count alike; by its name in the
            dataset.
        attributes: what follows a class's phrase on an image that has the attribute ("water": "on the sea"), or has
            it not ("no water": "in a wood").
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: Annotated[Texts, AfterValidator(_with_slot)] = Field(default_factory=openai_templates)
    classes: dict[str, Texts] = {}
    attributes: dict[str, Annotated[str, Field(min_length=1)]] = {}

    @property
    def variants(self) -> int:
        """How often each template is filled: the least number by which every class can use all its phrases alike."""
        return lcm(*(len(names) for names in self.classes.values()))

    def names(self, class_name: str) -> tuple[str, ...]:
        """What a class is called in prompts."""
        return self.classes.get(class_name, (class_name,))

    def told(self, classes: Sequence[str]) -> str:
        """Which prompts these are, for someone who would fill them again: the templates, and other names of classes."""
        own = self.templates != openai_templates()
        templates = _quoted(self.templates) if own else f"open_clip's {len(self.templates)} ImageNet templates"
        others = [f"“{name}” is called {_quoted(self.names(name))}" for name in classes if self.names(name) != (name,)]
        return f"{templates}, averaged{''.join(f'; {other}' for other in others)}"

    def worded(self, attribute: Attribute) -> Attribute:
        """The attribute with this wording's phrases."""
        return Attribute(
            attribute.name,
            self.attributes.get(attribute.name, attribute.phrase),
            self.attributes.get(f"{ABSENT}{attribute.name}", attribute.absent_phrase),
        )

    def group_phrases(self, classes: Sequence[str], attribute: Attribute) -> list[tuple[str, ...]]:
        """What names each group, in the order of the group index; several phrases where its class has several."""
        worded = self.worded(attribute)
        absent = "" if worded.absent_phrase is None else f" {worded.absent_phrase}"
        endings = (absent, f" {worded.phrase}")
        return [tuple(f"{name}{end}" for name in self.names(label)) for label in classes for end in endings]

    def pair_phrases(self, class_name: str, attribute: str) -> list[tuple[str, ...]]:
        """What names the two groups of a judged pair, without the attribute and with it."""
        worded = self.worded(Attribute(attribute, f"with {attribute}"))
        absent = "" if worded.absent_phrase is None else f" {worded.absent_phrase}"
        return [tuple(f"{name}{end}" for name in self.names(class_name)) for end in (absent, f" {worded.phrase}")]

    def check(self, dataset: Dataset, backbone: Backbone) -> None:
        """Refuse words for what the dataset has not, and prompts that the model cannot read whole.

        A dataset without attributes may get words for any: people judge later which of them are spurious.

        Raises:
            SettingsError: there is no such class or attribute.
            ModelError: a prompt is longer than the model's context.
        """
        attributes = [name for one in dataset.attributes for name in (one.name, f"{ABSENT}{one.name}")]
        for section, said, known in (
            ("classes", self.classes, list(dataset.classes)),
            ("attributes", self.attributes, attributes),
        ):
            for name in said:
                if known and name not in known:
                    raise SettingsError(
                        f"{section}: the dataset has no {name!r}", where="prompts", now=nearest(name, known)
                    )
        phrases = [name for label in dataset.classes for name in self.names(label)]
        for attribute in dataset.attributes:
            phrases += [text for texts in self.group_phrases(dataset.classes, attribute) for text in texts]
        if not dataset.attributes:
            judged = {name.removeprefix(ABSENT) for name in self.attributes}
            pairs = [self.pair_phrases(label, name) for label in dataset.classes for name in sorted(judged)]
            phrases += [text for groups in pairs for texts in groups for text in texts]
        backbone.tokenize(fill(self.templates, phrases))


def read_wording(file: Path | None) -> Wording:
    """A prompts file; None: OpenAI's templates and the dataset's own words.

    Raises:
        SettingsError: the file is missing, is not plain YAML, or holds what means nothing.
    """
    if file is None:
        return Wording()
    content = read_yaml(file, missing="name a prompts file")
    if not isinstance(content, dict):
        raise SettingsError("it holds no prompts", where=file, now="give templates, classes or attributes")
    return checked(Wording, content, where=str(file))


def wording_stage(workspace: Workspace, wording: Wording, dataset: Dataset, backbone: Backbone) -> bool:
    """Note the words that every later stage asks with; returns whether they are others than before.

    Nothing is noted where they are the dataset's own, so that a workspace made before there were any stays good.

    Raises:
        DespurError: as :meth:`Wording.check`.
    """
    if wording == Wording():
        was = workspace.record(WORDING)
        workspace.forget(WORDING)
        return was is not None
    wording.check(dataset, backbone)
    settings = wording.model_dump(mode="json")
    return run_stage(workspace, WORDING, settings=settings, inputs="", outputs=[], work=lambda: None)
