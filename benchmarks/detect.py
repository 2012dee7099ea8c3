"""Detection with OWL-ViT base: phrases encoded once, against the library's way, and against the image tower alone.

The architecture of ``google/owlvit-base-patch32`` with random weights, which cost what trained ones do; the threshold
is set so that an image shows about fifteen things. In turns:

* ours, with 1,600 and with 8,000 phrases: decoded photographs in, detections out, four at a time;
* the image tower alone on four images that are preprocessed already (``over_image_tower_1600``);
* transformers' processor, model and post-processing called for each image with all phrases
  (``per_image_over_ours_1600``, ``per_image_over_ours_8000``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from transformers import (
    CLIPTokenizer,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessor,
    OwlViTProcessor,
)

from despur.detect.owl import OwlDetector
from despur.detect.vocabulary import load_vocabulary
from harness import arguments, in_turns, peak_gb, tell

BATCH = 4
SHOWN = 15


def build(quick: bool) -> tuple[Any, Any]:
    """A model with random weights, and its processor with CLIP's own tokens (open_clip ships them)."""
    simple = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in simple.encoder.items()}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=list(simple.bpe_ranks), pad_token="!")
    tokenizer.model_max_length = 16
    size = {"num_hidden_layers": 1} if quick else {}
    config = OwlViTConfig(text_config=size, vision_config=size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OwlViTForObjectDetection(config).eval()
    # Drawn as they come, the heads' weights are so large that every box is a point and every score 0, 0.5 or 1.
    with torch.no_grad():
        for weight in (*model.class_head.parameters(), *model.box_head.parameters()):
            weight *= 0.03
    return model, OwlViTProcessor(OwlViTImageProcessor(), tokenizer)


def photographs(count: int) -> list[Image.Image]:
    """Noise of the size that ImageNet's photographs have; its cost is that of any picture."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)) for _ in range(count)]


def phrase_list(count: int) -> list[str]:
    """The built-in vocabulary, filled up with pairs of its words."""
    words = list(load_vocabulary("builtin").phrases)
    pairs = [f"{first} {second}" for first in words[:200] for second in words[-200:]]
    return [*words, *pairs][:count]


def detector_of(model: Any, processor: Any, threshold: float) -> OwlDetector:
    return OwlDetector(model, processor.tokenizer, processor.image_processor, spec="owlvit", threshold=threshold)


def library(model: Any, processor: Any, image: Image.Image, texts: list[str], threshold: float) -> object:
    """One image through transformers, as its documentation has it."""
    inputs = processor(text=[texts], images=image, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    return processor.post_process_grounded_object_detection(
        outputs, threshold=threshold, target_sizes=[(image.height, image.width)]
    )


def tower(model: Any, pixels: torch.Tensor) -> object:
    with torch.no_grad():
        return model.image_embedder(pixel_values=pixels)


def search(quick: bool, images: int, phrases: int) -> None:
    """A fresh process's work: encode the phrases, search some images."""
    model, processor = build(quick)
    detector = detector_of(model, processor, 0.55)
    queries = detector.encode(phrase_list(phrases))
    for _ in range(images // BATCH):
        detector.detect(photographs(BATCH), queries)


def main() -> None:
    options = arguments("detection with phrases encoded once, against transformers' way and the image tower alone")
    few, many = (50, 250) if options.quick else (1_600, 8_000)
    model, processor = build(options.quick)
    images = photographs(BATCH)
    phrases = {count: phrase_list(count) for count in (few, many)}
    trial = detector_of(model, processor, 0.0)
    scores = trial.detect(images, trial.encode(phrases[few])).score
    threshold = float(np.sort(scores)[-SHOWN * BATCH])
    detector = detector_of(model, processor, threshold)
    queries = {count: detector.encode(phrases[count]) for count in (few, many)}
    texts = {count: [detector.template.format(phrase) for phrase in queries[count].phrases] for count in (few, many)}
    pixels = processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
    fast = in_turns(
        {
            "ours, few": partial(detector.detect, images, queries[few]),
            "ours, many": partial(detector.detect, images, queries[many]),
            "tower": partial(tower, model, pixels),
        }
    )
    slow = in_turns(
        {
            "library, few": partial(library, model, processor, images[0], texts[few], threshold),
            "library, many": partial(library, model, processor, images[0], texts[many], threshold),
        },
        warm_up=False,
    )
    tell(
        "detect",
        {
            "over_image_tower_1600": fast["ours, few"] / fast["tower"],
            "per_image_over_ours_1600": slow["library, few"] * BATCH / fast["ours, few"],
            "per_image_over_ours_8000": slow["library, many"] * BATCH / fast["ours, many"],
            "cost_8000_over_1600": fast["ours, many"] / fast["ours, few"],
        },
        {
            "ours, 8 images": peak_gb(partial(search, options.quick, 8, many)),
            "ours, 32 images": peak_gb(partial(search, options.quick, 32, many)),
        },
        options,
        seconds={**{name: value / BATCH for name, value in fast.items()}, **slow},
    )


if __name__ == "__main__":
    main()
