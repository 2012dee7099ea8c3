"""Earns the default: candidates told only what a detector saw of a judged shortcut, on worlds to develop on and others.

    python benchmarks/default_method.py [--json] [--quick]

Groups come from the model's own tagger ("water") or the small OWL-ViT (the objects' companions), never from labels.
Every candidate gets the same number of settings, searched with one seed and selected by validation's inferred groups,
and five other seeds with the setting that won. Test images are judged by their true groups, and maps by AIoU.

The rule, written before the first run: of the candidates, the one with the best worst group on the development worlds,
AIoU breaking ties within a point, is held against Group DRO on the other worlds. It becomes the default if over all of
these the 95% interval of its paired difference in worst group lies above 0 and that of AIoU is not below it, and if in
none of them its worst group is below Group DRO's interval. Otherwise Group DRO over inferred groups is the default.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from scipy import stats
from torch import Tensor

import despur
from despur.backbones.heads import class_logits
from despur.birdland.studies import PLANTED
from despur.data.examples import Dataset
from despur.mitigate import METHODS, Run, TrainSettings, train
from despur.mitigate.halving import search
from despur.mitigate.membership import pair_groups
from despur.mitigate.methods.group_dro import GROUP_DRO
from despur.mitigate.methods.method import Method
from despur.mitigate.methods.wise_ft import WISE_FT
from despur.mitigate.objective import TERMS
from despur.mitigate.study import Examples, Study
from despur.mitigate.tuning import draw_settings
from despur.pipeline.embedded import InMemory
from despur.pipeline.studying import make_study
from harness import arguments, tell

SEEDS = range(5)
SEARCH_SEED = 1_000_003
MAPPED = 200
"""Test images whose maps are measured."""


def with_terms(name: str, *more: str) -> Method:
    """Group DRO, and terms of the paper beside it, each with a weight that is searched."""
    return replace(
        GROUP_DRO, name=name, terms=lambda settings: {**GROUP_DRO.terms(settings), **{m: TERMS[m] for m in more}}
    )


CANDIDATES: Mapping[str, Method] = {
    "group-dro": GROUP_DRO,
    "erm-balanced": METHODS["erm-balanced"],
    "group-dro+ls": with_terms("group-dro+ls", "ls"),
    "group-dro+vs": with_terms("group-dro+vs", "vs"),
    "group-dro+vc+lc": with_terms("group-dro+vc+lc", "vc", "lc"),
    "group-dro, blended": replace(
        GROUP_DRO,
        name="group-dro, blended",
        options={**GROUP_DRO.options, **WISE_FT.options},
        state=lambda start, heads: {**GROUP_DRO.state(start, heads), **WISE_FT.state(start, heads)},
        shown=WISE_FT.shown,
    ),
    "contrastive-adapter": METHODS["contrastive-adapter"],
    "clip+lc+vc+ls": METHODS["clip+lc+vc+ls"],
}
RIVALS = tuple(name for name in CANDIDATES if name != "group-dro")


@dataclass(frozen=True)
class World:
    """A dataset, a model, and how many of the training images that break the correlation are left.

    Attributes:
        kept: share of those images.
    """

    spec: str
    model: str
    seed: int
    kept: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.spec} {self.model} seed {self.seed}, {self.kept:g} of the rare"


DEVELOPMENT = (
    World("birdland:birds:0.3", "birdland:resnet", 0),
    World("birdland:birds:0.3", "birdland:resnet", 0, 0.3),
    World("birdland:objects", "birdland:resnet", 0),
)
HELD_OUT = (
    World("birdland:birds:0.3", "birdland:vit", 1),
    World("birdland:birds:0.3", "birdland:resnet", 2, 0.5),
    World("birdland:birds:0.3", "birdland:vit", 3, 0.3),
    World("birdland:objects", "birdland:vit", 1),
)


@dataclass(frozen=True)
class Task:
    """A world as methods see it and as they are judged.

    Attributes:
        study: with inferred groups.
        embedded: all examples.
        mapped: some test examples, for maps.
        truth: true group of each test image, -1 where it has none.
    """

    study: Study
    embedded: InMemory
    mapped: InMemory
    truth: np.ndarray


def seen(embedded: InMemory, detector: str, phrases: Sequence[str]) -> Tensor:
    """Whether each image shows each phrase, as the detector has it: [images, phrases] of 0 and 1."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "phrases.txt"
        file.write_text("\n".join(phrases), encoding="utf-8")
        table = despur.detect(embedded, detector, f"file:{file}")
    places = {name: place for place, name in enumerate(embedded.dataset.ids)}
    found = torch.zeros(len(places), len(phrases))
    for name, phrase in zip(table["id"].to_pylist(), table["phrase"].to_pylist(), strict=True):
        found[places[name], phrases.index(phrase)] = 1.0
    return found


def part(embedded: InMemory, rows: np.ndarray) -> InMemory:
    return InMemory(
        embedded.dataset.rows(rows), embedded.backbone, embedded.images[torch.from_numpy(rows)], device=embedded.device
    )


def thinned(dataset: Dataset, kept: float, seed: int) -> np.ndarray:
    """Rows without some of the training images that contradict the correlation of class and attribute."""
    if kept == 1.0:
        return np.arange(len(dataset))
    attribute = dataset.attributes[0].name
    train_split = np.array(dataset.table["split"].to_pylist()) == "train"
    rare = np.flatnonzero(train_split & (dataset.labels != dataset.present(attribute)))
    lost = np.random.default_rng(seed).permutation(rare)[round(kept * len(rare)) :]
    return np.setdiff1d(np.arange(len(dataset)), lost)


def task(world: World, folder: Path) -> Task:
    dataset = despur.load_dataset(world.spec, seed=world.seed, folder=folder)
    backbone = despur.load_backbone(world.model)
    whole = despur.embed(dataset, backbone)
    embedded = part(whole, thinned(whole.dataset, world.kept, world.seed))
    dataset = embedded.dataset
    if "objects" in world.spec:
        pairs = [(dataset.classes.index(name), companion) for name, companion in PLANTED.items()]
        presence = seen(embedded, "birdland:detector", [companion for _, companion in pairs])
    else:
        pairs = [(label, "water") for label in range(len(dataset.classes))]
        presence = seen(embedded, "tagger", ["water"]).repeat(1, len(pairs))
    base = make_study(embedded, dataset.attributes[0])
    labels = torch.from_numpy(dataset.labels)
    groups, _ = pair_groups(labels, presence, [label for label, _ in pairs], len(dataset.classes))

    def examples(split: str, like: Examples) -> Examples:
        rows = torch.from_numpy(dataset.split_rows(split))
        return replace(like, groups=groups[rows])

    phrases = [(f"{dataset.classes[label]}{end}",) for label, name in pairs for end in ("", f" with {name}")]
    study = replace(
        base,
        train=examples("train", base.train),
        val=examples("val", base.val),
        group_prompts=embedded.prompts(phrases),
        attribute="what was judged",
        pairs=tuple(pairs),
    )
    rows = dataset.split_rows("test")
    truth = np.full(len(rows), -1)
    for number, (label, name) in enumerate(pairs):
        own = dataset.labels[rows] == label
        truth[own] = 2 * number + dataset.present(name)[rows][own]
    chosen = np.random.default_rng(0).permutation(rows)[:MAPPED]
    return Task(study, embedded, part(embedded, np.sort(chosen)), truth)


def judged(given: Task, run: Run) -> float:
    """Worst group of the test images, by their true groups."""
    dataset = given.embedded.dataset
    rows = dataset.split_rows("test")
    logits = class_logits(run.heads, given.embedded.rows(rows), given.study.class_prompts)
    hit = logits.argmax(-1).numpy() == dataset.labels[rows]
    return min(float(hit[given.truth == group].mean()) for group in np.unique(given.truth[given.truth >= 0]))


def outcome(given: Task, method: Method, settings: int, epochs: int) -> dict[str, list[float]]:
    """Worst group and AIoU on test of each seed, with the setting that validation's inferred groups like best."""
    base = TrainSettings.checked(method.settings, epochs=epochs)
    best = search(given.study, method, draw_settings(method, base, settings), seed=SEARCH_SEED).best.settings
    runs = train(given.study, method, best, seeds=SEEDS)
    maps = despur.explain(given.mapped, runs)
    return {
        "worst_group": [judged(given, run) for run in runs],
        "aiou": [float(np.nanmean(values)) for values in maps.values()],
    }


def difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Mean of the paired differences with its 95% interval (t)."""
    apart = np.subtract(ours, theirs)
    half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / len(apart) ** 0.5
    return {"mean": float(apart.mean()), "low": float(apart.mean() - half), "high": float(apart.mean() + half)}


def chosen_of(development: Sequence[dict[str, dict[str, list[float]]]]) -> str:
    """The rule's first half."""

    def mean(name: str, measure: str) -> float:
        return fmean(value for world in development for value in world[name][measure])

    best = max(mean(name, "worst_group") for name in RIVALS)
    close = [name for name in RIVALS if best - mean(name, "worst_group") <= 0.01]
    return max(close, key=lambda name: mean(name, "aiou"))


def decided(name: str, held_out: Sequence[dict[str, dict[str, list[float]]]]) -> bool:
    """The rule's second half."""
    pooled = {
        measure: difference(
            [value for world in held_out for value in world[name][measure]],
            [value for world in held_out for value in world["group-dro"][measure]],
        )
        for measure in ("worst_group", "aiou")
    }
    each = [difference(world[name]["worst_group"], world["group-dro"]["worst_group"]) for world in held_out]
    return pooled["worst_group"]["low"] > 0 and pooled["aiou"]["high"] >= 0 and all(own["high"] >= 0 for own in each)


def main() -> None:
    options = arguments("candidates for the default method on worlds to develop on, and on others")
    settings, epochs = (2, 2) if options.quick else (16, 40)
    development, held_out = (DEVELOPMENT[:1], HELD_OUT[:1]) if options.quick else (DEVELOPMENT, HELD_OUT)
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for world in (*development, *held_out):
            if options.quick:
                world = replace(world, spec="birdland:birds:0.05")
            given = task(world, Path(folder))
            found[world.name] = {}
            for name, method in CANDIDATES.items():
                found[world.name][name] = outcome(given, method, settings, epochs)
                means = {measure: round(fmean(values), 4) for measure, values in found[world.name][name].items()}
                print(f"{world.name}: {name}: {means}", file=sys.stderr, flush=True)
    worlds = list(found.values())
    name = chosen_of(worlds[: len(development)])
    rest = worlds[len(development) :]
    pooled = {
        f"{other} {measure}": difference(
            [value for world in rest for value in world[other][measure]],
            [value for world in rest for value in world["group-dro"][measure]],
        )
        for other in RIVALS
        for measure in ("worst_group", "aiou")
    }
    ratios = {
        f"{rival} worst group over group-dro": fmean(v for w in worlds for v in w[rival]["worst_group"])
        / max(1e-9, fmean(v for w in worlds for v in w["group-dro"]["worst_group"]))
        for rival in RIVALS
    }
    default = name if decided(name, rest) else "group-dro"
    tell(
        "default_method", ratios, {}, options, best_on_development=name, default=default, held_out=pooled, worlds=found
    )


if __name__ == "__main__":
    main()
