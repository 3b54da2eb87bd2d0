"""`python -m connector.simulator.vendors`: what it prints leads a destination to the fake, and shows no address."""

import threading

import pytest

from adapters import DESTINATIONS
from adapters.destination import Change, Settings, SystemClock
from connector.config.yaml_file import parse
from connector.simulator.vendors.__main__ import main


class Printed:
    """What is printed, line by line, and an event for each that is waited for."""

    def __init__(self) -> None:
        self.text = ""
        self.changed = threading.Condition()

    def write(self, text: str) -> None:
        with self.changed:
            self.text += text
            self.changed.notify_all()

    def flush(self) -> None:
        """Nothing is held back."""

    def until(self, words: str) -> str:
        with self.changed:
            assert self.changed.wait_for(lambda: words in self.text, 30), self.text
            return self.text


@pytest.mark.parametrize("kind", ["hubspot", "klaviyo", "mailchimp"])
def test_a_fake_vendor_from_the_shell(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed, stop = Printed(), threading.Event()
    monkeypatch.setattr("sys.stdout", printed)
    thread = threading.Thread(target=main, args=([kind, "--key", "a-key-us1"], stop))
    thread.start()
    try:
        entry = parse(printed.until("allow_insecure: true}\n")).value["destinations"][kind]
        place = Settings(entry["credentials"], entry["base_url"], entry["allow_insecure"], entry.get("list_id"))
        adapter = DESTINATIONS[kind](place, SystemClock())
        adapter.provision([], ["vip"])
        [outcome] = adapter.apply([Change("1", "ada@example.com", "shop:1", tags=("vip",), tags_added=("vip",))])
        assert outcome.status == "applied"
        adapter.close()
        text = printed.until("bytes)\n")
        assert "ada@" not in text
        assert "ada%40" not in text
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
