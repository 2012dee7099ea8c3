"""A small network on frozen embeddings: by ERM, and by contrastive adapting (Zhang and Ré 2022, NeurIPS).

The adapter is one hidden layer of 128 with ReLU after the projection, which is frozen with all else; its outcome
takes the embedding's place. Their batch normalisation is left out: with it an image's class would hang on running
statistics.

*Contrastive adapting.* Anchors are images that the pre-trained model gets wrong; an anchor's positives are images of
its class that the model gets right, its negatives images of other classes. For a positive p and negatives N, ``-log(
exp(s_p / t) / (exp(s_p / t) + sum over N of exp(s / t)) )``, s being cosines of adapted embeddings and t = 0.1, is
averaged over positives. Beside it stands cross-entropy, and images are drawn evenly over the cells (class, predicted
class): the groups that the pre-trained model's errors suggest. Their code draws 2,048 positives and the nearest
negatives for each anchor and takes the two losses in turn; here both see what is in the batch.
"""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from despur.backbones.heads import Heads
from despur.mitigate.batch import Batch
from despur.mitigate.batches import DRAW_WEIGHTS
from despur.mitigate.methods.erm import mean_cross_entropy
from despur.mitigate.methods.method import Method, Start
from despur.mitigate.methods.requirements import needs_vectors
from despur.mitigate.settings import TrainSettings
from despur.mitigate.validation import predicted_classes

HIDDEN = 128
TEMPERATURE = 0.1
CORRECT = "zero_shot_correct"


def _new_adapter(start: Start) -> dict[str, Tensor]:
    """The pre-trained heads and an adapter as torch's linear layers begin: uniform within 1 / √inputs."""
    needs_vectors(start.study, "an adapter")
    like = start.study.heads["image.weight"]
    dim = like.shape[0]

    def uniform(inputs: int, *shape: int) -> Tensor:
        drawn = torch.rand(*shape, generator=start.generator, dtype=torch.float64)
        return ((2 * drawn - 1) / sqrt(inputs)).to(like)

    return {
        **start.study.heads,
        "adapter.in.weight": uniform(dim, HIDDEN, dim),
        "adapter.in.bias": uniform(dim, HIDDEN),
        "adapter.out.weight": uniform(HIDDEN, dim, HIDDEN),
        "adapter.out.bias": uniform(HIDDEN, dim),
    }


def _adapter_only(heads: Heads, settings: TrainSettings) -> list[str]:
    return [name for name in heads if name.startswith("adapter.")]


def contrastive_adapter_loss(
    cosines: Float[Tensor, "*runs images images"],
    labels: Int[Tensor, "*runs images"],
    correct: Bool[Tensor, "*runs images"],
    temperature: float = TEMPERATURE,
) -> Float[Tensor, "*runs"]:
    """Mean over anchors and their positives of the loss above; 0 where no anchor has a positive.

    Args:
        cosines: of the adapted embeddings.
        correct: whether the pre-trained model gets each image right.
    """
    scores = cosines / temperature
    same = labels.unsqueeze(-1) == labels.unsqueeze(-2)
    negatives = scores.masked_fill(same, -torch.inf).logsumexp(-1, keepdim=True)
    losses = torch.logaddexp(scores, negatives.clamp(min=torch.finfo(scores.dtype).min)) - scores
    positives = (same & ~correct.unsqueeze(-1) & correct.unsqueeze(-2)).to(scores.dtype)
    counts = positives.sum(-1)
    of_anchor = (losses * positives).sum(-1) / counts.clamp(min=1)
    return of_anchor.sum(-1) / (counts > 0).sum(-1).clamp(min=1)


def _judged(start: Start, heads: Heads) -> dict[str, Tensor]:
    study = start.study
    pretrained = {name: head.unsqueeze(0) for name, head in study.heads.items() if head.is_floating_point()}
    predicted = predicted_classes(pretrained, study.train.features, study.class_prompts)[0]
    count = len(study.classes)
    cells = study.train.labels * count + predicted
    sizes = torch.bincount(cells, minlength=count * count)
    weights = (1 / sizes[cells]).to(study.class_prompts.dtype)
    return {DRAW_WEIGHTS: weights, CORRECT: predicted == study.train.labels}


def _contrast(batch: Batch) -> Tensor:
    embedded = F.normalize(batch.images, dim=-1)
    correct = batch.state[CORRECT].gather(-1, batch.rows)
    return contrastive_adapter_loss(embedded @ embedded.mT, batch.labels, correct)


_SETTINGS = TrainSettings(learning_rate=1e-3, weight_decay=5e-5, epochs=100)

ERM_ADAPTER = Method(
    name="erm-adapter",
    title="ERM, MLP adapter",
    terms=lambda settings: {"cross_entropy": mean_cross_entropy},
    settings=_SETTINGS,
    heads=_new_adapter,
    trained=_adapter_only,
)

CONTRASTIVE_ADAPTER = Method(
    name="contrastive-adapter",
    title="Contrastive adapter",
    terms=lambda settings: {"contrast": _contrast, "cross_entropy": mean_cross_entropy},
    settings=_SETTINGS,
    heads=_new_adapter,
    trained=_adapter_only,
    state=_judged,
)
