"""ERM told the groups in the two plainest ways: drawing them evenly, and weighting them evenly.

Both have the same expected gradient, the mean over groups of each group's mean loss, and are the part of Group DRO that
is not its weights: what Group DRO gains over these rows is its own (Idrissi et al. 2022, "Simple data balancing
achieves competitive worst-group-accuracy", CLeaR, whose RWG and SUBG they are kin to).
"""

from __future__ import annotations

from torch import Tensor

from despur.backbones.heads import Heads
from despur.mitigate.batch import Batch
from despur.mitigate.batches import group_balanced
from despur.mitigate.methods.erm import cross_entropies, mean_cross_entropy
from despur.mitigate.methods.method import Method, Start
from despur.mitigate.methods.requirements import needs_every_group

GROUP_SHARES = "group_shares"


def _inverse_sizes(start: Start, heads: Heads) -> dict[str, Tensor]:
    """Memberships over (groups × the group's): weights whose mean over images of one group each is 1."""
    study = start.study
    sizes = study.group_sizes.to(study.class_prompts.dtype)
    return {GROUP_SHARES: sizes.sum() / (study.groups * sizes)}


def _reweighted(batch: Batch) -> Tensor:
    losses = cross_entropies(batch.class_logits, batch.labels)
    weights = (batch.members @ batch.state[GROUP_SHARES].unsqueeze(-1)).squeeze(-1)
    return (losses * weights).mean(-1)


ERM_BALANCED = Method(
    name="erm-balanced",
    title="ERM, group-balanced sampling",
    terms=lambda settings: {"cross_entropy": mean_cross_entropy},
    sampler=group_balanced,
    check=needs_every_group,
    note="given the group labels",
)

ERM_REWEIGHTED = Method(
    name="erm-reweighted",
    title="ERM, reweighted groups",
    terms=lambda settings: {"cross_entropy": _reweighted},
    state=_inverse_sizes,
    check=needs_every_group,
    note="given the group labels",
)
