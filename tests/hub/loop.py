"""Run by a client's Python: calls the functions in calls/ that it is told, and writes what comes of each.

A line in is {"name": "file.function", "arguments"}; a line out {"result"}, or {"error": the exception's classes,
"text": what its user sees}. Whatever the libraries print goes to stderr.
"""

import json
import os
import runpy
import sys
import traceback
from functools import cache
from pathlib import Path

_CALLS = Path(__file__).parent / "calls"


@cache
def calls(file: str) -> dict:
    return runpy.run_path(str(_CALLS / f"{file}.py"))


def answer(name: str, arguments: dict) -> dict:
    file, _, function = name.partition(".")
    try:
        return {"result": calls(file)[function](**arguments)}
    except Exception as error:
        return {"error": [kind.__name__ for kind in type(error).__mro__], "text": traceback.format_exc()}


def main() -> None:
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            answers.write(json.dumps(answer(**json.loads(line))) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
