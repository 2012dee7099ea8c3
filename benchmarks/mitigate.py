"""Training heads against the bare matrix products that it cannot do without, and against the loop that caches nothing.

    python benchmarks/mitigate.py [--json] [--quick]

Sizes are those of Waterbirds: 4,795 training and 1,199 validation images, two classes, 80 templates, batch 128; RN50
(2,048 features to 1,024; texts 512 to 1,024) and ViT-L/14 at 336 px (1,024 to 768; 768 to 768). The method is the
paper's recipe clip+lc+vc+ls. Values are random: they change no time.

* ``step_over_products_*``: the mean step of a few epochs, with all that comes with them (batches, validation, history,
  the best epoch's copy), over its products, forward and backward: images and prompts through their projections, image,
  class-prompt and group-prompt similarities, and what each sends back.
* ``stack32_over_products``: the same for 32 runs in one stack, over 32 times one run's products.
* ``stack32_as_tuned_over_products``: those runs in as many stacks as ``--tune`` would make of them on this device.
* ``uncached_over_ours``: 300 epochs where every step sends its images and prompts through random-weight RN50 encoders,
  as the released code does (three steps are timed and scaled), over embedding once and then training.
* ``pairs_50_over_1``: a step with 50 spurious pairs over a step with one, at 100,000 images of 1,024 features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import log

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from despur.mitigate import TrainSettings, find_method, train
from despur.mitigate.halving import runs_at_once
from despur.mitigate.membership import pair_groups
from despur.mitigate.study import Examples, Study
from harness import arguments, in_turns, peak_gb, tell

RECIPE, PAIRED_RECIPE = "clip+lc+vc+ls", "clip+lc+vc+vs"
EPOCHS = 300
TIMED = 5
"""Epochs that are timed: what is done once a training is not to weigh as if there were an epoch alone."""
STACK, STACK_TIMED = 32, 2
UNCACHED_STEPS = 3


@dataclass(frozen=True)
class Sizes:
    """What is trained: features before and after the projections, and how many of everything there are."""

    d_image: int
    d_text: int
    dim: int
    train: int = 4795
    val: int = 1199
    templates: int = 80
    batch: int = 128

    @property
    def steps(self) -> int:
        return self.train // min(self.batch, self.train)


RN50, VIT_L = Sizes(2048, 512, 1024), Sizes(1024, 768, 768)
QUICK = {"rn50": Sizes(64, 32, 48, 300, 80, 6, 64), "vit_l": Sizes(48, 32, 32, 300, 80, 6, 64)}


def random_study(sizes: Sizes, device: str = "cpu") -> Study:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def examples(count: int) -> Examples:
        groups = torch.randint(4, (count,), generator=generator)
        return Examples(normal(count, sizes.d_image), groups // 2, groups)

    study = Study(
        train=examples(sizes.train),
        val=examples(sizes.val),
        class_prompts=normal(sizes.templates, 2, sizes.d_text),
        group_prompts=normal(sizes.templates, 4, sizes.d_text),
        heads={
            "image.weight": normal(sizes.dim, sizes.d_image) / sizes.d_image**0.5,
            "text.weight": normal(sizes.dim, sizes.d_text) / sizes.d_text**0.5,
            "logit_scale": torch.tensor(log(14.0)),
        },
        classes=("landbird", "waterbird"),
        attribute="water",
    )
    return study.to(device)


def epochs(study: Study, runs: int, batch: int, count: int) -> None:
    """Training as users run it: batches, losses, steps, validation, history and the best epoch's copy."""
    settings = TrainSettings(epochs=count, batch_size=batch, learning_rate=1e-4)
    train(study, find_method(RECIPE), settings, seeds=range(runs))


def stacks(study: Study, runs: int, batch: int, count: int) -> None:
    """The same with no more runs side by side than a search would train at once."""
    at_once = runs_at_once(study)
    for first in range(0, runs, at_once):
        epochs(study, min(at_once, runs - first), batch, count)


def products(study: Study, sizes: Sizes, steps: int) -> None:
    """Forward and backward products of one run's steps, and nothing else."""
    images, image_head = study.train.features[: sizes.batch], study.heads["image.weight"]
    prompts = torch.cat([study.class_prompts.flatten(0, 1), study.group_prompts.flatten(0, 1)])
    classes, text_head = 2 * sizes.templates, study.heads["text.weight"]
    for _ in range(steps):
        embedded, texts = images @ image_head.mT, prompts @ text_head.mT
        sets = (embedded, texts[:classes], texts[classes:])
        back = [(members @ members.mT) @ members for members in sets]
        logits = embedded @ texts[:2].mT
        back[0] = back[0] + logits @ texts[:2]
        _ = logits.mT @ embedded
        _ = back[0].mT @ images
        _ = torch.cat(back[1:]).mT @ prompts


def uncached_steps(
    model: torch.nn.Module, batch: int, templates: int, steps: int, classes: int = 2, groups: int = 4
) -> None:
    """Steps that encode their images and every prompt anew; forward only, which flatters them."""
    tokens = torch.randint(1, 40_000, (templates * (classes + groups), 77))
    for _ in range(steps):
        with torch.no_grad():
            images = model.encode_image(torch.randn(batch, 3, 224, 224))
            texts = torch.cat([model.encode_text(part) for part in tokens.split(64)])
        images = F.normalize(images, dim=-1)
        _ = images @ F.normalize(texts, dim=-1).mT


def paired_study(pairs: int, images: int, d_image: int) -> Study:
    """``images`` of ten classes, each pair an attribute of one of them."""
    generator = torch.Generator().manual_seed(0)
    classes = [pair % 10 for pair in range(pairs)]

    def examples(count: int) -> Examples:
        labels = torch.randint(10, (count,), generator=generator)
        presence = torch.randint(2, (count, pairs), generator=generator).float()
        return Examples(
            torch.randn(count, d_image, generator=generator), labels, *pair_groups(labels, presence, classes, 10)
        )

    return Study(
        train=examples(images),
        val=examples(1000),
        class_prompts=torch.randn(8, 10, 64, generator=generator),
        group_prompts=torch.randn(8, 2 * pairs, 64, generator=generator),
        heads={
            "image.weight": torch.randn(512, d_image, generator=generator) / d_image**0.5,
            "text.weight": torch.randn(512, 64, generator=generator) / 8,
            "logit_scale": torch.tensor(log(14.0)),
        },
        classes=tuple("abcdefghij"),
        attribute=f"{pairs} pairs",
        pairs=tuple((label, f"attribute {number}") for number, label in enumerate(classes)),
    )


def paired_epoch(study: Study) -> None:
    """Steps of the vision recipe, whose image term is told the pairs."""
    train(study, find_method(PAIRED_RECIPE), TrainSettings(epochs=1, batch_size=128, learning_rate=1e-4))


def paired_peak(images: int, d_image: int) -> None:
    paired_epoch(paired_study(50, images, d_image))


def main() -> None:
    options = arguments("training against its bare matrix products and against the uncached loop")
    sizes = QUICK if options.quick else {"rn50": RN50, "vit_l": VIT_L}
    stack = 4 if options.quick else STACK
    ratios: dict[str, float] = {}
    kept: dict[str, float] = {}
    for name, own in sizes.items():
        study = random_study(own)
        sides: dict[str, Callable[[], object]] = {
            "ours": partial(epochs, study, 1, own.batch, TIMED),
            "products": partial(products, study, own, TIMED * own.steps),
        }
        seconds = in_turns(sides)
        ratios[f"step_over_products_{name}"] = seconds["ours"] / seconds["products"]
        kept |= {f"{name} {side}, an epoch": value / TIMED for side, value in seconds.items()}
    own = sizes["rn50"]
    study = random_study(own)
    stacked = in_turns(
        {
            "stack": partial(epochs, study, stack, own.batch, STACK_TIMED),
            "as tuned": partial(stacks, study, stack, own.batch, STACK_TIMED),
            "products": partial(products, study, own, STACK_TIMED * stack * own.steps),
        },
        warm_up=False,
    )
    ratios["stack32_over_products"] = stacked["stack"] / stacked["products"]
    ratios["stack32_as_tuned_over_products"] = stacked["as tuned"] / stacked["products"]
    # One step of the uncached loop encodes a batch and all prompts; embedding encodes all images and all prompts once.
    batch, templates, steps = (8, 2, 1) if options.quick else (own.batch, own.templates, UNCACHED_STEPS)
    model = open_clip.create_model("RN50").eval()
    loop = in_turns(
        {
            "step": partial(uncached_steps, model, batch, templates, steps),
            "images": partial(image_steps, model, batch, steps),
        },
        runs=1 if options.quick else 5,
        warm_up=False,
    )
    total_steps = EPOCHS * own.steps
    once = loop["images"] / steps * (own.train + own.val) / batch + max(0.0, loop["step"] - loop["images"]) / steps
    ours = once + EPOCHS * kept["rn50 ours, an epoch"]
    ratios["uncached_over_ours"] = loop["step"] / steps * total_steps / ours
    images, d_image = (2_000, 64) if options.quick else (100_000, 1_024)
    pairs = in_turns(
        {str(count): partial(paired_epoch, paired_study(count, images, d_image)) for count in (1, 50)},
        warm_up=False,
    )
    ratios["pairs_50_over_1"] = pairs["50"] / pairs["1"]
    peaks = {
        "rn50": peak_gb(partial(peak, own, 1)),
        "stack32": peak_gb(partial(peak, own, stack)),
        "pairs_50": peak_gb(partial(paired_peak, images, d_image)),
    }
    tell("mitigate", ratios, peaks, options, seconds={**kept, **{f"uncached {k}": v / steps for k, v in loop.items()}})


def image_steps(model: torch.nn.Module, batch: int, steps: int) -> None:
    """The images' share of :func:`uncached_steps`."""
    with torch.no_grad():
        for _ in range(steps):
            model.encode_image(torch.randn(batch, 3, 224, 224))


def peak(sizes: Sizes, runs: int) -> None:
    epochs(random_study(sizes), runs, sizes.batch, 1)


if __name__ == "__main__":
    main()
