"""The build service as its users have it: real builds, a real registry, and kill -9 in every stage."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from building import a_site
from command import both, failed, gatesmith, result
from ports import free_port
from registries import make_certificates, real_registry
from requirements import require_build

from gatesmith.artifact.store import Store
from gatesmith.builds.client import BuildClient
from gatesmith.errors import AuthenticationFailed, BuildCancelled, BuildLost, ModelUnreadable, QuotaExceeded


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_build("icebreaker")


def _events(client: BuildClient, id: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    return next(event for event in client.watch(id) if until(event))


def _in_stage(stage: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["kind"] == "progress" and event["stage"] == stage


def test_twenty_clients_at_once_get_one_build_that_is_right(tmp_path: Path) -> None:
    def ask(_: int) -> tuple[bool, str, str]:
        with site.client() as client:
            record = site.submit(client, order)
            events = list(client.watch(record["id"]))
            assert events[-1]["state"] == "done"
            return record["new"], record["id"], client.result(record["id"])["digest"]

    with a_site(tmp_path, fresh=True) as site:
        order = site.order()
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(ask, range(20)))
        assert sum(is_new for is_new, _, _ in answers) == 1
        assert len({digest for _, _, digest in answers}) == 1
        counts = httpx.get(f"{site.url}/metrics").text
        assert 'gatesmith_builds{state="done"} 1' in counts
        with site.client() as client:
            client.fetch(answers[0][1], tmp_path / "fetched")
    store = Store(tmp_path / "fetched")
    (entry,) = store.list()
    firmware = store.load(entry.reference, with_model=True)
    assert firmware.verified == ("reference", "rtl", "bitstream")
    assert firmware.model_file[1] == (tmp_path / "small.onnx").read_bytes()
    proof = result(gatesmith("verify", tmp_path / "fetched", "--level", "rtl", "--samples", "200", "--json"))
    assert (proof["level"], proof["mismatches"]) == ("rtl", 0)


def test_kill_in_every_stage_loses_nothing_and_builds_once(tmp_path: Path) -> None:
    port = free_port()
    namespace = f"127.0.0.1:{port}/lab"
    with a_site(tmp_path, "--registry", namespace, "--plain-http", fresh=True) as site:
        with site.client() as client:
            id = site.submit(client, site.order())["id"]
        # the registry is away, so that pushing is a stage that lasts
        for stage in ("read", "synthesis", "routing", "verify", "push"):
            with site.client() as client:
                _events(client, id, _in_stage(stage))
                site.kill()
            site.wait_for_silence()
            site.start()
        with site.client() as client:
            assert client.get(id)["state"] in {"queued", "running"}
            with real_registry(tmp_path / "registry", port=port) as registry:
                assert list(client.watch(id))[-1]["state"] == "done"
                done = client.result(id)
                assert done["origin"] == "store", "it was in the store when the service was killed while pushing"
                assert done["registry"].startswith(f"{namespace}/small:{id[:12]}@sha256:")
                pulled = gatesmith("pull", done["registry"].partition("@")[0], "--plain-http", "--no-lock", "--json",
                                   home=tmp_path / "other")  # fmt: skip
                assert result(pulled)["digest"] == done["registry"].rpartition("@")[2]
                assert registry.requests("PUT", of=f"/v2/lab/plans/manifests/{id}") == 1


def test_a_killed_worker_is_started_again_in_every_stage(tmp_path: Path) -> None:
    with a_site(tmp_path, fresh=True) as site, site.client() as client:
        id = site.submit(client, site.order())["id"]
        events = client.watch(id)
        for stage in ("synthesis", "verify"):
            next(event for event in events if _in_stage(stage)(event))
            (worker,) = site.pids("builds/worker.py")
            os.kill(worker, signal.SIGKILL)
            again = next(event for event in events if event["kind"] == "state")
            assert again["state"] == "queued"
            assert "killed by signal 9" in again["why"]
        assert list(events)[-1]["state"] == "done"
        assert client.get(id)["attempts"] == 3


def test_a_registry_that_is_killed_while_it_is_pushed_to(tmp_path: Path) -> None:
    port = free_port()
    with a_site(tmp_path, "--registry", f"127.0.0.1:{port}/lab", "--plain-http") as site, site.client() as client:
        id = site.submit(client, site.order())["id"]
        line = _events(client, id, lambda event: event["kind"] == "line" and event["stage"] == "push")
        assert "again in" in line["line"]
        with real_registry(tmp_path / "registry", port=port):
            assert list(client.watch(id))[-1]["state"] == "done"
        assert client.get(id)["attempts"] == 1


def test_another_site_builds_nothing(tmp_path: Path) -> None:
    with real_registry(tmp_path / "registry") as registry:
        options = ("--registry", f"{registry.address}/lab", "--plain-http")
        with a_site(tmp_path / "one", *options) as one, one.client() as client:
            id = one.submit(client, one.order())["id"]
            list(client.watch(id))
            digest = client.result(id)["digest"]
        with a_site(tmp_path / "two", *options) as two, two.client() as client:
            record = two.submit(client, two.order())
            assert (record["state"], record["result"]["origin"]) == ("done", "registry")
            assert record["result"]["digest"] == digest
            assert not any("nextpnr" in line for line in two.processes())


def test_signed_results_and_a_site_that_trusts_another_key(tmp_path: Path) -> None:
    keys = {name: tmp_path / f"{name}.key" for name in ("ours", "theirs")}
    for key in keys.values():
        result(gatesmith("sign", "--generate", key, "--json"))
    with real_registry(tmp_path / "registry") as registry:
        options = ("--registry", f"{registry.address}/lab", "--plain-http")
        with a_site(tmp_path / "one", *options, "--sign-key", keys["ours"]) as one, one.client() as client:
            id = one.submit(client, one.order())["id"]
            list(client.watch(id))
            reference = client.result(id)["registry"].partition("@")[0]
        home = tmp_path / "reader"
        result(gatesmith("pull", reference, "--plain-http", "--no-lock", "--json", home=home))
        good = gatesmith("verify", reference, "--key", keys["ours"].with_suffix(".pub"), "--json", home=home)
        assert good.returncode == 0, good.stderr
        bad = gatesmith("verify", reference, "--key", keys["theirs"].with_suffix(".pub"), home=home)
        assert "not signed by a trusted key" in failed(bad)


def test_tokens_quota_cancel_and_tls(tmp_path: Path) -> None:
    ca, (certificate, key) = make_certificates(tmp_path / "tls")
    tokens = tmp_path / "tokens"
    tokens.write_text("anna annas-own-token-1 1\nbert berts-own-token-2 1\nadmin admins-own-token-3\n")
    arguments = ("--token-file", tokens, "--tls-certificate", certificate, "--tls-key", key)
    with a_site(tmp_path / "site", *arguments, fresh=True) as site:
        assert site.url.startswith("https://")

        def client(token: str) -> BuildClient:
            return BuildClient(site.url, token=token, ca=ca)

        with client("") as nobody, pytest.raises(AuthenticationFailed, match="a token is needed"):
            nobody.list()
        with (
            client("annas-own-token-1") as anna,
            client("berts-own-token-2") as bert,
            client("admins-own-token-3") as admin,
        ):
            first = site.submit(anna, site.order())
            with pytest.raises(QuotaExceeded, match="anna has 1 builds queued or running, 1 may be"):
                site.submit(anna, site.order(seed=2))
            with pytest.raises(Exception, match="bert may not end it"):
                bert.cancel(first["id"])
            _events(anna, first["id"], _in_stage("synthesis"))
            assert admin.cancel(first["id"])["state"] == "cancelled"
            with pytest.raises(BuildCancelled, match="admin cancelled the build"):
                anna.result(first["id"])
            second = site.submit(bert, site.order())
            assert second["new"], "a cancelled build starts anew"
            assert bert.cancel(second["id"])["state"] == "cancelled"
        end = time.monotonic() + 30
        while any("nextpnr" in line or "worker.py" in line for line in site.processes()):
            assert time.monotonic() < end
            time.sleep(0.02)


def test_models_of_strangers(tmp_path: Path) -> None:
    """A pickle is not read, a damaged file is named, a bomb ends with its reader."""
    evil = b"\x80\x04cposix\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR."
    with a_site(tmp_path / "site") as site, site.client() as client:
        for name, content, words in (
            ("evil.pkl", evil, "reading one runs the code in it"),
            ("damaged.onnx", b"\x08\x07\x12\x04onnx" * 9, "damaged.onnx"),
        ):
            path = tmp_path / name
            path.write_bytes(content)
            done = gatesmith("build", path, "--board", "icebreaker", "--remote", site.url)
            assert words in failed(done)
        assert not (tmp_path / "owned").exists()
        order = site.order()
        with pytest.raises(ModelUnreadable):
            client.submit(order, {order.model: tmp_path / "absent", order.calibration: tmp_path / "absent"})
        assert httpx.get(f"{site.url}/healthz").json() == {"live": True}


def test_too_much_memory_and_too_much_time(tmp_path: Path) -> None:
    with a_site(tmp_path / "memory", "--memory-gib", "0.5", fresh=True) as site, site.client() as client:
        id = site.submit(client, site.order("ulx3s-85f"))["id"]
        states = [event for event in client.watch(id) if event["kind"] == "state"]
        assert states[-1]["state"] == "failed"
        with pytest.raises(BuildLost, match=r"the build holds \d+ MiB of memory, 512 MiB are allowed; .*3 attempts"):
            client.result(id)
    with a_site(tmp_path / "time", "--seconds", "2", fresh=True) as site, site.client() as client:
        id = site.submit(client, site.order())["id"]
        list(client.watch(id))
        with pytest.raises(BuildLost, match="3 attempts were made"):
            client.result(id)


def test_the_command_line_shows_a_remote_build_like_a_local_one(tmp_path: Path) -> None:
    options = ("--board", "icebreaker", "--precision", "3", "--calibration", tmp_path / "site" / "cal.npy")
    with a_site(tmp_path / "site") as site:
        model, home = tmp_path / "site" / "small.onnx", tmp_path / "laptop"
        remote = result(
            gatesmith("build", model, *options, "--remote", site.url, "--tag", "small:v1", "--json", home=home)
        )
        submitted = result(gatesmith("builds", "submit", model, *options, "--remote", site.url, "--json"))
        assert (submitted["state"], submitted["new"]) == ("done", False)
        listed = result(gatesmith("builds", "list", "--remote", site.url, "--json"))["builds"]
        assert [one["id"] for one in listed] == [submitted["id"]]
        watched = result(gatesmith("builds", "watch", submitted["id"][:12], "--remote", site.url, "--json"))
        assert watched["digest"] == remote["digest"]
        line, _ = both(("builds", "watch", "ffff", "--remote", site.url))
        assert line == "0 builds begin with 'ffff', one is needed; see 'gatesmith builds list'"
    (entry,) = result(gatesmith("list", "--json", home=home))
    assert entry["reference"] == "small:v1"
    local = {"reference", "digest", "board", "fmax_hz", "utilization", "agreement", "verified", "cached", "seconds"}
    assert local <= set(remote)
    line, error = both(("builds", "list", "--remote", site.url))
    assert error["type"] == "ServerUnreachable"
    assert line.endswith("check that a build service runs there")


def test_one_service_for_one_folder(tmp_path: Path) -> None:
    with a_site(tmp_path) as site:
        again = gatesmith("builds", "serve", "--port", "0", home=site.home)
        assert "another build service works in" in failed(again)


def test_events_go_on_where_a_watcher_left(tmp_path: Path) -> None:
    with a_site(tmp_path) as site, site.client() as client:
        id = site.submit(client, site.order())["id"]
        everything = [event for event in client.watch(id) if event["kind"] != "alive"]
        text = httpx.get(f"{site.url}/v1/builds/{id}/events", headers={"last-event-id": "3"}).text
        numbers = [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]
        assert numbers == list(range(4, len(everything) + 1))
        last = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")][-1]
        assert last["state"] == "done"
