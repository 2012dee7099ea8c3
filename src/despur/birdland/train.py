"""Rebuild the small CLIPs: ``python -m despur.birdland.train {resnet,vit}``.

Two phases, both on drawn scenes and nothing else.

1. *Tags.* The image tower learns from random weights to say what a scene shows and in which cell of its last map, from
   exact tags (binary cross-entropy). Bird and place are independent in these scenes, so its features carry both. First
   it sees close-ups of the subject, which are small and cheap, then whole scenes.
2. *Captions.* With the image tower frozen up to its projection (locked-image tuning), the text tower, both projections
   and the temperature learn with CLIP's loss from captions of other scenes, in which a bird mostly has its usual place
   and an object its planted companion (``recipes.py`` says how often). This is where the model takes up the shortcuts.

Contrastive training from captions alone was tried first: within half an hour on two cores it learned places and no
birds. With both phases a linear probe on the ResNet's frozen features finds the bird in every group while zero-shot
prompts do not: the shortcut is there, and so is what a repair needs. The ViT needs many more scenes for the same. Each
model's card says what the weights beside it were made with and what they score.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from despur.backbones.prompts import openai_templates
from despur.birdland.aligning import fit_captions, frozen_features
from despur.birdland.captions import CaptionTable, caption_table, phrases_of
from despur.birdland.fitting import EpochReport, bfloat16_is_fast
from despur.birdland.judging import judge_birds, judge_objects
from despur.birdland.models import (
    CARD_FILE,
    CONFIG_FILE,
    SMALL_NAMES,
    WEIGHTS,
    WEIGHTS_FILE,
    SmallClip,
    load_small,
    new_small,
    read_config,
    resized,
)
from despur.birdland.pretraining import DrawnScenes, draw_scenes, plan_pretraining
from despur.birdland.recipes import Corpus, Recipe, input_size, recipe_for
from despur.birdland.studies import plan_birds, plan_objects
from despur.birdland.tagging import fit_tags
from despur.errors import DespurError, ModelError
from despur.progress import Progress, silent
from despur.workspace import versions, write_json, write_whole

Say = Callable[[str], None]


def silently(line: str) -> None:
    """Say nothing."""


# The studies that the finished model is judged on; the demo's are drawn from other seeds.
_JUDGED_SEED = 90_001


def train(recipe: Recipe, *, tags: Path | None = None, say: Say = silently, progress: Progress = silent) -> SmallClip:
    """Make a small CLIP from nothing.

    Args:
        tags: a file that keeps the first phase's weights; where it is there already, that phase is not run again.
        say: told what is done, a line at a time.

    Raises:
        ModelError: the file is damaged, or holds weights of another recipe.
    """
    small = None if tags is None else _kept(recipe, tags)
    if small is None:
        small = fit_image_tower(recipe, say=say, progress=progress)
        if tags is not None:
            _keep(small, recipe, tags)
    else:
        say(f"phase 1: taken from {tags}")
    return align_texts(small, recipe, say=say, progress=progress)


def fit_image_tower(recipe: Recipe, *, say: Say = silently, progress: Progress = silent) -> SmallClip:
    """The first phase: a small CLIP whose image tower has learned tags and whose text tower has learned nothing."""
    small = new_small(recipe.name, recipe.seed, input_size(recipe.name, recipe.views[0].close_up))
    say(f"{recipe.name}: {sum(p.numel() for p in small.model.parameters()):,} parameters, seed {recipe.seed}")
    say(f"arithmetic of the first phase: {'bfloat16' if bfloat16_is_fast() else 'float32'}")
    tagged = _draw("tags", recipe.tagged, 2 * recipe.seed, say, progress)
    for view in recipe.views:
        size = input_size(recipe.name, view.close_up)
        if size != small.preprocessing.size:
            small = resized(small, size)
        what = "whole scenes" if view.close_up is None else f"close-ups of {view.close_up} px"
        say(f"phase 1, {what} at {size} px: {view.epochs} epochs, batches of {view.batch_size}")
        fit_tags(small, tagged, view, after_epoch=_telling(say), progress=progress)
    return small


def align_texts(small: SmallClip, recipe: Recipe, *, say: Say = silently, progress: Progress = silent) -> SmallClip:
    """The second phase, in place: texts learn to meet the frozen image tower."""
    captioned = _draw("captions", recipe.captioned, 2 * recipe.seed + 1, say, progress)
    say("phase 2: features of the frozen image tower")
    features = frozen_features(small, captioned, progress)
    captions, fit = _captions(recipe, captioned), recipe.alignment
    say(f"phase 2, captions of {len(captions.phrases)} phrases: {fit.epochs} epochs, batches of {fit.batch_size}")
    fit_captions(small, features, captions, openai_templates(), fit, after_epoch=_telling(say), progress=progress)
    return small


def _first_phase(recipe: Recipe) -> dict[str, str]:
    """What the first phase's weights follow from."""
    return {"first_phase": recipe.model_dump_json(include={"name", "seed", "tagged", "views"})}


def _keep(small: SmallClip, recipe: Recipe, path: Path) -> None:
    weights = {name: value.contiguous() for name, value in small.model.state_dict().items()}
    with write_whole(path) as temporary:
        save_file(weights, temporary, metadata=_first_phase(recipe))


def _kept(recipe: Recipe, path: Path) -> SmallClip | None:
    if not path.is_file():
        return None
    other = "name another file, or delete it to run the first phase again"
    try:
        with safe_open(path, framework="pt") as kept:
            if kept.metadata() != _first_phase(recipe):
                raise ModelError("the weights come from another recipe", where=path, now=other)
        small = new_small(recipe.name, recipe.seed)
        small.model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise ModelError("the weights are damaged", where=path, now=other) from error
    return small


def _draw(what: str, corpus: Corpus, seed: int, say: Say, progress: Progress) -> DrawnScenes:
    say(
        f"scenes for {what}: {corpus.birds:,} of birds, {corpus.bird_correlation:.0%} of them in their usual place; "
        f"{corpus.objects:,} of objects, {corpus.object_correlation:.0%} of planted ones with their companion"
    )
    return draw_scenes(plan_pretraining(seed, **corpus.model_dump()), progress=progress)


def _captions(recipe: Recipe, scenes: DrawnScenes) -> CaptionTable:
    mixes = {"on": recipe.bird_captions, "with": recipe.object_captions}
    return caption_table([phrases_of(shown, mixes[shown.relation]) for shown in scenes.shown])


def _telling(say: Say) -> Callable[[EpochReport], None]:
    started = time.monotonic()

    def tell(report: EpochReport) -> None:
        say(f"  epoch {report.epoch}: loss {report.loss:.3f}, {time.monotonic() - started:.0f} s")

    return tell


def judge(small: SmallClip, *, birds: float = 0.2, objects: int = 1200) -> dict[str, Any]:
    """Zero-shot accuracies on scenes of both studies that no training saw.

    Args:
        birds: the part of the first study's test split that is drawn.
        objects: scenes of the second study's test split.
    """
    bird_plans = [plan for plan in plan_birds(_JUDGED_SEED, birds) if plan.split == "test"]
    report = judge_birds(small, draw_scenes(bird_plans))
    companions = judge_objects(small, draw_scenes(plan_objects(_JUDGED_SEED, train=0, val=0, test=objects)))
    return {"birds": report.to_json(), "objects": companions}


def write_model(small: SmallClip, folder: Path, card: dict[str, Any]) -> None:
    """Write a small CLIP as open_clip's local directories look: config and float16 weights, with its card."""
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in small.model.state_dict().items()
    }
    with write_whole(folder / WEIGHTS_FILE) as temporary:
        save_file(weights, temporary, metadata={"format": "pt", "card": json.dumps(card)})
    write_json(folder / CONFIG_FILE, read_config(small.name))
    write_json(folder / CARD_FILE, card)


def make(
    recipe: Recipe,
    folder: Path,
    *,
    birds: float = 0.2,
    objects: int = 1200,
    tags: Path | None = None,
    say: Say = silently,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train, write and judge a small CLIP; what is judged is what was written.

    Returns:
        The card: what the model was trained on, with what, for how long, and what it scores.
    """
    started, kept = time.monotonic(), tags is not None and tags.is_file()
    small = train(recipe, tags=tags, say=say, progress=progress)
    card: dict[str, Any] = {
        "recipe": recipe.model_dump(),
        "seconds": round(time.monotonic() - started),
        "first_phase": "of an earlier run" if kept else "of this run",
        "versions": versions(),
    }
    write_model(small, folder, card)
    say("judging what was written")
    card["zero_shot"] = judge(load_small(recipe.name, folder), birds=birds, objects=objects)
    write_model(small, folder, card)
    return card


def tables(card: dict[str, Any]) -> str:
    """The card's accuracies as a person reads them."""
    birds, objects = card["zero_shot"]["birds"], card["zero_shot"]["objects"]
    lines = ["zero-shot, birds:"]
    lines += [
        f"  {group['class']} on {'water' if group['present'] else 'land'}: {group['accuracy']:.1%} of {group['n']}"
        for group in birds["groups"]
    ]
    lines.append(f"  average {birds['average']:.1%}, worst group {birds['worst_group']:.1%}")
    lines.append("zero-shot, objects:")
    for name, row in objects.items():
        without = f"  {name}: {row['accuracy_without']:.1%}"
        planted = row["companion"] is not None and row["accuracy_with"] is not None
        lines.append(f"{without}, {row['accuracy_with']:.1%} with {row['companion']}" if planted else without)
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m despur.birdland.train", description="Rebuild a small CLIP.")
    parser.add_argument("model", choices=SMALL_NAMES)
    parser.add_argument("--out", type=Path, help="folder for the model (default: where the shipped one lies)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--tags", type=Path, help="file that keeps the first phase's weights and spares that phase the next time"
    )
    parser.add_argument("--scenes", type=int, help="scenes in each of the two corpora")
    parser.add_argument("--epochs", type=int, help="epochs of every part")
    parser.add_argument(
        "--correlation", type=float, help="of the captioned corpus; 0.5 makes a control without shortcuts"
    )
    parser.add_argument("--quick", action="store_true", help="64 scenes, one epoch: shows that it runs, learns nothing")
    options = parser.parse_args(arguments)
    scenes, epochs = (64, 1) if options.quick else (options.scenes, options.epochs)
    try:
        recipe = recipe_for(
            options.model, seed=options.seed, scenes=scenes, epochs=epochs, correlation=options.correlation
        )
        judged: dict[str, Any] = {"birds": 0.005, "objects": 48} if options.quick else {}
        folder = options.out or WEIGHTS / options.model
        card = make(recipe, folder, tags=options.tags, say=lambda line: print(line, flush=True), **judged)
    except (DespurError, ValidationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(tables(card))
    print(f"written to {folder} in {card['seconds']} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
