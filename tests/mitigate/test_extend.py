"""The page on adding a method does what it says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from despur.backbones.heads import class_logits
from despur.mitigate import Method, TrainSettings, train
from despur.mitigate.study import Study
from despur.mitigate.tuning import search_space

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"


@pytest.fixture
def method(tmp_path: Path) -> Method:
    """What the page's one block of code defines."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(block.splitlines()) <= 30
    (tmp_path / "gce.py").write_text(block, encoding="utf-8")
    return runpy.run_path(str(tmp_path / "gce.py"))["GCE"]


def test_the_page_s_method_trains_stacks_and_is_searched(study: Study, method: Method) -> None:
    several = [TrainSettings(learning_rate=1e-2, epochs=2, batch_size=16, options={"q": q}) for q in (0.3, 1.0)]
    stacked = train(study, method, several)
    (alone,) = train(study, method, several[1])
    for name, head in alone.heads.items():
        torch.testing.assert_close(stacked[1].heads[name], head, rtol=0, atol=1e-10)
    assert search_space(method, several[0]).keys() == {"learning_rate", "weight_decay", "options.q"}


def test_with_q_at_1_the_page_s_loss_is_one_minus_the_probability(study: Study, method: Method) -> None:
    settings = TrainSettings(learning_rate=1e-12, epochs=1, batch_size=64, options={"q": 1.0})
    (run,) = train(study, method, settings)
    shares = class_logits(study.heads, study.train.features, study.class_prompts).softmax(-1)
    own = shares[torch.arange(64), study.train.labels]
    assert run.history["loss"].to_pylist()[1] == pytest.approx(float((1 - own).mean()), abs=1e-8)
