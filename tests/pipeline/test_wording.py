"""The words a model is asked with can be one's own, and nothing made with other words is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from despur.backbones.prompts import openai_templates
from despur.backbones.protocol import Backbone
from despur.data.waterbirds import load_waterbirds
from despur.errors import ModelError, SettingsError
from despur.pipeline import embed_stage, evaluate_stage, mitigate_stage, predict_stage, read_study
from despur.pipeline.embedded import Embedded, InMemory
from despur.pipeline.training import run_names
from despur.pipeline.wording import Wording, read_wording, wording_stage
from despur.workspace import Workspace

from .conftest import MODEL, QUICK

SEA = Wording(
    templates=("a photo of a {}.", "a bad photo of a {}."),
    classes={"waterbird": ("gull", "duck"), "landbird": ("sparrow",)},
    attributes={"water": "at sea", "no water": "in a wood"},
)


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        (tmp_path / "prompts.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "prompts.yaml"

    return written


def test_a_prompts_file_says_templates_names_and_phrases(write: Write) -> None:
    file = write(
        "templates:\n- a photo of a {}.\n- a bad photo of a {}.\n"
        "classes: {waterbird: [gull, duck], landbird: sparrow}\n"
        "attributes: {water: at sea, no water: in a wood}\n"
    )
    assert read_wording(file) == SEA


def test_what_a_prompts_file_leaves_out_stays_as_it_is(write: Write) -> None:
    found = read_wording(write("classes: {waterbird: gull}"))
    assert found.templates == openai_templates()
    assert (found.names("waterbird"), found.names("landbird")) == (("gull",), ("landbird",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("template: a photo of a {}.", "did you mean 'templates'?"),
        ("templates: [a photo.]", "'a photo.' has 0"),
        ("templates: ['{} and {}']", "has 2"),
        ("templates: []", "at least 1"),
        ("templates: ['a {}.', 'a {}.']", "given twice"),
        ("classes: {waterbird: []}", "at least 1"),
        ("classes: {waterbird: ' '}", "empty"),
        ("templates: !!python/object/apply:os.system [ls]", "not plain YAML"),
        ("just words", "holds no prompts"),
    ],
)
def test_a_prompts_file_that_means_nothing_is_refused(write: Write, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=r"prompts\.yaml") as problem:
        read_wording(write(text))
    assert said in str(problem.value)


def test_a_missing_prompts_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        read_wording(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("wording", "said"),
    [
        (Wording(classes={"waterbrid": ("gull",)}), "did you mean 'waterbird'"),
        (Wording(attributes={"wator": "at sea"}), "did you mean 'water'"),
    ],
)
def test_words_for_what_the_dataset_has_not_are_refused(
    own_work: Path, backbone: Backbone, wording: Wording, said: str
) -> None:
    workspace = Workspace.open(own_work)
    dataset = Embedded(workspace, torch.device("cpu"), backbone).dataset
    with pytest.raises(SettingsError, match=said):
        wording_stage(workspace, wording, dataset, backbone)


def test_a_prompt_that_the_model_cannot_read_whole_is_refused_before_anything_is_embedded(
    own_work: Path, backbone: Backbone
) -> None:
    workspace = Workspace.open(own_work)
    dataset = Embedded(workspace, torch.device("cpu"), backbone).dataset
    endless = Wording(templates=("a photo of " + "a very, " * 80 + "{}.",))
    with pytest.raises(ModelError):
        wording_stage(workspace, endless, dataset, backbone)


def test_a_class_of_two_names_stands_between_them(finished: Embedded, backbone: Backbone) -> None:
    def prompts(*waterbird: str) -> torch.Tensor:
        wording = SEA.model_copy(update={"classes": {"waterbird": waterbird, "landbird": ("sparrow",)}})
        memory = InMemory(finished.dataset, backbone, torch.empty(0), device=torch.device("cpu"), wording=wording)
        return memory.class_prompts

    both, gull, duck = prompts("gull", "duck"), prompts("gull"), prompts("duck")
    row = finished.dataset.classes.index("waterbird")
    assert len(both) == 4
    torch.testing.assert_close(both[:2], gull)
    torch.testing.assert_close(both[2:], duck)
    assert not torch.equal(gull[:, row], duck[:, row])
    torch.testing.assert_close(both[:2, 1 - row], both[2:, 1 - row])


def test_groups_are_named_by_the_words_of_their_class_and_attribute(finished: Embedded) -> None:
    attribute = finished.dataset.attribute(None)
    assert SEA.group_phrases(["landbird", "waterbird"], attribute) == [
        ("sparrow in a wood",),
        ("sparrow at sea",),
        ("gull in a wood", "duck in a wood"),
        ("gull at sea", "duck at sea"),
    ]
    classes = list(finished.dataset.classes)
    plain = [phrase for (phrase,) in Wording().group_phrases(classes, attribute)]
    assert plain == finished.dataset.group_phrases(attribute)


def test_the_groups_of_a_judged_pair_are_named_by_its_words() -> None:
    wording = Wording(classes={"waterbird": ("gull", "duck")}, attributes={"cat": "beside a cat", "no cat": "alone"})
    assert wording.pair_phrases("waterbird", "cat") == [
        ("gull alone", "duck alone"),
        ("gull beside a cat", "duck beside a cat"),
    ]
    assert Wording().pair_phrases("waterbird", "cat") == [("waterbird",), ("waterbird with cat",)]


def test_a_dataset_without_attributes_may_be_given_words_for_any(finished: Embedded, backbone: Backbone) -> None:
    bare = replace(finished.dataset, attributes=())
    Wording(attributes={"cat": "beside a cat"}).check(bare, backbone)
    with pytest.raises(ModelError, match="shorten it"):
        Wording(attributes={"no cat": "far away " * 80}).check(bare, backbone)


@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_every_class_uses_all_its_names_alike(counts: list[int]) -> None:
    classes = {f"class {row}": tuple(f"name {number}" for number in range(n)) for row, n in enumerate(counts)}
    wording = Wording(classes=classes)
    for names in classes.values():
        uses = [names[number * len(names) // wording.variants] for number in range(wording.variants)]
        assert {uses.count(name) for name in names} == {wording.variants // len(names)}


def test_one_template_changed_runs_again_what_reads_prompts_and_nothing_else(
    own_work: Path, birds: Path, backbone: Backbone
) -> None:
    workspace, dataset = Workspace.open(own_work), load_waterbirds(birds)

    def stages(wording: Wording) -> dict[str, bool]:
        wording_stage(workspace, wording, dataset, backbone)
        embedded = Embedded(workspace, torch.device("cpu"), backbone)
        ran = {"embed": embed_stage(workspace, dataset, backbone, MODEL), "predict": predict_stage(embedded)}
        before = workspace.about()["stages"]
        ran["runs are read"] = bool(run_names(workspace))
        mitigate_stage(embedded, QUICK)
        after = workspace.about()["stages"]
        ran["erm"] = before["mitigate/erm"] != after["mitigate/erm"]
        ran["evaluate"] = evaluate_stage(embedded)
        return ran

    nothing = {"embed": False, "predict": False, "runs are read": True, "erm": False, "evaluate": False}
    asks = {"embed": False, "predict": True, "runs are read": False, "erm": True, "evaluate": True}
    other = SEA.model_copy(update={"templates": (SEA.templates[0], "a good photo of a {}.")})
    assert stages(Wording()) == nothing
    assert stages(SEA) == asks
    assert stages(SEA) == nothing
    assert stages(other) == asks
    assert stages(Wording()) == asks


def test_a_study_names_its_prompts_beside_itself(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("{dataset: birdland, models: birdland:vit, workspace: work, prompts: words.yaml}")
    assert read_study(file).prompts == tmp_path.resolve() / "words.yaml"
