"""A run as a folder that other people's code loads: ordinary weights, and a model card."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file

from despur import __version__
from despur.backbones.export_open_clip import write_open_clip
from despur.backbones.export_transformers import write_transformers
from despur.backbones.heads import Heads
from despur.backbones.placing import blended
from despur.backbones.prompts import fill
from despur.backbones.protocol import Backbone
from despur.errors import SettingsError, nearest
from despur.metrics import AccuracyReport
from despur.mitigate.methods import find_method
from despur.pipeline.chosen import chosen_run
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import accuracy_of, split_of
from despur.pipeline.model_card import CardContent, card
from despur.pipeline.naming import without_folders
from despur.pipeline.space import MODEL, write_space
from despur.pipeline.training import load_runs
from despur.workspace import whole_folder

HEADS_FILE = "heads.safetensors"

_HEADS_USAGE = f"""from safetensors.torch import load_file
from despur.backbones.heads import class_logits

heads = load_file("FOLDER/{HEADS_FILE}")  # over the encoders' features: class_logits(heads, features, prompts)"""


def _write_heads(backbone: Backbone, heads: Heads, folder: Path) -> str:
    save_file({name: head.detach().cpu().contiguous() for name, head in heads.items()}, folder / HEADS_FILE)
    return _HEADS_USAGE


FORMATS: dict[str, tuple[str | None, Callable[[Backbone, Heads, Path], str]]] = {
    "open-clip": ("open_clip", write_open_clip),
    "transformers": ("transformers", write_transformers),
    "heads": (None, _write_heads),
}
"""What can be written: the library as model hubs call it, and its writer."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        run: its name.
        before, after: accuracies of the model as it came and of what was written.
    """

    folder: Path
    run: str
    before: AccuracyReport
    after: AccuracyReport


def export_run(
    embedded: Embedded,
    folder: Path,
    *,
    to: str,
    run: str | None = None,
    blend: float = 1.0,
    licence: str | None = None,
    split: str = "test",
    space: bool = False,
) -> Exported:
    """Write one run's model to a new folder, whole or not at all.

    Args:
        to: one of ``FORMATS``.
        run: its name; None: the one that validation prefers.
        blend: share of the trained weights, in [0, 1]; the rest are the original ones.
        licence: for the card; None: the card says that it is not stated.
        split: where the card's accuracies are from.
        space: write a Hugging Face Space, with the model in a folder of it.

    Raises:
        SettingsError: an unknown format, one that a Space cannot load, a share outside [0, 1], or a folder that holds
            something; or there is no such run.
        WorkspaceError: nothing is trained.
        ModelError: the format has no place for the model or for one of its heads; the message says why.
    """
    if to not in FORMATS:
        raise SettingsError(f"there is no format {to!r}", where="--to", now=nearest(to, list(FORMATS)))
    if not 0 <= blend <= 1:
        raise SettingsError(f"{blend:g} is no share", where="--blend", now="give a number from 0 to 1")
    if space and to != "open-clip":
        raise SettingsError(f"a Space loads no {to}", where="--space", now="leave out --to")
    runs = load_runs(embedded.workspace)
    name = chosen_run(embedded.workspace, runs, run)
    chosen = runs[name]
    original = {key: head.cpu() for key, head in embedded.heads.items()}
    added = sorted(name for name in chosen.heads if name not in original)
    if added and blend < 1:
        raise SettingsError(
            f"{name} adds {added[0]} to the model, and there is nothing to blend it with",
            where="--blend",
            now="leave it out",
        )
    heads = blended(original, chosen.heads, blend)
    library, write = FORMATS[to]
    rows = split_of(embedded, split, chosen.attribute)
    before, _ = accuracy_of(embedded, original, rows)
    after, _ = accuracy_of(embedded, heads, rows)
    with new_folder(folder) as temporary:
        place = temporary / MODEL if space else temporary
        place.mkdir(exist_ok=True)
        usage = write(embedded.backbone, heads, place)
        content = CardContent(
            model=without_folders(embedded.model.spec),
            random_weights=embedded.model.random_weights,
            dataset=without_folders(embedded.dataset.spec),
            library=library,
            licence=licence,
            run=chosen,
            subject=rows.grouping.subject,
            groups_note=rows.grouping.note,
            blend=blend,
            prompts=embedded.wording.told(embedded.dataset.classes),
            split=split,
            images=len(rows.rows),
            before=before,
            after=after,
            usage=usage,
            version=__version__,
        )
        (place / "README.md").write_text(card(content), encoding="utf-8")
        if space:
            wording = embedded.wording
            asked = {label: fill(wording.templates, wording.names(label)) for label in embedded.dataset.classes}
            title = f"{find_method(chosen.method).title}: {', '.join(list(asked)[:4])}"
            write_space(temporary, title, asked)
    return Exported(folder, name, before, after)


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """A folder beside the one wanted, moved there once it is whole.

    Raises:
        SettingsError: there is something in that place already, or it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError("there is something there already", where=folder, now="name a new folder")
    try:
        with whole_folder(folder) as temporary:
            yield temporary
    except OSError as error:
        raise SettingsError(
            f"it cannot be written ({error.strerror})", where=folder, now="choose another place"
        ) from error
