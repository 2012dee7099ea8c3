"""The stages embed and predict: images to features, and what the model says of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.torch import save_file

from despur.backbones.protocol import Backbone
from despur.data.examples import Dataset, to_arrow
from despur.data.images import fingerprint_images
from despur.data.quarantine import (
    MAX_UNREADABLE,
    absent_rows,
    absent_table,
    check_share,
    check_unreadable,
    quarantine_table,
)
from despur.errors import WorkspaceError
from despur.features.batching import EmbedChoices
from despur.features.decode import is_passing
from despur.features.engine import EmbedSettings, Engine, loop
from despur.features.mirror import ShardMirror
from despur.features.predict import PREDICTED_AT_ONCE, predict
from despur.features.store import FeatureStore, begun_batch_size, embed_to_store
from despur.pipeline.embedded import EMBED, PREDICT, Embedded
from despur.pipeline.runner import run_stage
from despur.pipeline.settings import ModelSettings
from despur.progress import Progress, silent
from despur.workspace import Workspace, fingerprint, write_parquet, write_whole


def embed_stage(
    workspace: Workspace,
    dataset: Dataset,
    backbone: Backbone,
    model: ModelSettings,
    *,
    settings: EmbedSettings | EmbedChoices | None = None,
    max_unreadable: float = MAX_UNREADABLE,
    engine: Engine = loop,
    mirror: ShardMirror | None = None,
    progress: Progress = silent,
) -> bool:
    """Features of every image, the pre-trained heads, and the examples that could be read.

    Writes ``features/``, ``examples.parquet`` and ``quarantine.parquet``; returns whether anything was computed.
    The engine and the mirror change no byte, so that other ones do not make what is there stale.

    Args:
        settings: batch, precision and shard sizes. Of choices, a batch size of "auto" is the one of the features that
            are there, where they are otherwise what would be computed.
        mirror: where the shards of ``features/`` are kept too.

    Raises:
        DataError: more than ``max_unreadable`` of the images cannot be read, or the mirror cannot be reached.
        SettingsError: ``max_unreadable`` is no share.
    """
    check_share(max_unreadable)
    known = fingerprint_images(dataset.image_paths(), progress)
    absent = absent_rows(known)
    # Before anything is touched: a share that is not mounted must not cost the features that were made when it was.
    lost = absent_table(dataset, absent)
    if absent and workspace.record(EMBED) is None:
        write_parquet(workspace.path("quarantine.parquet"), lost)
    check_unreadable(lost, len(dataset), max_unreadable, where=dataset.spec)
    contents = fingerprint(known)
    del known
    table = to_arrow(dataset)
    weights = backbone.fingerprint()
    inputs = fingerprint(contents, table_fingerprint(table), weights)
    folder = workspace.path("features")

    def state_of(settings: EmbedSettings) -> str:
        # Labels and other columns change no feature: shards of the same images and weights stay good.
        return fingerprint(contents, weights, settings.dtype, settings.precision, settings.shard_rows)

    if isinstance(settings, EmbedChoices):
        settings = settings.settled(backbone, lambda found: begun_batch_size(folder, state_of(found), found))
    settings = settings or EmbedSettings()
    outputs = [
        folder / "index.json",
        folder / "heads.safetensors",
        workspace.path("examples.parquet"),
        workspace.path("quarantine.parquet"),
    ]

    def work() -> None:
        store = embed_to_store(
            dataset,
            backbone,
            folder,
            state=state_of(settings),
            settings=settings,
            absent=set(absent),
            engine=engine,
            mirror=mirror,
            progress=progress,
        )
        quarantine = quarantine_table(store.unreadable, dataset)
        write_parquet(workspace.path("quarantine.parquet"), quarantine)
        check_unreadable(quarantine, len(dataset), max_unreadable, where=dataset.spec)
        with write_whole(folder / "heads.safetensors") as temporary:
            save_file(backbone.heads(), temporary)
        write_parquet(workspace.path("examples.parquet"), to_arrow(_readable(dataset, store)))

    if not _is_final(folder):
        (folder / "index.json").unlink(missing_ok=True)  # the shards that are sound are kept
    chosen = settings.model_dump(mode="json", exclude={"workers"})  # which change no byte
    return run_stage(
        workspace,
        EMBED,
        settings={"model": model.model_dump(mode="json"), "embed": chosen},
        inputs=inputs,
        outputs=outputs,
        work=work,
        seed=model.seed,
        device=backbone.device,
        weights=weights,
    )


def _is_final(folder: Path) -> bool:
    """Whether the store is there, every shard holds the bytes that were written, and no image may be read by now."""
    try:
        store = FeatureStore(folder)
    except WorkspaceError:
        return False
    return not store.damaged() and not any(is_passing(reason) for _, _, reason in store.unreadable)


def _readable(dataset: Dataset, store: FeatureStore) -> Dataset:
    kept = set(store.ids)
    return dataset.rows(np.array([name in kept for name in dataset.ids]))


def images_fingerprint(paths: Sequence[Path], progress: Progress = silent) -> str:
    """One fingerprint over the contents of files, in order; a file that cannot be opened counts as such."""
    return fingerprint(fingerprint_images(paths, progress))


def table_fingerprint(table: pa.Table) -> str:
    """A fingerprint of a table's values and of what its metadata say."""
    metadata = {str(key): str(value) for key, value in (table.schema.metadata or {}).items()}
    return fingerprint(metadata, _rows_fingerprint(table))


def _rows_fingerprint(table: pa.Table) -> str:
    """A fingerprint of a table's columns and values; how its rows are chunked does not count."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None).combine_chunks())
    return fingerprint(sink.getvalue().to_pybytes())


def predict_stage(embedded: Embedded) -> bool:
    """Zero-shot predictions of every image: writes ``predictions.parquet``; returns whether anything was computed."""
    workspace = embedded.workspace
    file = workspace.path("predictions.parquet")

    def work() -> None:
        table = predict(
            embedded.dataset.ids,
            embedded.dataset.labels,
            embedded.store.batches(PREDICTED_AT_ONCE),
            embedded.heads,
            embedded.class_prompts,
        )
        write_parquet(file, table)

    return run_stage(
        workspace, PREDICT, settings={}, inputs=embedded.state, outputs=[file], work=work, device=embedded.device
    )
