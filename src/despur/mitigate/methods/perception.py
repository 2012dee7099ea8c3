"""Attribute-conditioned prompts: PerceptionCLIP (An et al. 2024, ICLR).

An image's context z (with the attribute or without it) is inferred by the model itself, and the class under each
context: p(y|x) = Σ_z p(z|x) p(y|x, z). Scores are 1/τ times the cosine with "{class} {context}"; p(z|x) is inferred
with classes (their variant that sums over y) at a temperature that divides those scores, 1 by default.
"""

from __future__ import annotations

from torch import Tensor

from despur.backbones.heads import class_embeddings
from despur.mitigate.methods.method import Method, Option, Start, no_terms, nothing
from despur.mitigate.methods.requirements import needs_one_attribute, needs_vectors
from despur.mitigate.study import Study

TEMPERATURE = "context_temperature"


def _conditioned(start: Start) -> dict[str, Tensor]:
    study = start.study
    contexts = class_embeddings(study.heads, study.group_prompts)
    sharpness = contexts.new_tensor(1 / start.option(TEMPERATURE))
    return {**study.heads, "context.weight": contexts, "context.sharpness": sharpness}


def _needs_vectors(study: Study) -> None:
    needs_one_attribute(study, "perception-clip")
    needs_vectors(study, "perception-clip")


PERCEPTION_CLIP = Method(
    name="perception-clip",
    title="Attribute-conditioned prompts",
    terms=no_terms,
    options={TEMPERATURE: Option(1.0, 0.1, 100.0, least=1e-6)},
    heads=_conditioned,
    trained=nothing,
    check=_needs_vectors,
    note="given the attribute's phrase",
    seeded=False,
)
