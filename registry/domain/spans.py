"""Spans: somebody who measures is told that something begins, and how it ended.

Who that is, and where the figures go, is no business of the rooms that tell.
"""

from collections.abc import Callable, Mapping

Finish = Callable[[BaseException | None], None]  # what it ended with; None where it went well
Begin = Callable[[str, Mapping[str, str]], Finish]  # its name and attributes
