"""The queue: one row for one plan, whoever asks, and nothing lost when the process is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gatesmith.builds.order import Order
from gatesmith.builds.queue import Queue, State
from gatesmith.errors import QuotaExceeded, StoreWriteFailed

ORDER = Order(model="sha256:" + "a" * 64, model_file="iris.skops", name="iris", board="icebreaker")


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.sqlite")


def _orders(count: int) -> list[Order]:
    return [replace(ORDER, seed=seed) for seed in range(1, count + 1)]


def test_twenty_at_once_make_one_build(queue: Queue) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: queue.submit(ORDER, f"user{n}"), range(20)))
    assert sum(is_new for _, is_new in answers) == 1
    assert len(queue.newest()) == 1
    taken = queue.take()
    assert taken is not None
    assert taken.order == ORDER
    assert queue.take() is None


def test_builds_are_taken_in_order_and_each_by_one(queue: Queue) -> None:
    for order in _orders(8):
        queue.submit(order, "a")
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: queue.take(), range(9)))
    seeds = [record.order.seed for record in taken if record]
    assert sorted(seeds) == list(range(1, 9))


def test_a_build_tells_what_happened_in_order(queue: Queue) -> None:
    record, _ = queue.submit(ORDER, "a")
    queue.take()
    queue.tell(record.id, "synthesis", 0.5)
    queue.say(record.id, "synthesis", "a line")
    queue.finish(record.id, {"digest": "d"})
    events = queue.events(record.id)
    assert [event.number for event in events] == [1, 2, 3, 4, 5]
    assert [event.kind for event in events] == ["state", "state", "progress", "line", "state"]
    assert queue.events(record.id, after=4)[0].data["result"] == {"digest": "d"}
    done = queue.get(record.id)
    assert done is not None
    assert (done.state, done.result, done.done) == (State.DONE, {"digest": "d"}, 1.0)


def test_an_end_is_an_end(queue: Queue) -> None:
    record, _ = queue.submit(ORDER, "a")
    queue.take()
    queue.cancel(record.id, "a")
    queue.finish(record.id, {"digest": "late"})
    queue.tell(record.id, "verify", 1.0)
    ended = queue.get(record.id)
    assert ended is not None
    assert (ended.state, ended.result) == (State.CANCELLED, {})
    assert queue.submit(ORDER, "b")[1], "a cancelled build can be asked for again"


def test_what_failed_is_not_built_again_unless_asked(queue: Queue) -> None:
    record, _ = queue.submit(ORDER, "a")
    queue.take()
    queue.fail(record.id, {"type": "DesignDoesNotFit", "message": "too large", "retryable": False})
    assert queue.submit(ORDER, "b") == (queue.get(record.id), False)
    again, is_new = queue.submit(ORDER, "b", again=True)
    assert (is_new, again.state) == (True, State.QUEUED)


def test_a_lost_build_can_be_asked_for_again(queue: Queue) -> None:
    record, _ = queue.submit(ORDER, "a")
    queue.take()
    queue.fail(record.id, {"type": "BuildLost", "message": "killed", "retryable": True})
    assert queue.submit(ORDER, "a")[1]


def test_quota_counts_what_waits(queue: Queue) -> None:
    first, *rest = _orders(4)
    for order in rest[:2]:
        queue.submit(order, "a", limit=2)
    with pytest.raises(QuotaExceeded, match="a has 2 builds queued or running, 2 may be"):
        queue.submit(first, "a", limit=2)
    queue.submit(first, "b", limit=2)
    assert queue.submit(first, "a", limit=2)[1] is False, "one that is there costs nothing"


def test_only_who_alone_asked_may_cancel(queue: Queue) -> None:
    record, _ = queue.submit(ORDER, "a")
    assert queue.may_cancel(record.id, "a")
    queue.submit(ORDER, "b")
    assert not queue.may_cancel(record.id, "a")


def test_what_was_running_waits_again_after_a_restart(queue: Queue, tmp_path: Path) -> None:
    record, _ = queue.submit(ORDER, "a")
    queue.take()
    queue.close()
    later = Queue(tmp_path / "queue.sqlite")
    assert later.recover() == [record.id]
    taken = later.take()
    assert taken is not None
    assert taken.attempts == 1, "an attempt that the service itself ended does not count"


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreWriteFailed, match=r"queue .*queue.sqlite cannot be used: file is not a database"):
        Queue(tmp_path / "queue.sqlite")


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_queue import ORDER
from gatesmith.builds.queue import Queue
queue = Queue(Path(sys.argv[1]))
for seed in range(1, 400):
    record, _ = queue.submit(replace(ORDER, seed=seed), "a")
    print(record.id, flush=True)
    queue.take()
    queue.tell(record.id, "routing", 0.5)
    queue.finish(record.id, {"digest": str(seed)})
"""


def test_a_killed_writer_loses_nothing_that_it_told(tmp_path: Path) -> None:
    for trial, before in enumerate((1, 5, 11, 24, 39)):
        path = tmp_path / f"queue{trial}.sqlite"
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout
        told = [child.stdout.readline().strip() for _ in range(before)]
        os.kill(child.pid, signal.SIGKILL)
        told += [line.strip() for line in child.stdout if line.endswith("\n")]
        child.wait(30)
        child.stdout.close()
        queue = Queue(path)
        queue.recover()
        records = {record.id: record for record in queue.newest(limit=1000)}
        assert set(told) <= set(records)
        for id in told[:-1]:
            assert records[id].state is State.DONE
        assert all(record.state in {State.QUEUED, State.DONE} for record in records.values())
        queue.close()


def test_what_a_former_version_wrote_fails_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    queue = Queue(path)
    old, new, _ = [queue.submit(order, "a")[0] for order in _orders(3)]
    running = queue.take()
    assert running is not None
    assert running.id == old.id
    queue.close()
    with closing(sqlite3.connect(path)) as db, db:
        changed = db.execute("UPDATE builds SET plan = replace(plan, 'icebreaker', 'a-board-that-was') WHERE id = ?",
                             (old.id,)).rowcount  # fmt: skip
    assert changed == 1

    queue = Queue(path)
    assert queue.recover() == [old.id]
    taken = queue.take()
    assert taken is not None
    assert taken.id == new.id
    assert queue.counts() == {"queued": 1, "running": 1, "done": 0, "failed": 1, "cancelled": 0}
    assert "a-board-that-was" in queue.events(old.id)[-1].data["error"]["message"]
    assert old.id not in [record.id for record in queue.newest()]
    assert len(queue.newest()) == 2
