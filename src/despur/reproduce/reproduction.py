"""Tables and figures from the user's downloads: which parts are asked for, and each part in order."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from despur.catalog import load_dataset
from despur.data.examples import Dataset
from despur.errors import SettingsError, nearest
from despur.explain.sheet import to_png
from despur.pipeline.detecting import check_search, detections_path
from despur.pipeline.embedded import Embedded
from despur.pipeline.figures import write_figures
from despur.pipeline.settings import ModelSettings, StudySettings
from despur.pipeline.study import StudyOutcome, check_study, run_study
from despur.pipeline.training import load_runs
from despur.progress import Progress, silent
from despur.rank import RankSettings
from despur.report import Spread
from despur.reproduce.beside import Beside, beside, group_sizes, pair_beside, zero_shot_beside
from despur.reproduce.effort import Effort, estimate, estimate_search
from despur.reproduce.published import TABLE_3
from despur.reproduce.searching import Looking, searched
from despur.reproduce.shortcuts import ranked_pairs, shortcuts_beside, shortcuts_figure
from despur.reproduce.study import (
    MODELS,
    Choices,
    is_resnet,
    pair_dataset,
    pair_study,
    recipe_of,
    waterbirds_dataset,
    waterbirds_study,
)
from despur.workspace import Workspace, read_json, write_whole

ON_WATERBIRDS = ("table1", "table2", "table4", "figure4", "figure5", "ablation")
ON_IMAGENET = ("table3", "table5", "figure3", "figure6")
PARTS = tuple(sorted((*ON_WATERBIRDS, *ON_IMAGENET), key=lambda name: (name[0] != "t", name[0] != "f", name)))

SEARCHED, PAIR, SHORTCUTS = "imagenet-pair-search", "imagenet-pair", "imagenet"
"""Workspaces below the reproduction's own."""


@dataclass(frozen=True)
class Downloads:
    """What the user has; None: not there.

    Attributes:
        waterbirds, masks: the download, and CUB's segmentations.
        imagenet: holds ``train/`` and ``val/``.
    """

    waterbirds: Path | None = None
    masks: Path | None = None
    imagenet: Path | None = None


MAPPED = {"figure4": (True, "a ResNet"), "figure5": (False, "a vision transformer")}
"""Whether a figure on Waterbirds is of ResNets, and what its models are called."""


def chosen_parts(asked: Sequence[str], downloads: Downloads, models: Sequence[str] = MODELS) -> list[str]:
    """The parts that are asked for; of "all" those that the downloads and the models allow.

    Raises:
        SettingsError: there is no such part, its download is not named, or no model is of the kind that it is of.
    """
    kinds = {is_resnet(spec) for spec in models}
    given = {"--waterbirds": (downloads.waterbirds, ON_WATERBIRDS), "--imagenet": (downloads.imagenet, ON_IMAGENET)}
    for name in asked:
        if name not in (*PARTS, "all"):
            raise SettingsError(
                f"there is no {name!r} to reproduce", where="reproduce", now=nearest(name, [*PARTS, "all"])
            )
    if not any(place for place, _ in given.values()):
        raise SettingsError("no download is named", where="reproduce", now=f"give {' or '.join(given)}")
    named = [name for name in dict.fromkeys(asked) if name != "all"]
    for name in named:
        for option, (place, parts) in given.items():
            if name in parts and place is None:
                raise SettingsError(f"{name} is of another download", where="reproduce", now=f"give {option}")
        if name in MAPPED and MAPPED[name][0] not in kinds:
            raise SettingsError(f"{name} is of {MAPPED[name][1]}", where="reproduce", now="name one with --model")
    if "all" in asked:
        allowed = [name for name in PARTS if any(place and name in parts for place, parts in given.values())]
        return [name for name in allowed if name not in MAPPED or MAPPED[name][0] in kinds]
    return named


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        numbers: the paper's and ours.
        figures: files by the figure's name.
    """

    numbers: list[Beside] = field(default_factory=list[Beside])
    figures: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Reproduction:
    """Everything that is asked for; each part goes on where it was stopped.

    Attributes:
        parts: as :func:`chosen_parts` returns them.
        workspace: a folder for all of it.
        looking: how ImageNet is searched.
        rank: how its pairs are counted.
        announce: is told what starts.
    """

    parts: Sequence[str]
    downloads: Downloads
    workspace: Path
    choices: Choices
    looking: Looking
    device: torch.device
    rank: RankSettings = field(default_factory=lambda: RankSettings(split="train"))
    progress: Progress = silent
    announce: Callable[[str], None] = lambda line: None

    @cached_property
    def birds(self) -> Dataset:
        """Waterbirds' examples."""
        dataset = waterbirds_dataset(self.downloads.waterbirds or Path(), self.downloads.masks)
        return load_dataset(dataset, seed=self.choices.seed)

    @cached_property
    def bird_study(self) -> StudySettings:
        """The study of Waterbirds."""
        place = self.downloads.waterbirds or Path()
        return waterbirds_study(
            place, self.workspace, self.choices, masks=self.downloads.masks, ablation="ablation" in self.parts
        )

    @property
    def embeds_birds(self) -> bool:
        """Whether anything beside the sizes of groups is asked of Waterbirds."""
        return bool(set(self.parts) & (set(ON_WATERBIRDS) - {"table1"}))

    @property
    def trains_birds(self) -> bool:
        """Whether a run is asked for, and not the model as it came alone."""
        return bool(set(self.parts) & (set(ON_WATERBIRDS) - {"table1", "table2"}))

    @property
    def pair_choices(self) -> Choices:
        """The paper has RN50 alone on ImageNet; a user's own models are all taken."""
        if self.choices.models != Choices().models:
            return self.choices
        models = [spec for spec in self.choices.models if is_resnet(spec)]
        return replace(self.choices, models=models)

    def model(self, spec: str) -> ModelSettings:
        """One of the models, as it came."""
        return ModelSettings(spec=spec, random_weights=self.choices.random_weights, seed=self.choices.seed)

    def check(self) -> None:
        """Refuse what cannot begin, before anything is computed.

        Raises:
            DespurError: a download, a setting or the search is not what it should be.
        """
        recipe_of(self.choices.recipe)
        if self.embeds_birds:
            check_study(self.bird_study)
        if set(self.parts) & set(ON_WATERBIRDS):
            _ = self.birds
        if set(self.parts) & set(ON_IMAGENET):
            dataset = pair_dataset(self.downloads.imagenet or Path())
            check_study(pair_study(dataset, self.workspace, self.pair_choices))
            load_dataset(dataset, seed=self.choices.seed)
            check_search(self.looking.settings())
        if set(self.parts) & {"table5", "figure6"}:
            self.looking.check_attribute()

    def efforts(self, *, fetch: bool = True) -> list[Effort]:
        """Time and disk of what every image goes through; ``fetch`` as :func:`estimate` takes it."""
        found: list[Effort] = []
        if self.embeds_birds:
            found += [
                estimate(self.bird_study.model(spec), len(self.birds), self.device, fetch=fetch)
                for spec in self.choices.models
            ]
        for parts, dataset in self._imagenet_parts():
            if set(parts) & set(self.parts):
                images = load_dataset(dataset, seed=self.choices.seed)
                models = [self.model(spec) for spec in self.pair_choices.models]
                found += [estimate(model, len(images), self.device, fetch=fetch) for model in models]
                found.append(estimate_search(self.looking.settings(), len(images), self.device))
        return found

    def notes(self) -> list[str]:
        """What of the paper's numbers these downloads cannot give, a sentence each."""
        found: list[str] = []
        if "table4" in self.parts or "ablation" in self.parts:
            missing = [name for name in ("mask", "box") if self.birds.table[name].null_count == len(self.birds)]
            if "mask" in missing:
                instead = (
                    "AIoU stays empty" if "box" in missing else "AIoU is measured on boxes, and the paper's on masks"
                )
                found.append(f"no masks lie beside the Waterbirds download: {instead}; name CUB's with --masks")
        if "table5" in self.parts and self.downloads.imagenet is not None:
            pair = load_dataset(pair_dataset(self.downloads.imagenet), seed=self.choices.seed)
            if pair.split("test").table["box"].null_count == len(pair.split_rows("test")):
                found.append(
                    "no boxes of ImageNet's validation images are there: Table 5's AIoU stays empty; unpack them into "
                    f"{self.downloads.imagenet / 'Annotations'}"
                )
        return found

    def _imagenet_parts(self) -> list[tuple[tuple[str, str], str]]:
        """Each table of ImageNet with its figure, and the dataset of both.

        A dataset has a validation split, so that one training image a class is not counted in Table 3.
        """
        place = self.downloads.imagenet
        if place is None:
            return []
        return [(("table3", "figure3"), f"imagenet:{place},heldout=1"), (("table5", "figure6"), pair_dataset(place))]

    def run(self) -> Outcome:
        """Compute what is not up to date, and lay it beside the paper.

        Raises:
            DespurError: as for :meth:`check`, or a model, detector or image cannot be had.
        """
        outcome = Outcome()
        if "table1" in self.parts:
            outcome.numbers.extend(group_sizes(self.birds))
        if self.trains_birds:
            self._birds(outcome)
        elif self.embeds_birds:
            self._zero_shot(outcome)
        for (table, figure), dataset in self._imagenet_parts():
            if {table, figure} & set(self.parts):
                (self._shortcuts if table == "table3" else self._pair)(outcome, dataset)
        outcome.numbers.sort(key=lambda number: PARTS.index(number.table))
        return outcome

    def _zero_shot(self, outcome: Outcome) -> None:
        """Table 2 alone, for which encoders run and nothing else; what was trained in the workspace stays."""
        for folder in self._studied(self.bird_study, last="predict").workspaces:
            embedded = Embedded(Workspace.open(folder), self.device, progress=self.progress)
            outcome.numbers.extend(zero_shot_beside(embedded))

    def _birds(self, outcome: Outcome) -> None:
        studied = self._studied(self.bird_study)
        for name in ("table2", "table4", "ablation"):
            if name in self.parts:
                outcome.numbers.extend(beside(name, studied.sections))
        for figure, (resnet, _) in MAPPED.items():
            pairs = zip(self.choices.models, studied.workspaces, strict=True)
            alike = [folder for spec, folder in pairs if is_resnet(spec) is resnet]
            for number, folder in enumerate(alike if figure in self.parts else []):
                name = _numbered(figure, number)
                outcome.figures[name] = self._methods_figure(name, folder)

    def _studied(self, study: StudySettings, last: str | None = None) -> StudyOutcome:
        return run_study(
            study,
            device=self.device,
            title="despur reproduce",
            progress=self.progress,
            announce=self.announce,
            last=last,
        )

    def _shortcuts(self, outcome: Outcome, dataset: str) -> None:
        for number, spec in enumerate(self.pair_choices.models):
            self.announce(f"{spec}: what it leans on over ImageNet")
            folder = self.workspace / SHORTCUTS / str(number)
            search = self.looking.settings("train")
            with searched(
                dataset, folder, self.model(spec), search, device=self.device, progress=self.progress
            ) as embedded:
                numbers = shortcuts_beside(spec, ranked_pairs(embedded, self.rank))
                if "table3" in self.parts:
                    outcome.numbers.extend(numbers)
                if "figure3" in self.parts:
                    file = self.workspace / "figures" / f"{_numbered('figure3', number)}.png"
                    with write_whole(file) as temporary:
                        to_png(shortcuts_figure(embedded, numbers, seed=self.choices.seed)).save(
                            temporary, format="PNG", optimize=True
                        )
                    outcome.figures[file.stem] = str(file)

    def _pair(self, outcome: Outcome, dataset: str) -> None:
        imagenet = self.downloads.imagenet or Path()
        for number, spec in enumerate(self.pair_choices.models):
            self.announce(f"{spec}: which images of the two classes show {self.looking.attribute}")
            found = self.workspace / SEARCHED / str(number)
            with searched(
                dataset, found, self.model(spec), self.looking.settings(), device=self.device, progress=self.progress
            ) as embedded:
                detections = detections_path(embedded.workspace)
            choices = replace(self.pair_choices, models=[spec])
            attributed = pair_dataset(imagenet, self.looking.attribute, detections)
            studied = self._studied(pair_study(attributed, self.workspace / PAIR / str(number), choices))
            if "table5" in self.parts:
                outcome.numbers.extend(pair_beside(studied.sections[0], pacifier_accuracies(studied.workspaces[0])))
            if "figure6" in self.parts:
                name = _numbered("figure6", number)
                outcome.figures[name] = self._methods_figure(name, studied.workspaces[0])

    def _methods_figure(self, name: str, folder: Path) -> str:
        """The figure of a finished study, beside the others."""
        workspace = Workspace.open(folder)
        with workspace.lock():
            files = write_figures(Embedded(workspace, self.device, progress=self.progress), seed=self.choices.seed)
        methods = next(file for file in files if file.name == "methods.png")
        target = self.workspace / "figures" / f"{name}.png"
        with write_whole(target) as temporary:
            shutil.copyfile(methods, temporary)
        return str(target)


def _numbered(figure: str, number: int) -> str:
    """A figure's name where several models have it each: figure4, figure4-1, figure4-2."""
    return f"{figure}-{number}" if number else figure


def pacifier_accuracies(folder: Path) -> Mapping[str, Spread]:
    """Of each method, the test accuracy of baby pacifier over its seeds, from the groups in ``metrics.json``."""
    workspace = Workspace.open(folder)
    values: dict[str, list[float]] = {}
    for name, run in load_runs(workspace).items():
        if run.diverged_step is None:
            groups = read_json(workspace.path("runs", name, "metrics.json"))["accuracy"]["groups"]
            own = [group for group in groups if group["class"] == TABLE_3[0].class_name and group["n"]]
            right = sum(group["n"] * group["accuracy"] for group in own)
            values.setdefault(run.method, []).append(right / sum(group["n"] for group in own))
    return {method: Spread.over(rates) for method, rates in values.items()}
