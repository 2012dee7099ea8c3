"""The pages that are looked at: the queue, a card, the summary and the history."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from despur.review import view
from despur.review.agreement import agreements, disagreements
from despur.review.dependencies import Chosen, SessionDep, Who, candidate_of, queue_of
from despur.review.judgements import Outcome, Pair
from despur.review.queue import neighbours, next_open
from despur.review.rendering import render

router = APIRouter(default_response_class=HTMLResponse)

PAGE = 100
"""Rows of a list on one page."""


@router.get("/")
def show_queue(
    request: Request,
    session: SessionDep,
    who: Who,
    chosen: Chosen,
    page: Annotated[int, Query(ge=1, le=10**6)] = 1,
) -> Response:
    """The list of cards, and where to go on."""
    study, judgements = session.study(), session.judgements()
    queue = queue_of(study, judgements, chosen, who)
    listed = queue.listed[(page - 1) * PAGE : page * PAGE]
    return render(
        request,
        "queue.html.j2",
        queue=queue,
        chosen=chosen,
        listed=listed,
        page=page,
        pages=max(1, -(-len(queue.listed) // PAGE)),
        following=next_open(queue, judgements, who),
        judgements=judgements,
        classes=study.dataset.classes,
    )


@router.get("/pairs/{key}")
def show_card(
    request: Request,
    session: SessionDep,
    who: Who,
    chosen: Chosen,
    key: str,
    image: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> Response:
    """One pair; its strips reach as far as ``image``, the one that was just struck out."""
    study, judgements = session.study(), session.judgements()
    candidate = candidate_of(study, key)
    queue = queue_of(study, judgements, chosen, who)
    before, after = neighbours(queue, key)
    card = view.make_card(study, candidate, judgements, who)
    strips = {
        side: view.shots(study, candidate, judgements, view.rows_up_to(rows, image))
        for side, rows in (("with", card.with_it), ("without", card.without))
    }
    return render(
        request,
        "card.html.j2",
        card=card,
        strips=strips,
        totals={"with": len(card.with_it), "without": len(card.without)},
        queue=queue,
        chosen=chosen,
        before=before,
        after=after,
        version=study.version,
        mapped=session.maps is not None,
        undoable=judgements.undoable(who),
    )


@router.get("/pairs/{key}/images")
def show_more(
    request: Request,
    session: SessionDep,
    who: Who,
    chosen: Chosen,
    key: str,
    strip: Literal["with", "without"] = "with",
    start: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Response:
    """More images of a strip, to be added to it; on their own they are a page too."""
    study, judgements = session.study(), session.judgements()
    candidate = candidate_of(study, key)
    with_it, without = study.strips(candidate)
    images = with_it if strip == "with" else without
    rows = view.rows_from(images, start)
    return render(
        request,
        "more.html.j2",
        candidate=candidate,
        chosen=chosen,
        strip=strip,
        shots=view.shots(study, candidate, judgements, rows),
        next_start=start + len(rows) if start + len(rows) < len(images) else None,
        version=study.version,
        mapped=session.maps is not None,
    )


@router.get("/summary")
def show_summary(request: Request, session: SessionDep, who: Who, chosen: Chosen) -> Response:
    """What was decided, how far people agree, and the command that follows."""
    study, judgements = session.study(), session.judgements()
    queue = queue_of(study, judgements, chosen, who)
    outcomes: dict[Pair, Outcome | None] = {pair: judgements.outcome(pair) for pair in judgements.judged()}
    attributes = [attribute.name for attribute in study.dataset.attributes]
    return render(
        request,
        "summary.html.j2",
        queue=queue,
        chosen=chosen,
        outcomes=outcomes,
        judgements=judgements,
        by_pair={candidate.pair: candidate for candidate in study.candidates},
        agreements=agreements(judgements),
        disagreements=disagreements(judgements),
        unnamed=attributes if len(attributes) > 1 and judging_attribute(outcomes, attributes) is None else [],
        command=mitigate_command(str(session.workspace.root), outcomes, attributes),
        export=shlex.join(["despur", "verdicts", "export", "verdicts.csv", "-w", str(session.workspace.root)]),
    )


def mitigate_command(root: str, outcomes: Mapping[Pair, Outcome | None], attributes: Sequence[str]) -> str | None:
    """What repairs every pair that all its judges call spurious, in one training; None: there is none.

    Args:
        attributes: the dataset's own.
    """
    if "spurious" not in outcomes.values():
        return None
    attribute = judging_attribute(outcomes, attributes)
    judged_by = [] if attribute is None else ["--attribute", attribute]
    return shlex.join(["despur", "mitigate", "-w", root, "--groups", "verdicts", *judged_by, "--tune", "16"])


def judging_attribute(outcomes: Mapping[Pair, Outcome | None], attributes: Sequence[str]) -> str | None:
    """Where a dataset has several attributes, one of them that is judged spurious, by which to judge the runs.

    None where it has fewer (no choice is asked for), or none of them is judged spurious.
    """
    spurious = [attribute for (_, attribute), outcome in outcomes.items() if outcome == "spurious"]
    own = [attribute for attribute in spurious if attribute in attributes]
    return own[0] if own and len(attributes) > 1 else None


@router.get("/history")
def show_history(
    request: Request, session: SessionDep, who: Who, page: Annotated[int, Query(ge=1, le=10**6)] = 1
) -> Response:
    """Everything that anyone did, the newest first."""
    judgements = session.judgements()
    newest = judgements.events[::-1]
    return render(
        request,
        "history.html.j2",
        events=newest[(page - 1) * PAGE : page * PAGE],
        judgements=judgements,
        page=page,
        pages=max(1, -(-len(newest) // PAGE)),
    )
