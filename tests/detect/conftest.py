"""Detectors of a few thousand random weights, real in all but size, with photographs of noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessor,
    OwlViTProcessor,
    SwinConfig,
)

from despur.detect.grounding_dino import GroundingDinoDetector
from despur.detect.owl import OwlDetector

START, END = "<|startoftext|>", "<|endoftext|>"


def letter_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with no merges: a token a letter, the end token the highest."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["!", *letters, *(f"{letter}</w>" for letter in letters), START, END]
    tokenizer = CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[], pad_token="!")
    tokenizer.model_max_length = 32
    return tokenizer


def small_config() -> dict[str, Any]:
    text = {
        "vocab_size": 55,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "bos_token_id": 53,
        "eos_token_id": 54,
    }
    vision = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    return {"text_config": text, "vision_config": vision, "projection_dim": 16}


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that every place and phrase scores differently."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 1.5 / weight.shape[-1] ** 0.5)
    return model.eval()


class Owl:
    """A model, its own processor, and our detector around them."""

    def __init__(self, version: int, seed: int = 0, **settings: Any) -> None:
        kind, config = (
            (Owlv2ForObjectDetection, Owlv2Config) if version == 2 else (OwlViTForObjectDetection, OwlViTConfig)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of what `randomised` leaves as it was drawn, such as the class token
            self.model: Any = randomised(kind(config(**small_config())))
        if version == 2:
            images: Any = Owlv2ImageProcessor(size={"height": 32, "width": 32})
            self.processor: Any = Owlv2Processor(images, letter_tokenizer())
        else:
            images = OwlViTImageProcessor(size={"height": 32, "width": 32})
            self.processor = OwlViTProcessor(images, letter_tokenizer())
        self.detector = OwlDetector(
            self.model,
            self.processor.tokenizer,
            images,
            spec=f"owl version {version}",
            **{"threshold": 0.5, **settings},
        )

    def theirs(self, images: list[Image.Image], phrases: list[str], threshold: float) -> list[dict[str, torch.Tensor]]:
        """transformers' full forward and post-processing."""
        texts = [self.detector.template.format(phrase) for phrase in phrases]
        inputs = self.processor(text=[texts] * len(images), images=images, return_tensors="pt")
        with torch.no_grad():
            outputs = self.model(**inputs)
        sizes = [(image.height, image.width) for image in images]
        return self.processor.post_process_grounded_object_detection(outputs, threshold=threshold, target_sizes=sizes)


@pytest.fixture(scope="session")
def new_owl() -> type[Owl]:
    """Makes one of a version and a seed."""
    return Owl


@pytest.fixture(scope="session", params=[1, 2], ids=["owlvit", "owlv2"])
def owl(request: pytest.FixtureRequest) -> Owl:
    return Owl(request.param)


WORDS = ("water", "bamboo", "sea", "a", "tree", "lake", "sky", "glass", "of")


class Dino:
    """A small Grounding DINO, its own processor, and our detector around them; a prompt holds 11 tokens."""

    def __init__(self) -> None:
        # The model knows its delimiters by their numbers in BERT's vocabulary.
        tokens = [f"[unused{number}]" for number in range(1040)]
        special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
        for number, token in special.items():
            tokens[number] = token
        tokens[200 : 200 + len(WORDS)] = WORDS
        tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(tokens)})
        images: Any = GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 192})
        swin = SwinConfig(
            image_size=128,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 2],
            window_size=4,
            out_indices=[2, 3, 4],
        )
        bert = BertConfig(
            vocab_size=1040, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
        config = GroundingDinoConfig(
            backbone_config=swin,
            text_config=bert,
            d_model=32,
            num_queries=12,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            disable_custom_kernels=True,
        )
        self.model: Any = randomised(GroundingDinoForObjectDetection(config))
        self.processor: Any = GroundingDinoProcessor(images, tokenizer)
        self.detector = GroundingDinoDetector(
            self.model, tokenizer, images, spec="small", threshold=0.6, text_threshold=0.3, prompt_tokens=11
        )

    def theirs(self, image: Image.Image, phrases: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """transformers' forward over one prompt: boxes in pixels [queries, 4], token scores [queries, tokens]."""
        inputs = self.processor(images=image, text=[phrases], return_tensors="pt")
        with torch.no_grad():
            outputs = self.model(**inputs)
        found = self.processor.post_process_grounded_object_detection(
            outputs, threshold=-1.0, text_threshold=2.0, target_sizes=[(image.height, image.width)]
        )[0]
        return found["boxes"], outputs.logits[0].sigmoid()[:, : inputs["input_ids"].shape[1]]


@pytest.fixture(scope="session")
def dino() -> Dino:
    return Dino()
