"""A build service and the aims of builds: the same search as here, exact trees, and one line for what is not an aim."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from building import Site, a_site
from command import both, gatesmith, result
from onnx_files import save_mlp
from requirements import require_build
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from gatesmith.aim import Aim
from gatesmith.artifact.store import Store
from gatesmith.boards import find_board
from gatesmith.builds.client import BuildClient, order_of
from gatesmith.builds.serving import LocalBuilds, ModelBuilder, ModelFiles
from gatesmith.errors import BuildLost
from gatesmith.firmware import Firmware
from gatesmith.frontends import read_model
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.proof import GRAPH_FILE
from gatesmith.quantize import load_calibration

BOARD = "icebreaker"


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_build(BOARD)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with a_site(tmp_path / "site", fresh=True) as started:
        x = np.load(started.folder / "cal.npy")
        targets = _answers(started.folder / "small.onnx", x)
        np.save(started.folder / "y.npy", targets)
        np.savez(started.folder / "both.npz", x=x, y=targets)
        yield started


def _answers(model: Path, x: np.ndarray) -> np.ndarray:
    """What ONNX's own evaluator says."""
    from onnx.reference import ReferenceEvaluator

    (answer,) = ReferenceEvaluator(str(model)).run(None, {"x": x.astype(np.float32)})
    return np.asarray(answer)[:, 0]


def _firmware(folder: Path) -> Firmware:
    store = Store(folder)
    (entry,) = store.list()
    return store.load(entry.reference)


def _fetched(client: BuildClient, id: str, folder: Path) -> Firmware:
    client.result(id)  # raises why there is none
    folder.mkdir()
    client.fetch(id, folder)
    return _firmware(folder)


def test_a_search_elsewhere_finds_what_a_search_here_does(site: Site, tmp_path: Path) -> None:
    model, data, labels = (site.folder / name for name in ("small.onnx", "cal.npy", "y.npy"))
    aim = Aim(precision="auto", tolerance=2.0, max_error=0.5, labels=labels, prune=True)
    order = replace(order_of(model, BOARD, calibration=data, precision=aim), emulated=True)
    with site.client() as client:
        id = client.submit(order, {order.model: model, order.calibration: data, order.labels: labels})["id"]
        events = [event for event in client.watch(id) if event["kind"] == "progress"]
        there = _fetched(client, id, tmp_path / "there")
    assert any(event["stage"] == "search" and 0 < event["done"] < 1 for event in events)
    assert not any(event["stage"] == "quantize" for event in events)
    calibration = load_calibration(data)
    board, quiet = find_board(BOARD), lambda *_: None
    here = aim.quantized(read_model(model), calibration, board=board, clock_hz=None, progress=quiet)
    assert there.reports[GRAPH_FILE] == here.graph.to_bytes()
    for name in ("precision.json", "precision.svg"):
        assert there.reports[name] == here.reports[name], name
    assert there.quantization["search"]["metric"] == "r2", "labels were given, so their variance is what is explained"
    assert there.parameters == {**aim.parameters(), "emulated": True}


def test_labels_that_lie_beside_the_samples_are_seen_by_a_service(site: Site, tmp_path: Path) -> None:
    aim, digests = Aim(precision="auto", tolerance=2.0), {}
    with site.client() as client:
        for data in ("cal.npy", "both.npz"):
            order = order_of(site.folder / "small.onnx", BOARD, calibration=site.folder / data, precision=aim)
            order = replace(order, emulated=True)
            files = {order.model: site.folder / "small.onnx", order.calibration: site.folder / data}
            digests[data] = client.submit(order, files)["id"]
        for data, metric in (("cal.npy", "r2_to_float_model"), ("both.npz", "r2")):
            list(client.watch(digests[data]))
            firmware = _fetched(client, digests[data], tmp_path / data)
            assert firmware.quantization["search"]["metric"] == metric


def test_equal_aims_are_one_build_and_others_are_others(site: Site) -> None:
    submit = ("builds", "submit", site.folder / "small.onnx", "--board", BOARD, "--remote", site.url, "--json")
    submit += ("--calibration", site.folder / "cal.npy", "--precision", "auto")
    records = [result(gatesmith(*submit, *more)) for more in ((), ("--tolerance", "0.5"), ("--tolerance", "2"))]
    assert [record["new"] for record in records] == [True, False, True]
    assert len({record["id"] for record in records}) == 2


def test_exact_trees_keep_all_decisions_of_their_library(site: Site, tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    forest = RandomForestClassifier(3, max_depth=3, random_state=0).fit(x, y)
    skops.dump(forest, tmp_path / "forest.skops")
    np.save(tmp_path / "x.npy", x)
    order = order_of(tmp_path / "forest.skops", BOARD, calibration=tmp_path / "x.npy", precision="exact")
    order = replace(order, emulated=True)
    with site.client() as client:
        files = {order.model: tmp_path / "forest.skops", order.calibration: tmp_path / "x.npy"}
        id = client.submit(order, files)["id"]
        list(client.watch(id))
        firmware = _fetched(client, id, tmp_path / "out")
    assert firmware.quantization["precision_bits"] is None
    # every threshold, and its neighbours among the numbers of float32, where a grid of few bits is wrong
    borders = [t for tree in forest.estimators_ for t in tree.tree_.threshold[tree.tree_.feature >= 0]]
    near = np.float32(borders)
    values = np.concatenate([near, np.nextafter(near, np.float32(-9)), np.nextafter(near, np.float32(9))])
    samples = np.random.default_rng(3).choice(values, size=(600, 4)).astype(np.float32)
    answer = reference.infer_real(Graph.from_bytes(firmware.reports[GRAPH_FILE]), {"input": samples})
    assert np.array_equal(answer["probabilities"].argmax(axis=1), forest.predict(samples))


def test_a_server_builds_what_is_missing_with_its_aim(tmp_path: Path) -> None:
    save_mlp(tmp_path / "small.onnx")
    np.savez(tmp_path / "calibration.npz", x=np.random.default_rng(1).normal(size=(50, 2)))
    aim = Aim(precision="auto", tolerance=2.0)
    builder = ModelBuilder(LocalBuilds(), Store(tmp_path / "store"), aim=aim)
    offer = ModelFiles({"small": tmp_path / "small.onnx"}).find("small", None, fresh=True)
    firmware = asyncio.run(builder.preview(offer, BOARD))
    assert firmware.parameters == {**aim.parameters(), "emulated": True}


def test_a_search_has_the_limits_of_a_build(tmp_path: Path) -> None:
    model, data = save_mlp(tmp_path / "wide.onnx", inputs=96, hidden=96, outputs=10), tmp_path / "wide.npy"
    np.save(data, np.random.default_rng(1).normal(size=(5000, 96)))  # its first plan alone takes half a minute
    order = order_of(model, "ulx3s-85f", calibration=data, precision=Aim(precision="auto", tolerance=2.0))
    with a_site(tmp_path / "site", "--seconds", "6", fresh=True) as site, site.client() as client:
        id = client.submit(order, {order.model: model, order.calibration: data})["id"]
        events = list(client.watch(id))
        assert events[-1]["state"] == "failed"
        assert "search" in {event["stage"] for event in events if event["kind"] == "progress"}
        with pytest.raises(BuildLost, match="did not end within 6 s; 3 attempts were made"):
            client.result(id)


def test_hostile_orders_get_one_line(site: Site) -> None:
    good = site.order(precision="auto").to_json()
    absent = "sha256:" + hashlib.sha256(b"nobody has this").hexdigest()
    hostile = [
        ({"tolerance": math.nan}, 400, "tolerance is nan points, 0 to 50 are possible"),
        ({"tolerance": 10**400}, 400, "tolerance is 1000000000000000000000000000000000000000... points"),
        ({"precision": "AUTO"}, 400, "precision 'AUTO' is not possible; it is a number of bits, auto or exact"),
        ({"precision": True}, 400, "order: precision is of kind bool, int or str is needed"),
        ({"precision": ["auto"]}, 400, "order: precision is of kind list"),
        ({"precision": 8, "tolerance": 1}, 400, "tolerance is of precision 'auto' alone, and precision is 8"),
        ({"max_error": 1e300}, 400, "max error is 1e+300, 1e-30 to 1e+30 are possible"),
        ({"max_error": -1}, 400, "max error is -1"),
        ({"labels": absent}, 400, "order: labels_file is ''"),
        ({"labels": absent, "labels_file": "../y.npy"}, 400, "order: labels_file is '../y.npy'"),
        ({"labels": absent, "labels_file": "y.npy"}, 404, f"file {absent} was not uploaded; upload it first"),
    ]
    with site.client() as client:
        for path in ("small.onnx", "cal.npy"):
            content = (site.folder / path).read_bytes()
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            assert httpx.put(f"{site.url}/v1/files/{digest}", content=content).status_code == 201
        for change, status, words in hostile:
            body = json.dumps({"order": good | change})  # it writes NaN, which JSON has not
            answer = httpx.post(f"{site.url}/v1/builds", content=body)
            assert answer.status_code == status, (change, answer.text)
            assert answer.json()["error"]["message"].startswith(words)
        assert client.list() == []


def test_labels_that_are_none_fail_with_one_line(site: Site, tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.zeros(3))
    build = ("build", site.folder / "small.onnx", "--board", BOARD, "--calibration", site.folder / "cal.npy")
    line, error = both((*build, "--precision", "auto", "--labels", tmp_path / "short.npy", "--remote", site.url))
    assert line == "there are 3 labels for 50 samples of calibration data; give one for each"
    assert error["type"] == "CalibrationNeeded"
