"""Methods that train nothing, against the formulas of their papers."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest
import torch
import torch.nn.functional as F

from despur.backbones.heads import class_embeddings, class_logits, context_logits, embed_images, embed_texts
from despur.errors import SettingsError, TrainingError
from despur.mitigate import METHODS, TrainSettings, train
from despur.mitigate.methods.orthogonal import basis, calibrated_projection, projection_off, spurious_vectors
from despur.mitigate.methods.roboshot import robust_map
from despur.mitigate.methods.wise_ft import blended
from despur.mitigate.study import Examples, Study


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def test_a_projection_takes_out_its_vectors_and_nothing_else() -> None:
    vectors = normal(3, 8)
    vectors[2] = vectors[0] - vectors[1]  # depends on the others
    projection = projection_off(vectors)
    torch.testing.assert_close(vectors @ projection, torch.zeros(3, 8, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(projection @ projection, projection)
    assert float(projection.trace()) == pytest.approx(6)
    assert len(basis(vectors)) == 2


def test_calibration_minimises_what_the_paper_minimises() -> None:
    """|P - P₀|² + λ · mean |P (z_i - z_j)|² over P = P₀ G has its minimum at G = (I + λM)⁻¹: no step away lowers it."""
    spurious, differences, strength = normal(2, 6), normal(4, 6).flip(0), 3.0
    first = projection_off(spurious)

    def objective(matrix: torch.Tensor) -> float:
        return float((matrix - first).square().sum() + strength * (differences @ matrix.mT).square().sum(-1).mean())

    best = calibrated_projection(spurious, differences, strength)
    for direction in normal(20, 6, 6):
        assert objective(best + 1e-3 * direction) > objective(best)


def test_projected_prompts_are_orthogonal_to_the_attribute_s_phrases(study: Study) -> None:
    (run,) = train(study, METHODS["orth-proj"])
    prompts = embed_texts(run.heads, study.class_prompts.flatten(0, 1))
    cosines = prompts @ spurious_vectors(study).mT
    torch.testing.assert_close(cosines, torch.zeros_like(cosines), atol=1e-12, rtol=0)


def test_a_study_without_a_phrase_is_refused(study: Study) -> None:
    with pytest.raises(TrainingError, match="no phrase"):
        train(replace(study, phrase_prompts=None), METHODS["orth-cali"])


def test_roboshot_is_the_paper_s_loop_over_directions() -> None:
    harmful, helpful, images = normal(2, 6), normal(3, 6)[:2], F.normalize(normal(5, 6), dim=-1)
    found = F.normalize(images @ robust_map(harmful, helpful).mT, dim=-1)
    by_loop = images.clone()
    for direction in basis(harmful):
        by_loop = F.normalize(by_loop - (by_loop @ direction)[:, None] * direction, dim=-1)
    for direction in basis(helpful):
        by_loop = F.normalize(by_loop + (by_loop @ direction)[:, None] * direction, dim=-1)
    torch.testing.assert_close(found, by_loop)


def test_with_one_class_alone_every_method_without_training_still_says_that_class(study: Study) -> None:
    keep = [examples.labels == 0 for examples in (study.train, study.val)]
    train_images, val_images = (
        Examples(examples.features[rows], examples.labels[rows], examples.groups[rows])
        for examples, rows in zip((study.train, study.val), keep, strict=True)
    )
    alone = replace(
        study,
        train=train_images,
        val=val_images,
        classes=("landbird",),
        class_prompts=study.class_prompts[:, :1],
        group_prompts=study.group_prompts[:, :2],
    )
    for name in ("orth-proj", "orth-cali", "roboshot", "perception-clip"):
        (run,) = train(alone, METHODS[name])
        assert run.history["worst_group"].to_pylist() == [1.0]


def test_a_class_s_probability_is_summed_over_contexts() -> None:
    scores = torch.tensor([[[1.0, 0.0], [2.0, -1.0], [0.5, 3.0]]], dtype=torch.float64)  # 3 classes, 2 contexts
    sharpness = 0.5
    of_context = [sum(exp(sharpness * float(scores[0, y, z])) for y in range(3)) for z in range(2)]
    expected = [
        sum(
            of_context[z]
            / sum(of_context)
            * exp(float(scores[0, y, z]))
            / sum(exp(float(scores[0, other, z])) for other in range(3))
            for z in range(2)
        )
        for y in range(3)
    ]
    found = context_logits(scores, torch.tensor(sharpness))
    assert found[0].exp().tolist() == pytest.approx(expected)


def test_at_temperature_1_the_contexts_are_one_log_sum(study: Study) -> None:
    """p(z|x) p(y|x, z) is then the softmax over all pairs."""
    (run,) = train(study, METHODS["perception-clip"])
    logits = class_logits(run.heads, study.val.features, study.class_prompts)
    images, groups = embed_images(study.heads, study.val.features), class_embeddings(study.heads, study.group_prompts)
    pairs = (study.heads["logit_scale"].exp() * images @ groups.mT).log_softmax(-1)
    torch.testing.assert_close(logits, pairs.unflatten(-1, (2, 2)).logsumexp(-1))


def test_blending_goes_from_one_model_to_the_other() -> None:
    start, trained = {"a": torch.zeros(2, 3)}, {"a": torch.ones(2, 3)}
    assert blended(start, trained, torch.tensor([0.25, 1.0]))["a"].tolist() == [[0.25] * 3, [1.0] * 3]


def test_wise_ft_is_halfway_to_the_heads_that_erm_trains(study: Study) -> None:
    settings = TrainSettings(learning_rate=1e-2, epochs=1, batch_size=16)
    (erm,) = train(study, METHODS["erm"], settings)
    (mixed,) = train(study, METHODS["wise-ft"], settings)
    for name, head in mixed.heads.items():
        torch.testing.assert_close(head, (study.heads[name] + erm.heads[name]) / 2)


def test_an_option_that_a_method_has_not_is_told_with_the_nearest(study: Study) -> None:
    with pytest.raises(SettingsError, match="did you mean 'blend'"):
        train(study, METHODS["wise-ft"], TrainSettings(options={"blendd": 0.1}))
    with pytest.raises(SettingsError, match="erm has no option 'blend'; it has none"):
        train(study, METHODS["erm"], TrainSettings(options={"blend": 0.1}))


def test_options_are_stacked_as_rates_are(study: Study) -> None:
    several = [TrainSettings(learning_rate=1e-2, epochs=2, options={"blend": share}) for share in (0.1, 0.9)]
    stacked = train(study, METHODS["wise-ft"], several)
    (alone,) = train(study, METHODS["wise-ft"], several[1])
    for name, head in alone.heads.items():
        torch.testing.assert_close(stacked[1].heads[name], head, rtol=0, atol=1e-10)
    assert [run.settings.options["blend"] for run in stacked] == [0.1, 0.9]
