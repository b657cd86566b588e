"""login and logout: the tokens of servers, kept for their origins."""

import os
import sys
from typing import Any

import click

from cli.command import command
from cli.output import Output, facts, next_step, say, warn
from cli.remote.keyring import Keyring
from cli.remote.origin import is_exposed, origin_of, server_url
from registry.domain.errors import ServerFailure, WrongUsage
from registry.settings import Settings

_url_argument = click.argument("url", metavar="URL", help="the server's address, as https://registry.example")


@command("login", "adapters login https://registry.example")
@_url_argument
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
def login(out: Output, url: str, token_stdin: bool) -> None:
    """Keep a token for a server, once it has been verified there.

    The token is asked for without showing it. It is kept in ADAPTERS_HOME, readable by you only, and sent to exactly
    that scheme, host and port. ADAPTERS_TOKEN goes before it.
    """
    url = server_url("URL", url)
    if is_exposed(url) and not out.as_json:
        warn("this address is not encrypted: whoever listens on the way can read the token")
    token = _token(token_stdin)
    me = _who_is(url, token)
    keyring = Keyring(Settings.from_environment(os.environ).home)
    keyring.keep(origin_of(url), token)
    document = {"url": url, "name": str(me["name"]), "operator": bool(me["operator"]), "token_file": str(keyring.path)}
    out.answer(document, lambda: _describe(document))


def _token(from_stdin: bool) -> str:
    given = sys.stdin.readline() if from_stdin else click.prompt("Token", hide_input=True, err=True)
    token = str(given).strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise WrongUsage("that is no token: they look like adp_…")
    return token


def _who_is(url: str, token: str) -> dict[str, Any]:
    from cli.remote.connection import Connection  # lazy: start-up time

    connection = Connection(url, token)
    try:
        me = connection.get("/v1/me")
        if not isinstance(me, dict) or not {"name", "operator"} <= me.keys():
            raise ServerFailure("it answered something that this program can't read", url)
        return me
    finally:
        connection.close()


def _describe(document: dict[str, Any]) -> None:
    who = document["name"] + (", who runs it" if document["operator"] else "")
    facts([("server", document["url"]), ("you are", who), ("kept in", document["token_file"])])
    next_step(f"ADAPTERS_REGISTRY={document['url']} adapters list")


@command("logout", "adapters logout https://registry.example")
@_url_argument
def logout(out: Output, url: str) -> None:
    """Forget the token of a server.

    The token itself stays good: `adapters token revoke` ends it.
    """
    url = server_url("URL", url)
    known = Keyring(Settings.from_environment(os.environ).home).forget(origin_of(url))
    text = f"the token for {url} is forgotten" if known else f"there was no token for {url}"
    out.answer({"url": url, "forgotten": known}, lambda: say(text))
