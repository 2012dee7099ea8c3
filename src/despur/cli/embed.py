"""``despur embed``: images to features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from despur.cli.console import bar, command, show
from despur.cli.opening import say_waiting
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
    RandomWeightsOption,
    SeedOption,
    WorkspaceOption,
)


@command
def embed(
    dataset: Annotated[
        str,
        typer.Argument(
            help="waterbirds:, imagenet:, celeba: or folder:DIR, table:FILE, hf:NAME, birdland, or another of README."
        ),
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="open_clip:ARCH/TAG, open_clip:ARCH/FILE, hf:NAME-or-DIR, birdland:resnet."),
    ],
    workspace: WorkspaceOption,
    random_weights: RandomWeightsOption = False,
    trainable: Annotated[
        str, typer.Option(help="What will be retrained: projection or attention-pool.")
    ] = "projection",
    batch_size: Annotated[
        str, typer.Option(help="Images that go through the encoder together; auto: as many as a GPU's memory takes.")
    ] = "64",
    precision: Annotated[
        str, typer.Option(help="What the encoder computes in: float32, bfloat16, float16; auto: half on CUDA.")
    ] = "auto",
    dtype: Annotated[str, typer.Option(help="Precision of the features on disk: float16 or float32.")] = "float16",
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the images that may be unreadable.")
    ] = 0.01,
    prompts: Annotated[
        Path | None, typer.Option(help="YAML file of templates, and of what classes and attributes are called in them.")
    ] = None,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Let a table name images outside its own folder.")
    ] = False,
    engine: EngineOption = "loop",
    address: AddressOption = None,
    actors: ActorsOption = 1,
    num_gpus: GpusOption = 0.0,
    num_cpus: CpusOption = 1.0,
    mirror: MirrorOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run the frozen image encoder over a dataset and keep its features; goes on where it was stopped.

    Example: despur embed waterbirds:DIR --model open_clip:RN50/openai -w WORK
    """
    from functools import partial

    from despur.catalog import check_model, choose_device, load_backbone, load_dataset
    from despur.data.quarantine import check_share
    from despur.features.batching import EmbedChoices
    from despur.features.engines import choose_engine
    from despur.features.mirror import named_mirror
    from despur.features.ray_actors import RaySettings
    from despur.pipeline import ModelSettings, embed_stage
    from despur.pipeline.embedded import Embedded
    from despur.pipeline.settings import checked
    from despur.pipeline.wording import read_wording, wording_stage
    from despur.workspace import Workspace

    chosen = checked(EmbedChoices, {"batch_size": batch_size, "precision": precision, "dtype": dtype}, where="embed")
    model_settings = checked(
        ModelSettings,
        {"spec": model, "random_weights": random_weights, "trainable": trainable, "seed": seed},
        where="model",
    )
    spread = checked(
        RaySettings, {"actors": actors, "address": address, "num_gpus": num_gpus, "num_cpus": num_cpus}, where="engine"
    )
    wording = read_wording(prompts)
    check_share(max_unreadable)
    check_model(model, random_weights=random_weights)
    where = choose_device(device)
    load = partial(
        load_backbone,
        model,
        random_weights=random_weights,
        trainable=trainable,
        device=spread.device,
        seed=seed,
    )
    computing, kept = choose_engine(engine, load, spread), named_mirror(mirror)
    examples = load_dataset(dataset, seed=seed, allow_outside=allow_outside, folder=workspace, progress=bar)
    backbone = load_backbone(model, random_weights=random_weights, trainable=trainable, device=where, seed=seed)
    opened = Workspace.create(workspace, dataset=dataset, model=model, on_wait=say_waiting)
    with opened.lock(on_wait=say_waiting):
        reworded = wording_stage(opened, wording, examples, backbone)
        computed = embed_stage(
            opened,
            examples,
            backbone,
            model_settings,
            settings=chosen,
            max_unreadable=max_unreadable,
            engine=computing,
            mirror=kept,
            progress=bar,
        )
        embedded = Embedded(opened, where, backbone)
    result = {
        "workspace": str(opened.root),
        "images": len(embedded.store),
        "unreadable": len(embedded.store.unreadable),
        "computed": computed,
        "reworded": reworded,
    }
    show(
        result,
        as_json=as_json,
        text=lambda: (
            f"{result['images']} images embedded in {opened.root}"
            + (f", {result['unreadable']} unreadable (quarantine.parquet)" if result["unreadable"] else "")
            + ("" if computed else "; they were up to date" if reworded else "; everything was up to date")
            + ("; prompts are worded anew, and what was made with others counts no more" if reworded else "")
        ),
    )
