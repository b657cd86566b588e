"""One intra-op thread around whatever must give the same bits on every machine.

MKL and LAPACK add up in another order when they have more threads, and small factors are computed faster in one anyway.
With OpenMP, which torch is built with on Linux, `torch.set_num_threads` sets the calling thread's own number, and what
threads that torch hasn't seen yet begin with. So concurrent callers don't disturb each other's results, and no lock is
needed: a thread that is started by somebody else meanwhile may at worst keep one thread for itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in the calling thread alone, then as before. Also a decorator; nests."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare(device: str) -> None:
    """Let this thread compute on a CPU the way that is fastest for small factors, and the same bits everywhere."""
    if device == "cpu" or not torch.cuda.is_available():
        torch.set_num_threads(1)
