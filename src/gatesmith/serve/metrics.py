"""Prometheus metrics: a view at the time of a scrape on counters that are plain integers the rest of the time.

Nothing here costs a request anything.
"""

# Ref: Prometheus "Metric and label naming"; text exposition format 0.0.4

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

from gatesmith.errors import NotInstalled
from gatesmith.serve.counts import Counts
from gatesmith.serve.pool import Slot, SlotState

if TYPE_CHECKING:
    from gatesmith.serve.dataplane import DataPlane
    from gatesmith.serve.model import Model

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHORTEST, _LONGEST = 4, 26  # 16 us to 67 s
_MODEL = ("model", "version")

_OUTCOMES: dict[str, Callable[[Counts], int]] = {
    "success": lambda c: c.successes,
    "failure": lambda c: c.failures - c.expired,
    "expired": lambda c: c.expired,
    "overloaded": lambda c: c.overloaded,
    "cancelled": lambda c: c.cancelled,
}
_STAGES: dict[str, Callable[[Counts], int]] = {
    "input": lambda c: c.input_ns,
    "device": lambda c: c.infer_ns,
    "output": lambda c: c.output_ns,
}
_MODEL_COUNTERS: list[tuple[str, str, Callable[[Counts], float]]] = [
    ("samples", "Samples that devices ran.", lambda c: c.samples),
    ("batches", "Device calls that ended well.", lambda c: c.batches),
    ("requests_retried", "Requests that a device failed to answer and that were queued again.", lambda c: c.retried),
    ("fallback_requests", "Requests that a fallback device answered.", lambda c: c.fallback),
    ("model_loads", "Times that the model was loaded.", lambda c: c.loads),
    ("model_misses", "Requests that had to wait until the model was loaded.", lambda c: c.misses),
    ("model_evictions", "Times that the model lost its device to another model.", lambda c: c.evictions),
]
_DEVICE_COUNTERS: list[tuple[str, str, Callable[[Slot], float]]] = [
    ("device_seconds", "Time in calls of the device.", lambda s: s.device_ns / 1e9),
    ("device_frames", "Frames that the device answered.", lambda s: s.link.frames),
    ("device_frame_errors", "Frames that were damaged or lost, and sent again.", lambda s: s.link.bad_frames),
    ("device_programmings", "Times that the device was programmed and checked.", lambda s: s.programmings),
    ("device_programming_seconds", "Time in that.", lambda s: s.programming_ns / 1e9),
    ("device_fencings", "Times that the device was taken out because it failed.", lambda s: s.fencings),
]


def exposition(plane: DataPlane) -> bytes:
    """All metrics of a server, in Prometheus's text format.

    Raises
    ------
    NotInstalled
    """
    try:
        from prometheus_client.exposition import generate_latest
        from prometheus_client.registry import CollectorRegistry
    except ImportError as error:
        raise NotInstalled("prometheus-client", "pip install 'gatesmith[serve]'") from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(plane))
    process = _process_collector()
    if process is not None:
        registry.register(process)
    return generate_latest(registry)


class _Collector:
    """Everything that this server counts."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus-client wants them."""
        models = [model for model in self._plane.loader if model.known]
        yield from _server(self._plane)
        yield from _of_models(models)
        yield from _histograms(models)
        yield from _of_devices(self._plane.pool.slots)

    def describe(self) -> Sequence[Any]:
        """Nothing before the first scrape."""
        return ()


def _server(plane: DataPlane) -> Iterator[Any]:
    yield _gauge("info", "The server.", ("version",), [((installed_version("gatesmith"),), 1)])
    yield _gauge("ready", "Whether every model can answer that has to.", (), [((), int(plane.ready))])
    yield _gauge("models_waiting", "Models that wait for a device.", (), [((), plane.placement.waiting)])


def _of_models(models: Sequence[Model]) -> Iterator[Any]:
    def labels(model: Model) -> tuple[str, str]:
        return model.name, model.version

    yield _counter(
        "requests",
        "Requests by how they ended.",
        (*_MODEL, "outcome"),
        [((*labels(m), name), read(m.counts)) for m in models for name, read in _OUTCOMES.items()],
    )
    yield _counter(
        "compute_seconds",
        "Time of batches: encoding, the device call, decoding.",
        (*_MODEL, "stage"),
        [((*labels(m), name), read(m.counts) / 1e9) for m in models for name, read in _STAGES.items()],
    )
    for name, text, read in _MODEL_COUNTERS:
        yield _counter(name, text, _MODEL, [(labels(m), read(m.counts)) for m in models])
    now = asyncio.get_running_loop().time()
    gauges: list[tuple[str, str, Callable[[Model], float]]] = [
        ("queue_samples", "Samples that wait or are being computed.", lambda m: m.waiting),
        ("model_ready", "Whether a healthy device runs the model.", lambda m: m.ready),
        ("model_replicas", "Healthy devices that run the model.", lambda m: len(m.devices)),
        ("model_residency_seconds", "How long the model is ready.", lambda m: now - m.ready_since if m.ready else 0),
        ("model_clock_hz", "Clock of the gateware.", lambda m: m.firmware.clock_hz),
        ("model_latency_cycles", "Cycles from input to output.", lambda m: m.firmware.latency_cycles),
        (
            "model_initiation_interval_cycles",
            "Cycles between two samples.",
            lambda m: m.firmware.initiation_interval_cycles,
        ),
    ]
    for name, text, look in gauges:
        yield _gauge(name, text, _MODEL, [(labels(m), look(m)) for m in models])


def _histograms(models: Sequence[Model]) -> Iterator[Any]:
    from prometheus_client.core import HistogramMetricFamily

    seconds: list[tuple[str, str, Callable[[Counts], tuple[list[int], int]]]] = [
        ("request_seconds", "From the queue to the answer, good answers.", lambda c: (c.request_us, c.success_ns)),
        ("queue_seconds", "From the queue to the device.", lambda c: (c.queue_us, c.queue_ns)),
    ]
    for name, text, look in seconds:
        family = HistogramMetricFamily(f"gatesmith_{name}", text, labels=_MODEL)
        for model in models:
            numbers, total_ns = look(model.counts)
            family.add_metric([model.name, model.version], _below(numbers), total_ns / 1e9)
        yield family
    family = HistogramMetricFamily("gatesmith_batch_samples", "Samples in a device call.", labels=_MODEL)
    for model in models:
        counts, total = model.counts.batch_sizes, 0
        buckets = []
        for place in range(1, 18):
            total += counts[place] + (counts[0] if place == 1 else 0)
            buckets.append((str(float(2**place - 1)), total))
        family.add_metric([model.name, model.version], [*buckets, ("+Inf", sum(counts))], model.counts.samples)
    yield family


def _of_devices(slots: Sequence[Slot]) -> Iterator[Any]:
    states = [((slot.id, state.value), int(slot.state is state)) for slot in slots for state in SlotState]
    yield _gauge("device_state", "1 for the state that the device is in.", ("device", "state"), states)
    ways = [
        ((slot.id, way), number)
        for slot in slots
        for way, number in (("out", slot.link.bytes_out), ("in", slot.link.bytes_in))
    ]
    yield _counter("device_link_bytes", "Bytes over the device's link.", ("device", "direction"), ways)
    for name, text, read in _DEVICE_COUNTERS:
        yield _counter(name, text, ("device",), [((slot.id,), read(slot)) for slot in slots])


def _below(numbers: Sequence[int]) -> list[tuple[str, int]]:
    """Cumulative buckets with upper bounds, from numbers in powers of two."""
    buckets, total = [], sum(numbers[:_SHORTEST])
    for place in range(_SHORTEST, _LONGEST + 1):
        total += numbers[place]
        buckets.append((str(2**place / 1e6), total))
    return [*buckets, ("+Inf", sum(numbers))]


def _counter(name: str, text: str, labels: Sequence[str], values: Sequence[tuple[Sequence[str], float]]) -> Any:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"gatesmith_{name}", text, labels=labels)
    for each, value in values:
        family.add_metric(list(each), value)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], values: Sequence[tuple[Sequence[str], float]]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"gatesmith_{name}", text, labels=labels)
    for each, value in values:
        family.add_metric(list(each), value)
    return family


@cache
def _process_collector() -> Any:
    """Memory, processor time and file descriptors of this process, where the system tells."""
    from prometheus_client.process_collector import ProcessCollector

    return ProcessCollector(registry=None)
