"""ERM as a linear probe: logistic regression on features, without the text side (METHOD section 2, baselines)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads, class_logits
from despur.mitigate.batch import Batch
from despur.mitigate.methods.erm import cross_entropies
from despur.mitigate.methods.method import Method, Start
from despur.mitigate.methods.requirements import needs_vectors
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Study


def zero_probe(start: Start) -> dict[str, Tensor]:
    """A probe that knows nothing yet, beside the heads that the model came with.

    Raises:
        ModelError: the training images' features are maps.
    """
    study = start.study
    needs_vectors(study, "a linear probe")
    weight = study.class_prompts.new_zeros(len(study.classes), study.train.features.shape[1])
    return with_probe(study, weight, weight.new_zeros(len(study.classes)))


def with_probe(
    study: Study, weight: Float[Tensor, "classes d_image"], bias: Float[Tensor, "classes"]
) -> dict[str, Tensor]:
    """Heads that classify by a probe."""
    return {**study.heads, "probe.weight": weight, "probe.bias": bias}


def probe_losses(batch: Batch) -> Float[Tensor, "runs images"]:
    """Each image's cross-entropy under the probe."""
    return cross_entropies(class_logits(batch.heads, batch.features, batch.study.class_prompts), batch.labels)


def _probe(batch: Batch) -> Tensor:
    return probe_losses(batch).mean(-1)


def probe_only(heads: Heads, settings: TrainSettings) -> list[str]:
    """The probe, and none of the projections."""
    return ["probe.weight", "probe.bias"]


ERM_PROBE = Method(
    name="erm-probe",
    title="ERM, linear probe",
    terms=lambda settings: {"cross_entropy": _probe},
    settings=TrainSettings(learning_rate=1e-3, weight_decay=1e-4),
    heads=zero_probe,
    trained=probe_only,
)
"""It starts from zero and not from a trained head, so its learning rate is that of a classifier, not of fine-tuning."""
