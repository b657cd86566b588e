"""uploads expire: files on their way in that nobody finished."""

from datetime import timedelta

import click

from cli.client import opened
from cli.command import Commands
from cli.output import Output, say
from cli.text import count


@click.group(cls=Commands)
def uploads() -> None:
    """Clear away uploads that nobody finished."""


@uploads.command("expire", examples=["adapters uploads expire --older-than 2"])
@click.option(
    "--older-than", "days", type=click.FloatRange(0, 36_500), default=7, show_default=True, metavar="DAYS", help="Days."
)
def expire(out: Output, days: float) -> None:
    """Forget uploads that were begun before so many days, and what came of them.

    For those who run the registry. A server does so every hour by itself, after seven days.
    """
    with opened() as registry:
        expired = registry.expire_uploads(timedelta(days=days))
    out.answer({"expired": expired}, lambda: say(f"{count(expired, 'upload')} forgotten"))
