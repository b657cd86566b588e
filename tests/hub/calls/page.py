"""The Python of docs/huggingface.md, as it stands there."""

import os


def run(text, folder):
    os.chdir(folder)
    exec(compile(text, "docs/huggingface.md", "exec"), {})
