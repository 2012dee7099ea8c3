"""ERM as a linear probe: logistic regression on features, without the text side (METHOD section 2, baselines)."""

from __future__ import annotations

from torch import Tensor

from despur.backbones.heads import Heads, class_logits
from despur.errors import ModelError
from despur.mitigate.batch import Batch
from despur.mitigate.methods.erm import cross_entropies
from despur.mitigate.methods.method import Method
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Study


def _zero_probe(study: Study) -> dict[str, Tensor]:
    """A probe that knows nothing yet, beside the heads that the model came with (explanations go through those)."""
    features = study.train.features
    if features.ndim != 2:
        raise ModelError(
            "a linear probe needs one feature vector an image, and these features are maps",
            where="erm-probe",
            now="embed again with trainable='projection'",
        )
    weight = features.new_zeros(len(study.classes), features.shape[1])
    return {**study.heads, "probe.weight": weight, "probe.bias": weight.new_zeros(len(study.classes))}


def _probe(batch: Batch) -> Tensor:
    return cross_entropies(class_logits(batch.heads, batch.features, batch.study.class_prompts), batch.labels).mean(-1)


def _probe_only(heads: Heads, settings: TrainSettings) -> list[str]:
    return ["probe.weight", "probe.bias"]


ERM_PROBE = Method(
    name="erm-probe",
    title="ERM, linear probe",
    terms=lambda settings: {"cross_entropy": _probe},
    settings=TrainSettings(learning_rate=1e-3, weight_decay=1e-4),
    heads=_zero_probe,
    trained=_probe_only,
)
"""It starts from zero and not from a trained head, so its learning rate is that of a classifier, not of fine-tuning."""
