"""One log line or one OpenTelemetry span for each request: only when asked for, and else not even looked at.

Tracing needs the extra ``otel``; nothing of it is imported when no endpoint is set.
"""

# Ref: OpenTelemetry specification, "Trace SDK", BatchSpanProcessor; OTLP/HTTP, path /v1/traces

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from gatesmith.errors import NotInstalled
from gatesmith.serve.deployment import Answer
from gatesmith.serve.settings import Settings

if TYPE_CHECKING:
    from gatesmith.serve.model import Model

__all__ = ["Observer", "observer_of"]

Run = Callable[..., Awaitable[Answer]]
_log = logging.getLogger(__name__)


class Observer:
    """Runs requests and tells about them.

    Parameters
    ----------
    tracer : opentelemetry.trace.Tracer, optional
    end : callable
        Sends what was not sent yet.
    """

    def __init__(self, *, log: bool, tracer: Any = None, end: Callable[[], object] = lambda: None) -> None:
        self._log, self._tracer, self.end = log, tracer, end

    async def run(self, work: Run, model: Model, *arguments: Any) -> Answer:
        """Do the work for a model, and tell how it ended."""
        begin_ns, outcome = perf_counter_ns(), "success"
        span = self._tracer.start_span("infer") if self._tracer else None
        try:
            return await work(model, *arguments)
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            facts = {"model": model.name, "version": model.version, "outcome": outcome}
            if span is not None:
                span.set_attributes({f"gatesmith.{key}": value for key, value in facts.items()})
                span.end()
            if self._log:
                ms = (perf_counter_ns() - begin_ns) / 1e6
                text = "request model=%(model)s version=%(version)s outcome=%(outcome)s ms=%(ms).3f"
                _log.info(text % {**facts, "ms": ms}, extra={**facts, "ms": round(ms, 3)})


def observer_of(settings: Settings) -> Observer | None:
    """What the settings ask for; nothing when they ask for nothing.

    Raises
    ------
    NotInstalled
    """
    if settings.traces_endpoint:
        tracer, end = _tracer(settings.traces_endpoint)
        return Observer(log=settings.log_requests, tracer=tracer, end=end)
    return Observer(log=True) if settings.log_requests else None


def _tracer(endpoint: str) -> tuple[Any, Callable[[], object]]:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise NotInstalled("opentelemetry", "pip install 'gatesmith[otel]'") from error
    provider = TracerProvider(resource=Resource.create({"service.name": "gatesmith"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider.get_tracer("gatesmith"), provider.shutdown
