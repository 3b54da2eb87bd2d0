"""Deliveries at a fixed rate, whatever the server does: each is timed from the instant at which it was due, so that a
server that falls behind cannot hide it by slowing its sender down."""

import http.client
import itertools
import socket
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

SENDERS = 64
PATH = "/webhooks/shopify/shop"

Request = tuple[bytes, dict[str, str]]


class Paced(NamedTuple):
    """By request: when it was due (Unix seconds), and ms from then to its acknowledgement."""

    due: list[float]
    acknowledged: list[float]


def paced(port: int, requests: Sequence[Request], per_second: float) -> Paced:
    """Sends each request when it is due. Raises SystemExit for an answer other than 200."""
    numbers = itertools.count()
    acknowledged = [0.0] * len(requests)
    faults: list[str] = []
    started, began = time.perf_counter() + 0.2, time.time() + 0.2

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while (number := next(numbers)) < len(requests) and not faults:
            due = started + number / per_second
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                if connection.sock is None:
                    connection.connect()
                    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.request("POST", PATH, *requests[number])
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                faults.append(repr(error))
                return
            if answer.status != 200:
                faults.append(f"the server on port {port} answered {answer.status}")
            acknowledged[number] = (time.perf_counter() - due) * 1000
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise SystemExit(faults[0])
    return Paced([began + number / per_second for number in range(len(requests))], acknowledged)


def at(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
