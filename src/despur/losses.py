"""The paper's losses for a training loop of one's own: functions of unit embeddings, with gradients for all of them.

Nothing here needs a workspace, a method or a trainer. ``inverse_temperature`` is 1/τ: a number, or a tensor of no
dimensions (or one value a run) where it is trained too. Embeddings may carry leading dimensions of runs, and a loss is
one value a run. A model's own layers, all of them or its projections alone, may be what is trained.
"""

from despur.mitigate.losses import (
    clip_loss,
    clip_loss_of_class_texts,
    contrastive_image_loss,
    contrastive_language_loss,
    cross_group_similarity,
    similarities,
    spurious_image_loss,
    spurious_language_loss,
)

__all__ = [
    "clip_loss",
    "clip_loss_of_class_texts",
    "contrastive_image_loss",
    "contrastive_language_loss",
    "cross_group_similarity",
    "similarities",
    "spurious_image_loss",
    "spurious_language_loss",
]
