"""Whatever the page's own schema allows to be asked, and much that it does not, is answered in time; nothing breaks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from despur.review.study import key_of

from .conftest import BOTTLE, PACIFIER, OpenReview

pytestmark = pytest.mark.usefixtures("within_a_gigabyte")

KEYS = (key_of(PACIFIER, "baby"), key_of(BOTTLE, "table"))
QUICK = settings(
    max_examples=10,
    deadline=timedelta(seconds=5),
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

OPERATIONS = {
    "/": "get",
    "/pairs/{key}": "get",
    "/pairs/{key}/images": "get",
    "/summary": "get",
    "/history": "get",
    "/thumbnails/{row}": "get",
    "/images/{row}": "get",
    "/boxes/{key}/{row}": "get",
    "/maps/{row}": "get",
    "/pairs/{key}/verdict": "post",
    "/pairs/{key}/strikes": "post",
    "/undo": "post",
    "/name": "post",
}


def test_every_page_of_the_schema_is_asked(open_review: OpenReview) -> None:
    paths = open_review().client.get("/openapi.json").json()["paths"]
    assert {path: next(iter(methods)) for path, methods in paths.items()} == OPERATIONS


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", OPERATIONS)
def test_nothing_that_is_asked_breaks_the_page(
    path: str, mode: GenerationMode, work: Path, open_review: OpenReview
) -> None:
    opened = open_review()
    schema = schemathesis.openapi.from_dict(opened.client.get("/openapi.json").json())
    schema.app = opened.client.app
    schema.config.update(base_url="http://127.0.0.1:8000")
    operation = schema[path][OPERATIONS[path]]
    statuses: list[int] = []

    @QUICK
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans(), key=st.sampled_from(KEYS))
    def ask(case: schemathesis.Case, known: bool, key: str) -> None:
        # Nobody guesses a pair's key or the server's token; half of the requests hold them, and get further.
        if known and "key" in case.path_parameters:
            case.path_parameters["key"] = key
        if known and isinstance(case.body, dict):
            case.body["token"] = opened.session.form_token
        answer = case.call()
        statuses.append(answer.status_code)
        assert answer.status_code < 500, answer.text

    ask()
    assert statuses
