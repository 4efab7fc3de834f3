"""HTTP hooks of gates, against servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from integration.outside.asking import ABOUT, Asker, asker, gate, with_asker
from integration.outside.hosts import HEAD, Host, answering, flooding, hanging, host, http
from integration.outside.prometheus import free_port

from volery.model.ports import Answer

Say = Callable[[asyncio.StreamWriter], Awaitable[None]]


def hooked(say: Say, path: str = "/hook", **fields: Any) -> tuple[Answer, Host]:
    async def run() -> tuple[Answer, Host]:
        async with host(say) as server, asker() as ask:
            return await ask.to(gate(url=server.url(path), **fields)), server

    return asyncio.run(run())


NO_ANSWERS = {
    "silence": (hanging(), "no answer within 300ms"),
    "half a head": (hanging(b"HTTP/1.1 200 OK\r\nx-a: "), "no answer within 300ms"),
    "the end": (answering(), "Server disconnected without sending a response."),
    "ssh": (answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "illegal status line"),
    "bad header": (answering(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"), "illegal header line"),
    "endless headers": (flooding(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n" * 1000), ""),
    "zeros": (flooding(b"", b"\x00" * 65536), ""),
}
ENDLESS = {
    "no body": hanging(HEAD),
    "half a body": hanging(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12"),
    "one line": flooding(HEAD, b"y" * 65536),
    "lines": flooding(HEAD, b"a line\n" * 1000),
}


def test_it_is_told_what_it_is_about() -> None:
    answer, server = hooked(answering(http("200 OK", b"go on\nplease\n")))
    assert (answer.state, answer.text) == ("yes", "go on")
    ((head, body),) = server.requests
    assert head.startswith("POST /hook HTTP/1.1\r\n")
    assert "content-type: application/json\r\n" in head.lower()
    assert json.loads(body) == ABOUT


@pytest.mark.parametrize(
    ("status", "body", "state", "text"),
    [
        ("204 No Content", b"", "yes", "URL answered 204"),
        ("201 Created", b"", "yes", "URL answered 201"),
        ("403 Forbidden", b"\nfrozen\nsee wiki", "no", "URL answered 403: frozen"),
        ("500 Oops", b"", "no", "URL answered 500"),
        ("429 Too Many", b"later", "no", "URL answered 429: later"),
        ("304 Not Modified", b"", "broken", "URL answered 304: redirects are not followed"),
        ("999 What", b"", "broken", "URL answered 999"),
        ("200 OK", b"\x1b[31mred\x1b[0m \x07bell\x00", "yes", "red \ufffdbell\ufffd"),
        ("418 Tea", b"\xff\xfe caf\xe9", "no", "URL answered 418: \ufffd\ufffd caf\ufffd"),
    ],
)  # fmt: skip
def test_what_it_says(status: str, body: bytes, state: str, text: str) -> None:
    answer, server = hooked(answering(http(status, body)))
    assert (answer.state, answer.text) == (state, text.replace("URL", server.url("/hook")))


def test_a_redirect_is_not_followed() -> None:
    async def play(ask: Asker) -> None:
        async with host(answering(http("200 OK"))) as elsewhere:
            moved = http("307 Moved", b"", f"location: {elsewhere.url()}")
            async with host(answering(moved)) as server:
                answer = await ask.to(gate(url=server.url()))
        assert answer.state == "broken"
        assert answer.text.endswith("answered 307: redirects are not followed")
        assert elsewhere.requests == []

    with_asker(play)


def test_a_long_line_is_shortened() -> None:
    answer, _ = hooked(answering(http("500 No", b"x" * 5000 + b"\n")))
    assert answer.state == "no"
    assert len(answer.text) == 300
    assert answer.text.endswith("x...")


@pytest.mark.parametrize(
    ("say", "says"),
    list(NO_ANSWERS.values()),
    ids=list(NO_ANSWERS),
)
def test_what_is_no_answer_is_broken(say: Say, says: str) -> None:
    answer, server = hooked(say, timeout="300ms" if "300ms" in says else "20s")
    assert answer.state == "broken"
    assert answer.text.startswith(f"{server.url('/hook')}: ")
    assert says in answer.text


@pytest.mark.parametrize("say", list(ENDLESS.values()), ids=list(ENDLESS))
def test_a_status_decides_whatever_the_body_does(say: Say) -> None:
    answer, _ = hooked(say, timeout="60s")
    assert answer.state == "yes"


def test_a_body_that_is_packed_stays_packed() -> None:
    bomb = b"\x1f\x8b\x08" + b"\x00" * 20
    answer, server = hooked(answering(http("200 OK", bomb, "content-encoding: gzip")))
    assert answer.state == "yes"
    assert "accept-encoding: identity" in server.requests[0][0].lower()


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's side with a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "pem").write_bytes(encoded + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    return context


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    async def play(ask: Asker) -> None:
        async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        context = self_signed(tmp_path)
        server = await asyncio.start_server(never, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        answer = await ask.to(gate(url=f"https://127.0.0.1:{port}/x"))
        server.close()
        assert answer.state == "broken"
        assert answer.text == f"https://127.0.0.1:{port}/x: self-signed certificate"

    with_asker(play)


def test_nobody_listens() -> None:
    port = free_port()

    async def play(ask: Asker) -> None:
        answer = await ask.to(gate(url=f"http://127.0.0.1:{port}/x"))
        assert (answer.state, answer.text) == (
            "broken",
            f"http://127.0.0.1:{port}/x: connection refused",
        )
        answer = await ask.to(gate(url="http://nobody.invalid/x"))
        assert answer.state == "broken"

    with_asker(play)


def test_user_and_password_are_sent_and_never_shown() -> None:
    async def play(ask: Asker) -> None:
        said = b"dear ann, p%40ssw0rd is p@ssw0rd is YW5uOnBAc3N3MHJk"
        async with host(answering(http("403 No", said))) as server:
            url = server.url("/x?token=t0ken").replace("//", "//ann:p%40ssw0rd@")
            answer = await ask.to(gate(url=url))
        assert "authorization: basic yw5uonbac3n3mhjk" in server.requests[0][0].lower()
        assert answer.text == f"{server.url('/x')} answered 403: dear ann, *** is *** is ***"

    with_asker(play)


def test_a_secret_that_a_server_says_is_masked() -> None:
    async def play(ask: Asker) -> None:
        said = b"key " + b"k" * 290 + b" refused"
        async with host(answering(http("403 No", said))) as server:
            answer = await ask.to(gate(url=server.url()))
        assert answer.text.endswith("answered 403: key *** refused")

    with_asker(play, hidden=lambda: ["k" * 290])


def test_a_hook_that_hangs_is_let_go_of_when_it_is_no_longer_wished() -> None:
    async def play(ask: Asker) -> None:
        async with host(hanging()) as server:
            ask.wish(g=gate(url=server.url(), timeout="1h"))
            async with asyncio.timeout(30):
                while not server.requests:
                    await asyncio.sleep(0.01)
                ask.wish()
                await server.left.wait()
        assert not ask.woken.is_set()

    with_asker(play)


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    answer, _ = hooked(answering(http("200 OK")))
    assert answer.state == "yes"


def test_one_that_is_busy_is_asked_again_and_can_tell_that_it_was_asked_before() -> None:
    async def play(ask: Asker) -> None:
        says = iter((http("503 Not Now", b"later"), b"", http("200 OK", b"go on")))

        async def say(writer: asyncio.StreamWriter) -> None:
            writer.write(next(says))

        async with host(say) as server:
            assert (await ask.to(gate(url=server.url()))).text == "go on"
            keys = [
                line.partition(": ")[2]
                for head, _ in server.requests
                for line in head.splitlines()
                if line.lower().startswith("idempotency-key: ")
            ]
            assert len(keys) == 3 and len(set(keys)) == 1
            assert keys[0][0] == keys[0][-1] == '"'

    with_asker(play)
