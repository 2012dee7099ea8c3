"""Rebuild the small OWL-ViT: ``python -m despur.birdland.detector``.

It learns from drawn scenes of the second study and nothing else: what each pixel belongs to gives the boxes. In these
scenes companions are independent of the class, so that the detector itself has no shortcut to take. First it sees
windows of a few places of its grid, which are small and cheap, each place with the position that it has in the scene;
then whole scenes. Beside the names of what scenes show it is offered other phrases of the built-in vocabulary, which it
must never find: a person who searches birdland for a thousand things shall not be told of nine hundred.

At the end all logits are moved by one amount, chosen on scenes of their own, so that the threshold of the released
OWL-ViT (0.1) is also the best one for this model.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import OwlViTForObjectDetection

from despur.birdland.detector_fitting import ViewSettings, fit_detector
from despur.birdland.detector_judging import best_threshold, judge_detector, logit, scores_of
from despur.birdland.detector_model import (
    DETECTED,
    FOLDER,
    SmallDetector,
    detector_tokenizer,
    move_logits,
    new_detector,
    write_detector,
)
from despur.birdland.pretraining import DrawnScenes, draw_scenes, plan_pretraining
from despur.birdland.studies import plan_objects
from despur.detect import load_vocabulary, named_classes
from despur.errors import DespurError
from despur.progress import Progress, silent
from despur.workspace import fingerprint, versions

THRESHOLD = 0.1
"""The released OWL-ViT's, which is also despur's default."""

# No small CLIP learns from these scenes, and no study is drawn from these seeds.
_TRAINING_SEED, _CHOOSING_SEED, _JUDGED_SEED = 70_001, 80_001, 90_001


class DetectorRecipe(BaseModel):
    """How the small OWL-ViT is made.

    Attributes:
        seed: of the weights and every draw.
        scenes: that it learns from.
        chosen_on: scenes that its threshold is chosen on.
        judged_on: scenes that its card's scores come from.
        views: parts of the training, one after the other.
    """

    model_config = ConfigDict(frozen=True)

    seed: int = Field(default=0, ge=0)
    scenes: int = Field(default=12_000, ge=2)
    chosen_on: int = Field(default=1200, ge=1)
    judged_on: int = Field(default=1200, ge=1)
    views: tuple[ViewSettings, ...] = (
        ViewSettings(epochs=24, batch_size=32, close_up=48, learning_rate=1e-3, warm_up=300),
        ViewSettings(epochs=5, batch_size=32, learning_rate=6e-4),
    )

    @property
    def state(self) -> str:
        """Fingerprint of what the weights follow from."""
        return fingerprint(self.model_dump(mode="json", include={"seed", "scenes", "views"}))


def other_phrases() -> list[str]:
    """Phrases of the built-in vocabulary that name nothing that a scene shows."""
    vocabulary = load_vocabulary("builtin")
    return list(vocabulary.without(named_classes(vocabulary, DETECTED)).phrases)


def make_detector(
    recipe: DetectorRecipe,
    folder: Path,
    *,
    checkpoint: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train, write and judge the small OWL-ViT; what is judged is what was written.

    Args:
        checkpoint: file that keeps the training after every epoch; a stopped training goes on from it.

    Returns:
        The card.

    Raises:
        ModelError: the checkpoint is damaged or belongs to another recipe.
    """
    started = time.monotonic()
    small = new_detector(recipe.seed)
    say(f"{sum(weight.numel() for weight in small.model.parameters()):,} parameters, seed {recipe.seed}")
    scenes = _scenes(_TRAINING_SEED + recipe.seed, recipe.scenes, progress)
    say(f"{recipe.scenes:,} scenes drawn in {time.monotonic() - started:.0f} s")
    seconds = fit_detector(
        small,
        scenes,
        recipe.views,
        other_phrases(),
        checkpoint=checkpoint,
        state=recipe.state,
        say=say,
        progress=progress,
    )
    choosing = judge_detector(small, _scenes(_CHOOSING_SEED, recipe.chosen_on, progress), progress=progress)
    move_logits(small.model, logit(THRESHOLD) - logit(best_threshold(choosing)))
    card: dict[str, Any] = {
        "what": "a small OWL-ViT, trained from scratch on drawn scenes of birdland's second study",
        "detects": list(DETECTED),
        "recipe": recipe.model_dump(mode="json"),
        "seconds": round(seconds),
        "versions": versions(),
    }
    write_detector(small, folder, card)
    say("judging what was written")
    card["scores"] = judge_folder(folder, recipe.judged_on, progress=progress)
    write_detector(small, folder, card)
    return card


def judge_folder(folder: Path, scenes: int, *, progress: Progress = silent) -> dict[str, Any]:
    """F1 and box overlap of a written detector on scenes of the study that no training saw."""
    read = OwlViTForObjectDetection.from_pretrained(folder, use_safetensors=True)
    small = SmallDetector(read.eval(), detector_tokenizer(), new_detector(0).image_processor)
    held_out = draw_scenes(plan_objects(_JUDGED_SEED, train=0, val=0, test=scenes), progress=progress)
    return scores_of(judge_detector(small, held_out, progress=progress), THRESHOLD)


def _scenes(seed: int, count: int, progress: Progress) -> DrawnScenes:
    return draw_scenes(plan_pretraining(seed, birds=0, objects=count), progress=progress)


def table(card: dict[str, Any]) -> str:
    """The card's scores as a person reads them."""
    scores = card["scores"]
    lines = [f"on {scores['scenes']} held-out scenes, at threshold {scores['threshold']:g}:"]
    lines += [f"  {name}: F1 {row['f1']:.3f} ({row['scenes']} scenes)" for name, row in scores["things"].items()]
    mean, worst, iou = scores["mean_f1"], scores["worst_f1"], scores["mean_box_iou"]
    boxes = "no box found" if iou is None else f"mean IoU of found boxes {iou:.3f}"
    return "\n".join([*lines, f"  mean {mean:.3f}, worst {worst:.3f}, {boxes}"])


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m despur.birdland.detector", description="Rebuild the small OWL-ViT."
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the model (default: the shipped one's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, help="scenes to learn from")
    parser.add_argument("--epochs", type=int, help="epochs of every part")
    parser.add_argument("--checkpoint", type=Path, help="file to go on from, written after every epoch")
    parser.add_argument("--quick", action="store_true", help="64 scenes, one epoch: shows that it runs, learns nothing")
    options = parser.parse_args(arguments)
    scenes, epochs = (64, 1) if options.quick else (options.scenes, options.epochs)
    few = {"chosen_on": 48, "judged_on": 48} if options.quick else {}
    default = DetectorRecipe()
    views = default.views if epochs is None else tuple(v.model_copy(update={"epochs": epochs}) for v in default.views)
    try:
        recipe = DetectorRecipe(seed=options.seed, scenes=scenes or default.scenes, views=views, **few)
        card = make_detector(recipe, options.out, checkpoint=options.checkpoint, say=_say)
    except (DespurError, ValidationError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    _say(table(card))
    _say(f"written to {options.out} in {card['seconds']} s")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
