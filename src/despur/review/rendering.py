"""Makes a page of a template, with what every page shows."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Any

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from despur.review import view
from despur.review.dependencies import session_of, who_asks


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
    made.filters.update(percent=view.percent, points=view.points, q=view.q_text)
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
            busy=session.workspace.in_use_by(),
            workspace=str(session.workspace.root),
            here=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            **values,
        )
    )
    # A file name that was not UTF-8 shows its stray bytes as escapes.
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)
