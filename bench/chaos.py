"""Three emulated boards under load while they are killed, frozen, unplugged, damaged, and versions are swapped.

Boards and server are processes of their own; the host's driver and the wire protocol are the real ones. Clients ask in
closed loops, and every answer is compared with the reference's for the version that it names. Prints one JSON object.
``--seconds N`` sets how long it lasts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from board_process import BoardProcess
from peers.questions import LARGEST, Asker, Questions, Version, make_store, percentiles

TESTS = Path(__file__).parents[1] / "tests"
VERSIONS = [
    Version(name="iris", tag="v1"),
    Version(name="iris", tag="v2", precision=6),
    Version(name="tanh", tag="v1", trained="iris-tanh"),
    Version(name="tanh", tag="v2", trained="iris-tanh", precision=7),
]
DOORS = ("json", "binary", "grpc") * 3
BOARDS, ONE_IN = 3, 1000
WARM_SHARE = 0.2


class Run:
    """A server, its boards, and what is done to them."""

    def __init__(self, folder: Path, boards: list[BoardProcess], url: str, pid: int, seed: int) -> None:
        self.folder, self.boards, self.url, self.pid = folder, boards, url, pid
        self.chances = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.refused_swaps: list[str] = []
        self.healed_s: list[float] = []
        self.stopping = threading.Event()

    def states(self) -> dict[str, str]:
        """Device to state."""
        found = re.findall(r'gatesmith_device_state\{device="([^"]*)",state="(\w+)"\} 1', self.metrics())
        return dict(found)

    def metrics(self) -> str:
        """What the server counts."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def total(self, name: str) -> float:
        """A counter over all its labels."""
        values = re.findall(rf"^gatesmith_{name}_total(?:{{[^}}]*}})? (\S+)$", self.metrics(), re.MULTILINE)
        return sum(map(float, values))

    def heal(self, limit_s: float = 60.0) -> None:
        """Wait until every board serves."""
        begin = time.monotonic()
        while set(states := self.states().values()) != {"serving"}:
            if time.monotonic() - begin > limit_s:
                os.kill(self.pid, signal.SIGUSR1)
                raise RuntimeError(f"after {limit_s} s the boards are {list(states)}")
            time.sleep(0.05)
        self.healed_s.append(time.monotonic() - begin)

    def harm(self, end: float) -> None:
        """One thing after the other until the time, all whole afterwards; sometimes two boards at once."""
        kinds: list[Callable[[BoardProcess], None]] = [self.kill, self.freeze, self.unplug]
        while time.monotonic() < end and not self.stopping.is_set():
            self.swap()
            victims = self.chances.sample(self.boards, 1 if self.chances.random() < 0.8 else 2)
            kind = self.chances.choice(kinds) if len(set(self.done) - {"swap"}) == len(kinds) else None
            kind = kind or next(k for k in kinds if k.__name__ not in self.done)
            harming = [threading.Thread(target=kind, args=(board,)) for board in victims]
            for thread in harming:
                thread.start()
            for thread in harming:
                thread.join()
            self.heal()

    def kill(self, board: BoardProcess) -> None:
        """The process dies; another one comes up at its place at once."""
        self.done["kill"] += 1
        board.signal(signal.SIGKILL)
        board.plug_in()

    def freeze(self, board: BoardProcess) -> None:
        """It does nothing for a while."""
        self.done["freeze"] += 1
        board.signal(signal.SIGSTOP)
        time.sleep(self.chances.uniform(0.5, 3.0))
        board.signal(signal.SIGCONT)

    def unplug(self, board: BoardProcess) -> None:
        """Port and board are gone for a while, in which several attempts fail."""
        self.done["unplug"] += 1
        board.signal(signal.SIGKILL)
        time.sleep(self.chances.uniform(0.5, 3.0))
        board.plug_in()

    def swap(self) -> None:
        """Another version of a model, while its requests run."""
        self.done["swap"] += 1
        version = self.chances.choice(VERSIONS)
        body = json.dumps({"parameters": {"version": version.tag}}).encode()
        request = urllib.request.Request(f"{self.url}/v2/repository/models/{version.name}/load", data=body)
        try:
            with urllib.request.urlopen(request, timeout=60):
                return
        except urllib.error.HTTPError as error:
            self.refused_swaps.append(f"{error.code} {error.read().decode()[:200]}")


class Watch(threading.Thread):
    """Memory of a process over time."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.stopping = threading.Event()
        self.points: list[tuple[float, float]] = []

    def run(self) -> None:
        """Look twice a second."""
        begin = time.monotonic()
        while not self.stopping.wait(0.5):
            self.points.append((time.monotonic() - begin, resident_mib(self._pid)))

    def slope(self) -> float:
        """MiB in a minute, a line through what came after the warm-up."""
        last = self.points[-1][0]
        later = [point for point in self.points if point[0] >= WARM_SHARE * last]
        return statistics.linear_regression(*zip(*later, strict=True)).slope * 60


def resident_mib(pid: int) -> float:
    """Memory that a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def belongings(pid: int) -> dict[str, int]:
    """Open files and threads."""
    return {
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
    }


def choose(chances: random.Random) -> tuple[str, int]:
    """A model, and from one to 300 samples: as many requests between 1 and 2 as between 100 and 200."""
    samples = round(math.exp(chances.uniform(0, math.log(LARGEST))))
    return chances.choice(["iris", "iris", "tanh"]), samples


@contextlib.contextmanager
def started(folder: Path, seed: int) -> Iterator[tuple[Run, dict[str, Any], subprocess.Popen[str]]]:
    """Boards and server."""
    store = make_store(folder / "store", VERSIONS)
    references = [f"{version.name}:{version.tag}" for version in VERSIONS]
    with contextlib.ExitStack() as stack:
        boards = []
        for number in range(BOARDS):
            boards.append(
                BoardProcess(store.layout.path, *_first(references, folder / f"board{number}"), damage=ONE_IN)
            )
            stack.callback(boards[-1].close)
        command = [sys.executable, str(TESTS / "pool_server.py"), str(store.layout.path), "iris,tanh"]
        command += [str(board.link) for board in boards]
        env = {**os.environ, "GATESMITH_HTTP_PORT": "0", "GATESMITH_LOAD_WAIT_S": "10"}
        log = stack.enter_context((folder / "log").open("w"))
        server = stack.enter_context(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True))
        stack.callback(server.kill)
        assert server.stdout
        where = json.loads(server.stdout.readline())
        yield Run(folder, boards, where["url"], server.pid, seed), where, server


def _first(references: list[str], link: Path) -> tuple[Any, ...]:
    return references[0], link, *references[1:]


def measure(run: Run, where: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Everything, and the figures."""
    questions = Questions(VERSIONS)
    run.heal()
    askers = [
        Asker(questions, door, url=where["url"], grpc_port=where["grpc_port"], choose=choose, seed=number)
        for number, door in enumerate(DOORS)
    ]
    watch = Watch(run.pid)
    for thread in (*askers, watch):
        thread.start()
    begin = time.monotonic()
    time.sleep(WARM_SHARE * seconds / 2)
    before = belongings(run.pid)
    run.harm(begin + seconds)
    run.heal()
    after = belongings(run.pid)
    watch.stopping.set()
    for asker in askers:
        asker.stopping.set()
    for asker in askers:
        asker.join(120)
    elapsed_s = time.monotonic() - begin
    return figures(run, askers, elapsed_s) | {
        "memory_mib_per_minute": round(watch.slope(), 3),
        "memory_mib": round(watch.points[-1][1], 1),
        "warm": before,
        "end": after,
    }


def figures(run: Run, askers: list[Asker], elapsed_s: float) -> dict[str, Any]:
    """What became of all requests, and of the boards."""
    outcomes = [asker.outcome for asker in askers]
    latencies = [seconds for outcome in outcomes for seconds in outcome.latencies_s]
    refused = [seconds for outcome in outcomes for seconds in outcome.refused_s]
    statuses: Counter[str] = sum((outcome.statuses for outcome in outcomes), Counter())
    versions: Counter[str] = sum((outcome.versions for outcome in outcomes), Counter())
    wrong = [text for outcome in outcomes for text in outcome.wrong]
    lost = [text for outcome in outcomes for text in outcome.lost]
    lost += [f"{asker.name} never came back" for asker in askers if asker.is_alive()]
    requests = len(latencies) + len(refused) + len(lost)
    frames, bad = run.total("device_frames"), run.total("device_frame_errors")
    return {
        "seconds": round(elapsed_s, 1),
        "requests": requests,
        "requests_per_s": round(requests / elapsed_s, 1),
        "wrong": len(wrong),
        "lost": len(lost),
        "refused_share": round(len(refused) / max(requests, 1), 5),
        **percentiles(latencies),
        "refused_max_ms": percentiles(refused)["max_ms"],
        "statuses": dict(statuses),
        "versions": dict(versions),
        "events": dict(run.done),
        "refused_swaps": run.refused_swaps,
        "fencings": run.total("device_fencings"),
        "recoveries": len(re.findall(r"is back$", (run.folder / "log").read_text(), re.MULTILINE)),
        "slowest_recovery_s": round(max(run.healed_s), 2),
        "retried_requests": run.total("requests_retried"),
        "frames": frames,
        "frame_error_share": round(bad / max(frames, 1), 6),
        "examples": [*wrong[:5], *lost[:5]],
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, started(Path(name), options.seed) as (run, where, server):
        try:
            result = measure(run, where, options.seconds)
            server.terminate()
            result["exit_code"] = server.wait(30)
        except BaseException:
            print((run.folder / "log").read_text()[-20000:], file=sys.stderr)
            raise
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
