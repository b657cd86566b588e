"""Run by a client's Python: calls functions that arrive as source, one a line, and writes what comes of each.

A line in is {"source", "name", "arguments"}, a line out {"result"} or {"error": the exception's class, "text": what its
user sees}. Whatever the libraries print goes to stderr.
"""

import __future__
import json
import os
import sys
import traceback


def main() -> None:
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            answers.write(json.dumps(answer(**json.loads(line))) + "\n")
            answers.flush()


def answer(source: str, name: str, arguments: dict) -> dict:
    names: dict = {}
    try:
        exec(compile(source, f"<{name}>", "exec", flags=__future__.annotations.compiler_flag), names)
        return {"result": names[name](**arguments)}
    except BaseException as error:
        return {"error": [kind.__name__ for kind in type(error).__mro__], "text": traceback.format_exc()}


if __name__ == "__main__":
    main()
