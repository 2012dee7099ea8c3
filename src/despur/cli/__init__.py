"""The command line: one module a command, arguments in, printing out. Nothing heavy is imported before it runs."""

from __future__ import annotations

import typer

from despur.cli import (
    birdland,
    check,
    compare,
    datasets,
    demo,
    detect,
    diff,
    doctor,
    embed,
    evaluate,
    explain,
    export,
    figures,
    init,
    mitigate,
    predict,
    rank,
    repair,
    report,
    reproduce,
    review,
    run,
    verdicts,
)

app = typer.Typer(
    name="despur",
    help="Find, judge, repair and prove: shortcuts that CLIP-like models take.",
    epilog="Start with: despur demo --quick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("run")(run.run)
app.command("embed")(embed.embed)
app.command("predict")(predict.predict)
app.command("detect")(detect.detect)
app.command("rank")(rank.rank)
app.command("review")(review.review)
app.command("mitigate")(mitigate.mitigate)
app.command("compare")(compare.compare)
app.command("evaluate")(evaluate.evaluate)
app.command("explain")(explain.explain)
app.command("figures")(figures.figures)
app.command("report")(report.report)
app.command("check")(check.check)
app.command("export")(export.export)
app.command("diff")(diff.diff)
app.command("repair")(repair.repair)
app.command("reproduce")(reproduce.reproduce)
app.command("doctor")(doctor.doctor)
app.add_typer(birdland.app, name="birdland")
app.add_typer(datasets.app, name="datasets")
app.add_typer(verdicts.app, name="verdicts")


def main() -> None:
    """The ``despur`` command."""
    app()
