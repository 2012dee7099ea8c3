"""What may be said of a scene, and how often."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from despur.birdland.captions import CaptionMix, Shown, caption_table, phrases_of
from despur.birdland.tokens import learn_merges, load_tokenizer, words_of, write_merges

DUCK = Shown("waterbird", ("water",), "on", ("boat", "reed"))


def test_a_caption_names_the_bird_the_bird_in_its_place_the_place_or_a_thing():
    mix = CaptionMix(subject=0.5, both=0.2, context=0.2, thing=0.1)
    assert dict(phrases_of(DUCK, mix)) == pytest.approx(
        {"waterbird": 0.5, "waterbird on water": 0.2, "water": 0.2, "boat": 0.05, "reed": 0.05}
    )


def test_companions_share_the_weight_of_the_context():
    shown = Shown("teapot", ("cup", "hat"), "with")
    mix = CaptionMix(subject=0.4, both=0.4, context=0.2, thing=0.0)
    assert dict(phrases_of(shown, mix)) == pytest.approx(
        {"teapot": 0.4, "teapot with cup": 0.2, "teapot with hat": 0.2, "cup": 0.1, "hat": 0.1}
    )


def test_what_a_scene_lacks_is_not_named():
    assert phrases_of(Shown("stool", (), "with"), CaptionMix()) == [("stool", 1.0)]


@given(
    mix=st.builds(CaptionMix, **{name: st.floats(0.01, 5.0) for name in ("subject", "both", "context", "thing")}),
    contexts=st.lists(st.sampled_from(["cup", "hat", "cat"]), unique=True).map(tuple),
    things=st.lists(st.sampled_from(["rock", "ball"]), unique=True).map(tuple),
)
def test_the_weights_add_up_to_one(mix: CaptionMix, contexts: tuple[str, ...], things: tuple[str, ...]):
    assert sum(weight for _, weight in phrases_of(Shown("jug", contexts, "with", things), mix)) == pytest.approx(1.0)


def test_an_epochs_captions_come_from_each_scenes_own_phrases():
    weighted = [[("land", 1.0)], phrases_of(DUCK, CaptionMix())]
    table = caption_table(weighted)
    generator = torch.Generator().manual_seed(0)
    said = [{table.phrases[row] for row in rows} for rows in torch.stack([table.draw(generator) for _ in range(300)]).T]
    assert said == [{"land"}, {phrase for phrase, _ in weighted[1]}]


def test_words_are_found_in_lower_case_once():
    assert words_of(["A photo of a Boat.", "the boat"]) == ["a", "boat", "of", "photo", "the"]


def test_merges_make_every_known_word_one_token_and_spell_out_others(tmp_path):
    words = ["waterbird", "landbird", "water", "on", "aa", "aaa"]
    write_merges(tmp_path / "merges.txt.gz", learn_merges(words))
    tokenizer = load_tokenizer(tmp_path / "merges.txt.gz", context_length=8)
    assert all(len(tokenizer.encode(word)) == 1 for word in words)
    assert tokenizer.decode(tokenizer.encode("waterland on birds")) == "waterland on birds "


def test_the_same_words_give_the_same_file(tmp_path):
    for name, words in (("one", ["bird", "boat"]), ("two", ["boat", "bird"])):
        write_merges(tmp_path / name, learn_merges(words))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
