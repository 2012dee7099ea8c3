"""Study files: what they mean, and what is refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from despur.detect import DetectSettings
from despur.errors import DespurError, SettingsError
from despur.pipeline import ExplainSettings, MitigateSettings, StudySettings, read_study, run_study
from despur.pipeline.settings import SearchSettings
from despur.pipeline.study import workspace_of
from despur.pipeline.training import chosen_methods
from despur.rank import RankSettings


def study(tmp_path: Path, **said: object) -> StudySettings:
    return StudySettings.model_validate(
        {"dataset": "birdland:birds:0.01", "models": ("birdland:resnet",), "workspace": tmp_path / "work", **said}
    )


def written(folder: Path, lines: str) -> StudySettings:
    file = folder / "study.yaml"
    file.write_text("dataset: birdland\nworkspace: work\n" + lines)
    return read_study(file)


def test_the_studys_seed_is_that_of_every_draw_that_gives_none_of_its_own(tmp_path: Path) -> None:
    settings = study(tmp_path, seed=7, explain={"seed": 2}).seeded()
    assert (settings.seed, settings.mitigate.seed, settings.explain.seed) == (7, 7, 2)


def test_a_seed_that_is_given_over_the_file_is_that_of_every_draw(tmp_path: Path) -> None:
    settings = study(tmp_path, seed=7, explain={"seed": 2}).seeded(5)
    assert (settings.seed, settings.mitigate.seed, settings.explain.seed) == (5, 5, 5)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_nothing_can_draw_from_is_refused(seed: int, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="seed"):
        study(tmp_path).seeded(seed)
    with pytest.raises(SettingsError, match="seed"):
        written(tmp_path, f"models: [birdland:resnet]\nseed: {seed}\n")


def test_one_model_and_one_method_need_no_brackets(tmp_path: Path) -> None:
    settings = written(tmp_path, "models: birdland:resnet\nmitigate: {methods: erm}\n")
    assert (settings.models, settings.mitigate.methods) == (("birdland:resnet",), ("erm",))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("mitigat: {}\n", "did you mean 'mitigate'"),
        ("mitigate: {metods: erm}\n", "'mitigate.metods'.* did you mean 'methods'"),
        ("rank: {ordr: interval}\n", "'rank.ordr'.* did you mean 'order'"),
        ("rank: {order: intervall}\n", "rank.order cannot be 'intervall'.* did you mean 'interval'"),
        ("mitigate: {groups: verdict}\n", "mitigate.groups cannot be 'verdict'.* did you mean 'verdicts'"),
        ("trainable: pool\n", "trainable cannot be 'pool'.* 'attention-pool'|choose from projection, attention-pool"),
    ],
)
def test_a_misspelt_word_is_told_with_the_nearest(lines: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=said):
        written(tmp_path, f"models: birdland:resnet\n{lines}")


def test_a_model_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'birdland:vit' is given twice"):
        written(tmp_path, "models: [birdland:vit, birdland:vit]\n")


def test_a_home_folder_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/wren")
    (tmp_path / "study.yaml").write_text("dataset: waterbirds:~/birds\nmodels: birdland\nworkspace: ~/work\n")
    settings = read_study(tmp_path / "study.yaml")
    assert (settings.dataset, settings.workspace) == ("waterbirds:/home/wren/birds", Path("/home/wren/work"))


def test_models_whose_specs_have_the_same_letters_have_workspaces_of_their_own(tmp_path: Path) -> None:
    specs = ("open_clip:A/b", "open_clip:A_b", "open_clip:a/B", "open_clip:C/d", "open_clip:" + "long/" * 99)
    settings = study(tmp_path, models=specs)
    names = [workspace_of(settings, spec).name for spec in specs]
    assert len({name.casefold() for name in names}) == len(specs)
    assert names[3] == "open_clip_C_d"
    assert max(len(name.encode()) for name in names) < 255


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ({"mitigate": {"methods": ["clip+vx"]}}, "vx"),
        ({"mitigate": {"methods": ["erm"], "train": {"epoch": 3}}}, "epochs"),
        ({"mitigate": {"methods": ["erm"], "train": {"weights": {"vc": 2}}}}, "'vc', which is not trained on"),
        ({"mitigate": {"methods": ["jtt"], "train": {"options": {"upwight": 2}}}}, "did you mean 'upweight'"),
        (
            {"tune": 4, "mitigate": {"methods": ["erm"], "train": {"learning_rate": 1}}},
            "learning_rate is given, and tune",
        ),
        (
            {"tune": 4, "mitigate": {"methods": ["afr"], "by_method": {"afr": {"options": {"gamma": 2}}}}},
            "options.gamma is",
        ),
        ({"mitigate": {"methods": ["erm"], "by_method": {"emr": {"epochs": 3}}}}, "did you mean 'erm'"),
        ({"mitigate": {"methods": ["erm"], "attribute": "fire"}}, "fire"),
        ({"explain": {"method": "rollouts"}}, "rollout"),
        ({"explain": {"method": "rollout"}}, "vision transformer"),
        ({"workspace": __file__}, "written"),
        ({"detect": {"detector": "owl-vit"}}, "did you mean 'owlvit'"),
        ({"detect": {"detector": "birdland:detectr"}}, "write birdland:detector"),
        ({"detect": {"vocabulary": "file:/nowhere/words.txt"}}, "words.txt: it cannot be read"),
        ({"detect": {"split": "tset"}}, "did you mean 'test'"),
        ({"detect": {"split": "val"}, "rank": {"split": "test"}}, "only the split 'val' was searched"),
    ],
)
def test_a_mistake_is_told_before_anything_is_embedded(said: dict[str, object], hint: str, tmp_path: Path) -> None:
    heard: list[str] = []
    with pytest.raises(DespurError, match=hint):
        run_study(study(tmp_path, **said), device=torch.device("cpu"), announce=heard.append)
    assert not any("embed" in line for line in heard)
    assert not (tmp_path / "work" / "features").exists()


def test_a_weight_for_all_methods_counts_where_the_method_has_that_loss() -> None:
    settings = MitigateSettings(methods=("erm", "clip+vc"), train={"weights": {"vc": 2.0}})
    weights = {method.name: chosen.weights for method, chosen in chosen_methods(settings, "birdland:resnet")}
    assert weights == {"pretrained": {}, "erm": {}, "clip+vc": {"vc": 2.0}}


def test_an_option_for_all_methods_counts_where_the_method_has_it() -> None:
    settings = MitigateSettings(methods=("erm", "jtt"), train={"options": {"upweight": 3.0}})
    options = {method.name: chosen.options for method, chosen in chosen_methods(settings, "birdland:resnet")}
    assert options == {"pretrained": {}, "erm": {}, "jtt": {"upweight": 3.0}}


def test_settings_of_a_method_are_found_in_whatever_order_its_losses_are_named() -> None:
    settings = MitigateSettings(methods=("vs,vc,lc,clip",), by_method={"clip+vs+vc+lc": {"epochs": 3}})
    assert [(method.name, chosen.epochs) for method, chosen in chosen_methods(settings, "birdland:resnet")] == [
        ("pretrained", 300),
        ("clip+lc+vc+vs", 3),
    ]


def test_a_setting_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'seed' is given twice, in lines 4 and 5"):
        written(tmp_path, "models: birdland\nseed: 1\nseed: 2\n")


def test_what_is_looked_for_is_asked_for_by_name(tmp_path: Path) -> None:
    plain = written(tmp_path, "models: birdland\n")
    assert (plain.detect, plain.rank) == (None, None)
    empty = written(tmp_path, "models: birdland\ndetect:\nrank:\nexplain:\n")
    assert empty.detect is not None
    assert (empty.detect.search, empty.rank, empty.explain) == (SearchSettings(), RankSettings(), ExplainSettings())


def test_a_section_detect_says_what_is_looked_for_and_how(tmp_path: Path) -> None:
    (tmp_path / "owl").mkdir()
    lines = "models: birdland\ndetect: {detector: 'hf:owl', vocabulary: [builtin, 'file:words.txt'], batch_size: 2}\n"
    detect = written(tmp_path, lines).detect
    assert detect is not None
    assert detect.search == SearchSettings(
        detector=f"hf:{tmp_path / 'owl'}", vocabulary=("builtin", f"file:{tmp_path / 'words.txt'}")
    )
    assert detect.effort == DetectSettings(batch_size=2)


def test_nothing_can_be_ranked_that_is_not_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a section 'rank' needs a section 'detect'"):
        written(tmp_path, "models: birdland\nrank: {top: 3}\n")
