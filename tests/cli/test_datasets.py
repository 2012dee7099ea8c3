from __future__ import annotations

from pathlib import Path


def test_the_help_shows_an_example(despur) -> None:
    assert "despur datasets build-waterbirds CUB_200_2011" in despur("datasets", "build-waterbirds", "--help").stdout


def test_a_source_that_is_not_there_is_one_sentence(tmp_path: Path, despur) -> None:
    result = despur("datasets", "build-waterbirds", tmp_path / "cub", tmp_path / "places", tmp_path / "out")
    assert result.exit_code == 2
    assert "there is no images.txt in it" in result.stderr


def test_a_scale_that_would_be_ignored_is_refused(tmp_path: Path, despur) -> None:
    result = despur("birdland", "write", tmp_path / "world", "--study", "objects", "--scale", 0.5)
    assert result.exit_code == 2
    assert "--scale means nothing for the study of objects" in result.stderr
    assert not (tmp_path / "world").exists()
