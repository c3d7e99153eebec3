"""The queue: every build that was asked for, in one SQLite file, so that a killed service loses nothing.

A build's identity is its plan digest and the table's primary key: however many ask, there is one row, so one build.
Everything that happens to a build is an event with a number; whoever watches can go on from the last one they saw.
"""

# Ref: sqlite.org/wal.html, sqlite.org/pragma.html#pragma_synchronous: FULL keeps a commit through a power loss

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from gatesmith.builds.order import Order
from gatesmith.errors import BuildError, GatesmithError, QuotaExceeded, StoreWriteFailed

__all__ = ["Event", "Queue", "Record", "State"]

MAX_EVENTS = 5000
"""Events that one build keeps; beyond, only changes of its state are written."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS builds (
    id TEXT PRIMARY KEY, plan TEXT NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL, attempts INTEGER NOT NULL,
    stage TEXT NOT NULL, done REAL NOT NULL, created REAL NOT NULL, started REAL NOT NULL, finished REAL NOT NULL,
    result TEXT NOT NULL, error TEXT NOT NULL, place INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_state ON builds (state, place);
CREATE TABLE IF NOT EXISTS events (
    build TEXT NOT NULL, number INTEGER NOT NULL, time REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (build, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS asked (build TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (build, owner)) WITHOUT ROWID;
"""


class State(StrEnum):
    """Where a build is; the last three are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in {State.DONE, State.FAILED, State.CANCELLED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A build as it stands; times are seconds since 1970, 0 for not yet."""

    id: str  # the plan digest without its algorithm
    order: Order
    state: State
    owner: str
    attempts: int
    stage: str
    done: float
    created: float
    started: float
    finished: float
    result: dict[str, Any]
    error: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """What the service tells of it."""
        return {
            "id": self.id,
            "state": self.state.value,
            "order": self.order.to_json(),
            "attempts": self.attempts,
            "stage": self.stage,
            "done": round(self.done, 4),
            "created": self.created,
            "started": self.started or None,
            "finished": self.finished or None,
            "result": self.result or None,
            "error": self.error or None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that happened: ``kind`` is state, progress or line."""

    number: int
    time: float
    kind: str
    data: dict[str, Any]


class Queue:
    """Builds in an SQLite file; every method may be called from any thread and leaves the file consistent.

    Raises
    ------
    StoreWriteFailed
        When the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.RLock()
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._db.close()

    def submit(
        self, order: Order, owner: str, *, again: bool = False, limit: int = 0, result: dict[str, Any] | None = None
    ) -> tuple[Record, bool]:
        """Ask for a build.

        Parameters
        ----------
        again : bool
            Queue a build that failed once more; a cancelled one always is.
        limit : int
            Most builds of this owner that may be queued or running; 0 for any number.
        result : dict, optional
            Of a firmware that is finished already: the build is done at once.

        Returns
        -------
        Record, bool
            The build, and whether this call queued it.

        Raises
        ------
        QuotaExceeded
            When the owner has too many.
        """
        id = order.digest.removeprefix("sha256:")
        with self._changing():
            there = self._find(id)
            if there is not None and not self._restarts(there, again):
                self._db.execute("INSERT OR IGNORE INTO asked VALUES (?, ?)", (id, owner))
                return there, False
            if result is None:
                self._check_quota(owner, limit)
            self._db.execute(
                "INSERT OR REPLACE INTO builds VALUES (?, ?, ?, ?, 0, '', 0, ?, 0, 0, '{}', '{}', "
                "(SELECT COALESCE(MAX(place), 0) + 1 FROM builds))",
                (id, json.dumps(order.to_json()), State.QUEUED.value, owner, time.time()),
            )
            self._db.execute("DELETE FROM asked WHERE build = ?", (id,))
            self._db.execute("INSERT INTO asked VALUES (?, ?)", (id, owner))
            self._event(id, "state", {"state": State.QUEUED.value})
            return (self._end(id, State.DONE, result=result) if result else self._get(id)), True

    @staticmethod
    def _restarts(record: Record, again: bool) -> bool:
        lost = record.state is State.FAILED and bool(record.error.get("retryable"))
        return record.state is State.CANCELLED or lost or (again and record.state is State.FAILED)

    def take(self) -> Record | None:
        """The build that waits longest, now running; nothing when none waits.

        One that a former version of this program wrote, and that cannot be asked for any more, has failed.
        """
        query = "SELECT id FROM builds WHERE state = ? ORDER BY place LIMIT 1"
        with self._changing():
            while row := self._db.execute(query, (State.QUEUED.value,)).fetchone():
                try:
                    self._get(row[0])
                except GatesmithError as error:
                    self._close(row[0], State.FAILED, error={"type": type(error).__name__, "message": str(error)})
                    continue
                self._db.execute(
                    "UPDATE builds SET state = ?, started = ?, attempts = attempts + 1 WHERE id = ?",
                    (State.RUNNING.value, time.time(), row[0]),
                )
                self._event(row[0], "state", {"state": State.RUNNING.value})
                return self._get(row[0])
        return None

    def tell(self, id: str, stage: str, done: float) -> None:
        """How far a build is."""
        with self._changing():
            self._db.execute(
                "UPDATE builds SET stage = ?, done = ? WHERE id = ? AND state = ?",
                (stage, done, id, State.RUNNING.value),
            )
            self._event(id, "progress", {"stage": stage, "done": round(done, 4)})

    def say(self, id: str, stage: str, line: str) -> None:
        """A line of a build's log."""
        with self._changing():
            self._event(id, "line", {"stage": stage, "line": line[:2000]})

    def finish(self, id: str, result: dict[str, Any]) -> Record:
        """A build is done."""
        return self._end(id, State.DONE, result=result)

    def fail(self, id: str, error: dict[str, Any]) -> Record:
        """A build cannot be done."""
        return self._end(id, State.FAILED, error=error)

    def put_back(self, id: str, why: str, *, counts: bool = True) -> Record:
        """A build that was running waits again, at its old place in the queue.

        Parameters
        ----------
        counts : bool
            Whether the attempt counts as one; one that the service itself ended does not.
        """
        with self._changing():
            self._put_back(id, why, counts=counts)
            return self._get(id)

    def cancel(self, id: str, who: str) -> Record | None:
        """End a build; nothing changes when it has ended. None when there is no such build."""
        with self._changing():
            record = self._find(id)
            if record is None or record.state.is_end:
                return record
            error = {"type": "BuildCancelled", "message": f"{who} cancelled the build", "retryable": True}
            return self._end(id, State.CANCELLED, error=error)

    def recover(self) -> list[str]:
        """Builds that were running when the service ended wait again; their ids."""
        with self._changing():
            rows = self._db.execute("SELECT id FROM builds WHERE state = ?", (State.RUNNING.value,)).fetchall()
            for row in rows:
                self._put_back(row[0], "the service was restarted", counts=False)
        return [row[0] for row in rows]

    def get(self, id: str) -> Record | None:
        """A build by its id."""
        with self._lock, self._errors():
            return self._find(id)

    def newest(self, *, state: State | None = None, limit: int = 100) -> list[Record]:
        """Builds, the newest first; without those of a former version that cannot be asked for any more."""
        with self._lock, self._errors():
            rows = self._db.execute(_SELECT_SOME, (state.value if state else "%", limit)).fetchall()
        found = []
        for row in rows:
            with suppress(GatesmithError):
                found.append(_record(row))
        return found

    def counts(self) -> dict[str, int]:
        """Builds by state."""
        with self._lock, self._errors():
            found = dict(self._db.execute("SELECT state, COUNT(*) FROM builds GROUP BY state").fetchall())
        return {state.value: found.get(state.value, 0) for state in State}

    def events(self, id: str, after: int = 0, limit: int = 500) -> list[Event]:
        """What happened to a build after the event of that number, in order."""
        with self._lock, self._errors():
            rows = self._db.execute(
                "SELECT number, time, kind, data FROM events WHERE build = ? AND number > ? ORDER BY number LIMIT ?",
                (id, after, limit),
            ).fetchall()
        return [Event(number=n, time=t, kind=kind, data=json.loads(data)) for n, t, kind, data in rows]

    def may_cancel(self, id: str, owner: str) -> bool:
        """Whether somebody alone asked for a build."""
        with self._lock, self._errors():
            rows = self._db.execute("SELECT owner FROM asked WHERE build = ?", (id,)).fetchall()
        return [row[0] for row in rows] == [owner]

    # Inside a transaction, or with the lock held.

    def _end(self, id: str, state: State, *, result: Any = None, error: Any = None) -> Record:
        with self._changing():
            self._close(id, state, result=result, error=error)
            return self._get(id)

    def _close(self, id: str, state: State, *, result: Any = None, error: Any = None) -> None:
        changed = self._db.execute(
            "UPDATE builds SET state = ?, finished = ?, result = ?, error = ?, done = ? "
            "WHERE id = ? AND state IN ('queued', 'running')",
            (state.value, time.time(), json.dumps(result or {}), json.dumps(error or {}), state is State.DONE, id),
        ).rowcount
        if changed:
            self._event(id, "state", {"state": state.value, "result": result, "error": error})

    def _put_back(self, id: str, why: str, *, counts: bool) -> None:
        self._db.execute(
            "UPDATE builds SET state = ?, stage = '', done = 0, attempts = attempts - ? WHERE id = ? AND state = ?",
            (State.QUEUED.value, not counts, id, State.RUNNING.value),
        )
        self._event(id, "state", {"state": State.QUEUED.value, "why": why})

    def _check_quota(self, owner: str, limit: int) -> None:
        query = "SELECT COUNT(*) FROM builds WHERE owner = ? AND state IN ('queued', 'running')"
        waiting = int(self._db.execute(query, (owner,)).fetchone()[0])
        if limit and waiting >= limit:
            raise QuotaExceeded(
                f"{owner} has {waiting} builds queued or running, {limit} may be; try again when one has ended",
                owner=owner,
                waiting=waiting,
                limit=limit,
            )

    def _event(self, id: str, kind: str, data: dict[str, Any]) -> None:
        newest = self._db.execute("SELECT MAX(number) FROM events WHERE build = ?", (id,)).fetchone()[0] or 0
        if newest < MAX_EVENTS or kind == "state":
            row = (id, newest + 1, time.time(), kind, json.dumps(data))
            self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)

    def _find(self, id: str) -> Record | None:
        row = self._db.execute(_SELECT_ONE, (id,)).fetchone()
        return None if row is None else _record(row)

    def _get(self, id: str) -> Record:
        record = self._find(id)
        if record is None:
            raise BuildError(f"there is no build {id}", id=id)
        return record

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction; inside another one, a part of it."""
        with self._lock, self._errors():
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreWriteFailed(f"queue {self._path} cannot be used: {error}", path=str(self._path)) from error


_SELECT_ONE = """
SELECT id, plan, state, owner, attempts, stage, done, created, started, finished, result, error
FROM builds WHERE id = ?
"""
_SELECT_SOME = """
SELECT id, plan, state, owner, attempts, stage, done, created, started, finished, result, error
FROM builds WHERE state LIKE ? ORDER BY place DESC LIMIT ?
"""


def _record(row: tuple[Any, ...]) -> Record:
    id, plan, state, owner, attempts, stage, done, created, started, finished, result, error = row
    return Record(
        id=id,
        order=Order.from_json(json.loads(plan)),
        state=State(state),
        owner=owner,
        attempts=attempts,
        stage=stage,
        done=done,
        created=created,
        started=started,
        finished=finished,
        result=json.loads(result),
        error=json.loads(error),
    )
