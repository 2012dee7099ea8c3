from __future__ import annotations

from despur.pipeline.order import in_order


def test_stages_come_in_the_order_of_a_run_however_they_were_finished() -> None:
    finished = ["evaluate", "mitigate/pretrained", "mitigate/erm", "explain/rollout", "rank", "predict", "embed"]
    assert in_order(finished) == [
        "embed",
        "predict",
        "rank",
        "mitigate/pretrained",
        "mitigate/erm",
        "explain/rollout",
        "evaluate",
    ]


def test_a_stage_of_another_despur_comes_last_and_a_stage_that_both_have_once() -> None:
    assert in_order(["polish", "embed", "rank", "embed"]) == ["embed", "rank", "polish"]
