"""What is in an archive that somebody else made: read in memory, within bounds."""

import gzip
import io
import tarfile
import zlib
from typing import Any

import orjson

_INFLATED_BYTES = 64 * 1024 * 1024


def json_files(archive: bytes) -> list[Any]:
    """The parsed JSON of every regular file in a gzipped tar; nothing is written to disk.

    Raises ValueError for an archive that cannot be read, or inflates beyond 64 MB.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(archive)) as inflated:
            content = inflated.read(_INFLATED_BYTES + 1)
        if len(content) > _INFLATED_BYTES:
            raise ValueError(f"inflates beyond {_INFLATED_BYTES} bytes")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            files = [tar.extractfile(entry) for entry in tar if entry.isfile()]
            return [orjson.loads(file.read()) for file in files if file is not None]
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ValueError(f"not a gzipped tar ({type(error).__name__})") from None
