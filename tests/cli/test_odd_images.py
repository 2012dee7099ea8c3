"""A folder of images as people have them: what is readable is embedded, the rest is quarantined with a reason."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from despur.workspace import read_parquet


def _bomb() -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"


UNREADABLE = {
    "bomb.png": "decompression bomb",
    "cut.jpg": "cut short",
    "link.jpg": "a link to a file that is not there",
    "nothing.jpg": "zero bytes",
    "page.jpg": "its content is not an image",
    "phone.heic": "HEIC is not supported",
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twenty plain images, eight odd ones that can be read, two of them the same, and six that cannot."""
    root = tmp_path / "pictures"
    for name, colour in (("cat", (200, 50, 50)), ("dog", (50, 50, 200))):
        for number in range(10):
            file = root / name / f"{number}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), colour).save(file)
    cat = root / "cat"
    plain = Image.new("RGB", (40, 30), (10, 200, 10))
    plain.convert("L").save(cat / "grey.png")
    plain.convert("CMYK").save(cat / "print.jpg")
    plain.quantize(4).save(cat / "palette.png")
    plain.convert("RGBA").save(cat / "alpha.png")
    plain.save(cat / "progressive.jpg", progressive=True)
    plain.save(cat / "moving.gif", save_all=True, append_images=[plain.rotate(90)])
    plain.save(cat / "Möwe über dem Meer – カモメ 1.webp")
    shutil.copy(cat / "progressive.jpg", cat / "the same again.jpg")
    (cat / "bomb.png").write_bytes(_bomb())
    (cat / "cut.jpg").write_bytes((cat / "0.jpg").read_bytes()[:-80])
    (cat / "link.jpg").symlink_to(root / "gone.jpg")
    (cat / "nothing.jpg").touch()
    (cat / "page.jpg").write_text("<html>404 Not Found</html>")
    (cat / "phone.heic").write_bytes(b"\x00\x00\x00\x24ftypheic\x00\x00\x00\x00mif1heic" + b"\x00" * 64)
    return root


def test_what_cannot_be_read_stops_the_run_unless_the_user_accepts_it(pictures: Path, tmp_path: Path, despur) -> None:
    work = tmp_path / "work"
    words = ("embed", f"folder:{pictures}", "--model", "birdland:vit", "-w", work, "--json")
    missing = despur(*words)
    assert missing.exit_code == 2
    assert "1 of 34 images cannot be read" in missing.stderr  # told before anything is embedded
    refused = despur(*words, "--max-unreadable", 0.05)
    assert refused.exit_code == 2
    assert "6 of 34 images cannot be read" in refused.stderr
    assert "--max-unreadable" in refused.stderr
    accepted = despur(*words, "--max-unreadable", 0.2)
    assert accepted.exit_code == 0, accepted.stderr
    summary = json.loads(accepted.stdout)
    assert (summary["images"], summary["unreadable"]) == (28, 6)
    reasons = {Path(row["image"]).name: row["reason"] for row in read_parquet(work / "quarantine.parquet").to_pylist()}
    assert set(reasons) == set(UNREADABLE)
    assert all(UNREADABLE[name] in reason for name, reason in reasons.items())
    kept = {Path(name).name for name in read_parquet(work / "examples.parquet")["image"].to_pylist()}
    assert {"Möwe über dem Meer – カモメ 1.webp", "the same again.jpg", "moving.gif", "print.jpg"} <= kept
    assert not kept & set(UNREADABLE)
