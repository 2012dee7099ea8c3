"""Checkpoints: read without running them, and told when they do not fit."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from despur.backbones.open_clip import load_open_clip
from despur.backbones.weights import OPENAI_EXTRAS, from_openai, load_weights, read_state_dict
from despur.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def same(state: dict[str, torch.Tensor], model: nn.Module) -> bool:
    own = model.state_dict()
    return state.keys() == own.keys() and all(torch.equal(value, own[name]) for name, value in state.items())


def test_every_kind_of_weights_file_gives_the_same_tensors(model: nn.Module, tmp_path: Path) -> None:
    state = model.state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    wrapped = {f"module.{name}": value for name, value in state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped, "optimizer": {"lr": 0.1}}, tmp_path / "c.pt")
    torch.jit.save(torch.jit.script(model), tmp_path / "d.pt")
    for name in ("a.safetensors", "b.pt", "c.pt", "d.pt"):
        assert same(read_state_dict(tmp_path / name), model), name


def test_an_openai_archive_is_known_by_the_numbers_in_it(model: nn.Module, tmp_path: Path) -> None:
    for number, name in enumerate(OPENAI_EXTRAS):
        model.register_buffer(name, torch.tensor(number))
    torch.jit.save(torch.jit.script(model.half()), tmp_path / "openai.pt")
    state = read_state_dict(tmp_path / "openai.pt")
    assert from_openai(state)
    assert state["0.weight"].dtype == torch.half
    plain = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    load_weights(plain, state, "openai.pt")
    torch.testing.assert_close(plain[0].weight, model[0].weight.float())  # type: ignore[index]


class Runs:
    """What a malicious checkpoint holds: an object that runs a command when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def test_a_checkpoint_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Runs(trace)}, tmp_path / "evil.pt")
    (tmp_path / "bare.bin").write_bytes(pickle.dumps(Runs(trace), protocol=2))
    (tmp_path / "newer.bin").write_bytes(pickle.dumps(Runs(trace), protocol=4))
    for name in ("evil.pt", "bare.bin", "newer.bin"):
        with pytest.raises(ModelError, match=f"{name}: it holds more than weights"):
            read_state_dict(tmp_path / name)
    assert not trace.exists()


def test_an_archive_whose_tree_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("m/code/__torch__.py", "")
        archive.writestr("m/data.pkl", pickle.dumps(Runs(trace), protocol=2))
    with pytest.raises(ModelError, match=r"evil\.pt: it holds more than weights"):
        read_state_dict(tmp_path / "evil.pt")
    assert not trace.exists()


def test_an_archive_whose_tree_holds_itself_is_damaged(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "loop.pt", "w") as archive:
        archive.writestr("m/code/__torch__.py", "")
        # A module whose attribute "a" is the module.
        archive.writestr("m/data.pkl", b"\x80\x02c__torch__\nM\n)\x81q\x00}q\x01X\x01\x00\x00\x00aq\x02h\x00sb.")
    with pytest.raises(ModelError, match=r"loop\.pt: it is damaged"):
        read_state_dict(tmp_path / "loop.pt")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "script.pt"])
def test_a_damaged_file_is_told_in_one_sentence(model: nn.Module, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "script.pt":
        torch.jit.save(torch.jit.script(model), path)
    else:
        (save_file if path.suffix == ".safetensors" else torch.save)(model.state_dict(), path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"not weights at all", b""):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=f"{name}: it (is damaged|holds no)"):
            read_state_dict(path)


def test_weights_of_another_architecture_are_refused_by_the_first_tensor_that_tells(model: nn.Module) -> None:
    state = model.state_dict()
    wide = {**state, "0.weight": torch.ones(2, 5)}
    with pytest.raises(ModelError, match=r"0.weight has shape \[2, 5\], the model needs \[2, 3\]"):
        load_weights(model, wide, "x.pt")
    with pytest.raises(ModelError, match=r"no place for 1 tensors, the first is extra"):
        load_weights(model, {**state, "extra": torch.ones(1)}, "x.pt")
    del state["1.weight"]
    with pytest.raises(ModelError, match=r"x.pt: it does not fit: 1 of 7 tensors are missing, the first is 1.weight"):
        load_weights(model, state, "x.pt")


def test_a_file_of_nothing_but_numbers_holds_no_weights(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="holds no named weights"):
        read_state_dict(tmp_path / "a.pt")


def test_a_tag_whose_weights_are_out_of_reach_says_what_to_fetch_and_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("despur.backbones.hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("despur.backbones.hub.urlopen", unreachable)
    monkeypatch.setattr("despur.backbones.hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ModelError) as caught:
        load_open_clip("RN50/openai")
    assert str(caught.value) == (
        "open_clip:RN50/openai: the weights are not on this machine and no hub answers; "
        "fetch https://huggingface.co/timm/resnet50_clip.openai/resolve/main/open_clip_model.safetensors "
        "where there is a network, put it here as RN50-openai.safetensors and give "
        "--model open_clip:RN50-quickgelu/RN50-openai.safetensors"
    )


def test_a_hub_is_not_asked_where_the_user_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setattr("despur.backbones.hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("despur.backbones.hub.urlopen", asked)
    monkeypatch.setattr("despur.backbones.hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ModelError, match="not on this machine and no hub answers; fetch https://"):
        load_open_clip("RN50/openai")


@pytest.mark.slow
def test_a_local_file_gives_what_open_clip_makes_of_it(tmp_path: Path) -> None:
    donor = load_open_clip("ViT-S-32", random_weights=True, seed=1)
    save_file(donor.model.state_dict(), tmp_path / "w.safetensors")
    backbone = load_open_clip(f"ViT-S/32/{tmp_path}/w.safetensors")
    theirs, _, transform = open_clip.create_model_and_transforms("ViT-S-32", pretrained=f"{tmp_path}/w.safetensors")
    assert backbone.fingerprint() == donor.fingerprint()
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(backbone.model.encode_image(images), theirs.eval().encode_image(images))
    assert repr(transform) == repr(backbone._transform)
    with pytest.raises(ModelError, match="does not fit"):
        load_open_clip(f"ViT-B-32/{tmp_path}/w.safetensors")
