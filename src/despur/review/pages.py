"""The pages that are looked at: the queue, a card, the summary and the history."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from despur.review import view
from despur.review.agreement import agreements, disagreements
from despur.review.forms import NAME_COOKIE, name_in
from despur.review.judgements import Judgements, Outcome, Pair
from despur.review.queue import Filter, Queue, make_queue, neighbours, next_open
from despur.review.session import Session
from despur.review.study import Candidate, Study

router = APIRouter(default_response_class=HTMLResponse)

PAGE = 100
"""Rows of a list on one page."""


def session_of(request: Request) -> Session:
    """What the server holds."""
    return request.app.state.session


def who_asks(request: Request) -> str:
    """The person's name: what their browser holds, or the server's own user."""
    return name_in(request.cookies.get(NAME_COOKIE)) or session_of(request).name


SessionDep = Annotated[Session, Depends(session_of)]
Who = Annotated[str, Depends(who_asks)]
Chosen = Annotated[Filter, Query()]


@cache
def environment() -> Environment:
    """Templates that escape whatever they are given and refuse a name that is not there."""
    made = Environment(
        loader=PackageLoader("despur.review"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=view.percent, points=view.points, q=view.rate_text)
    return made


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page; every one knows who judges, and which process works on the workspace now."""
    session = session_of(request)
    text = (
        environment()
        .get_template(template)
        .render(
            who=who_asks(request),
            form_token=session.form_token,
            wish=secrets.token_urlsafe(12),
            busy=session.user_of_workspace(),
            workspace=str(session.workspace.root),
            here=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            **values,
        )
    )
    # A file name that was not UTF-8 shows its stray bytes as escapes.
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)


def candidate_of(study: Study, key: str) -> Candidate:
    """The pair that an address names.

    Raises:
        HTTPException: 404 where the ranking holds none.
    """
    candidate = study.by_key.get(key)
    if candidate is None:
        raise HTTPException(404, "The ranking holds no such pair; it may have been made again. Go back to the queue.")
    return candidate


def queue_of(study: Study, judgements: Judgements, chosen: Filter, who: str) -> Queue:
    """What the filter leaves, as this person sees it."""
    return make_queue(view.relisted(study, judgements), chosen, judgements, who)


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
        first=(page - 1) * PAGE,
        following=next_open(queue, judgements, who),
        judgements=judgements,
        classes=study.dataset.classes,
    )


@router.get("/pairs/{key}")
def show_card(request: Request, session: SessionDep, who: Who, chosen: Chosen, key: str) -> Response:
    """One pair."""
    study, judgements = session.study(), session.judgements()
    candidate = candidate_of(study, key)
    queue = queue_of(study, judgements, chosen, who)
    before, after = neighbours(queue, key)
    card = view.make_card(study, candidate, judgements, who)
    strips = {
        side: view.shots(study, candidate, judgements, view.rows_from(rows, 0))
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
