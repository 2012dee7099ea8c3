"""The small OWL-ViT that ships with the package: an ordinary transformers checkpoint of ``OwlViTForObjectDetection``.

``weights/detector`` is what transformers calls a local directory, so that ``hf:DIR`` loads it like any other; a card
beside it says what it was trained on and how well it sees.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import CLIPTokenizer, OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor

from despur.birdland.canvas import SIDE
from despur.birdland.models import CARD_FILE, WEIGHTS
from despur.birdland.scene import OBJECT_CLUTTER
from despur.birdland.tabletop import COMPANIONS, SUBJECTS
from despur.birdland.tokens import CONTEXT_LENGTH, load_tokenizer
from despur.detect import load_detector
from despur.detect.protocol import Detector
from despur.errors import ModelError
from despur.workspace import write_json, write_whole

FOLDER = WEIGHTS / "detector"
WEIGHTS_FILE = "model.safetensors"

DETECTED: tuple[str, ...] = (*SUBJECTS, *COMPANIONS, *OBJECT_CLUTTER)
"""What the detector was taught to see: everything that the second study shows."""

PATCH = 8
"""Side of a place of its grid, pixels."""

_WIDTH, _LAYERS, _HEADS = 128, 4, 4
_TEXT_WIDTH, _TEXT_LAYERS = 64, 2
# A logit is (cosine + shift) * scale: unrelated phrases start well below the threshold, and a cosine of 1 well above.
_SCALE, _SHIFT = 12.0, -0.5

_START, _END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class SmallDetector:
    """A small OWL-ViT with all that belongs to it."""

    model: OwlViTForObjectDetection
    tokenizer: CLIPTokenizer
    image_processor: OwlViTImageProcessor


def detector_tokenizer() -> CLIPTokenizer:
    """The small CLIPs' tokenizer in transformers' form: the same texts give the same tokens."""
    simple = load_tokenizer()
    ordinary = sorted(simple.encoder.values())[:-2]
    tokens = {simple.decoder[number]: number for number in ordinary}
    # Pairs, which the library takes whatever its annotation says: a merge written as text could hold a blank.
    merges: Any = sorted(simple.bpe_ranks, key=simple.bpe_ranks.__getitem__)
    vocabulary = {**tokens, _START: simple.sot_token_id, _END: simple.eot_token_id}
    # The model takes token 0 for padding, as in the released checkpoints.
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=simple.decoder[0])
    tokenizer.model_max_length = CONTEXT_LENGTH
    return tokenizer


def detector_config(vocabulary: int) -> OwlViTConfig:
    """96 pixels in patches of 8, four layers of 128; texts in two layers of 64."""
    text = {
        "vocab_size": vocabulary,
        "hidden_size": _TEXT_WIDTH,
        "intermediate_size": 4 * _TEXT_WIDTH,
        "num_hidden_layers": _TEXT_LAYERS,
        "num_attention_heads": 2,
        "max_position_embeddings": CONTEXT_LENGTH,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }
    vision = {
        "hidden_size": _WIDTH,
        "intermediate_size": 4 * _WIDTH,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
    }
    return OwlViTConfig(text_config=text, vision_config=vision, projection_dim=_TEXT_WIDTH)


def new_detector(seed: int) -> SmallDetector:
    """An untrained detector; its weights are drawn from ``seed`` and the global generator is left as it was."""
    tokenizer = detector_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = OwlViTForObjectDetection(detector_config(len(tokenizer)))
        _start_small(model)
    head: Any = model.class_head
    with torch.no_grad():
        # One scale for all places, so that all logits can be moved by the same amount when the threshold is chosen.
        head.logit_scale.weight.zero_()
        head.logit_scale.bias.fill_(_SCALE - 1.0)
        head.logit_shift.weight.zero_()
        head.logit_shift.bias.fill_(_SHIFT)
    head.logit_scale.weight.requires_grad_(False)
    processor = OwlViTImageProcessor(size={"height": SIDE, "width": SIDE})
    return SmallDetector(model, tokenizer, processor)


@torch.no_grad()
def _start_small(model: OwlViTForObjectDetection) -> None:
    """Heads that keep the size of what goes through them; the library draws theirs for a checkpoint to overwrite."""
    heads: Any = (model.class_head, model.box_head)
    for layer in (heads[0].dense0, heads[1].dense0, heads[1].dense1):
        layer.weight.normal_(std=layer.in_features**-0.5)
    heads[1].dense2.weight.zero_()


@torch.no_grad()
def move_logits(model: OwlViTForObjectDetection, by: float) -> None:
    """Add ``by`` to the logit of every phrase at every place, in place."""
    head: Any = model.class_head
    head.logit_shift.bias += by / (torch.nn.functional.elu(head.logit_scale.bias) + 1.0)


def write_detector(small: SmallDetector, folder: Path, card: dict[str, Any]) -> None:
    """Write a transformers checkpoint with float16 weights that are computed with in float32, and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    small.model.config.dtype = torch.float32
    small.model.config.architectures = [type(small.model).__name__]
    small.model.config.save_pretrained(folder)
    small.tokenizer.save_pretrained(folder)
    small.image_processor.save_pretrained(folder)
    weights = {name: value.detach().half().contiguous() for name, value in small.model.state_dict().items()}
    with write_whole(folder / WEIGHTS_FILE) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    write_json(folder / CARD_FILE, card)


def load_small_detector(
    *, folder: Path = FOLDER, threshold: float | None = None, device: str | torch.device = "cpu"
) -> Detector[Any]:
    """The detector that ``birdland:detector`` names.

    Args:
        folder: where ``despur.birdland.detector --out`` wrote it.
        threshold: None: the one it was made for, as for any OWL-ViT.

    Raises:
        ModelError: its files are missing or damaged.
    """
    if not (folder / WEIGHTS_FILE).is_file():
        raise ModelError(
            "the detector's weights are missing",
            where=folder,
            now="reinstall despur or rebuild it with `python -m despur.birdland.detector`",
        )
    detector = load_detector(f"hf:{folder}", threshold=threshold, device=device)
    detector.spec = "birdland:detector"
    return detector


def read_detector_card(folder: Path = FOLDER) -> dict[str, Any]:
    """What the detector was trained on, and what it scored."""
    return json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
