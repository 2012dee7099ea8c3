"""What every request is read for: the open review, who asks, under which filter, and which pair."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Query, Request

from despur.review import view
from despur.review.forms import NAME_COOKIE, name_in
from despur.review.judgements import Judgements
from despur.review.queue import Filter, Queue, make_queue
from despur.review.session import Session
from despur.review.study import Candidate, Study


def session_of(request: Request) -> Session:
    """What the server holds."""
    return request.app.state.session


def who_asks(request: Request) -> str:
    """The person's name: what their browser holds, or the server's own user."""
    return name_in(request.cookies.get(NAME_COOKIE)) or session_of(request).name


SessionDep = Annotated[Session, Depends(session_of)]
Who = Annotated[str, Depends(who_asks)]
Chosen = Annotated[Filter, Query()]


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
