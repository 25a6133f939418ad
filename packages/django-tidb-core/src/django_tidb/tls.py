"""One form of TLS options, mysqlclient's, for both drivers."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

__all__ = ["CONNECTION_ERROR", "ENCRYPTED_MODES", "with_tls_options"]

#: The client libraries' number for a failure of TLS.
CONNECTION_ERROR = 2026
#: The modes that never go on in plain text.
ENCRYPTED_MODES = ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
MODES = ("DISABLED", "PREFERRED", *ENCRYPTED_MODES)

_KEYS = ("ca", "capath", "cert", "key", "cipher")


def _ssl_files(files: Mapping[str, Any], option: str) -> dict[str, Any]:
    """
    Return mysqlclient's option ``ssl`` with paths as texts: others it passes
    over in silence.

    Raises ``ImproperlyConfigured`` if a file of `option` cannot be read.
    """
    files = {
        key: os.fspath(value) if isinstance(value, os.PathLike) else value
        for key, value in files.items()
    }
    for key in ("ca", "cert", "key"):
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
    Return PyMySQL's options for mysqlclient's options ``ssl_mode`` and ``ssl``.

    Raises ``OSError``, ``ssl.SSLError`` among them, if Python cannot use a
    file or the ciphers.
    """
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    if mode == "PREFERRED":
        # What it does if it is told nothing; with certificates it insists.
        return {}
    ca, capath = files.get("ca"), files.get("capath")
    # A context, because PyMySQL never looks at the host name without a CA.
    context = ssl.create_default_context(cafile=ca, capath=capath)
    context.check_hostname = mode == "VERIFY_IDENTITY"
    if mode == "REQUIRED" and not (ca or capath):
        context.verify_mode = ssl.CERT_NONE
    # Python 3.13 asks for extensions that many a private CA leaves out, and
    # that mysqlclient does without.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if files.get("cert"):
        context.load_cert_chain(files["cert"], files.get("key"))
    if files.get("cipher"):
        context.set_ciphers(files["cipher"])
    return {"ssl": context}


def with_tls_options(
    params: dict[str, Any], option: str, *, pymysql: bool
) -> dict[str, Any]:
    """
    Return the connection parameters `params` with mysqlclient's options
    ``ssl_mode`` and ``ssl`` in the form of the driver that is used.

    Raises ``ImproperlyConfigured``, with `option` as the name of where they
    come from, if they cannot be used.
    """
    if isinstance(params.get("ssl"), Mapping):
        params["ssl"] = _ssl_files(params["ssl"], f"{option}['ssl']")
    if "ssl_mode" not in params:
        return params
    mode = params["ssl_mode"]
    if mode not in MODES:
        raise ImproperlyConfigured(
            f"{option}['ssl_mode'] is {mode!r}; it must be one of "
            f"{', '.join(map(repr, MODES))}."
        )
    if not pymysql:
        return params
    del params["ssl_mode"]
    files = params.pop("ssl", {})
    own = sorted(name for name in params if name.startswith("ssl_"))
    if own or not isinstance(files, Mapping) or files.keys() - _KEYS:
        raise ImproperlyConfigured(
            f"{option} has 'ssl_mode', so what else there is for TLS must be in a "
            f"dictionary 'ssl' with the keys {', '.join(map(repr, _KEYS))}, and not "
            f"in {', '.join(map(repr, own)) or repr(files)}."
        )
    try:
        return params | _pymysql_ssl(mode, files)
    except OSError as error:
        raise ImproperlyConfigured(f"{option}['ssl'] is {files!r}: {error}.") from error
