"""The review page as an ASGI application: pages on one side, what people do on the other, and plain refusals."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from despur.data.images import UnreadableImage
from despur.errors import DespurError
from despur.review import acts, images, pages
from despur.review.rendering import render
from despur.review.safety import LOOPBACK_NAMES, Guard
from despur.review.session import Session, StaleError
from despur.review.store import StoreBusyError


def create_app(session: Session, *, hosts: Collection[str] = LOOPBACK_NAMES, token: str | None = None) -> FastAPI:
    """The application over one open review.

    Args:
        hosts: names under which it may be asked for.
        token: see :class:`despur.review.safety.Guard`.
    """
    # The framework's own documentation pages load scripts from elsewhere; the schema itself does not.
    app = FastAPI(title="despur review", docs_url=None, redoc_url=None)
    app.state.session = session
    for module in (pages, acts, images):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(packages=[("despur.review", "static")]), name="static")
    app.add_exception_handler(DespurError, _refuse_problem)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_values)
    app.add_middleware(Guard, hosts=hosts, token=token)
    return app


def _refuse(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    title = {404: "There is nothing here", 403: "That was refused"}.get(problem.status_code, "That did not work")
    return render(
        request, "problem.html.j2", status=problem.status_code, title=title, what=str(problem.detail), now=None
    )


def _refuse_values(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    first = problem.errors()[0]
    what = f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"
    return render(request, "problem.html.j2", status=422, title="That address means nothing", what=what, now=None)


def _refuse_problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, DespurError)
    if isinstance(problem, UnreadableImage):
        return Response("This image cannot be read.", 404, media_type="text/plain")
    title = "The workspace cannot be reviewed now"
    if isinstance(problem, StaleError):
        title = "The ranking is out of date"
    elif isinstance(problem, StoreBusyError):
        title = "The verdicts are locked"
    place = "" if problem.where is None else f"{problem.where}: "
    return render(request, "problem.html.j2", status=503, title=title, what=f"{place}{problem.what}.", now=problem.now)
