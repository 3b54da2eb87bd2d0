"""A fake store API of BigCommerce on loopback: things by id, X-Auth-Token, windows of requests, and signed callbacks.

python -m connector.simulator.bigcommerce      # prints the `admin` for storecue.yaml, and stays
"""

import base64
import hashlib
import hmac
import itertools
import json
import re
import signal
from collections.abc import Callable, Iterable
from typing import Any

from connector.clock import Millis, now
from connector.simulator.vendors.server import Request, Response, Server

Thing = dict[str, Any]

_PATHS = {
    "order": re.compile(r"/v2/orders/(\d+)"),
    "lines": re.compile(r"/v2/orders/(\d+)/products"),
    "refunds": re.compile(r"/v3/orders/(\d+)/payment_actions/refunds"),
    "product": re.compile(r"/v3/catalog/products/(\d+)"),
    "cart": re.compile(r"/v3/carts/([0-9a-f-]+)"),
    "customer": re.compile(r"/v3/customers()"),
    "subscriber": re.compile(r"/v3/customers/subscribers()"),
}
_LISTED = ("customer", "subscriber")


class FakeBigCommerce:
    """The API of one store. `held` are its things by kind (order, lines, refunds, customer, subscriber, cart, product)
    and id; change them at will. `asked` lists the paths that were asked for; `statuses` are answered first, one each;
    `left` requests are free in the window, None for any number."""

    def __init__(
        self,
        store: str = "x4qr8mw2pt",
        token: str = "token-of-the-fake-store",
        secret: str = "client-secret-of-the-fake-store",
        *,
        clock: Callable[[], Millis] = now,
        port: int = 0,
    ) -> None:
        self.store, self.token, self.secret = store, token, secret
        self.held: dict[str, dict[str, Any]] = {kind: {} for kind in _PATHS}
        self.asked: list[str] = []
        self.statuses: list[int] = []
        self.left: int | None = None
        self.reset_ms = 30_000
        self.before: Callable[[str], None] | None = None
        self._clock = clock
        self._numbers = itertools.count(1)
        self._server = Server(self._answer, "bigcommerce", port)
        self.url = self._server.url

    def __enter__(self) -> "FakeBigCommerce":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.close()

    def put(self, kind: str, thing: Thing, lines: Iterable[Thing] = (), refunds: Iterable[Thing] = ()) -> None:
        """Hold this thing, in place of what has its id; an order with its lines and refunds."""
        id_ = str(thing["id"])
        self.held[kind][id_] = thing
        if kind == "order":
            self.held["lines"][id_], self.held["refunds"][id_] = list(lines), list(refunds)

    def remove(self, kind: str, id_: object) -> None:
        self.held[kind].pop(str(id_), None)

    def callback(self, scope: str, data: Thing) -> tuple[dict[str, str], bytes]:
        """Headers and body of a callback as BigCommerce sends it now, signed."""
        seconds = self._clock() // 1000
        body: Thing = {"scope": scope, "store_id": "1025646", "data": data}
        body |= {"hash": hashlib.sha1(f"{scope}{data}{next(self._numbers)}".encode()).hexdigest()}  # noqa: S324
        body |= {"created_at": seconds, "producer": f"stores/{self.store}"}
        raw = json.dumps(body, separators=(",", ":")).encode()
        id_ = f"msg_{body['hash'][:20]}"
        mac = hmac.digest(self.secret.encode(), f"{id_}.{seconds}.".encode() + raw, "sha256")
        headers = {"content-type": "application/json", "webhook-id": id_, "webhook-timestamp": str(seconds)}
        return {**headers, "webhook-signature": f"v1,{base64.b64encode(mac).decode()}"}, raw

    # --- answers ------------------------------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Response:
        self.asked.append(request.path)
        if self.before is not None:
            self.before(request.path)
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            return Response(status, {"status": status, "title": "as told"}, self._window())
        if not hmac.compare_digest(request.headers.get("x-auth-token", ""), self.token):
            return Response(401, {"status": 401, "title": "X-Auth-Token header is required"})
        if self.left is not None and self.left <= 0:
            return Response(429, {"status": 429, "title": "Too many requests"}, self._window())
        if self.left is not None:
            self.left -= 1
        prefix = f"/stores/{self.store}"
        if request.method != "GET" or not request.path.startswith(prefix):
            return Response(404, {"status": 404, "title": "no such store"})
        path = request.path.removeprefix(prefix)
        for kind, pattern in _PATHS.items():
            if match := pattern.fullmatch(path):
                return self._thing(kind, match[1], request)
        return Response(404, {"status": 404, "title": "no such path"})

    def _thing(self, kind: str, id_: str, request: Request) -> Response:
        if kind in _LISTED:
            found = self.held[kind].get(request.query.get("id:in", ""))
            listed = [] if found is None else [found]
            return Response(200, {"data": listed, "meta": {"pagination": {"total": len(listed)}}}, self._window())
        found = self.held[kind].get(id_)
        if kind == "lines" and not found and id_ in self.held["order"]:
            return Response(204, None, self._window())  # v2's way to say that a list is empty
        if found is None:
            v2 = [{"status": 404, "message": "The requested resource was not found."}]
            return Response(404, v2 if kind in ("order", "lines") else {"status": 404}, self._window())
        return Response(200, found if kind in ("order", "lines") else {"data": found, "meta": {}}, self._window())

    def _window(self) -> dict[str, str]:
        left = 150 if self.left is None else self.left
        return {
            "X-Rate-Limit-Requests-Left": str(left),
            "X-Rate-Limit-Requests-Quota": "150",
            "X-Rate-Limit-Time-Window-Ms": "30000",
            "X-Rate-Limit-Time-Reset-Ms": str(self.reset_ms),
        }


def main() -> None:
    """Serve a store with one customer and one order until interrupted."""
    with FakeBigCommerce() as fake:
        fake.put("customer", {"id": 32, "email": "ada@aurora.example", "first_name": "Ada", "last_name": "Brandt"})
        order: Thing = {"id": 250, "status_id": 11, "customer_id": 32, "total_inc_tax": "129.0000"}
        order["billing_address"] = {"email": "ada@aurora.example"}
        fake.put("order", order)
        print(f"secrets: [{fake.secret}]")
        print(
            f"admin: {{shop: {fake.store}, access_token: {fake.token}, base_url: '{fake.url}', allow_insecure: true}}"
        )
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
