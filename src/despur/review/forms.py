"""What browsers send: forms, read by hand (no parser of files is needed) and checked before anything uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from despur.review.events import Name, Note, Text, Verdict, person_name

LARGEST_FORM = 32 << 10
"""Bytes."""

NAME_COOKIE = "despur-name"

Wish = Annotated[Text, Field(min_length=1, max_length=64)]
"""Names one press of a button, so that sending it again changes nothing."""


class Form(BaseModel):
    """What every form holds.

    Attributes:
        token: the server's own, which another site's page cannot know.
        wish: see :data:`Wish`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    token: Text
    wish: Wish | None = None


class VerdictForm(Form):
    """A verdict and a note on a pair."""

    verdict: Verdict
    note: Note = ""


class StrikeForm(Form):
    """``image``: the image's row; ``struck``: whether the detector is wrong about it."""

    image: Annotated[int, Field(ge=0, le=2**62)]
    struck: bool = True


class NameForm(Form):
    """What a person wants to be called."""

    name: Name


F = TypeVar("F", bound=Form)


def reads(kind: type[F]) -> Callable[[Request], Any]:
    """A dependency that reads one kind of form.

    Its request fails with 415, 413 or 422 where the body is not such a form.
    """

    async def read(request: Request) -> F:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/x-www-form-urlencoded":
            raise HTTPException(415, "Send a form (application/x-www-form-urlencoded).")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_FORM:
                raise HTTPException(413, "That is too long.")
        try:
            fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=50)
            return kind.model_validate(dict(fields))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise HTTPException(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        except ValueError as error:
            raise HTTPException(422, "That is not a form.") from error

    return read


def body_of(kind: type[Form]) -> dict[str, Any]:
    """What the page's schema says of a route that reads such a form."""
    content = {"application/x-www-form-urlencoded": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def as_cookie(name: str) -> str:
    """A name as a cookie can hold it."""
    return quote(name, safe="")


def name_in(cookie: str | None) -> str | None:
    """The name that a cookie holds; None where it holds none that could be one."""
    return person_name(unquote(cookie or ""))
