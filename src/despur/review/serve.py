"""Runs the page: on this machine alone, or for others behind a token."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass

from despur.errors import SettingsError
from despur.review.app import create_app
from despur.review.safety import LOOPBACK_NAMES, is_loopback
from despur.review.session import Session


@dataclass(frozen=True)
class Place:
    """Where a page is served.

    Attributes:
        hosts: names under which it answers.
        token: what the first address must hold; None on this machine alone.
        url: what to open.
    """

    listener: socket.socket
    hosts: frozenset[str]
    token: str | None
    url: str


def bind(host: str = "127.0.0.1", port: int = 0, *, known_as: tuple[str, ...] = ()) -> Place:
    """Take a port; elsewhere than on this machine alone, a token is drawn.

    Args:
        host: address to bind to; empty, ``0.0.0.0`` and ``::``: every one that this machine has.
        port: 0: any that is free.
        known_as: further names under which others reach this machine.

    Raises:
        SettingsError: the address is not of this machine, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError, TypeError) as error:  # TypeError: a name that no encoding of hosts' names holds
        listener.close()
        raise SettingsError(
            f"{host} port {port} cannot be used ({error})", where="review", now="choose another --host or --port"
        ) from error
    taken = listener.getsockname()[1]
    local = is_loopback(host)
    token = None if local else secrets.token_urlsafe(32)
    everywhere = host in ("", "0.0.0.0", "::")
    shown = socket.gethostname() if everywhere else host
    hosts = LOOPBACK_NAMES | {shown.lower(), host.lower(), *(name.lower() for name in known_as)}
    authority = f"[{shown}]" if ":" in shown else shown
    query = "" if token is None else f"?token={token}"
    return Place(listener, frozenset(hosts), token, f"http://{authority}:{taken}/{query}")


def serve(session: Session, place: Place, *, on_start: Callable[[], None] = lambda: None) -> None:
    """Answer until the process is stopped.

    Args:
        on_start: called when the page can be opened.
    """
    import uvicorn

    app = create_app(session, hosts=place.hosts, token=place.token)
    # No access log: the first address holds the token.
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, ws="none")
    server = uvicorn.Server(config)
    place.listener.listen(128)
    on_start()
    server.run(sockets=[place.listener])
