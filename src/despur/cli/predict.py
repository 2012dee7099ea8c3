"""``despur predict``: what the model says of each image, before any repair."""

from __future__ import annotations

from despur.cli.console import command, show
from despur.cli.opening import opened
from despur.cli.options import DebugOption, DeviceOption, JsonOption, UnusedSeedOption, WorkspaceOption


@command
def predict(
    workspace: WorkspaceOption,
    device: DeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Zero-shot predictions of every embedded image, into predictions.parquet.

    Example: despur predict -w WORK
    """
    from despur.pipeline import predict_stage
    from despur.workspace import read_parquet

    with opened(workspace, device) as embedded:
        computed = predict_stage(embedded)
        correct = read_parquet(embedded.workspace.path("predictions.parquet"))["correct"].to_numpy()
    result = {"images": len(correct), "accuracy": float(correct.mean()), "computed": computed}
    show(
        result,
        as_json=as_json,
        text=lambda: f"{result['images']} images, {100 * correct.mean():.1f}% of them recognised (zero-shot)",
    )
