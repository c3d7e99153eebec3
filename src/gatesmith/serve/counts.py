"""What is counted of one served model version: plain integers, changed on the event loop alone, read by anyone.

Distributions have one bucket for each power of two, so that counting is an index and no search.
"""

# Ref: Triton "statistics" extension: inference_count counts samples, execution_count device calls; times are ns

from __future__ import annotations

from time import perf_counter_ns, time_ns
from typing import Any

from gatesmith.errors import DeadlineExceeded, GatesmithError

__all__ = ["BUCKETS", "Counts"]

BUCKETS = 48
"""Bucket ``i`` holds what is below ``2**i``, and at least half of that: microseconds, or samples."""


class Counts:
    """Counters of one model version; they outlive its devices."""

    __slots__ = (
        "batches",
        "cancelled",
        "evictions",
        "expired",
        "failure_ns",
        "failures",
        "fallback",
        "infer_ns",
        "input_ns",
        "last_ns",
        "loads",
        "misses",
        "output_ns",
        "overloaded",
        "per_batch",
        "queue_ns",
        "queue_us",
        "request_us",
        "retried",
        "samples",
        "success_ns",
        "successes",
    )

    def __init__(self) -> None:
        self.successes = self.success_ns = self.failures = self.failure_ns = 0
        self.overloaded = self.expired = self.cancelled = self.retried = self.fallback = 0
        self.queue_ns = self.input_ns = self.infer_ns = self.output_ns = 0
        self.samples = self.batches = self.loads = self.misses = self.evictions = self.last_ns = 0
        self.queue_us, self.request_us = [0] * BUCKETS, [0] * BUCKETS
        self.per_batch: dict[int, list[int]] = {}

    def answered(self, queue_ns: int, request_ns: int) -> None:
        """A request has its answer; it was in the queue for the first time, and here for the second."""
        self.successes += 1
        self.success_ns += request_ns
        self.queue_ns += queue_ns
        self.queue_us[(queue_ns // 1000).bit_length()] += 1
        self.request_us[(request_ns // 1000).bit_length()] += 1

    def executed(self, samples: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """A device ran a batch."""
        self.samples += samples
        self.batches += 1
        self.input_ns += input_ns
        self.infer_ns += infer_ns
        self.output_ns += output_ns
        entry = self.per_batch.get(samples)
        if entry is None:
            entry = self.per_batch[samples] = [0, 0, 0, 0]
        entry[0] += 1
        entry[1] += input_ns
        entry[2] += infer_ns
        entry[3] += output_ns

    @property
    def batch_sizes(self) -> list[int]:
        """How many batches there were, in buckets of their samples."""
        buckets = [0] * BUCKETS
        for samples, entry in self.per_batch.items():
            buckets[samples.bit_length()] += entry[0]
        return buckets

    def failed(self, since_ns: int, error: GatesmithError) -> None:
        """A request was answered with an error."""
        self.failures += 1
        self.failure_ns += perf_counter_ns() - since_ns
        if isinstance(error, DeadlineExceeded):
            self.expired += 1

    def statistics(self) -> dict[str, Any]:
        """The counters in the form of the protocol's extension, without name and version."""
        done = self.successes
        return {
            "last_inference": _wall_ms(self.last_ns),
            "inference_count": self.samples,
            "execution_count": self.batches,
            "inference_stats": {
                "success": _duration(done, self.success_ns),
                "fail": _duration(self.failures, self.failure_ns),
                "queue": _duration(done, self.queue_ns),
                "compute_input": _duration(done, self.input_ns),
                "compute_infer": _duration(done, self.infer_ns),
                "compute_output": _duration(done, self.output_ns),
                "cache_hit": _duration(0, 0),
                "cache_miss": _duration(0, 0),
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": _duration(count, input_ns),
                    "compute_infer": _duration(count, infer_ns),
                    "compute_output": _duration(count, output_ns),
                }
                for size, (count, input_ns, infer_ns, output_ns) in sorted(self.per_batch.items())
            ],
        }


def _wall_ms(last_ns: int) -> int:
    """Milliseconds since the epoch, of a time on the clock that counts from the start."""
    return (time_ns() - perf_counter_ns() + last_ns) // 1_000_000 if last_ns else 0


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
