"""``despur review``: the page on which a person judges the ranked pairs."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from despur.cli.console import command, say, show
from despur.cli.options import DebugOption, DeviceOption, JsonOption, UnusedSeedOption, WorkspaceOption

NOBODY = "reviewer"
"""Who judges where the system knows no name."""


def _user() -> str:
    """Who runs the command, as far as the system can say."""
    from despur.review.events import person_name

    try:
        return person_name(getpass.getuser()) or NOBODY
    except (OSError, KeyError):  # no such user in this container
        return NOBODY


@command
def review(
    workspace: WorkspaceOption,
    host: Annotated[
        str, typer.Option(help="Address to serve on; elsewhere than on this machine a token is asked for.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 0,
    known_as: Annotated[
        list[str] | None, typer.Option(help="A name under which others reach this machine; several times for several.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Who judges; each browser can say otherwise.", show_default="your user name")
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Offer explanation maps (loads the model).")] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    device: DeviceOption = "cpu",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Judge the ranked pairs in a browser; Ctrl-C ends it, and every verdict is kept the moment it is given.

    Examples: despur review -w WORK
              despur review -w WORK --maps --name "Ada"
    """
    import webbrowser

    from despur.pipeline.reviewing import ranking_is_current, review_maps
    from despur.review.serve import bind, serve
    from despur.review.session import Session
    from despur.workspace import Workspace

    opened = Workspace.open(workspace)
    drawer = None
    if maps:
        from despur.catalog import choose_device
        from despur.pipeline.embedded import Embedded

        drawer = review_maps(Embedded(opened, choose_device(device)))
    session = Session(opened, name=_user() if name is None else name, is_current=ranking_is_current, maps=drawer)
    place = bind(host, port, known_as=tuple(known_as or ()))

    def started() -> None:
        show({"url": place.url}, as_json=as_json, text=lambda: place.url)
        sys.stdout.flush()  # a program that reads the address from a pipe would wait for it for ever
        say("every verdict is kept at once; Ctrl-C ends the review")
        if not maps:
            say("start it with --maps to see where the model looks")
        if browser and place.token is None:
            webbrowser.open(place.url)

    serve(session, place, on_start=started)
