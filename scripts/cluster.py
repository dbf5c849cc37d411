"""Serves the demo from a cluster on this machine until Ctrl-C: `python -m scripts.cluster PORT`."""

from __future__ import annotations

import signal
import sys
import threading

from tests.cluster.processes import Cluster
from tests.servers import ROOT, demo_site


def main() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    directory = ROOT / "demo_project" / "data" / "cluster"
    directory.mkdir(parents=True, exist_ok=True)
    with Cluster(demo_site(directory, DEMO="0"), port=int(sys.argv[1])) as cluster:
        workers = ", ".join(worker.url for worker in cluster.workers)
        print(f"Serving {cluster.url}/ from {workers}")
        print(f"What Redis sees: redis-cli -p {cluster.redis.port} monitor", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
