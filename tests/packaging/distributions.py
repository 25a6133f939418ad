"""The built distributions, and clean environments to install them into."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from uv import find_uv_bin

CORE = "django-tidb-core"
AUTORANDOM = "django-tidb-autorandom"
VECTOR = "django-tidb-vector"
#: The distributions and their import packages.
MODULES = {
    CORE: "django_tidb",
    AUTORANDOM: "django_tidb_autorandom",
    VECTOR: "django_tidb_vector",
}
PACKAGES = Path(__file__).resolve().parents[2] / "packages"
# The timeout in seconds. The compilation of mysqlclient takes longest.
TIMEOUT = 300
# Prefixes of variables that would make the checkout or the environment of the tests
# visible. Variables of proxies, certificates and package indexes are kept.
FOREIGN = ("DJANGO_", "HATCH", "PYTEST", "PYTHON")


def run(*command: str | Path, cwd: Path, environ: dict[str, str] | None = None) -> str:
    """Run `command` with `environ` added; return its output if it succeeds."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    result = subprocess.run(
        command,
        cwd=cwd,
        env=inherited | (environ or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, f"{command} failed:\n{result.stdout}"
    return result.stdout


def in_wheel(wheel: Path) -> metadata.Distribution:
    """Return the distribution in the file `wheel` without installing it."""
    [distribution] = metadata.distributions(path=[str(wheel)])
    return distribution


def hashes(distribution: metadata.Distribution) -> dict[str, str]:
    """Return the files in RECORD with their hashes; RECORD itself has no hash."""
    assert distribution.files is not None
    return {str(file): file.hash.value for file in distribution.files if file.hash}


@dataclass(frozen=True)
class Built:
    """The wheels and sdists of all packages, in one directory."""

    directory: Path

    def wheel(self, name: str) -> metadata.Distribution:
        return in_wheel(self._only(f"{name.replace('-', '_')}-*.whl"))

    def sdist(self, name: str) -> Path:
        return self._only(f"{name.replace('-', '_')}-*.tar.gz")

    def _only(self, pattern: str) -> Path:
        [path] = self.directory.glob(pattern)
        return path


class Environment:
    """
    A new, empty virtual environment of the running Python.

    Our distributions come from `built`, and everything else from the package index. If
    `pinned` is true, Django has the version with which the tests run.
    """

    def __init__(self, directory: Path, built: Built, *, pinned: bool = True) -> None:
        self.directory = directory
        self.built = built
        venv = directory / "venv"
        self.constraints = directory / "constraints.txt"
        pins = {name: built.wheel(name).version for name in MODULES}
        if pinned:
            pins["Django"] = metadata.version("Django")
        self.constraints.write_text("".join(f"{k}=={v}\n" for k, v in pins.items()))
        find_links = [os.environ.get("PIP_FIND_LINKS", ""), built.directory.as_uri()]
        self.environ = {
            "VIRTUAL_ENV": str(venv),
            "PATH": os.pathsep.join([str(venv / "bin"), os.environ["PATH"]]),
            "PIP_CONSTRAINT": self.constraints.as_uri(),
            "PIP_FIND_LINKS": " ".join(find_links).strip(),
        }
        self.run(find_uv_bin(), "venv", "--python", sys.executable, venv)
        [self.site_packages] = venv.glob("lib/python*/site-packages")

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Run `command` as if the environment were activated."""
        return run(*command, cwd=cwd or self.directory, environ=self.environ)

    def python(self, code: str) -> str:
        return self.run("python", "-c", code).strip()

    def install(self, *arguments: str) -> None:
        """Install with uv, whose speed makes many environments affordable."""
        self.run(
            *(find_uv_bin(), "pip", "install", "--constraint", self.constraints),
            *("--find-links", self.built.directory, *arguments),
        )

    def installed(self) -> dict[str, metadata.Distribution]:
        """Return the installed distributions by their normalized names."""
        found = metadata.distributions(path=[str(self.site_packages)])
        return {d.name.lower().replace("_", "-"): d for d in found}

    def differences(self, name: str) -> set[str]:
        """
        Return the files that differ from the wheel of `name`: missing ones, changed
        ones, and files in its import package that are not in the wheel.
        """
        expected = hashes(self.built.wheel(name))
        present = {
            path.relative_to(self.site_packages).as_posix()
            for path in (self.site_packages / MODULES[name]).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        return {
            path
            for path in expected.keys() | present
            if self._hash(path) != expected.get(path)
        }

    def _hash(self, path: str) -> str | None:
        file = self.site_packages / path
        if not file.exists():
            return None
        digest = hashlib.sha256(file.read_bytes()).digest()
        # RECORD has hashes in this encoding:
        # https://packaging.python.org/en/latest/specifications/recording-installed-packages/
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
