"""Upstreams behind TLS. The certificates are made by the openssl command."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from client_upstream import LIMIT, Upstream, Visit, answer, echo, on_loops, replying

from velithon_proxy import TLS, ConnectError, ProxyClient, ProxyError, TLSError, TotalTimeout


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is missing: no certificate can be made")
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "certificate.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:good.test"]
    subprocess.run([*command, "-out", str(files[0]), "-keyout", str(files[1])], check=True, capture_output=True)
    return files


@pytest.fixture
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@on_loops("asyncio", "uvloop")
async def test_an_untrusted_certificate_is_refused_with_nothing_sent(context: ssl.SSLContext) -> None:
    with Upstream(replying(echo), tls=context) as upstream:
        async with ProxyClient(upstream.url, max_retries=0) as client:
            for method in ("GET", "POST"):
                with pytest.raises(TLSError) as raised:
                    await client.forward_request(method, "/", {"cookie": "secret"}, b"x")
                error = raised.value
                assert (error.phase, error.request_sent, error.status) == ("tls", False, 502)
                assert error.target == upstream.url
                assert isinstance(error, ConnectError)
                assert "certificate" in str(error)
        assert upstream.requests == []


async def test_an_upstream_that_speaks_no_tls_is_refused() -> None:
    async def script(visit: Visit) -> None:
        hello = await visit.reader.read(65536)
        assert hello[:1] == b"\x16"  # a TLS handshake record; nothing of the request before it
        assert b"GET" not in hello
        await visit.send(answer(b"plain"))

    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url.replace("http", "https"), max_retries=0) as client:
            with pytest.raises(TLSError) as raised:
                await client.forward_request("GET", "/")
            assert (raised.value.phase, raised.value.request_sent) == ("tls", False)


async def test_a_handshake_that_stalls_ends_with_the_limit() -> None:
    async def script(visit: Visit) -> None:
        await visit.left()

    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url.replace("http", "https"), timeout_ms=200, max_retries=0) as client:
            with pytest.raises(TotalTimeout) as raised:
                await client.forward_request("GET", "/")
            assert not raised.value.request_sent
            assert 0.2 <= raised.value.elapsed < 0.45
            await upstream.until(lambda: upstream.count("left") == 1)


async def test_an_old_protocol_is_refused(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options &= ~(ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
    except ValueError as error:
        pytest.skip(f"this OpenSSL has no TLS 1.1: {error}")
    with Upstream(replying(echo), tls=context) as upstream:
        async with ProxyClient(upstream.url, max_retries=0) as client:
            with pytest.raises(TLSError):
                await client.forward_request("GET", "/")
        assert upstream.requests == []


TRUSTING = """
import asyncio, os, sys
from velithon_proxy import ProxyClient, TLSError

async def main(url, other):
    async with ProxyClient(url) as client:
        for size in (0, 10, 65536, 1_000_000):
            body = os.urandom(size)
            responses = await asyncio.gather(*(client.forward_request("POST", f"/{i}", None, body) for i in range(8)))
            assert [r.headers["x-target"] for r in responses] == [f"/{i}" for i in range(8)]
            assert all(r.body == body for r in responses)
    # Trusted, but made out to another name.
    async with ProxyClient(other, max_retries=0) as client:
        try:
            await client.forward_request("GET", "/wrong-name")
            raise SystemExit("the name was not checked")
        except TLSError as error:
            assert not error.request_sent

asyncio.run(main(*sys.argv[1:]))
print("ok")
"""


def test_a_trusted_certificate_carries_requests_and_its_name_is_checked(
    certificate: tuple[Path, Path], context: ssl.SSLContext
) -> None:
    # The core trusts what the system trusts; where that is, a process is told when it starts.
    with Upstream(replying(echo), tls=context) as upstream:
        done = subprocess.run(
            [sys.executable, "-c", TRUSTING, upstream.url, f"https://localhost:{upstream.port}"],
            env={**os.environ, "SSL_CERT_FILE": str(certificate[0])},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr
        assert len(upstream.requests) == 32
        assert b"/wrong-name" not in [request.target for request in upstream.requests]


@on_loops("asyncio", "uvloop")
async def test_a_client_may_trust_an_authority_of_its_own(
    certificate: tuple[Path, Path], context: ssl.SSLContext
) -> None:
    with Upstream(replying(echo), tls=context) as upstream:
        async with ProxyClient(upstream.url, tls=TLS(ca=certificate[0])) as client:
            body = os.urandom(300_000)
            assert (await client.forward_request("POST", "/", None, body)).body == body
            async with client.stream_request("POST", "/", None, body) as response:
                assert await response.read() == body
            assert upstream.connections == 1
        elsewhere = f"https://localhost:{upstream.port}"
        async with ProxyClient(elsewhere, tls=TLS(ca=certificate[0])) as client:
            with pytest.raises(TLSError):
                await client.forward_request("GET", "/")
        async with ProxyClient(elsewhere, tls=TLS(ca=certificate[0], server_name="good.test")) as client:
            assert (await client.forward_request("GET", "/")).status == 200


async def test_a_client_shows_its_certificate(certificate: tuple[Path, Path], context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate[0])
    with Upstream(replying(echo), tls=context) as upstream:
        shown = TLS(ca=certificate[0], cert=certificate[0], key=certificate[1])
        async with ProxyClient(upstream.url, tls=shown) as client:
            assert (await client.forward_request("GET", "/")).status == 200
        async with ProxyClient(upstream.url, tls=TLS(ca=certificate[0])) as client:
            with pytest.raises(ProxyError):
                await client.forward_request("GET", "/refused")
        assert b"/refused" not in [request.target for request in upstream.requests]
