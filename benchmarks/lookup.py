"""Look-ups by reference, and searches, in catalogs of 10, 10,000 and 1,000,000 versions.

    python -m benchmarks.lookup [--sizes 10,10000] [--databases sqlite,postgresql]

The law: a look-up costs the same however many versions there are (at most 1.2 times as much as among ten). Sizes take
turns in every round, so that a slow moment of the machine hits all of them. Every file is read once before: pages come
from memory, since from a cold disk a look-up among a million costs what the disk's random reads cost. PostgreSQL comes
from a wheel, or is the server that ADAPTERS_TEST_POSTGRES names.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from benchmarks.bulk_load import populate
from benchmarks.catalog_rows import RARE_RANK, RARE_TOPIC, Population, digest_of, fingerprint_of, name_of, place
from benchmarks.databases import fresh_database, warm
from registry.domain.records import SearchQuery
from registry.domain.reference import Reference
from registry.sql.engine import Database

SIZES = (10, 10_000, 1_000_000)
DATABASES = ("sqlite", "postgresql")
TARGET = 1.2
LOOK_UPS = ("main", "version", "alias", "digest")
WARM_UP = 100  # look-ups that don't count
ROUNDS = 1500
SEARCH_ROUNDS = 7

SEARCHES = {
    "newest": SearchQuery(),
    "base, common": SearchQuery(base="base0"),
    "base, 1 in 1,000": SearchQuery(base=f"sha256:{fingerprint_of(4)[:12]}"),
    "rank 8..16": SearchQuery(rank_min=8, rank_max=16),
    "rank, 1 in 50,000": SearchQuery(rank_min=RARE_RANK),
    "targets q_proj, v_proj": SearchQuery(targets=("q_proj", "v_proj")),
    "target, 1 in 20,000": SearchQuery(targets=("lm_head",)),
    "text, common": SearchQuery(text="senti"),
    "text, 1 in 10,000": SearchQuery(text=RARE_TOPIC),
    "text, in none": SearchQuery(text="nothing"),
    "metric accuracy>=0.5": SearchQuery(metrics=(("accuracy", 0.5),)),
    "metric, best 1 in 10,000": SearchQuery(metrics=(("accuracy", 0.9999),)),
    "base, rank, target, text": SearchQuery(base="base0", rank_min=8, targets=("query",), text="support"),
    "two that exclude each other": SearchQuery(targets=("query", "q_proj")),
}


@dataclass
class Catalogue:
    """A populated database, and what was measured in it (seconds)."""

    kind: str
    count: int
    url: str
    database: Database
    times: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, what: str, work: Callable[[], object]) -> None:
        started = time.perf_counter()
        work()
        self.times.setdefault(what, []).append(time.perf_counter() - started)

    def look_up(self, reference: Reference) -> None:
        with self.database.reading() as catalog:
            if catalog.versions.find(reference) is None:
                raise LookupError(str(reference))

    def search(self, query: SearchQuery) -> None:
        with self.database.reading() as catalog:
            catalog.search.versions(query)

    def percentile(self, what: str, percent: int) -> float:
        return statistics.quantiles(self.times[what], n=100, method="inclusive")[percent - 1]


def reference_to(index: int, how: str) -> Reference:
    """A reference that finds a version, or one of its adapter's."""
    adapter, number = place(index)
    selector = {"main": "", "version": f"@v{number}", "alias": "@production", "digest": f"@sha256:{digest_of(index)}"}
    team, name = name_of(adapter)
    return Reference.parse(f"{team}/{name}{selector[how]}")


def run(
    sizes: Sequence[int] = SIZES, databases: Sequence[str] = DATABASES, *, rounds: int = ROUNDS
) -> dict[tuple[str, int, str], float]:
    """Populate, measure and print; the ratio of p50 to that of the smallest size by (database, size, look-up)."""
    with ExitStack() as stack:
        catalogues = [stack.enter_context(_catalogue(kind, size)) for kind in databases for size in sizes]
        for catalogue in catalogues:
            warm(catalogue.url)  # loading the last ones may have driven the first ones out of memory
        _measure_look_ups(catalogues, rounds)
        ratios = _print_look_ups(catalogues)
        _measure_searches(catalogues)
        _print_searches(catalogues)
    return ratios


def _measure_look_ups(catalogues: Sequence[Catalogue], rounds: int) -> None:
    chance = random.Random(7)
    for number in range(WARM_UP + rounds):
        if number == WARM_UP:
            for catalogue in catalogues:
                catalogue.times.clear()
        for how in LOOK_UPS:
            for catalogue in chance.sample(catalogues, len(catalogues)):
                reference = reference_to(chance.randrange(catalogue.count), how)
                catalogue.measure(how, partial(catalogue.look_up, reference))


def _measure_searches(catalogues: Sequence[Catalogue]) -> None:
    for _ in range(SEARCH_ROUNDS):
        for what, query in SEARCHES.items():
            for catalogue in catalogues:
                catalogue.measure(what, partial(catalogue.search, query))


def _print_look_ups(catalogues: Sequence[Catalogue]) -> dict[tuple[str, int, str], float]:
    print(f"\nLook-up by reference, ms, and p50 against the smallest catalog (target <= {TARGET})")
    print(f"{'database':<12}{'versions':>10}  {'by':<9}{'p50':>8}{'p99':>8}{'ratio':>8}")
    ratios: dict[tuple[str, int, str], float] = {}
    for catalogue in catalogues:
        smallest = min((c for c in catalogues if c.kind == catalogue.kind), key=lambda c: c.count)
        for how in LOOK_UPS:
            p50, p99 = (catalogue.percentile(how, percent) for percent in (50, 99))
            ratio = p50 / smallest.percentile(how, 50)
            ratios[catalogue.kind, catalogue.count, how] = ratio
            print(
                f"{catalogue.kind:<12}{catalogue.count:>10,}  {how:<9}{p50 * 1e3:>8.2f}{p99 * 1e3:>8.2f}{ratio:>8.2f}"
                + ("" if ratio <= TARGET else "  above the target")
            )
    return ratios


def _print_searches(catalogues: Sequence[Catalogue]) -> None:
    print("\nSearch, first page of 50, median ms")
    print(f"{'':<30}" + "".join(f"{f'{c.kind} {c.count:,}':>22}" for c in catalogues))
    for what in SEARCHES:
        costs = (f"{catalogue.percentile(what, 50) * 1e3:>22.1f}" for catalogue in catalogues)
        print(f"{what:<30}" + "".join(costs))


@contextmanager
def _catalogue(kind: str, count: int) -> Iterator[Catalogue]:
    with fresh_database(kind) as url:
        database = Database(url)
        started = time.perf_counter()
        populate(database, Population(count))
        print(f"{kind}: {count:,} versions loaded in {time.perf_counter() - started:.1f} s", flush=True)
        yield Catalogue(kind, count, url, database)
        database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Look-ups and searches in catalogs of growing size.")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of versions, by commas")
    parser.add_argument("--databases", default=",".join(DATABASES), help="sqlite, postgresql or both, by commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="look-ups of each kind in each catalog")
    given = parser.parse_args()
    run([int(size) for size in given.sizes.split(",")], given.databases.split(","), rounds=given.rounds)


if __name__ == "__main__":
    main()
