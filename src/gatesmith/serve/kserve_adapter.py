"""The engine inside KServe's own model server, for those who run that one: ``pip install 'gatesmith[kserve]'``.

The dataplane lives in an event loop of its own thread, because KServe loads models before its loop runs and may run
several. A request crosses over once and comes back; checks, batching and devices are the same as behind our own doors.
"""

# Ref: kserve 0.21 kserve.Model (load, start, stop, predict, healthy, get_input_types), InferRequest, InferResponse;
#      ModelServer takes in only models that are ready when it starts

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from gatesmith.devices.device import Device
from gatesmith.errors import GatesmithError, ModelNotReady, NotInstalled, TensorMismatch
from gatesmith.firmware import Firmware
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.errors import http_status
from gatesmith.serve.settings import Settings
from gatesmith.serve.tensors import InputTensor

try:
    import kserve
    from kserve import errors as kserve_errors
except ImportError as error:
    raise NotInstalled("kserve", "pip install 'gatesmith[kserve]'") from error

__all__ = ["FpgaModel"]

T = TypeVar("T")
_LOOK_S = 0.02


class FpgaModel(kserve.Model):
    """A firmware on a device as a ``kserve.Model``.

    Parameters
    ----------
    name : str
        The model's name, perhaps with a tag: ``iris`` or ``iris:v1``.
    firmware, device
        What is served, and what runs it; the device is programmed by :meth:`load` and given back by :meth:`stop`.

    Examples
    --------
    >>> model = FpgaModel("iris", Store().load("iris:v1"), open_device("emulator:0"))   # doctest: +SKIP
    >>> model.load()                                                                    # doctest: +SKIP
    >>> kserve.ModelServer().start([model])                                             # doctest: +SKIP
    """

    def __init__(self, name: str, firmware: Firmware, device: Device, settings: Settings | None = None) -> None:
        super().__init__(name.partition(":")[0])
        self._settings = replace(settings or Settings(), follow_s=0.0)  # this firmware and no other
        self._plane = DataPlane({name: (firmware, device)}, self._settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def load(self) -> bool:
        """Program the device; waits as long as ``load_wait_s`` of the settings.

        Raises
        ------
        GatesmithError
            When the device cannot be programmed.
        """
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name=f"kserve {self.name}", daemon=True)
            self._thread.start()
        self._wait(self._plane.load())
        end = time.monotonic() + self._settings.load_wait_s
        while not self._plane.ready and time.monotonic() < end:
            time.sleep(_LOOK_S)
        if not self._plane.ready:
            self._plane.model(self.name).check_ready()
        self.ready = True
        return True

    def start(self) -> None:
        """Called by the server; the SDK's own would call a model ready that is not."""
        if not self.ready:
            self.load()

    def stop(self) -> None:
        """Give the device back."""
        self.ready = False
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._plane.close(), loop).result(self._settings.grace_s + 5)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(5)
            loop.close()

    async def healthy(self) -> bool:
        """Whether a healthy device runs the firmware now."""
        return self._loop is not None and self._plane.ready

    def get_input_types(self) -> list[dict[str, Any]]:
        """Names, datatypes and shapes of the inputs."""
        return [spec.to_json() for spec in self._plane.model(self.name).inputs.values()]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Names, datatypes and shapes of the outputs."""
        return [spec.to_json() for spec in self._plane.model(self.name).outputs.values()]

    async def predict(
        self, payload: Any, headers: Mapping[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> Any:
        """Answer a V1 dictionary with one, and a V2 ``InferRequest`` with an ``InferResponse``."""
        del headers, response_headers
        work = self._answer_v1(payload) if isinstance(payload, dict) else self._answer_v2(payload)
        if self._loop is None:
            work.close()
            raise kserve_errors.ModelNotReady(self.name)
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        except GatesmithError as error:
            raise _translated(self.name, error) from error

    async def _answer_v1(self, payload: dict[str, Any]) -> dict[str, Any]:
        model = await self._plane.ready_model(self.name)
        instances = payload.get("instances")
        if not isinstance(instances, list):
            raise TensorMismatch("the request needs 'instances', a list")
        if not instances:
            return {"predictions": []}
        names = list(model.inputs)
        if all(isinstance(instance, dict) and instance.keys() == set(names) for instance in instances):
            samples = {name: [instance[name] for instance in instances] for name in names}
        elif len(names) == 1:
            samples = {names[0]: instances}
        else:
            raise TensorMismatch(f"model {self.name} has inputs {names}; give every instance as an object with these")
        outputs = (await self._plane.infer_samples(model, samples)).outputs
        columns = {name: array.tolist() for name, array in outputs.items()}
        if len(columns) == 1:
            return {"predictions": next(iter(columns.values()))}
        rows = zip(*columns.values(), strict=True)
        return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}

    async def _answer_v2(self, request: Any) -> Any:
        model = await self._plane.ready_model(self.name, request.model_version or None)
        inputs = [InputTensor(one.name, one.datatype, list(one.shape), _numbers(one)) for one in request.inputs]
        wanted = [one.name for one in request.request_outputs or ()]
        answer = await self._plane.infer(model, inputs, wanted)
        asked = {one.name: one for one in request.request_outputs or ()}
        outputs = []
        for name, array in answer.outputs.items():
            output = kserve.InferOutput(name, list(array.shape), model.outputs[name].datatype.value)
            binary = asked[name].binary_data if name in asked else None
            output.set_data_from_numpy(array, binary_data=request.use_binary_outputs if binary is None else binary)
            outputs.append(output)
        return kserve.InferResponse(
            request.id or str(uuid.uuid4()),  # the server's own answer needs one
            model.name,
            outputs,
            model_version=model.version,
            parameters=dict(answer.parameters) or None,
        )

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise ModelNotReady(f"model {self.name} was stopped", model=self.name)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _numbers(tensor: Any) -> Any:
    try:
        return tensor.as_numpy()
    except Exception as error:  # the library raises whatever numpy does
        raise TensorMismatch(f"input {tensor.name!r} cannot be read: {error}", tensor=tensor.name) from error


def _translated(name: str, error: GatesmithError) -> Exception:
    """The library's own error for ours, by what it will answer."""
    status = http_status(error)
    if status == 404:
        not_found: Exception = kserve_errors.ModelNotFound(name)
        return not_found
    if status < 500:
        invalid: Exception = kserve_errors.InvalidInput(str(error))
        return invalid
    if status == 503:
        not_ready: Exception = kserve_errors.ModelNotReady(name, str(error))
        return not_ready
    failed: Exception = kserve_errors.InferenceError(str(error))
    return failed
