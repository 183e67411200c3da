"""`python -m simulator`: serve all vendors until interrupted.

With --json the first line on standard output is one JSON object: what `./run dev --json` prints, without `server`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from pathlib import Path

from simulator import demo
from simulator.ports import Simulator
from simulator.world import Latency


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8401, metavar="N", help="first of the ports to use (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object when ready")
    parser.add_argument("--state-dir", type=Path, default=Path(".dev"), help="where keys and certificates are kept")
    parser.add_argument("--seed-file", type=Path, help="write the provisioning document for `ssi provision` here")
    parser.add_argument("--latency", type=int, default=0, metavar="MS", help="let C4C take this long to answer")
    parser.add_argument("--sidebar", default="", metavar="URL", help="the pane's page (default: the port before the first)")
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    sidebar = options.sidebar or f"http://127.0.0.1:{options.port - 1}/sidebar"
    world = demo.build()
    if options.latency:
        world.latency["c4c"] = Latency(base_ms=options.latency)
    with Simulator(world, options.state_dir, first_port=options.port, sidebar_url=sidebar) as simulator:
        simulator.server_url = sidebar.removesuffix("/sidebar")
        provisioning = simulator.provisioning()
        if options.seed_file:
            with os.fdopen(os.open(options.seed_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                json.dump(provisioning, out)
        facts = simulator.facts()
        print(json.dumps(facts) if options.json else f"Inbox: {facts['inbox']}", flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
