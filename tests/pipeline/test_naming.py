"""Specs as other people read them."""

from __future__ import annotations

import pytest

from despur.pipeline.naming import without_folders


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("waterbirds:/home/ann/secret/birds", "waterbirds:birds"),
        ("waterbirds:/home/ann/birds/", "waterbirds:birds"),
        ("waterbirds:~/birds", "waterbirds:birds"),
        ("folder:C:\\Users\\Ann\\birds", "folder:birds"),
        ("table:/home/ann/examples.csv,images=s3://bucket/ann/photographs", "table:examples.csv,images=photographs"),
        ("imagenet:/data/in1k,classes=680,898,boxes=/home/ann/boxes", "imagenet:in1k,classes=680,898,boxes=boxes"),
        ("folder:/", "folder"),
        ("celeba:/data/celeba,target=Blond_Hair", "celeba:celeba,target=Blond_Hair"),
        ("hf:owner/birds", "hf:owner/birds"),
        ("hf:/home/ann/birds,label=kind", "hf:birds,label=kind"),
        ("birdland:birds:0.5", "birdland:birds:0.5"),
        ("birdland", "birdland"),
        ("open_clip:ViT-L/14@336px/openai", "open_clip:ViT-L/14@336px/openai"),
        ("open_clip:RN50//home/ann/mine.pt", "open_clip:RN50/mine.pt"),
        ("open_clip:ViT-B/32/~/mine.pt", "open_clip:ViT-B/32/mine.pt"),
        ("open_clip:local-dir:/home/ann/mine", "open_clip:local-dir:mine"),
        ("open_clip:hf-hub:owner/mine", "open_clip:hf-hub:owner/mine"),
        ("hf:/home/ann/mine", "hf:mine"),
    ],
)
def test_a_spec_is_told_by_kind_and_last_name_without_this_machines_folders(spec: str, told: str) -> None:
    assert without_folders(spec) == told
