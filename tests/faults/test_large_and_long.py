"""What an answer may cost: the memory that too large a one takes, and the time that a remote which says nothing takes."""

import gzip
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from simulator.c4c import TOKEN_PATH
from simulator.c4c.odata import SERVICE
from tests.api import links_of
from tests.faults.conftest import Tally, warm
from tests.faults.house import PATIENCE_S, House, Process, tells_what_to_do, timed
from tests.faults.proxy import Fault
from tests.faults.table import BIG, endless, status

FILES = {"Offer 2026-118.pdf"}
MEMORY_MB = 32
ANSWER_S = 2.0


def bomb(own: bytes) -> Iterable[bytes]:
    """100 MB of blanks, packed into 100 kB."""
    packer, blanks = zlib.compressobj(wbits=31), b" " * 65536  # 31: with gzip's header
    packed = b"".join([packer.compress(blanks) for _ in range(BIG // len(blanks))] + [packer.flush()])
    yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n"
    yield b"content-length: %d\r\n\r\n%b" % (len(packed), packed)


def memory_mb(kind: str) -> int:
    """Resident memory of this process: "VmRSS" now, "VmHWM" at its highest since /proc/self/clear_refs was written."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) // 1024


@pytest.mark.parametrize("answer", [endless, bomb], ids=["plain", "packed"])
@pytest.mark.parametrize(
    ("remote", "match", "path"),
    [
        ("c4c", "/$batch", "/context"),
        ("c4c", TOKEN_PATH, "/context"),
        ("identity", "/discovery/v2.0/keys", "/context"),
        ("graph", "id%2CinternetMessageId", "/saves/preview"),
        ("graph", "/$value", "/saves/preview"),
    ],
    ids=["lookup", "c4c-sign-in", "keys", "message", "mime"],
)
def test_an_answer_of_100_mb_is_not_read_into_memory(house: House, remote: str, match: str, path: str, answer: object) -> None:
    process = house.process(context_deadline_s=PATIENCE_S)  # it is about memory; what comes late would be the next call's answer
    item = house.message()
    fault = house.proxies[remote].strike(Fault("answer", "before", match, answer=answer))  # type: ignore[arg-type]
    before = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    refused = process.answered(lambda: process.api.post(path, {"item": item}))
    grew = memory_mb("VmHWM") - before
    print(f"{match}: {refused.status_code}, memory grew by {grew} MB at most")
    assert fault.strikes > 0
    tells_what_to_do(refused)
    assert grew <= MEMORY_MB
    house.lift()
    house.forward(60)
    assert process.answered(lambda: process.api.post(path, {"item": item})).status_code == 200


def packed(own: bytes) -> Iterable[bytes]:
    """The remote's own answer, packed."""
    head, _, body = own.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    body = gzip.compress(body)
    yield b"\r\n".join([*kept, b"connection: close", b"content-encoding: gzip", b"content-length: %d" % len(body), b"", body])


def test_answers_may_come_packed(house: House, tally: Tally) -> None:
    process = house.process()
    item = house.message("with_attachment_known_contact")
    faults = [house.proxies[name].strike(Fault("answer", "after", answer=packed)) for name in ("c4c", "identity")]
    faults.append(house.proxies["graph"].strike(Fault("answer", "after", "?$select", answer=packed)))
    links = links_of(process.api.context(item))
    assert process.api.save(item, links).status_code == 201
    assert all(fault.strikes for fault in faults)
    process.holds_once(item, FILES, links)
    tally.save(item)


@pytest.mark.parametrize(
    ("remote", "match"),
    [("c4c", "/$batch"), ("c4c", TOKEN_PATH), ("identity", "/discovery/v2.0/keys"), ("identity", "/v2.0/.well-known")],
    ids=["lookup", "c4c-sign-in", "keys", "metadata"],
)
def test_with_the_usual_settings_a_lookup_answers_in_two_seconds_whatever_says_nothing(
    house: House, remote: str, match: str
) -> None:
    process = house.process()
    item = house.message()
    house.proxies[remote].strike(Fault("hang", match=match))
    answer, took = timed(lambda: process.answered(lambda: process.api.post("/context", {"item": item})))
    print(f"{match}: {answer.status_code} after {took:.2f} s")
    tells_what_to_do(answer)
    assert took < ANSWER_S * 2  # the machine may be busy; without a deadline it would be 10 s and more


@pytest.mark.parametrize("kind", ["hang", "down"])
def test_a_lookup_does_not_need_the_mailbox(house: House, patient: Process, kind: str) -> None:
    fault = house.proxies["graph"].strike(Fault(kind))
    assert patient.api.context(house.message())["cards"] != []
    assert fault.strikes == 0


def test_a_save_answers_in_time_although_the_mailbox_asks_for_pauses(house: House, tally: Tally) -> None:
    process = warm(house.process(pauses=1.0))
    item = house.message("with_attachment_known_contact")
    links = links_of(process.api.context(item))
    fault = house.proxies["graph"].strike(Fault("answer", match="PATCH", answer=status("429 Too Many Requests")))
    answer, took = timed(lambda: process.answered(lambda: process.api.save(item, links)))
    assert (answer.status_code, answer.json["marks"], fault.strikes) == (201, [], 4)
    assert took < process.deps.limits.save_deadline_s
    process.tells(item, answer, FILES, links)
    house.lift()
    house.forward(40)  # a mailbox that refused four times in a row rests for half a minute
    process.work()
    process.holds_once(item, FILES, links)
    tally.save(item)


@pytest.mark.soak
def test_a_create_that_c4c_answers_after_31_real_seconds_is_done_once(house: House, patient: Process, tally: Tally) -> None:
    item = house.message("with_attachment_known_contact")
    links = links_of(patient.api.context(item))
    create = "POST " + SERVICE + "EMailCollection"
    house.proxies["c4c"].strike(Fault("latency", "after", create, seconds=31.0))
    answer, took = timed(lambda: patient.answered(lambda: patient.api.save(item, links)))
    print(f"{answer.status_code} after {took:.1f} s")
    assert answer.status_code == 202
    save_id = patient.tells(item, answer, FILES, links)
    deadline = time.monotonic() + 60
    while patient.api.get(f"/saves/{save_id}").json["state"] == "pending" and time.monotonic() < deadline:
        time.sleep(0.5)  # the request goes on in the background until its own deadline of 30 s
    assert patient.api.get(f"/saves/{save_id}").json["state"] == "unknown"
    house.lift()
    patient.recovers(item, links, answer, save_id)
    patient.holds_once(item, FILES, links)
    tally.save(item)
