import gzip
import io
import tarfile

import pytest

from adapters import archive


def tarred(*files: tuple[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_every_file_is_read_and_nothing_else_is_touched(tmp_path: object) -> None:
    data = tarred(("./a.json", b"[1]"), ("../../../../tmp/evil.json", b"[2]"), links=("link",))
    assert archive.json_files(data) == [[1], [2]]


def test_an_empty_archive_holds_nothing() -> None:
    assert archive.json_files(tarred()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>expired</html>",
        gzip.compress(b"not a tar at all" * 100),
        tarred(("a.json", b"[1" * 50)),
        tarred(("a.json", b"[1]"))[:-20],
    ],
    ids=["empty", "html", "no tar", "no JSON", "cut off"],
)
def test_what_cannot_be_read_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        archive.json_files(data)


def test_a_bomb_is_not_inflated_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_INFLATED_BYTES", 1_000_000)
    with pytest.raises(ValueError, match="beyond 1000000"):
        archive.json_files(tarred(("a.json", b"[" + b" " * 5_000_000 + b"]")))
