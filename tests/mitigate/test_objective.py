"""Terms by name: what they share changes nothing, and what a user mistypes is said."""

from __future__ import annotations

import pytest
import torch

from despur.backbones.heads import class_embeddings, class_logits, embed_images, embed_texts, inverse_temperature
from despur.errors import SettingsError
from despur.mitigate import TrainSettings, losses
from despur.mitigate.batch import Batch
from despur.mitigate.objective import COSINE_TERMS, TERMS, find_terms, make_objective
from despur.mitigate.study import Study


def batch_of(study: Study, settings: TrainSettings, runs: int = 2) -> Batch:
    rows = torch.randint(len(study.train), (runs, 12), generator=torch.Generator().manual_seed(1))
    templates = torch.randint(3, (runs, 12), generator=torch.Generator().manual_seed(2))
    heads = {name: torch.stack([head * (1 + 0.1 * run) for run in range(runs)]) for name, head in study.heads.items()}
    labels, groups = study.train.labels[rows], study.train.groups[rows]
    return Batch(study, settings, heads, rows=rows, labels=labels, groups=groups, templates=templates, state={})


def test_terms_equal_their_equations_on_the_heads_own_embeddings(study: Study) -> None:
    batch = batch_of(study, TrainSettings())
    images = embed_images(batch.heads, study.train.features[batch.rows])
    scale = inverse_temperature(batch.heads)
    classes = embed_texts(batch.heads, study.class_prompts.flatten(0, 1)).unflatten(-2, (3, 2))
    groups = embed_texts(batch.heads, study.group_prompts.flatten(0, 1)).unflatten(-2, (3, 4))
    paired = torch.stack([class_embeddings(batch.heads, study.class_prompts)[r][batch.labels[r]] for r in range(2)])
    expected = {
        "clip": losses.clip_loss(losses.similarities(images, paired, scale), batch.labels),
        "vc": losses.contrastive_image_loss(images, batch.labels, scale),
        "lc": losses.contrastive_language_loss(classes, scale),
        "vs": losses.spurious_image_loss(images, batch.groups, scale),
        "ls": losses.spurious_language_loss(groups, scale),
    }
    assert expected.keys() == TERMS.keys()
    for name, term in TERMS.items():
        torch.testing.assert_close(term(batch), expected[name], rtol=0, atol=1e-12)


def test_with_a_text_a_template_each_image_meets_its_class_under_the_template_drawn_for_it(study: Study) -> None:
    batch = batch_of(study, TrainSettings(clip_text="template"))
    for run in range(2):
        for image in range(12):
            features = study.class_prompts[batch.templates[run, image], batch.labels[run, image]]
            text = embed_texts({name: head[run] for name, head in batch.heads.items()}, features[None])[0]
            torch.testing.assert_close(batch.paired_texts[run, image], text, rtol=0, atol=1e-12)


def test_the_shared_logits_are_the_ones_that_classify(study: Study) -> None:
    batch = batch_of(study, TrainSettings())
    expected = class_logits(batch.heads, study.train.features[batch.rows], study.class_prompts)
    torch.testing.assert_close(batch.class_logits, expected, rtol=0, atol=1e-12)


def test_an_objective_weights_each_run_s_terms_by_that_run_s_settings(study: Study) -> None:
    settings = [TrainSettings(weights={"vc": 0.5}), TrainSettings(weights={"clip": 0.0})]
    batch = batch_of(study, settings[0])
    objective = make_objective(find_terms(["clip", "vc"], settings[0]), settings, study.class_prompts)
    values = objective.values(batch)
    total = objective.total(values)
    torch.testing.assert_close(total[0], values[0, 0] + 0.5 * values[1, 0])
    torch.testing.assert_close(total[1], values[1, 1])


@pytest.mark.parametrize("name", COSINE_TERMS)
def test_every_term_has_a_finite_cosine_form(study: Study, name: str) -> None:
    settings = TrainSettings(similarity="cosine", released_indexing=True, absolute=True)
    (term,) = find_terms([name], settings).values()
    assert term is COSINE_TERMS[name]
    assert term(batch_of(study, settings)).isfinite().all()


def test_the_cosine_form_of_ls_asks_for_the_phrases_prompts(study: Study) -> None:
    from dataclasses import replace

    settings = TrainSettings(similarity="cosine")
    with pytest.raises(SettingsError, match="spurious phrases' own prompts"):
        COSINE_TERMS["ls"](batch_of(replace(study, phrase_prompts=None), settings))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["clip", "vcc"], "there is no loss 'vcc'; did you mean 'vc'"),
        (["vc", "vc"], "'vc' is given twice"),
        ([], "no loss is given"),
    ],
)
def test_a_loss_that_cannot_be_is_told_in_a_sentence(names: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        find_terms(names, TrainSettings())


def test_a_weight_for_a_term_that_is_not_trained_on_is_refused() -> None:
    settings = TrainSettings(weights={"ls": 2.0})
    with pytest.raises(SettingsError, match="'ls', which is not trained on"):
        make_objective(find_terms(["clip", "lc"], settings), [settings], torch.zeros(()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rte": 0.1}, "there is no setting 'learning_rte'; did you mean 'learning_rate'"),
        ({"learning_rate": -1.0}, "learning_rate = -1.0"),
        ({"weights": {"vc": -2.0}}, "weights.vc = -2.0"),
    ],
)
def test_settings_that_mean_nothing_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TrainSettings.checked(**changes)
