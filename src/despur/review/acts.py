"""What people do: each a form that is checked, written down, and answered with the page to see next."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from despur.review.dependencies import Chosen, SessionDep, Who, candidate_of, queue_of
from despur.review.events import Action, now
from despur.review.forms import NAME_COOKIE, Form, NameForm, StrikeForm, VerdictForm, as_cookie, body_of, reads
from despur.review.queue import next_open
from despur.review.safety import same_secret
from despur.review.session import Session
from despur.review.study import key_of

router = APIRouter(default_response_class=Response)


def check(session: Session, form: Form) -> None:
    """Refuse a form that is not from a page of this server."""
    if not same_secret(form.token, session.form_token):
        raise HTTPException(403, "This page is from an earlier start of the server. Reload it and do that again.")


def go(place: str) -> Response:
    """Send the browser on, so that reloading repeats nothing."""
    return RedirectResponse(place, 303)


@router.post("/pairs/{key}/verdict", openapi_extra=body_of(VerdictForm))
def judge(
    session: SessionDep,
    who: Who,
    chosen: Chosen,
    key: str,
    form: Annotated[VerdictForm, Depends(reads(VerdictForm))],
) -> Response:
    """Keep a verdict; the next card follows, or the summary after the last one."""
    check(session, form)
    study = session.study()
    candidate = candidate_of(study, key)
    action = Action(
        kind="verdict",
        who=who,
        at=now(),
        class_name=candidate.class_name,
        attribute=candidate.attribute,
        verdict=form.verdict,
        note=form.note,
    )
    session.add(action, request=form.wish)
    judgements = session.judgements()
    following = next_open(queue_of(study, judgements, chosen, who), judgements, who, after=key)
    return go(chosen.address("/summary" if following is None else f"/pairs/{following.key}"))


@router.post("/pairs/{key}/strikes", openapi_extra=body_of(StrikeForm))
def strike(
    session: SessionDep,
    who: Who,
    chosen: Chosen,
    key: str,
    form: Annotated[StrikeForm, Depends(reads(StrikeForm))],
) -> Response:
    """Say that the detector is wrong about one image, or right after all."""
    check(session, form)
    study = session.study()
    candidate = candidate_of(study, key)
    if form.image not in study.class_rows(candidate.class_name):
        raise HTTPException(404, "The pair has no such image.")
    action = Action(
        kind="strike",
        who=who,
        at=now(),
        class_name=candidate.class_name,
        attribute=candidate.attribute,
        image=study.id_of(form.image),
        struck=form.struck,
    )
    session.add(action, request=form.wish)
    return go(chosen.address(f"/pairs/{key}", image=form.image) + f"#image-{form.image}")


@router.post("/undo", openapi_extra=body_of(Form))
def undo(session: SessionDep, who: Who, chosen: Chosen, form: Annotated[Form, Depends(reads(Form))]) -> Response:
    """Take back this person's newest action, and show what it was about."""
    check(session, form)
    event = session.undo(who, request=form.wish)
    return go(chosen.address("/" if event is None else f"/pairs/{key_of(*event.pair)}"))


@router.post("/name", openapi_extra=body_of(NameForm))
def rename(request: Request, session: SessionDep, form: Annotated[NameForm, Depends(reads(NameForm))]) -> Response:
    """Judge under a name from now on, in this browser."""
    check(session, form)
    answer = go("/")
    answer.set_cookie(NAME_COOKIE, as_cookie(form.name), max_age=365 * 86400, httponly=True, samesite="lax")
    return answer
