"""What a model says of each image, from its features and heads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from despur.backbones.heads import Heads, class_logits

PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("predicted", pa.int32(), nullable=False),
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("margin", pa.float32(), nullable=False),
    ]
)
"""``margin``: the label's logit minus the highest other one; above 0 where the prediction is right."""

PREDICTED_AT_ONCE = 4096
"""Images whose features are on the device together."""


@torch.no_grad()
def predict(
    ids: Sequence[str],
    labels: Int[np.ndarray, "images"],
    batches: Iterable[tuple[range, Tensor]],
    heads: Heads,
    prompts: Float[Tensor, "templates classes d_text"],
) -> pa.Table:
    """The predictions table of one model.

    Args:
        ids, labels: of every image, in the order of the features.
        batches: (rows, features) that cover all images, such as ``FeatureStore.batches`` yields.
        heads: on the device to compute on.
        prompts: the classes' prompts, on that device.
    """
    predicted = np.empty(len(ids), dtype=np.int32)
    margin = np.empty(len(ids), dtype=np.float32)
    for rows, features in batches:
        logits = class_logits(heads, features.to(prompts), prompts)
        span = slice(rows.start, rows.stop)
        own_class = torch.as_tensor(labels[span], device=logits.device).unsqueeze(-1)
        own = logits.gather(-1, own_class)
        rival = logits.scatter(-1, own_class, -torch.inf).amax(-1, keepdim=True)
        predicted[span] = logits.argmax(-1).cpu().numpy()
        margin[span] = (own - rival).squeeze(-1).cpu().numpy()
    return pa.table(
        {
            "id": ids,
            "label": labels.astype(np.int32),
            "predicted": predicted,
            "correct": predicted == labels,
            "margin": margin,
        },
        schema=PREDICTIONS_SCHEMA,
    )
