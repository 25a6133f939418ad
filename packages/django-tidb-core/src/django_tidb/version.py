"""
The version of a TiDB server, as one value that compares correctly.

``VERSION()`` returns, for example, ``8.0.11-TiDB-v8.5.6``. The first part is the
version of MySQL whose protocol TiDB implements. It must not be used to find out which
features the server has. The numbering of TiDB's own versions is described in
https://docs.pingcap.com/tidb/stable/release-versioning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import total_ordering

__all__ = ["TiDBVersion"]

# The version of a build that reports no usable number. Such a build is made
# from TiDB's sources and is as new as the newest release that this package
# supports, or newer.
_UNNUMBERED_BUILD = (8, 5, 0)

_TIDB_RE = re.compile(r"-TiDB-(?P<rest>.*)", re.DOTALL)
_RELEASE_RE = re.compile(
    r"v?(?P<major>\d{1,9})\.(?P<minor>\d{1,9})(?:\.(?P<patch>\d{1,9}))?"
    r"(?:-(?P<stage>alpha|beta|rc)(?:\.(?P<serial>\d{1,9}))?)?"
    r"(?:\.pre)?"
    r"(?:-(?P<commits>\d{1,9})-g[0-9a-f]+)?"
    r"(?:-(?P<suffix>[A-Za-z][\w-]*))?",
    re.ASCII,
)
_CLOUD_RE = re.compile(
    r"CLOUD\.(?P<year>\d{4})(?P<month>\d{2})(?:\.(?P<patch>\d{1,9}))?", re.ASCII
)
_STAGES = {"alpha": -3, "beta": -2, "rc": -1, None: 0}


def _field(text: str, name: str) -> str:
    """Return the value of the line `name` in the output of ``tidb_version()``."""
    match = re.search(rf"^{name}:[ \t]*(.*?)\s*$", text, re.MULTILINE)
    return match[1] if match else ""


@total_ordering
@dataclass(frozen=True, eq=False)
class TiDBVersion:
    """
    The version of one TiDB server.

    It can be compared with another version or with a tuple of one to three
    numbers: ``connection.tidb_version >= (8, 5)``. Alphas, betas and release
    candidates are less than their release; a build of commits after a tag is
    greater than that tag. TiDB Cloud has version numbers of its own from 26.3
    on, so its versions are greater than those of all other releases.
    """

    #: The major, minor and patch number.
    release: tuple[int, int, int]
    #: "Community", "Enterprise", "Serverless", "Cloud", or "" if the server does not
    #: report it.
    edition: str = ""
    #: The storage engine, such as "tikv" or "unistore", or "" if the server does not
    #: report it.
    store: str = ""
    #: The version string of the server, for display.
    text: str = ""
    #: The stage (-3 alpha, -2 beta, -1 release candidate, 0 release), its serial
    #: number, and the number of commits since that tag.
    stage: tuple[int, int, int] = field(default=(0, 0, 0), repr=False)

    @classmethod
    def parse(cls, version: str, details: str = "") -> TiDBVersion | None:
        """
        Return the version that the server's answers to ``VERSION()``
        (`version`) and ``tidb_version()`` (`details`) describe, or None if
        neither is from a TiDB.

        This method raises no exception for any text. If `version` contains no
        TiDB version, `details` is used, because the server's option
        ``server-version`` can replace the whole answer to ``VERSION()``.
        """
        edition = _field(details, "Edition")
        store = _field(details, "Store")
        match = _TIDB_RE.search(version)
        candidates = [match["rest"]] if match else []
        candidates.append(_field(details, "Release Version"))
        for candidate in candidates:
            if parsed := cls._parse_release(candidate, edition, store, version):
                return parsed
        if match or _field(details, "Release Version"):
            return cls(_UNNUMBERED_BUILD, edition, store, version)
        return None

    @classmethod
    def _parse_release(
        cls, release: str, edition: str, store: str, text: str
    ) -> TiDBVersion | None:
        if match := _CLOUD_RE.match(release):
            return cls(
                (
                    int(match["year"]) % 100,
                    int(match["month"]),
                    int(match["patch"] or 0),
                ),
                edition or "Cloud",
                store,
                text,
            )
        if match := _RELEASE_RE.match(release):
            if match["suffix"] == "serverless":
                edition = "Serverless"
            return cls(
                (int(match["major"]), int(match["minor"]), int(match["patch"] or 0)),
                edition,
                store,
                text,
                (
                    _STAGES[match["stage"]],
                    int(match["serial"] or 0),
                    int(match["commits"] or 0),
                ),
            )
        return None

    def __str__(self) -> str:
        return ".".join(map(str, self.release))

    # Only a tuple of three numbers can equal a version, so that equal values have equal
    # hashes.
    def __eq__(self, other: object) -> bool:
        if isinstance(other, TiDBVersion):
            return (self.release, self.stage) == (other.release, other.stage)
        if isinstance(other, tuple):
            return (*self.release, *self.stage) == (*other, 0, 0, 0)
        return NotImplemented

    def __lt__(self, other: object) -> bool:
        if isinstance(other, TiDBVersion):
            return (self.release, self.stage) < (other.release, other.stage)
        if isinstance(other, tuple):
            release = (*other, 0, 0)[: max(3, len(other))]
            return (self.release, self.stage) < (release, (0, 0, 0))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.release)
