"""Run the benchmarks: all of them, or those that are named (`make bench ARGS="startup transfer"`).

    startup      how long the program takes to start, against importing what it needs
    http         look-ups over HTTP, against the same server's empty answer and MLflow's; only where it is named
                 (`make bench-http`)
    hub          a Hugging Face client's pulls and pushes, against a bare static server and against LFS; only where
                 it is named (`make bench-hub`)
    lookup       a reference among 10, 10,000 and 1,000,000 versions, on SQLite and PostgreSQL
    transfer     push and pull of 100 MB, against cp plus one sha256
    together     eight files of 1 GB at once through a server: by how much its memory grows (needs 30 GB of disk)
    blobs        the folder store, against cp and sha256; memory of a large blob
    fingerprint  a base model's fingerprint, against hashing the same bytes
    compose      sums, truncations, TIES and KnOTS, against PEFT, formulas and cp
    merge        into a 2 GB base, against cp, PEFT and mergekit (installs mergekit into a cache of its own)
    quality      accuracy of every method on real adapters, against PEFT; only where it is named (`make bench-quality`)

Each prints ratios from interleaved rounds of one run; `python -m benchmarks.NAME --help` has its options.
"""

import subprocess
import sys

NAMES = ("startup", "transfer", "together", "blobs", "fingerprint", "compose", "merge", "lookup")
BY_NAME_ONLY = ("http", "hub", "quality")


def main() -> int:
    chosen = sys.argv[1:] or list(NAMES)
    if unknown := [name for name in chosen if name not in NAMES + BY_NAME_ONLY]:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES + BY_NAME_ONLY)}", file=sys.stderr)
        return 2
    failed = []
    for name in chosen:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
            failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
