"""A disk for SQLite that fails, fills up, is slow, or remembers all that was written and when it was safe.

It is SQLite's own, with three of its functions replaced by ctypes: no mount, no root, no tracer, and the same on every
machine. A process has it by `environment`, a test changes it at any time through a page of memory that both map.
"""

import ctypes
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

_OK, _FULL, _SYNC_FAILED = 0, 13, 10 | 4 << 8  # SQLITE_OK, SQLITE_FULL, SQLITE_IOERR_FSYNC
_FAULTS = {"none": 0, "sync": 1, "full": 2}
_FILES = {"": 0, "inbox.db": 1, "storecue.db": 2}
# Fault, which database alone, how many more times (-1: until told otherwise), how many were struck, delay.
_CONTROL = struct.Struct("<iiiid")
_RECORD = struct.Struct("<cqqii")  # what, when (monotonic ns), offset, length of the name, length of the data
_INJECTED = Path(__file__).parent / "injected"

# sqlite3_vfs and sqlite3_io_methods as tables of 8-byte words: where what is replaced stands in them.
_VFS_WORDS, _NAME, _OPEN, _DELETE = 21, 3, 5, 6
_METHOD_WORDS, _WRITE, _TRUNCATE, _SYNC = 19, 3, 4, 5


class Disk:
    """What a test holds: the page that the processes look at, and the folder of what they wrote down."""

    def __init__(self, folder: Path, *, remembers: bool = False) -> None:
        folder.mkdir()
        self.folder = folder
        (folder / "control").write_bytes(bytes(mmap.PAGESIZE))
        if remembers:
            (folder / "written").mkdir()
        self._page = _page(folder)
        self.heal()

    @property
    def environment(self) -> dict[str, str]:
        return {"CHAOS_DISK": str(self.folder), "PYTHONPATH": str(_INJECTED)}

    def fail(self, fault: str, times: int = -1, *, only: str = "") -> None:
        """`sync`: the next `times` calls of fdatasync fail; `full`: so many writes find no space. `only`: in this
        database."""
        _CONTROL.pack_into(self._page, 0, _FAULTS[fault], _FILES[only], times, 0, 0.0)

    def slow(self, seconds: float) -> None:
        """Every fdatasync takes so much longer."""
        _CONTROL.pack_into(self._page, 0, 0, 0, 0, 0, seconds)

    def heal(self) -> None:
        self.slow(0.0)

    @property
    def struck(self) -> int:
        """Calls that failed since the fault was ordered."""
        return int(_CONTROL.unpack_from(self._page)[3])

    def records(self) -> "list[Record]":
        """What all processes did to their databases, in order."""
        found = [record for file in (self.folder / "written").iterdir() for record in _records(file)]
        return sorted(found, key=lambda record: record.at)


class Record(NamedTuple):
    """`what`: w(rite), t(runcate to `offset`), d(elete), s(ync, and `at` is when it had succeeded)."""

    what: str
    at: int
    name: str
    offset: int
    data: bytes


def _records(file: Path) -> Iterator[Record]:
    told, at = file.read_bytes(), 0
    while at + _RECORD.size <= len(told):
        what, when, offset, name, size = _RECORD.unpack_from(told, at)
        at += _RECORD.size
        yield Record(what.decode(), when, told[at : at + name].decode(), offset, told[at + name : at + name + size])
        at += name + size


class PowerLoss:
    """What would be on the disk if the power went, while the records are gone through one by one."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.safe = {name: bytearray(data) for name, data in files.items()}
        self._waiting: dict[str, list[Record]] = {}

    def see(self, record: Record) -> None:
        if record.what == "d":  # of a directory entry nobody knows when it is safe: assume at once
            self.safe.pop(record.name, None)
            self._waiting.pop(record.name, None)
        elif record.what == "s":
            content = self.safe.setdefault(record.name, bytearray())
            for one in self._waiting.pop(record.name, []):
                _apply(content, one)
        else:
            self._waiting.setdefault(record.name, []).append(record)

    def files(self, luck: float = 0.0, chance: Any = None) -> dict[str, bytes]:
        """What is safe, and of what was written since then a share `luck`, any of it: a disk knows no order."""
        found = {name: bytearray(data) for name, data in self.safe.items()}
        for name, waiting in self._waiting.items() if luck else ():
            for one in waiting:
                if chance.random() < luck:
                    _apply(found.setdefault(name, bytearray()), one)
        return {name: bytes(data) for name, data in found.items()}


def _apply(content: bytearray, record: Record) -> None:
    if record.what == "t":
        del content[record.offset :]
        return
    end = record.offset + len(record.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[record.offset : end] = record.data


# --- inside the process -----------------------------------------------------------------------------------------------

_kept: list[Any] = []  # what SQLite holds pointers to must live as long as the process


def install(folder: Path) -> None:
    """This process's SQLite writes through the disk in `folder` from now on."""
    import _sqlite3

    try:
        sqlite = ctypes.CDLL(_sqlite3.__file__)
        find = sqlite.sqlite3_vfs_find
    except (AttributeError, OSError):  # it is built into the interpreter
        sqlite = ctypes.CDLL(None)
        find = sqlite.sqlite3_vfs_find
    find.restype = ctypes.c_void_p
    theirs = ctypes.cast(find(None), ctypes.POINTER(ctypes.c_uint64 * _VFS_WORDS)).contents
    ours = (ctypes.c_uint64 * _VFS_WORDS).from_buffer_copy(theirs)
    name = ctypes.create_string_buffer(b"chaos")
    ours[_NAME] = ctypes.addressof(name)
    faulty = _Faulty(folder, theirs)
    ours[_OPEN], ours[_DELETE] = faulty.address("open"), faulty.address("delete")
    _kept.extend((ours, name, faulty))
    sqlite.sqlite3_vfs_register(ctypes.byref(ours), 1)


_Pointer, _Int, _Long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_TYPES = {
    # Names as addresses: SQLite keeps them, and looks at what stands behind their end.
    "open": ctypes.CFUNCTYPE(_Int, _Pointer, _Pointer, _Pointer, _Int, _Pointer),
    "delete": ctypes.CFUNCTYPE(_Int, _Pointer, _Pointer, _Int),
    "write": ctypes.CFUNCTYPE(_Int, _Pointer, _Pointer, _Int, _Long),
    "truncate": ctypes.CFUNCTYPE(_Int, _Pointer, _Long),
    "sync": ctypes.CFUNCTYPE(_Int, _Pointer, _Int),
}
_METHODS = {"write": _WRITE, "truncate": _TRUNCATE, "sync": _SYNC}


class _Faulty:
    def __init__(self, folder: Path, vfs: Any) -> None:
        self._folder, self._page = folder, _page(folder)
        self._vfs = ctypes.addressof(vfs)
        self._real: dict[str, Any] = {"open": _TYPES["open"](vfs[_OPEN]), "delete": _TYPES["delete"](vfs[_DELETE])}
        self._replaced = {kind: _TYPES[kind](getattr(self, f"_{kind}")) for kind in _TYPES}
        self._methods: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self._lock = threading.RLock()
        self._book: tuple[int, int] | None = None  # the process that writes, and its file

    def address(self, kind: str) -> int:
        return ctypes.cast(self._replaced[kind], ctypes.c_void_p).value or 0

    def _open(self, _: int, name: int | None, file: int, flags: int, out: int) -> int:
        code = self._real["open"](self._vfs, name, file, flags, out)
        found = ctypes.cast(file, ctypes.POINTER(ctypes.c_uint64))
        if code == _OK and name is not None and found[0]:
            self._names[file] = _called(name)
            found[0] = self._ours(found[0])
        return int(code)

    def _ours(self, theirs: int) -> int:
        if theirs not in self._methods:
            table = ctypes.cast(theirs, ctypes.POINTER(ctypes.c_uint64 * _METHOD_WORDS)).contents
            made = (ctypes.c_uint64 * _METHOD_WORDS).from_buffer_copy(table)
            for kind, word in _METHODS.items():
                self._real[kind] = _TYPES[kind](table[word])
                made[word] = self.address(kind)
            self._methods[theirs] = made
        return ctypes.addressof(self._methods[theirs])

    def _write(self, file: int, data: int, size: int, offset: int) -> int:
        if self._strikes("full", file):
            return _FULL
        with self._lock:
            code = int(self._real["write"](file, data, size, offset))
            if code == _OK:
                self._remember(b"w", self._names[file], offset, ctypes.string_at(data, size))
        return code

    def _truncate(self, file: int, size: int) -> int:
        with self._lock:
            code = int(self._real["truncate"](file, size))
            if code == _OK:
                self._remember(b"t", self._names[file], size)
        return code

    def _sync(self, file: int, flags: int) -> int:
        if delay := _CONTROL.unpack_from(self._page)[4]:
            time.sleep(delay)
        if self._strikes("sync", file):
            return _SYNC_FAILED
        with self._lock:
            code = int(self._real["sync"](file, flags))
            if code == _OK:
                self._remember(b"s", self._names[file])
        return code

    def _delete(self, _: int, name: int, directory: int) -> int:
        with self._lock:
            self._remember(b"d", _called(name))
            return int(self._real["delete"](self._vfs, name, directory))

    def _strikes(self, kind: str, file: int) -> bool:
        fault, only, times, struck, delay = _CONTROL.unpack_from(self._page)
        if fault != _FAULTS[kind] or times == 0:
            return False
        if only and only != _FILES.get(self._names[file].removesuffix("-wal")):
            return False
        _CONTROL.pack_into(self._page, 0, fault, only, times - (times > 0), struck + 1, delay)
        return True

    def _remember(self, what: bytes, name: str, offset: int = 0, data: bytes = b"") -> None:
        if self._book is None or self._book[0] != os.getpid():  # a fork writes a book of its own
            path, file = self._folder / "written" / str(os.getpid()), -1
            with suppress(FileNotFoundError):
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            self._book = (os.getpid(), file)
        if self._book[1] >= 0:
            told = name.encode()
            os.write(self._book[1], _RECORD.pack(what, time.monotonic_ns(), offset, len(told), len(data)) + told + data)


def _called(name: int) -> str:
    return Path(os.fsdecode(ctypes.string_at(name))).name


def _page(folder: Path) -> mmap.mmap:
    with (folder / "control").open("r+b") as file:
        return mmap.mmap(file.fileno(), mmap.PAGESIZE)
