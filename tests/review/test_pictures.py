from __future__ import annotations

from pathlib import Path

from despur.review.pictures import Thumbnails

from .conftest import draw_photograph


def test_a_changed_photograph_gets_a_new_thumbnail(tmp_path: Path) -> None:
    thumbnails, photograph = Thumbnails(tmp_path / "thumbnails"), tmp_path / "photograph.png"
    draw_photograph(photograph, 0)
    first = thumbnails.get(photograph)
    draw_photograph(photograph, 40)
    assert thumbnails.get(photograph) != first


def test_a_folder_that_cannot_be_written_costs_no_picture(tmp_path: Path) -> None:
    photograph = tmp_path / "photograph.png"
    draw_photograph(photograph, 0)
    (tmp_path / "in the way").write_text("a file")
    assert Thumbnails(tmp_path / "in the way").get(photograph) == Thumbnails(tmp_path / "kept").get(photograph)
