"""The cluster behind `make cluster`."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from tests.cluster.processes import WORKERS, Cluster
from tests.servers import Site

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(demo: Site) -> Iterator[Cluster]:
    with Cluster(demo) as cluster:
        yield cluster


def workers_that_answer(cluster: Cluster) -> set[str]:
    """Ask nginx often enough that every worker has its turn; return who answered."""
    answered = set()
    for _ in range(3 * WORKERS):
        with urlopen(cluster.url) as answer:
            assert answer.status == 200
            answered.add(answer.headers["X-Worker"].rpartition(",")[2].strip())
    return answered


def test_nginx_shares_out_among_all_workers_and_goes_on_without_one(cluster: Cluster) -> None:
    addresses = {f"127.0.0.1:{worker.port}" for worker in cluster.workers}
    assert workers_that_answer(cluster) == addresses

    cluster.workers[0].kill()

    assert workers_that_answer(cluster) == addresses - {f"127.0.0.1:{cluster.workers[0].port}"}
