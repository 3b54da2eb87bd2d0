"""What every backup has: a folder that appears when it is whole, and a manifest of what is in it."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from connector.errors import ConfigurationError, ConnectorError

MANIFEST = "manifest.json"
_FORM = 1
_CHUNK = 1024 * 1024

Moved = Callable[[str, int, int], None]
"""Hears the file or table that is worked on, how much of it is done and how much it is: pages, bytes or rows."""


@dataclass(frozen=True)
class Manifest:
    """What a backup holds: sha256 and bytes by file, positions worked off and heads of the log by partition.

    Of PostgreSQL also the version of the tables, and by table its columns, rows and last number given.
    """

    made_at: str
    storecue: str
    sha256: Mapping[str, str]
    bytes: Mapping[str, int]
    positions: Mapping[str, int]
    heads: Mapping[str, int]
    form: int = _FORM
    database: str = "sqlite"
    schema: str = ""
    columns: Mapping[str, list[str]] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """Deliveries that a restore works off."""
        return sum(max(0, head - self.positions.get(part, 0)) for part, head in self.heads.items())


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """A folder to write into, which is called `folder` in the end. Nothing is left of one that failed."""
    if folder.exists():
        raise ConfigurationError(f"{folder} is there already; name a new folder for the backup")
    draft = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(mode=0o700, parents=True)
        yield draft
        settle(draft)
        draft.rename(folder)
        settle(folder.absolute().parent)
    except OSError as error:
        raise ConnectorError(f"the backup could not be written to {folder} ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def written(
    draft: Path, files: Iterable[Path], positions: Mapping[int, int], heads: Mapping[int, int], **more: Any
) -> Manifest:
    """The manifest of these files, on the disk beside them."""
    made = sorted(files)
    manifest = Manifest(
        sha256={path.name: digest(path) for path in made},
        bytes={path.name: path.stat().st_size for path in made},
        positions={str(part): pos for part, pos in positions.items()},
        heads={str(part): head for part, head in heads.items()},
        **more,
    )
    (draft / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
    settle(draft / MANIFEST)
    return manifest


def manifest_of(folder: Path, moved: Moved) -> Manifest:
    """The manifest of a backup whose files are as it says. ConfigurationError otherwise."""
    try:
        told: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        if told.get("form") != _FORM:
            raise ConfigurationError(f"{folder} was made by another version of StoreCue ({told.get('storecue')})")
        manifest = Manifest(**told)
    except (OSError, ValueError, TypeError):
        raise ConfigurationError(f"{folder} is no backup: it has no {MANIFEST} that can be read") from None
    for name, size in manifest.bytes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise ConfigurationError(f"{path} is not as it was backed up: use another backup")
        if digest(path, moved) != manifest.sha256.get(name):
            raise ConfigurationError(f"{path} has changed since it was backed up (sha256): use another backup")
    return manifest


def digest(path: Path, moved: Moved | None = None) -> str:
    """sha256 of a file."""
    made, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            made.update(chunk)
            done += len(chunk)
            if moved is not None:
                moved(path.name, done, total)
    return made.hexdigest()


def settle(path: Path) -> None:
    """fsync of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
