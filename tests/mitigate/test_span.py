"""Training coefficients of the prompts against training the text projection itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from despur.mitigate import METHODS, TrainSettings, span, train, trainer
from despur.mitigate.span import COEFFICIENTS, SHARE, span_of
from despur.mitigate.study import Study

SETTINGS = TrainSettings(epochs=4, batch_size=16, learning_rate=1e-2, weight_decay=0.1)
READ = {"clip": ("class_prompts",), "clip+lc+vc+ls": ("class_prompts", "group_prompts")}


def with_bias(study: Study) -> Study:
    bias = torch.linspace(-0.5, 0.5, study.heads["text.weight"].shape[0], dtype=torch.float64)
    return replace(study, heads={**study.heads, "text.bias": bias})


def always(monkeypatch: pytest.MonkeyPatch, *, spanned: bool) -> None:
    monkeypatch.setattr(span, "costs_less", lambda prompts, d_text: spanned)


@pytest.mark.parametrize("biased", [True, False], ids=["with a bias", "without a bias"])
@pytest.mark.parametrize("name", [*READ, "jtt", "group-dro", "contrastive-adapter", "wise-ft"])
def test_a_run_is_the_one_that_trains_the_projection(
    study: Study, monkeypatch: pytest.MonkeyPatch, name: str, biased: bool
) -> None:
    own = with_bias(study) if biased else study
    found = {}
    for spanned in (True, False):
        always(monkeypatch, spanned=spanned)
        found[spanned] = train(own, METHODS[name], SETTINGS, seeds=[0, 1])
    for one, other in zip(found[True], found[False], strict=True):
        assert one.heads.keys() == other.heads.keys()
        assert one.best_epoch == other.best_epoch
        for part in one.heads:
            torch.testing.assert_close(one.heads[part], other.heads[part], rtol=0, atol=1e-10)


@pytest.mark.parametrize("clip_text", ["average", "template"])
def test_the_released_terms_read_the_phrases_too(study: Study, monkeypatch: pytest.MonkeyPatch, clip_text: str) -> None:
    settings = SETTINGS.model_copy(update={"similarity": "cosine", "clip_text": clip_text})
    seen: list[tuple[str, ...]] = []

    def watched(study: Study, start: dict[str, torch.Tensor], sets: tuple[str, ...]) -> span.PromptSpan | None:
        seen.append(sets)
        return span_of(study, start, sets)

    monkeypatch.setattr(trainer, "span_of", watched)
    found = []
    for spanned in (True, False):
        always(monkeypatch, spanned=spanned)
        (run,) = train(study, METHODS["clip+lc+vc+ls"], settings)
        found.append(run.heads["text.weight"])
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)
    assert seen == [("class_prompts", "phrase_prompts")] * 2


@pytest.mark.parametrize("name", list(READ))
def test_only_what_the_terms_read_is_in_the_span(study: Study, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    always(monkeypatch, spanned=True)
    seen: list[tuple[str, ...]] = []

    def watched(study: Study, start: dict[str, torch.Tensor], sets: tuple[str, ...]) -> span.PromptSpan | None:
        seen.append(sets)
        return span_of(study, start, sets)

    monkeypatch.setattr(trainer, "span_of", watched)
    train(study, METHODS[name], SETTINGS)
    assert seen == [READ[name]]


def test_the_projection_comes_back_from_its_coefficients(study: Study) -> None:
    own = with_bias(study)
    start = {name: head.expand(2, *head.shape) for name, head in own.heads.items()}
    found = span_of(own, start, ("class_prompts",))
    assert found is not None
    begun = found.begin(start)
    assert not {"text.weight", "text.bias"} & begun.keys()
    torch.testing.assert_close(found.whole(begun)["text.weight"], start["text.weight"], rtol=0, atol=0)
    changed = {**begun, COEFFICIENTS: begun[COEFFICIENTS] + 1, SHARE: begun[SHARE] / 2}
    prompts = own.class_prompts.flatten(0, 1)
    whole = found.whole(changed)
    expected = start["text.weight"] / 2 + prompts.sum(0)
    torch.testing.assert_close(whole["text.weight"], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(whole["text.bias"], start["text.bias"] / 2 + len(prompts), rtol=0, atol=1e-12)


def test_the_projection_itself_is_trained_where_that_costs_less_and_in_half_precision(study: Study) -> None:
    start = {name: head[None] for name, head in study.heads.items()}
    assert span_of(study, start, ("class_prompts",)) is not None  # 6 prompts of 5 features
    assert span_of(study, start, ("class_prompts", "group_prompts")) is None  # 18
    half = study.to("cpu", torch.bfloat16)
    assert span_of(half, {name: head[None] for name, head in half.heads.items()}, ("class_prompts",)) is None
