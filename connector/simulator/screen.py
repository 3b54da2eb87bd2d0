"""The demo's terminal view."""

import time

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from connector.simulator.sender import Tally
from connector.simulator.watch import Watch

COLOURS = {"klaviyo": "green", "hubspot": "dark_orange", "mailchimp": "yellow"}
NAMES = {"klaviyo": "Klaviyo", "hubspot": "HubSpot", "mailchimp": "Mailchimp"}
_BAR = 16


def render(watch: Watch, tally: Tally, url: str, stage: str) -> RenderableType:
    """The whole screen as of now."""
    layout = Layout()
    layout.split_column(
        Layout(_heading(watch, url, stage), size=3),
        Layout(name="middle", size=14),
        Layout(_destinations(watch), size=8),
        Layout(_changes(watch), minimum_size=6),
    )
    layout["middle"].split_row(_traffic(watch, tally), _segments(watch))
    return layout


def _heading(watch: Watch, url: str, stage: str) -> Panel:
    elapsed = int(time.monotonic() - watch.began)
    line = Text.assemble(
        ("StoreCue demo  ", "bold"),
        (f"{elapsed // 60}:{elapsed % 60:02d}  ", "cyan"),
        (stage, "magenta"),
        (f"  {url}" if url else "", "dim"),
        ("   Ctrl-C ends it", "dim"),
    )
    if watch.unreachable:
        line.append(f"   {watch.unreachable}", "red")
    return Panel(line)


def _traffic(watch: Watch, tally: Tally) -> Panel:
    numbers = Table.grid(padding=(0, 2))
    numbers.add_column()
    numbers.add_column(justify="right", style="bold")
    acknowledged = sorted(tally.seconds[-500:])
    median = f"{acknowledged[len(acknowledged) // 2] * 1000:.1f} ms" if acknowledged else "-"
    for name, value in (
        ("webhooks sent", f"{tally.sent:,}"),
        ("accepted", f"{tally.accepted:,}"),
        ("sent twice by Shopify", f"{tally.repeats:,}"),
        ("acknowledged in (p50)", median),
        ("worked off", f"{watch.processed:,}"),
        ("waiting", f"{watch.waiting:,}"),
        ("people", f"{watch.profiles:,}"),
        ("dead letters", f"{watch.dead_letters:,}"),
    ):
        numbers.add_row(name, value)
    topics = Text("  ".join(f"{topic} {count}" for topic, count in tally.topics.most_common(4)), style="dim")
    return Panel(Group(numbers, Text(), topics), title="Shop: Aurora Outfitters", border_style="blue")


def _segments(watch: Watch) -> Panel:
    table = Table(box=None, expand=True, show_header=False)
    table.add_column(no_wrap=True, ratio=1)
    table.add_column(justify="right", style="bold", min_width=6)
    table.add_column(no_wrap=True, width=_BAR)
    most = max((segment.members for segment in watch.segments), default=0) or 1
    for segment in watch.segments:
        table.add_row(segment.name, f"{segment.members:,}", Text("█" * round(segment.members / most * _BAR), "cyan"))
    return Panel(table, title="Segments", border_style="cyan")


def _destinations(watch: Watch) -> Panel:
    table = Table(box=None, expand=True)
    for title in ("", "contacts", "tagged", "events", "requests", "per s", "order to contact (p50)", "429", "5xx"):
        table.add_column(title, justify="left" if not title else "right")
    for name, view in watch.vendors.items():
        delay = f"{view.delay * 1000:.0f} ms" if view.delay is not None else "-"
        table.add_row(
            Text(NAMES[name], COLOURS[name]),
            f"{view.contacts:,}",
            f"{view.tagged:,}",
            f"{view.events:,}",
            f"{view.requests:,}",
            f"{view.per_second:.1f}",
            delay,
            str(view.rate_limited),
            str(view.server_errors),
        )
    return Panel(table, title="E-mail platforms (fakes on this machine)", border_style="green")


def _changes(watch: Watch) -> Panel:
    table = Table(box=None, expand=True, show_header=False)
    for width in (10, None, None):
        table.add_column(no_wrap=True, width=width)
    now = time.monotonic()
    for change in list(watch.changes)[-12:][::-1]:
        sign, colour = ("+", "green") if change.added else ("-", "red")
        table.add_row(
            Text(NAMES[change.vendor], COLOURS[change.vendor]),
            change.email,
            Text.assemble((f"{sign} {change.tag}", colour), (f"  {now - change.at:.0f} s ago", "dim")),
        )
    return Panel(table, title="Tags as they arrive", border_style="white")
