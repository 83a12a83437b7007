"""TLS options: which certificates to trust and to show. Files are read, and checked, when the object is made."""

from __future__ import annotations

import os
import re
import warnings
from typing import Any, Final, TypeAlias, cast

from ._errors import ConfigurationError
from ._settings import FrozenOptions, remake
from ._show import show

_BLOCK: Final = r"(?s)-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----"  # compiled when it is needed


class InsecureTLSWarning(UserWarning):
    """Certificates of upstreams are not checked: whoever is on the way can read and change everything."""


PathInput: TypeAlias = "str | os.PathLike[str]"


class TLS(FrozenOptions):
    """How to speak TLS with an https upstream. Files are read, and checked, when the object is made.

    Args:
        ca: path of a PEM file with the certificates of the authorities to trust instead of the system's.
        cert: path of a PEM file with the client's own certificate chain, with its key unless ``key`` is given.
        key: path of a PEM file with the key of ``cert``; not encrypted.
        server_name: the name to ask for and to find in the certificate, instead of the upstream's host.
        min_version: ``"1.2"`` or ``"1.3"``.
        insecure: check no certificate at all. Warns once with :class:`InsecureTLSWarning`.

    Raises:
        ConfigurationError: a file that is missing or not PEM, a key that does not belong to the certificate or is
            encrypted, or another argument that cannot be used. A ``cert`` that has expired and a ``server_name`` that
            is no host name raise it with the first request instead.
    """

    __slots__ = ("_pem", "ca", "cert", "insecure", "key", "min_version", "server_name")

    ca: str | None
    cert: str | None
    key: str | None
    server_name: str | None
    min_version: str
    insecure: bool
    _pem: dict[str, str]

    def __init__(
        self,
        *,
        ca: PathInput | None = None,
        cert: PathInput | None = None,
        key: PathInput | None = None,
        server_name: str | None = None,
        min_version: str = "1.2",
        insecure: bool = False,
    ) -> None:
        if key is not None and cert is None:
            raise ConfigurationError("key needs cert: a key alone is of no use", field="key")
        if min_version not in ("1.2", "1.3"):
            raise ConfigurationError(
                f'min_version must be "1.2" or "1.3", not {show(min_version)}', field="min_version"
            )
        if not isinstance(insecure, bool):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without types
            raise ConfigurationError(f"insecure must be True or False, not {show(insecure)}", field="insecure")
        if server_name is not None and (not isinstance(server_name, str) or not server_name):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"server_name must be a host name, not {show(server_name)}", field="server_name")
        pem = {
            name: _read_pem(name, path) for name, path in (("ca", ca), ("cert", cert), ("key", key)) if path is not None
        }
        _check_pem(pem)
        for name, value in (
            ("ca", _path(ca)), ("cert", _path(cert)), ("key", _path(key)), ("server_name", server_name),
            ("min_version", min_version), ("insecure", insecure), ("_pem", pem),
        ):  # fmt: skip
            object.__setattr__(self, name, value)
        if insecure:
            _warn_insecure()

    def config(self) -> dict[str, object]:
        """The members of the core's configuration: contents of files, not paths."""
        members: dict[str, object] = {"tls_min_version": self.min_version}
        if self.server_name is not None:
            members["tls_server_name"] = self.server_name
        if self.insecure:
            members["tls_insecure"] = True
        if "ca" in self._pem:
            members["tls_ca"] = self._pem["ca"]
        if "cert" in self._pem:
            members["tls_cert"] = self._pem["cert"]
            members["tls_key"] = self._pem.get("key", self._pem["cert"])
        return members

    def _values(self) -> tuple[object, ...]:
        return (
            tuple(sorted(self._pem.items())),
            self.ca,
            self.cert,
            self.insecure,
            self.key,
            self.min_version,
            self.server_name,
        )

    def __repr__(self) -> str:
        names = ("ca", "cert", "key", "server_name", "min_version", "insecure")
        return f"TLS({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def __reduce__(self) -> Any:
        names = ("ca", "cert", "key", "server_name", "min_version", "insecure")
        return remake, (TLS, {name: getattr(self, name) for name in names})


def _path(path: PathInput | None) -> str | None:
    return None if path is None else os.fspath(path)


def _read_pem(field: str, path: object) -> str:
    """Read the PEM blocks of a file; what stands between them are comments, in any encoding."""
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigurationError(f"{field} must be the path of a PEM file, not {show(path)}", field=field)
    name = os.fspath(cast("PathInput", path))
    try:
        with open(name, encoding="latin-1") as file:  # noqa: PTH123 -- as in _runtime: import time
            text = file.read()
    except OSError as error:
        raise ConfigurationError(f"{field}: {show(name)} cannot be read: {error.strerror}", field=field) from error
    pem = "\n".join(match[0] for match in re.finditer(_BLOCK, text))
    wanted = "PRIVATE KEY-----" if field == "key" else "-----BEGIN CERTIFICATE-----"
    if wanted not in pem or not pem.isascii():
        what = "private key" if field == "key" else "certificate"
        raise ConfigurationError(f"{field}: {show(name)} holds no {what} in PEM", field=field)
    return pem


def _check_pem(pem: dict[str, str]) -> None:
    """Have OpenSSL look at what was read; the core does so again when it is used."""
    if not pem:
        return
    import ssl  # only here: it takes longer to import than the rest of the package
    import tempfile

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if "ca" in pem:
        try:
            context.load_verify_locations(cadata=pem["ca"])
        except ssl.SSLError as error:
            raise ConfigurationError(f"ca holds a certificate that cannot be read: {error}", field="ca") from error
    if "cert" not in pem:
        return
    key = pem.get("key", pem["cert"])
    if "ENCRYPTED" in key:
        raise ConfigurationError("key is encrypted; give one that is not", field="key")
    if "PRIVATE KEY-----" not in key:
        raise ConfigurationError("cert holds no private key, and key was not given", field="key")
    with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:  # mode 0600; load_cert_chain takes paths only
        file.write(pem["cert"] + "\n" + pem.get("key", ""))
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError as error:
            raise ConfigurationError(f"cert and key cannot be used together: {error}", field="cert") from error


_warned = False


def _warn_insecure() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn("TLS(insecure=True): certificates of upstreams are not checked", InsecureTLSWarning, stacklevel=3)
