"""Pictures, asked for by an image's row in the workspace's own table: no address holds a path."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from starlette.responses import Response

from despur.data.images import read_image
from despur.review.dependencies import SessionDep, candidate_of
from despur.review.pictures import ENLARGED, boxes_svg, jpeg, upright_size
from despur.review.session import Session

router = APIRouter(default_response_class=Response)

Row = Annotated[int, Path(ge=0, le=2**62)]

KEPT = {"cache-control": "private, max-age=3600"}
"""Addresses hold the study's version, so that what a browser keeps is never of another ranking."""


def _known(session: Session, row: int) -> int:
    if row >= len(session.study().dataset):
        raise HTTPException(404, "The workspace has no such image.")
    return row


@router.get("/thumbnails/{row}")
def thumbnail(session: SessionDep, row: Row) -> Response:
    """An image in small, made when it is first asked for."""
    photograph = session.study().path_of(_known(session, row))
    return Response(session.thumbnails.get(photograph), media_type="image/jpeg", headers=KEPT)


@router.get("/images/{row}")
def photograph(session: SessionDep, row: Row) -> Response:
    """An image as large as the page shows one."""
    image = read_image(session.study().path_of(_known(session, row)))
    return Response(jpeg(image, ENLARGED), media_type="image/jpeg", headers=KEPT)


@router.get("/boxes/{key}/{row}")
def boxes(session: SessionDep, key: str, row: Row) -> Response:
    """Where the detector saw a pair's attribute."""
    study = session.study()
    seen = study.boxes(candidate_of(study, key), _known(session, row))
    text = boxes_svg(upright_size(study.path_of(row)), seen.tolist())
    return Response(text, media_type="image/svg+xml", headers=KEPT)


@router.get("/maps/{row}")
def explanation_map(session: SessionDep, row: Row) -> Response:
    """Where the model looks for the image's own class."""
    if session.maps is None:
        raise HTTPException(404, "This review was started without explanation maps.")
    return Response(jpeg(session.maps(_known(session, row)), ENLARGED), media_type="image/jpeg", headers=KEPT)
