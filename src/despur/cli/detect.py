"""``despur detect``: what else the images show."""

from __future__ import annotations

from typing import Annotated

import typer

from despur.cli.console import command, show
from despur.cli.opening import opened
from despur.cli.options import (
    ActorsOption,
    AddressOption,
    CpusOption,
    DebugOption,
    DeviceOption,
    EngineOption,
    GpusOption,
    JsonOption,
    MirrorOption,
    UnusedSeedOption,
    WorkspaceOption,
)


@command
def detect(
    workspace: WorkspaceOption,
    detector: Annotated[
        str,
        typer.Option(
            "--detector",
            "-d",
            help="owlvit, owlv2, grounding-dino, hf:NAME-or-DIR, birdland:detector, tagger (the model under study), "
            "column (the dataset's own attributes).",
        ),
    ] = "owlvit",
    vocabulary: Annotated[
        list[str] | None,
        typer.Option(
            "--vocabulary",
            "-v",
            help="builtin, imagenet, visual-genome:DIR, file:PATH, birdland; may be given several times.",
            show_default="builtin",
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Score above which something is seen; the detector's own by default.")
    ] = None,
    synonyms: Annotated[
        float | None, typer.Option(help="Leave out phrases this close to a class (cosine of text embeddings).")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Search only train, val or test.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images that go through the detector together.")] = 8,
    workers: Annotated[int, typer.Option(help="Threads that read images ahead.")] = 2,
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the images that may be unreadable.")
    ] = 0.01,
    engine: EngineOption = "loop",
    address: AddressOption = None,
    actors: ActorsOption = 1,
    num_gpus: GpusOption = 0.0,
    num_cpus: CpusOption = 1.0,
    mirror: MirrorOption = None,
    device: DeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Look for a vocabulary's phrases in every image, into detections.parquet; goes on where it was stopped.

    The names of the classes themselves are not looked for.

    Examples: despur detect -w WORK --detector owlvit --vocabulary visual-genome:DIR
              despur detect -w WORK --detector tagger --vocabulary file:phrases.txt
    """
    from despur.detect import DetectSettings
    from despur.features.engines import chosen_actors
    from despur.features.mirror import named_mirror
    from despur.features.ray_actors import RaySettings
    from despur.pipeline.detecting import count_detections, detect_stage, finished_search
    from despur.pipeline.settings import SearchSettings, checked

    settings = checked(
        SearchSettings,
        {
            "detector": detector,
            "vocabulary": tuple(vocabulary or ["builtin"]),
            "threshold": threshold,
            "synonyms": synonyms,
            "split": split,
        },
        where="detect",
    )
    search = checked(DetectSettings, {"batch_size": batch_size, "workers": workers}, where="detect")
    spread = checked(
        RaySettings,
        {"actors": actors, "address": address, "num_gpus": num_gpus, "num_cpus": num_cpus},
        where="engine",
    )
    looking, kept = chosen_actors(engine, spread), named_mirror(mirror)
    with opened(workspace, device) as embedded:
        computed = detect_stage(
            embedded, settings, search=search, actors=looking, mirror=kept, max_unreadable=max_unreadable
        )
        _, searched = finished_search(embedded.workspace)
        found = count_detections(embedded.workspace)
    removed = [{"phrase": gone.phrase, "reason": gone.reason} for gone in searched.removed]
    result = {
        "workspace": str(embedded.workspace.root),
        "phrases": len(searched.phrases),
        "removed": removed,
        "detections": found,
        "quarantined": len(searched.quarantined),
        "computed": computed,
    }

    def text() -> str:
        lines = [f"{found:,} detections of {len(searched.phrases):,} phrases"]
        if removed:
            few = "; ".join(f"{gone['phrase']} ({gone['reason']})" for gone in removed[:5])
            lines.append(f"not looked for: {few}" + (f"; {len(removed) - 5} more (--json)" if removed[5:] else ""))
        if searched.quarantined:
            lines.append(f"{len(searched.quarantined):,} images could not be judged and count nowhere")
        return "\n".join(lines + ([] if computed else ["everything was up to date"]))

    show(result, as_json=as_json, text=text)
