"""TLS options in the form of mysqlclient, for both drivers and for dbshell."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

__all__ = [
    "ENCRYPTED_MODES",
    "asked_of_client",
    "connect_with_pymysql",
    "with_tls_options",
]

#: The modes that never fall back to an unencrypted connection.
ENCRYPTED_MODES = ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
MODES = ("DISABLED", "PREFERRED", *ENCRYPTED_MODES)

_KEYS = ("ca", "capath", "cert", "key", "cipher")
_FILES = ("ca", "cert", "key")


def _ssl_files(files: Mapping[str, Any], option: str) -> dict[str, Any]:
    """
    Return mysqlclient's option ``ssl`` with all paths as strings, because
    mysqlclient ignores other types without an error.

    Raises ``ImproperlyConfigured`` if a file of `option` cannot be read.
    """
    files = {
        key: os.fspath(value) if isinstance(value, os.PathLike) else value
        for key, value in files.items()
    }
    for key in _FILES:
        if path := files.get(key):
            try:
                Path(path).open("rb").close()
            except OSError as error:
                raise ImproperlyConfigured(
                    f"{option}[{key!r}] is {path!r}: {error.strerror}."
                ) from error
    return files


def _pymysql_ssl(mode: str, files: Mapping[str, str]) -> dict[str, Any]:
    """
    Return PyMySQL's options that are equivalent to mysqlclient's options
    ``ssl_mode`` and ``ssl``.

    Raises ``OSError``, of which ``ssl.SSLError`` is a subclass, if Python
    cannot use a file or the ciphers.
    """
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    if mode == "PREFERRED":
        # Without options, PyMySQL uses TLS if the server supports TLS. With a CA file
        # or a certificate, it would refuse a server without TLS.
        return {}
    # The modification times are a part of the cache key, because certificates are
    # replaced before they expire.
    times = [Path(files[key]).stat().st_mtime_ns for key in _FILES if files.get(key)]
    values = (files.get(key) or None for key in _KEYS)
    # PyMySQL gets a complete SSLContext, because it would verify the host name only if
    # a CA file is set.
    return {"ssl": _context(mode, *values, tuple(times))}


@functools.lru_cache
def _context(
    mode: str,
    ca: str | None,
    capath: str | None,
    cert: str | None,
    key: str | None,
    cipher: str | None,
    times: tuple[int, ...],
) -> ssl.SSLContext:
    """
    Return the SSLContext for these options. All connections with these options share
    the context, because loading the CA certificates of the system takes longer than all
    other steps of a connection.
    """
    if mode == "REQUIRED" and not (ca or capath):
        context = _unverified_context()
    else:
        context = ssl.create_default_context(cafile=ca, capath=capath)
        context.check_hostname = mode == "VERIFY_IDENTITY"
        # Python 3.13 verifies strictly by default: it requires extensions that
        # certificates of private CAs often lack. mysqlclient does not require them.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cert:
        context.load_cert_chain(cert, key)
    if cipher:
        context.set_ciphers(cipher)
    return context


def _unverified_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@functools.cache
def _pymysql_connection_class() -> Any:
    import pymysql

    class Connection(pymysql.connections.Connection):
        _read_timeout: float | None

        def connect(self, sock: Any = None) -> None:
            # mysqlclient's connect_timeout includes the TLS handshake. PyMySQL would
            # wait forever for a server that accepts a connection and does not answer.
            timeout = self._read_timeout
            self._read_timeout = timeout or self.connect_timeout
            try:
                super().connect(sock)
            finally:
                self._read_timeout = timeout

        def _create_ssl_ctx(self, options: Any) -> ssl.SSLContext:
            # Without options, PyMySQL uses TLS if the server supports TLS, and verifies
            # nothing. PyMySQL's own context would still load the CA certificates of the
            # system.
            if not options:
                return _unverified_context()
            return super()._create_ssl_ctx(options)

    return Connection


def connect_with_pymysql(params: dict[str, Any]) -> Any:
    """Return a new PyMySQL connection with the parameters `params`."""
    return _pymysql_connection_class()(**params)


def _mode(options: Mapping[str, Any], option: str) -> str:
    mode: str = options["ssl_mode"]
    if mode not in MODES:
        raise ImproperlyConfigured(
            f"{option}['ssl_mode'] is {mode!r}; it must be one of "
            f"{', '.join(map(repr, MODES))}."
        )
    return mode


def _beside_mode(options: Mapping[str, Any], option: str) -> Mapping[str, Any]:
    """
    Return the option ``ssl``, which contains the TLS options other than
    ``ssl_mode``.

    Raises ``ImproperlyConfigured`` if TLS options are set in a form that is not
    mysqlclient's.
    """
    files = options.get("ssl", {})
    own = sorted(
        name for name in options if name.startswith("ssl_") and name != "ssl_mode"
    )
    if own or not isinstance(files, Mapping) or files.keys() - _KEYS:
        raise ImproperlyConfigured(
            f"{option} has 'ssl_mode', so what else there is for TLS must be in a "
            f"dictionary 'ssl' with the keys {', '.join(map(repr, _KEYS))}, and not "
            f"in {', '.join(map(repr, own)) or repr(files)}."
        )
    return files


def with_tls_options(
    params: dict[str, Any], option: str, *, pymysql: bool
) -> dict[str, Any]:
    """
    Return the connection parameters `params` with mysqlclient's options
    ``ssl_mode`` and ``ssl`` converted for the driver that is used.

    Raises ``ImproperlyConfigured`` if these options are not valid. `option` is the name
    of the dictionary with the options in the message of the error.
    """
    if isinstance(params.get("ssl"), Mapping):
        params["ssl"] = _ssl_files(params["ssl"], f"{option}['ssl']")
    if "ssl_mode" not in params:
        return params
    mode = _mode(params, option)
    if not pymysql:
        return params
    files = _beside_mode(params, option)
    del params["ssl_mode"]
    params.pop("ssl", None)
    try:
        return params | _pymysql_ssl(mode, files)
    except OSError as error:
        raise ImproperlyConfigured(f"{option}['ssl'] is {files!r}: {error}.") from error


def asked_of_client(
    options: Mapping[str, Any], *, pymysql: bool
) -> tuple[str | None, dict[str, Any]]:
    """
    Return the TLS options in ``OPTIONS`` for a command-line client: the ``ssl_mode``
    (None if it is not set) and the dictionary ``ssl``, both in mysqlclient's form. If
    `pymysql` is true, options in PyMySQL's own form are converted.

    Raises ``ImproperlyConfigured`` if the client has no equivalent for these options.
    """
    mode: str | None = None
    files = options.get("ssl") or {}
    if files is True:
        # mysqlclient treats ssl=True as ssl_mode="REQUIRED".
        options = {"ssl_mode": "REQUIRED", **options, "ssl": {}}
    if "ssl_mode" in options:
        mode, files = _mode(options, "OPTIONS"), _beside_mode(options, "OPTIONS")
    elif pymysql:
        mode, files = _asked_of_pymysql(options)
    if not isinstance(files, Mapping) or files.get("password"):
        what = (
            "the password of the key for TLS"
            if isinstance(files, Mapping)
            else f"OPTIONS['ssl'], {files!r}"
        )
        raise ImproperlyConfigured(
            f"dbshell cannot pass on {what}. It can pass on OPTIONS['ssl_mode'], and a "
            f"dictionary OPTIONS['ssl'] with the keys {', '.join(map(repr, _KEYS))}."
        )
    return mode, {key: files[key] for key in _KEYS if files.get(key)}


def _asked_of_pymysql(options: Mapping[str, Any]) -> tuple[str | None, Any]:
    """
    Convert PyMySQL's own TLS options to the ``ssl_mode`` and ``ssl`` of
    mysqlclient.
    """
    if options.get("ssl_disabled"):
        return "DISABLED", {}
    own = {name: value for name, value in options.items() if name.startswith("ssl_")}
    files = options.get("ssl") or {}
    if any(own.values()):
        files = {name.removeprefix("ssl_"): value for name, value in own.items()}
        files["password"] = own.get("ssl_key_password")
        files["check_hostname"] = bool(own.get("ssl_verify_identity"))
        files["verify_mode"] = files["check_hostname"] or own.get(
            "ssl_verify_cert", False
        )
    if not (files and isinstance(files, Mapping)):
        return None, files
    has_ca = bool(files.get("ca") or files.get("capath"))
    verify = files.get("verify_mode")
    if verify is None:
        verify = has_ca
    if str(verify).lower() in ("none", "0", "false", "no"):
        return "REQUIRED", files
    name = files.get("check_hostname", has_ca)
    return "VERIFY_IDENTITY" if name else "VERIFY_CA", files
