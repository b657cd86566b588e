"""A sender of webhooks in a process of its own, to be killed."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from registry.domain.webhooks import Patience

SENDER = """
import sys
from datetime import timedelta
from registry.blobs.memory import MemoryStore
from registry.domain.webhooks import Patience
from registry.service import Registry
from registry.service.delivering import Deliverer
from registry.sql.engine import Database
url, webhook, lease = sys.argv[1:]
registry = Registry(Database(url), MemoryStore(), webhook_targets="127.0.0.0/8")
Deliverer(registry, Patience(timeout=30, lease=timedelta(seconds=float(lease)))).deliver(int(webhook))
"""


@contextmanager
def doomed_sender(database_url: str, webhook_id: int, patience: Patience) -> Iterator[Callable[[], None]]:
    """Start a sender for a webhook; what is given kills it."""
    lease = str(patience.lease.total_seconds())
    process = subprocess.Popen([sys.executable, "-c", SENDER, database_url, str(webhook_id), lease])

    def kill() -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    try:
        yield kill
    finally:
        kill()
