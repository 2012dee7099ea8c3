"""Who may ask, from where, and for what."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from urllib.parse import quote

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from despur.errors import SettingsError
from despur.review.safety import allows_host, is_cross_site, is_loopback, same_secret
from despur.review.serve import bind
from despur.review.study import key_of
from despur.workspace import StageRecord

from .conftest import PACIFIER, Open, OpenReview

KEY = key_of(PACIFIER, "baby")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "LocalHost:1", "[::1]:8000", "localhost."])
def test_names_of_this_machine_are_answered(host: str, review: Open) -> None:
    assert review.client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost:x", "[::1"]
)
def test_a_name_that_was_pointed_here_is_not(host: str, review: Open) -> None:
    assert review.client.get("/", headers={"host": host}).status_code in (400, 421)
    assert not allows_host(host, {"127.0.0.1", "localhost", ""})


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
    ],
)
def test_a_form_from_another_sites_page_changes_nothing(headers: dict[str, str], review: Open) -> None:
    answer = review.client.post(f"/pairs/{KEY}/verdict", data=review.form(verdict="spurious"), headers=headers)
    assert answer.status_code == 403
    assert review.session.store.events() == []


def test_a_form_from_our_own_page_is_taken(review: Open) -> None:
    headers = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    review.client.post(f"/pairs/{KEY}/verdict", data=review.form(verdict="spurious"), headers=headers)
    assert len(review.session.store.events()) == 1
    assert not is_cross_site({"host": "127.0.0.1:8000"}, "http")


@pytest.mark.parametrize("path", [f"/pairs/{KEY}/verdict", f"/pairs/{KEY}/strikes", "/undo", "/name"])
def test_a_form_without_this_servers_token_is_refused(path: str, review: Open) -> None:
    fields = {"verdict": "spurious", "image": "0", "name": "Eve", "token": "guessed"}
    assert review.client.post(path, data=fields).status_code == 403
    assert review.session.store.events() == []


@pytest.mark.parametrize("path", [f"/pairs/{KEY}/verdict", "/undo"])
def test_only_forms_of_a_sane_size_are_read(path: str, review: Open) -> None:
    assert review.client.post(path, json=review.form(verdict="spurious")).status_code == 415
    assert review.client.post(path, data=review.form(verdict="spurious", note="x" * 50_000)).status_code == 413
    assert review.client.post(path, data={str(n): "x" for n in range(60)}).status_code == 422


def test_elsewhere_the_page_asks_for_its_token_once(open_review: OpenReview) -> None:
    client = open_review(token="the-secret").client
    assert client.get("/").status_code == 401
    assert client.get("/thumbnails/0").status_code == 401
    assert client.get("/static/review.js").status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    entered = client.get("/summary?token=the-secret&side=all")
    assert entered.status_code == 200
    assert str(entered.url) == "http://127.0.0.1:8000/summary?side=all"
    assert client.get("/").status_code == 200


def test_odd_cookies_of_other_servers_under_the_same_name_do_not_hide_the_token(open_review: OpenReview) -> None:
    client = open_review(token="the-secret").client
    cookies = 'theme={"dark": true}; a[b]=1; despur-token=the-secret; q="'
    assert client.get("/", headers={"cookie": cookies}).status_code == 200
    assert client.get("/", headers={"cookie": cookies.replace("secret", "guess")}).status_code == 401


def test_the_token_never_leads_to_another_site(open_review: OpenReview) -> None:
    client = open_review(token="the-secret").client
    answer = client.get("//evil.example/?token=the-secret", follow_redirects=False)
    assert not answer.headers.get("location", "/").startswith("//")


def test_a_token_in_other_letters_is_compared_and_not_the_same() -> None:
    assert same_secret("abc", "abc")
    assert not same_secret("äbc\ud800", "abc")


def test_on_this_machine_alone_there_is_no_token_and_elsewhere_a_long_one() -> None:
    near, far = bind("127.0.0.1"), bind("0.0.0.0")
    try:
        assert near.token is None
        assert near.url.startswith("http://127.0.0.1:")
        assert far.token is not None
        assert len(far.token) >= 40
        assert far.url.endswith(f"?token={far.token}")
    finally:
        near.listener.close()
        far.listener.close()
    assert [is_loopback(host) for host in ("::1", "127.8.0.1", "0.0.0.0", "example.org")] == [True, True, False, False]


def test_a_server_on_every_address_prints_one_that_can_be_opened() -> None:
    for everywhere in ("", "0.0.0.0"):
        place = bind(everywhere)
        place.listener.close()
        assert place.url.startswith(f"http://{socket.gethostname()}:")


@pytest.mark.parametrize("host", ["ü..example", "ü" * 70])
def test_a_host_that_is_no_name_is_refused_in_a_sentence(host: str) -> None:
    with pytest.raises(SettingsError, match="--host"):
        bind(host)


def test_a_port_that_is_taken_is_named() -> None:
    first = bind("127.0.0.1")
    first.listener.listen()
    with pytest.raises(SettingsError, match="--port"):
        bind("127.0.0.1", first.listener.getsockname()[1])
    first.listener.close()


@pytest.mark.parametrize(
    "path",
    [
        "/images/../../etc/passwd",
        "/images/..%2f..%2fetc%2fpasswd",
        "/thumbnails/%2e%2e%2fworkspace.json",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        f"/images/{quote('/etc/passwd', safe='')}",
        "/images/-1",
        "/images/99999",
        "/images/1e3",
        "/thumbnails/999999999999999999999999",
        f"/boxes/{KEY}/99999",
        "/boxes/nothing/0",
    ],
)
def test_no_address_leads_out_of_the_workspaces_own_images(path: str, review: Open) -> None:
    assert review.client.get(path).status_code in (404, 422)


def test_a_photograph_that_is_gone_is_not_found_and_the_card_stays(review: Open) -> None:
    study = review.session.study()
    study.dataset = study.dataset.rows(study.labels >= 0)
    object.__setattr__(study.dataset, "root", Path("/nowhere"))
    for path in ("/thumbnails/0", "/images/0", f"/boxes/{KEY}/0"):
        assert review.client.get(path).status_code == 404
    assert review.client.get(f"/pairs/{KEY}").status_code == 200


@pytest.mark.parametrize(
    "path", ["/", f"/pairs/{KEY}", "/summary", "/history", "/nothing", "/thumbnails/0", "/static/style.css"]
)
def test_every_answer_forbids_to_load_anything_from_elsewhere(path: str, review: Open) -> None:
    headers = review.client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_no_page_names_another_site(review: Open) -> None:
    for path in ("/", f"/pairs/{KEY}", "/summary", "/history", "/static/style.css", "/static/review.js"):
        assert "//" not in review.client.get(path).text.replace("// ", "").replace("/work//", "")


def test_a_ranking_that_is_older_than_its_inputs_gives_a_page_that_says_so(review: Open) -> None:
    assert review.client.get("/").status_code == 200
    review.workspace.save_record(
        "predict", StageRecord(settings={}, inputs="predicted again", versions={}, seed=None, seconds=1.0)
    )
    for path in ("/", f"/pairs/{KEY}", "/thumbnails/0"):
        answer = review.client.get(path)
        assert answer.status_code == 503
        assert "The ranking is out of date" in answer.text
        assert f"despur rank -w {review.workspace.root}" in answer.text
    judged = review.client.post(f"/pairs/{KEY}/verdict", data=review.form(verdict="spurious"))
    assert judged.status_code == 503
    assert review.session.store.events() == []


def test_a_workspace_that_was_never_ranked_says_what_to_run(review: Open) -> None:
    review.workspace.forget("rank")
    answer = review.client.get("/")
    assert answer.status_code == 503
    assert "nothing is ranked yet" in answer.text
    assert f"run: despur rank -w {review.workspace.root}" in answer.text


def test_a_ranking_whose_table_is_gone_is_named(review: Open) -> None:
    review.workspace.path("discrepancies.parquet").unlink()
    answer = review.client.get("/")
    assert answer.status_code == 503
    assert "discrepancies.parquet" in answer.text


def test_a_workspace_that_is_gone_says_so(review: Open) -> None:
    shutil.rmtree(review.workspace.root)
    answer = review.client.get("/")
    assert answer.status_code == 503
    assert "the workspace is gone" in answer.text


def test_a_workspace_that_another_process_works_on_says_which(review: Open) -> None:
    holder = review.workspace.path(".lock.holder")
    holder.write_text("process 77 on <b>elsewhere</b> (despur)")
    assert "process 77" not in review.client.get("/").text  # left by a process that was killed
    with FileLock(review.workspace.path(".lock")):
        assert "process 77 on &lt;b&gt;elsewhere&lt;/b&gt; (despur)" in review.client.get("/").text


def test_verdicts_that_another_process_keeps_locked_give_a_page_that_says_so(review: Open) -> None:
    import sqlite3

    review.session.store._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(review.session.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = review.client.post(f"/pairs/{KEY}/verdict", data=review.form(verdict="spurious"))
    other.execute("ROLLBACK")
    assert answer.status_code == 503
    assert "The verdicts are locked" in answer.text


ODD = st.one_of(
    st.text(max_size=30),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["", "0", "1", KEY, "with", "without", "spurious", "../..", "\0", "é" * 300, "NaN", "1e400"]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_sent_to_a_route_of_the_schema_no_answer_is_a_failure(data: st.DataObject, review: Open) -> None:
    routes = [
        (path, method, operation)
        for path, operations in review.client.get("/openapi.json").json()["paths"].items()
        for method, operation in operations.items()
    ]
    path, method, operation = data.draw(st.sampled_from(routes))
    fields: dict[str, object] = {}
    query: dict[str, str] = {}
    for parameter in operation.get("parameters", []):
        value = data.draw(ODD)
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", quote(value, safe="") or "x")
        elif data.draw(st.booleans()):
            query[parameter["name"]] = value
    form = operation.get("requestBody", {}).get("content", {}).get("application/x-www-form-urlencoded")
    if form is not None:
        names = form["schema"]["properties"]
        fields = {name: data.draw(ODD) for name in names if data.draw(st.booleans())}
        if data.draw(st.booleans()):
            fields["token"] = review.session.form_token
    answer = review.client.request(method.upper(), path, params=query, data=fields or None, follow_redirects=False)
    assert answer.status_code < 500, (method, path, query, fields)


def test_the_schema_describes_every_form(review: Open) -> None:
    paths = review.client.get("/openapi.json").json()["paths"]
    posts = {path for path, operations in paths.items() if "post" in operations}
    assert posts == {"/pairs/{key}/verdict", "/pairs/{key}/strikes", "/undo", "/name"}
    assert all("requestBody" in paths[path]["post"] for path in posts)
