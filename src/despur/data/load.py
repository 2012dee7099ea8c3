"""The kinds of datasets that lie on disk or a hub, by the word that a spec starts with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from despur.data.examples import Dataset
from despur.data.specs import Spec
from despur.progress import Progress, silent


@dataclass(frozen=True)
class Reading:
    """What a user may say beside the spec.

    Attributes:
        seed: of splits that are drawn.
        allow_outside: let a table name images outside its own folder.
        folder: where images that come inside other files are unpacked.
        progress: shows work that takes long.
    """

    seed: int
    folder: Path
    allow_outside: bool = False
    progress: Progress = silent


def _waterbirds(spec: Spec, reading: Reading) -> Dataset:
    from despur.data.waterbirds import load_waterbirds

    spec.check({"masks", "boxes"})
    return load_waterbirds(Path(spec.place), masks=spec.path("masks"), boxes=spec.path("boxes"))


def _imagenet(spec: Spec, reading: Reading) -> Dataset:
    from despur.data.imagenet import HELD_OUT, load_imagenet

    spec.check({"classes", "attributes", "attribute", "boxes", "heldout"})
    return load_imagenet(
        Path(spec.place),
        classes=spec.words("classes"),
        attributes=spec.path("attributes"),
        attribute=spec.words("attribute"),
        boxes=spec.path("boxes"),
        held_out=spec.count("heldout", HELD_OUT),
        seed=reading.seed,
    )


def _celeba(spec: Spec, reading: Reading) -> Dataset:
    from despur.data.celeba import load_celeba

    spec.check({"target", "attributes", "classes"})
    return load_celeba(
        Path(spec.place),
        target=spec.options.get("target", "Blond_Hair"),
        attributes=spec.words("attributes") or ("Male",),
        classes=spec.words("classes"),
    )


def _wilds(spec: Spec, reading: Reading) -> Dataset:
    from despur.data.wilds import load_wilds

    spec.check(())
    return load_wilds(Path(spec.place))


def _spuco(spec: Spec, reading: Reading) -> Dataset:
    from despur.data.spuco import load_spuco

    spec.check({"classes", "values"})
    return load_spuco(Path(spec.place), classes=spec.words("classes"), values=spec.words("values"))


def _subpopbench(spec: Spec, reading: Reading) -> Dataset:
    from despur.data.subpopbench import load_subpopbench

    spec.check({"classes", "values"})
    return load_subpopbench(
        Path(spec.place),
        classes=spec.words("classes"),
        values=spec.words("values"),
        allow_outside=reading.allow_outside,
    )


def _fiftyone(spec: Spec, reading: Reading) -> Dataset:
    from despur.data.fiftyone import LABEL, load_fiftyone

    spec.check({"label", "box", "attributes"})
    return load_fiftyone(
        Path(spec.place),
        label=spec.options.get("label", LABEL),
        box=spec.options.get("box"),
        attributes=spec.words("attributes"),
        seed=reading.seed,
        allow_outside=reading.allow_outside,
    )


def _table(spec: Spec, reading: Reading) -> Dataset:
    from despur.data.table import load_table

    spec.check({"images"})
    return load_table(Path(spec.place), allow_outside=reading.allow_outside, images=spec.options.get("images"))


def _folder(spec: Spec, reading: Reading) -> Dataset:
    from despur.data.folder import load_folder

    spec.check(())
    return load_folder(spec.place, seed=reading.seed)


def _hf(spec: Spec, reading: Reading) -> Dataset:
    from despur.data.hf import load_hf

    spec.check({"image", "label", "attributes", "config"})
    return load_hf(
        spec.place,
        reading.folder,
        image=spec.options.get("image"),
        label=spec.options.get("label"),
        attributes=spec.words("attributes"),
        config=spec.options.get("config"),
        seed=reading.seed,
        progress=reading.progress,
    )


KINDS: dict[str, Callable[[Spec, Reading], Dataset]] = {
    "waterbirds": _waterbirds,
    "imagenet": _imagenet,
    "celeba": _celeba,
    "wilds": _wilds,
    "spuco": _spuco,
    "subpopbench": _subpopbench,
    "fiftyone": _fiftyone,
    "table": _table,
    "folder": _folder,
    "hf": _hf,
}
