"""Everything that parses, given what nobody meant: a sentence, or what can be used; never another error."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from despur.backbones.weights import read_state_dict
from despur.data.annotations import largest_box, read_annotation
from despur.data.images import read_image, read_mask
from despur.data.waterbirds import load_waterbirds
from despur.detect import load_vocabulary
from despur.errors import DespurError
from despur.mitigate.runs import load_heads
from despur.pipeline import read_study
from despur.review.exchange import read_verdicts
from despur.workspace import read_json, read_parquet

pytestmark = pytest.mark.usefixtures("within_a_gigabyte")

XML = (
    b"<annotation><object><name>n1</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    b"</object></annotation>"
)
METADATA = (
    b"img_id,img_filename,y,split,place,place_filename\n"
    b"1,001.Sparrow/1.jpg,0,0,1,/b/1.jpg\n2,002.Gull/2.jpg,1,1,0,/b/2.jpg\n3,002.Gull/3.jpg,1,2,0,/b/2.jpg\n"
)
SYNSETS = json.dumps({"light": "traffic_light.n.01", "tree": "tree.n.01"}).encode()
STUDY = (
    b"dataset: birdland\nmodels: [birdland:vit]\nworkspace: work\nmitigate: {methods: [erm], seeds: 2}\n"
    b"explain: {images: 3}\n"
)
VERDICTS_CSV = (
    b'"class","attribute","verdict","who","when","note","image"\n'
    b'"gull","water","spurious","ann","2026-01-02T03:04:05Z","",""\n'
)
VERDICTS_YAML = (
    b"verdicts:\n- {class: gull, attribute: water, verdict: spurious, who: ann, when: '2026-01-02T03:04:05Z'}\n"
)
HEADS = save(
    {"image.weight": torch.ones(2, 3), "text.weight": torch.ones(2, 3), "logit_scale": torch.tensor(1.0)},
    {"index": "{}"},
)


def picture(form: str, mode: str) -> bytes:
    buffer = BytesIO()
    Image.linear_gradient("L").resize((12, 9)).convert(mode).save(buffer, form)
    return buffer.getvalue()


PICTURES = [
    picture("JPEG", "RGB"),
    picture("PNG", "RGBA"),
    picture("PNG", "P"),
    picture("GIF", "P"),
    picture("TIFF", "L"),
]


@st.composite
def disturbed(draw: st.DrawFn, whole: bytes) -> bytes:
    """A good file in which bytes were changed, put in, doubled or cut off; or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        span = draw(st.integers(0, 12))
        kind = draw(st.sampled_from(["cut", "change", "insert", "repeat"]))
        if kind == "cut":
            del content[place : place + span]
        elif kind == "repeat":
            content[place:place] = content[place : place + span] * 3
        else:
            fresh = draw(st.one_of(st.binary(max_size=6), st.sampled_from(NASTY)))
            content[place : place + (len(fresh) if kind == "change" else 0)] = fresh
    return bytes(content)


NASTY = [
    b"\x00",
    b"\xff\xfe",
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b"9" * 30,
    b"\\ud800",
    b'"',
    b"'",
    b"{",
    b"[",
    b"&a ",
    b"*a ",
    b"<!--",
    b"\r",
]
"""What readers trip over."""


def parses_or_says_why(read: Callable[[Path], object], file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    with suppress(DespurError):
        read(file)


fuzzed = settings(
    max_examples=120, deadline=timedelta(seconds=5), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzzed
@given(content=disturbed(METADATA))
def test_waterbirds_metadata(content: bytes, tmp_path: Path) -> None:
    parses_or_says_why(lambda file: load_waterbirds(file.parent), tmp_path / "metadata.csv", content)


@fuzzed
@given(content=disturbed(XML))
def test_boxes_in_xml(content: bytes, tmp_path: Path) -> None:
    parses_or_says_why(lambda file: largest_box(read_annotation(file), "n1"), tmp_path / "box.xml", content)


@fuzzed
@given(content=disturbed(SYNSETS))
@example(content=b'{"half a pair": "\\ud800.n.01"}')
def test_visual_genomes_synsets(content: bytes, tmp_path: Path) -> None:
    def read(file: Path) -> None:
        for phrase in load_vocabulary(f"visual-genome:{file.parent}").phrases:
            phrase.encode()  # what cannot be written as UTF-8 is refused where it is read

    parses_or_says_why(read, tmp_path / "object_synsets.json", content)


@fuzzed
@given(content=disturbed(STUDY))
def test_studies(content: bytes, tmp_path: Path) -> None:
    parses_or_says_why(read_study, tmp_path / "study.yaml", content)


@fuzzed
@given(content=disturbed(VERDICTS_CSV))
def test_verdicts_in_csv(content: bytes, tmp_path: Path) -> None:
    parses_or_says_why(read_verdicts, tmp_path / "verdicts.csv", content)


@fuzzed
@given(content=disturbed(VERDICTS_YAML))
def test_verdicts_in_yaml(content: bytes, tmp_path: Path) -> None:
    parses_or_says_why(read_verdicts, tmp_path / "verdicts.yaml", content)


@fuzzed
@given(content=st.sampled_from(PICTURES).flatmap(disturbed))
def test_images_and_masks(content: bytes, tmp_path: Path) -> None:
    parses_or_says_why(read_image, tmp_path / "image", content)
    parses_or_says_why(read_mask, tmp_path / "image", content)


@fuzzed
@given(content=disturbed(HEADS))
def test_safetensors(content: bytes, tmp_path: Path) -> None:
    parses_or_says_why(load_heads, tmp_path / "heads.safetensors", content)
    parses_or_says_why(read_state_dict, tmp_path / "weights.safetensors", content)


ON_TWO_DISKS = (
    b"PK\x06\x07" + (1).to_bytes(4, "little") + bytes(8) + (2).to_bytes(4, "little") + b"PK\x05\x06" + bytes(18)
)
"""The end of a zip that says that it goes on elsewhere."""


@cache
def archive(script: bool) -> bytes:
    """Weights as PyTorch packs them; or a TorchScript archive, as OpenAI did."""
    buffer = BytesIO()
    if script:
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    else:
        torch.save({"weight": torch.ones(2, 2)}, buffer)
    return buffer.getvalue()


@fuzzed
@given(content=st.one_of(st.binary(max_size=300), st.booleans().map(archive).flatmap(disturbed)))
@example(content=b"\x80\x02\x85.")
@example(content=ON_TWO_DISKS)
def test_weights_in_pickles_and_archives(content: bytes, tmp_path: Path) -> None:
    parses_or_says_why(read_state_dict, tmp_path / "weights.pt", content)


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 200_000, b"\xff", b""])
def test_json_of_any_depth(content: bytes, tmp_path: Path) -> None:
    parses_or_says_why(read_json, tmp_path / "deep.json", content)
    parses_or_says_why(
        lambda file: load_vocabulary(f"visual-genome:{file.parent}"), tmp_path / "object_synsets.json", content
    )


def test_an_annotation_that_grows_when_it_is_read_is_refused(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "lol">{entities}]><annotation><object><name>&a9;</name></object></annotation>'
    file = tmp_path / "box.xml"
    file.write_text(bomb)
    with pytest.raises(DespurError, match="Pascal VOC"):
        read_annotation(file)


def test_tables_with_any_byte_changed(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "table.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "score": [0.5, 0.25]}), file)
    whole, draw = file.read_bytes(), random.Random(0)
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] = draw.randrange(256)
        parses_or_says_why(read_parquet, file, bytes(content))
