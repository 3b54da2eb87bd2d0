import socket

import pytest

from connector.errors import ConfigurationError
from connector.serve import listening_address


def test_a_name_becomes_an_address_and_a_free_port_is_taken() -> None:
    assert listening_address("localhost", free_port()) in ("127.0.0.1", "::1")
    assert listening_address("0.0.0.0", free_port()) == "0.0.0.0"


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_that_somebody_listens_on_is_refused(shares: bool) -> None:
    """Also when that somebody is a server that would share it with us, as ours does."""
    with socket.socket() as other:
        if shares:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigurationError, match=r"cannot listen on 127\.0\.0\.1:\d+ .*--host and --port"):
            listening_address("127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize("host", ["no.such.name.invalid", "300.1.1.1", "x" * 70, "203.0.113.9"])
def test_what_is_no_address_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{host}.* --host"):
        listening_address(host, 8080)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
