"""What a person sees, and what follows from what they do."""

from __future__ import annotations

import html
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from starlette.testclient import TestClient

from despur.review.pages import mitigate_command
from despur.review.study import key_of

from .conftest import BOTTLE, HOSTILE, PACIFIER, Open, OpenReview


def text_of(page: str) -> str:
    """A page's text without its tags, spaces as one."""
    body = re.sub(r"<(script|style|title)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"</(td|th|li|p)>", " ", body))).split())


def card(review: Open, class_name: str = PACIFIER, attribute: str = "baby") -> str:
    return review.client.get(f"/pairs/{key_of(class_name, attribute)}").text


def test_the_card_says_in_one_sentence_what_the_numbers_mean(review: Open) -> None:
    said = text_of(card(review))
    assert "Photos of baby pacifier without baby are recognised 30% of the time; with it, 100%." in said
    assert "Without it the model says water bottle." in said
    assert "The same photos also show face; one verdict counts for all." in said


def test_an_attribute_that_hurts_is_told_the_other_way_round(review: Open) -> None:
    assert "with table are recognised 54% of the time; without it, 100%." in text_of(card(review, BOTTLE, "table"))


def test_the_queue_holds_a_card_for_every_group_in_the_order_of_the_ranking(review: Open) -> None:
    page = review.client.get("/").text
    order = [page.index(key_of(*pair)) for pair in ((PACIFIER, "baby"), (HOSTILE, HOSTILE), (BOTTLE, "baby"))]
    assert order == sorted(order)
    assert key_of(PACIFIER, "face") not in page
    assert "0 of 4 judged, about 2 minutes left" in text_of(page)


def test_a_verdict_is_kept_and_answered_with_the_next_card(review: Open) -> None:
    answer = review.judge(PACIFIER, "baby", "spurious", note="nobody needs a baby")
    assert answer.url.path == f"/pairs/{key_of(HOSTILE, HOSTILE)}"
    assert "1 of 4 judged" in text_of(answer.text)
    (event,) = review.session.store.events()
    assert (event.who, event.pair, event.verdict, event.note) == (
        "Ada",
        (PACIFIER, "baby"),
        "spurious",
        "nobody needs a baby",
    )


def test_the_last_verdict_leads_to_the_summary_with_the_command(review: Open) -> None:
    for pair, verdict in (
        ((PACIFIER, "baby"), "spurious"),
        ((HOSTILE, HOSTILE), "healthy"),
        ((BOTTLE, "baby"), "unsure"),
        ((BOTTLE, "table"), "healthy"),
    ):
        answer = review.judge(*pair, verdict)
    assert answer.url.path == "/summary"
    said = text_of(answer.text)
    assert "Everything is judged" in said
    assert f"despur mitigate -w {review.workspace.root} --groups verdicts --tune 16" in said
    assert "needs" not in said  # the dataset has no attribute; its runs are judged by what was detected


def test_the_same_press_sent_twice_is_one_verdict(review: Open) -> None:
    for _ in range(2):
        review.judge(PACIFIER, "baby", "spurious", wish="one press")
    assert len(review.session.store.events()) == 1


def test_undo_shows_the_card_again_as_it_was(review: Open) -> None:
    review.judge(PACIFIER, "baby", "healthy")
    review.judge(PACIFIER, "baby", "spurious")
    answer = review.client.post("/undo", data=review.form())
    assert answer.url.path == f"/pairs/{key_of(PACIFIER, 'baby')}"
    assert "You: Healthy" in text_of(answer.text)
    for _ in "sent", "sent again":
        answer = review.client.post("/undo", data=review.form(wish="one press"))
        assert answer.url.path == f"/pairs/{key_of(PACIFIER, 'baby')}"
    assert review.client.post("/undo", data=review.form()).url.path == "/"
    assert "You:" not in text_of(card(review))
    assert [event.kind for event in review.session.store.events()] == ["verdict", "verdict", "undo", "undo"]


def test_striking_out_a_detection_changes_the_pairs_numbers_and_undo_brings_them_back(review: Open) -> None:
    key = key_of(PACIFIER, "baby")
    answer = review.client.post(f"/pairs/{key}/strikes", data=review.form(image=19, struck=1))
    said = text_of(answer.text)
    assert "33% of the time; with it, 100%." in said  # 7 of 21: the image counts as one without
    assert "19 photos" in said
    assert "21 photos" in said
    assert "1 mistake of the detector counted on the other side" in said
    assert "struck out by Ada" in said
    assert "33% of 21" in text_of(review.client.get("/").text)
    assert "30% of the time" in text_of(review.client.post("/undo", data=review.form()).text)


def test_a_photo_struck_out_far_down_is_on_the_card_that_follows(review: Open) -> None:
    key = key_of(PACIFIER, "baby")
    far = review.client.get(f"/pairs/{key}/images?strip=with&start=12").text
    row = int(re.findall(r'id="image-(\d+)"', far)[0])
    assert f'id="image-{row}"' not in card(review)
    answer = review.client.post(f"/pairs/{key}/strikes?side=all", data=review.form(image=row))
    assert answer.status_code == 200
    assert dict(answer.url.params) == {"side": "all", "image": str(row)}
    assert answer.url.fragment == f"image-{row}"
    assert f'id="image-{row}"' in answer.text
    assert len(re.findall(r'id="image-\d+"', answer.text)) == 20 + 12


def test_an_image_of_another_class_cannot_be_struck_out_of_a_pair(review: Open) -> None:
    key = key_of(PACIFIER, "baby")
    assert review.client.post(f"/pairs/{key}/strikes", data=review.form(image=45)).status_code == 404
    assert review.session.store.events() == []


def test_every_image_is_marked_right_or_wrong_with_what_the_model_said(review: Open) -> None:
    page = text_of(card(review))
    assert page.count("✓ right") == 12  # the strip with
    assert page.count("✗ says water bottle") == 11
    assert "✗ says <script>" in page  # twelve without, one of them called by the hostile name


def test_more_images_come_until_there_are_none(review: Open) -> None:
    key, start, rows = key_of(PACIFIER, "baby"), 0, list[str]()
    while True:
        page = review.client.get(f"/pairs/{key}/images", params={"strip": "without", "start": start}).text
        rows += re.findall(r'id="image-(\d+)"', page)
        following = re.search(r"start=(\d+)", page)
        if following is None:
            break
        start = int(following[1])
    assert sorted(map(int, rows)) == list(range(20, 40))


@pytest.mark.parametrize(
    ("query", "attributes"),
    [
        ({}, {"baby", HOSTILE, "table"}),
        ({"q": "TABLE"}, {"table"}),
        ({"q": "face"}, {"baby"}),
        ({"side": "helps"}, {"baby", HOSTILE}),
        ({"class_name": BOTTLE}, {"baby", "table"}),
        ({"verdict": "spurious"}, {"baby"}),
        ({"verdict": "open"}, {"baby", HOSTILE, "table"}),
        ({"count": 19}, {"baby", "table"}),
        ({"q": "no such thing"}, set[str]()),
    ],
)
def test_filters_and_search_narrow_the_queue(query: dict[str, str], attributes: set[str], review: Open) -> None:
    review.judge(PACIFIER, "baby", "spurious")
    page = review.client.get("/", params=query).text
    listed = {html.unescape(name) for name in re.findall(r'<th scope="row"><a [^>]*><bdi>(.*?)</bdi>', page)}
    assert listed == attributes


def test_a_count_that_was_emptied_asks_for_nothing(review: Open) -> None:
    answer = review.client.get("/", params={"q": "", "side": "shown", "class_name": "", "verdict": "any", "count": ""})
    assert answer.status_code == 200
    assert "4 cards" in text_of(answer.text)


def test_a_class_is_chosen_by_its_name_to_the_letter(review: Open) -> None:
    # Of an option without a value, browsers take the text with its white space folded.
    page = review.client.get("/").text
    assert f'<option value="{PACIFIER}">' in page
    assert re.findall(r"<option>", page) == []


def test_a_long_note_is_measured_as_the_browser_measures_it(review: Open) -> None:
    note = "a\n" * 999 + "ab"
    assert review.judge(PACIFIER, "baby", "spurious", note=note.replace("\n", "\r\n")).status_code == 200
    assert review.session.store.events()[0].note == note


def test_one_card_is_not_called_cards(review: Open) -> None:
    assert "1 card, in the ranking’s order" in text_of(review.client.get("/", params={"q": "TABLE"}).text)


def test_a_filter_stays_from_card_to_card(review: Open) -> None:
    key = key_of(BOTTLE, "baby")
    answer = review.client.post(f"/pairs/{key}/verdict", params={"side": "hurts"}, data=review.form(verdict="healthy"))
    assert answer.url.path == f"/pairs/{key_of(BOTTLE, 'table')}"
    assert answer.url.params["side"] == "hurts"
    assert "1 of 2 judged" in text_of(answer.text)


def test_two_people_see_each_others_verdicts_and_where_they_differ(open_review: OpenReview) -> None:
    ada, bo = open_review(name="Ada"), open_review(name="Bo")
    ada.judge(PACIFIER, "baby", "spurious")
    ada.judge(BOTTLE, "table", "healthy")
    bo.judge(PACIFIER, "baby", "healthy", note="pacifiers are for babies")
    bo.judge(BOTTLE, "table", "healthy")
    said = text_of(card(ada))
    assert "You: Spurious" in said
    assert "Bo: Healthy pacifiers are for babies" in said
    summary = text_of(ada.client.get("/summary").text)
    assert "Ada and Bo 2 1 0.00" in summary
    assert "1 pair is disputed" in summary
    assert "despur mitigate" not in summary


def test_the_command_is_one_for_all_pairs_and_names_an_attribute_where_the_dataset_has_several() -> None:
    outcomes = {("a", "it's"): "spurious", ("b", "water"): "spurious", ("c", "land"): "healthy"}
    command = mitigate_command("/my work", outcomes, ["land", "water"])
    assert command == "despur mitigate -w '/my work' --groups verdicts --attribute water --tune 16"
    assert mitigate_command("w", outcomes, ["water"]) == "despur mitigate -w w --groups verdicts --tune 16"
    assert mitigate_command("w", {("c", "land"): "healthy", ("a", "b"): "disputed"}, []) is None


def test_a_name_is_kept_by_the_browser_that_gave_it(review: Open) -> None:
    strange = 'Zoë <b>; "x" שלום'
    review.client.post("/name", data=review.form(name=strange))
    review.judge(PACIFIER, "baby", "spurious")
    assert review.session.store.events()[0].who == strange
    assert f"Judging as {strange}" in text_of(review.client.get("/").text)


def test_a_name_given_with_spaces_around_it_is_still_one_person(open_review: OpenReview) -> None:
    review = open_review(name=" Ada ")
    review.judge(PACIFIER, "baby", "spurious")
    assert "You: Spurious" in text_of(card(review))
    assert "1 of 4 judged" in text_of(review.client.get("/").text)


def test_what_was_judged_is_there_after_a_restart(open_review: OpenReview) -> None:
    before = open_review()
    before.judge(PACIFIER, "baby", "spurious")
    before.session.store.close()
    assert "1 of 4 judged" in text_of(open_review().client.get("/").text)


def test_eight_browsers_at_once_lose_nothing_and_meet_no_failure(review: Open) -> None:
    pairs = [(PACIFIER, "baby"), (HOSTILE, HOSTILE), (BOTTLE, "baby"), (BOTTLE, "table")]

    def browse(number: int) -> list[int]:
        client = TestClient(review.client.app, base_url="http://127.0.0.1:8000", cookies={"despur-name": str(number)})
        answers = [
            client.post(f"/pairs/{key_of(*pair)}/verdict", data=review.form(verdict=verdict))
            for verdict in ("unsure", "healthy", "spurious")
            for pair in pairs
        ]
        return [answer.status_code for answer in (*answers, client.get("/history"))]

    with ThreadPoolExecutor(8) as pool:
        codes = [code for answers in pool.map(browse, range(8)) for code in answers]
    assert set(codes) == {200}
    events = review.session.store.events()
    assert [event.number for event in events] == list(range(1, 8 * 12 + 1))
    for number in range(8):
        own = [(event.attribute, event.verdict) for event in events if event.who == str(number)]
        assert own == [(pair[1], verdict) for verdict in ("unsure", "healthy", "spurious") for pair in pairs]


def test_the_history_keeps_what_was_taken_back(review: Open) -> None:
    review.judge(PACIFIER, "baby", "spurious", note="first thought")
    review.client.post("/undo", data=review.form())
    said = text_of(review.client.get("/history").text)
    assert "first thought" in said
    assert "Spurious taken back" in said
    assert "took back number 1" in said


def test_names_from_outside_are_shown_as_text(review: Open) -> None:
    review.judge(PACIFIER, "baby", "unsure", note=HOSTILE)
    review.client.post("/name", data=review.form(name=HOSTILE))
    pages = [card(review), card(review, HOSTILE, HOSTILE)]
    pages += [review.client.get(path).text for path in ("/", "/summary", "/history")]
    for page in pages:
        assert re.findall(r"<script\b[^>]*>", page) == ['<script src="/static/review.js" defer>']
        assert "alert(&#39;x&#39;)" in page
        assert not re.search(r"\son\w+=|\sstyle=", page)


def test_thumbnails_are_made_once_and_kept_in_the_workspace(review: Open) -> None:
    first = review.client.get("/thumbnails/3")
    assert first.headers["content-type"] == "image/jpeg"
    (kept,) = review.workspace.path("thumbnails").rglob("*.jpg")
    kept.write_bytes(b"kept as it is")
    assert review.client.get("/thumbnails/3").content == b"kept as it is"


def test_the_box_is_drawn_where_the_detector_put_it(review: Open) -> None:
    drawing = review.client.get(f"/boxes/{key_of(PACIFIER, 'baby')}/0")
    assert drawing.headers["content-type"].startswith("image/svg+xml")
    assert 'viewBox="0 0 60 40"' in drawing.text
    assert 'x="10.0" y="10.0" width="20.0" height="20.0"' in drawing.text


def test_maps_are_offered_where_they_can_be_drawn(open_review: OpenReview) -> None:
    without = open_review()
    assert "toggle-map" not in card(without)
    assert without.client.get("/maps/0").status_code == 404
    mapped = open_review(maps=lambda row: Image.new("RGB", (8, 8), (row, 0, 0)))
    assert "toggle-map" in card(mapped)
    assert mapped.client.get("/maps/0").headers["content-type"] == "image/jpeg"
