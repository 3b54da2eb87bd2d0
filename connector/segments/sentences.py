"""Words for reasons: what a person did, how often, how long ago."""

from datetime import date, timedelta

from connector.clock import DAY, HOUR, MINUTE, SECOND, Millis
from connector.domain import Json

DEEDS = {
    "Product Viewed": "viewed a product",
    "Product List Viewed": "viewed a collection",
    "Products Searched": "searched",
    "Product Added": "added to the cart",
    "Product Removed": "removed from the cart",
    "Cart Viewed": "viewed the cart",
    "Checkout Started": "started a checkout",
    "Order Completed": "bought",
    "Order Cancelled": "cancelled an order",
    "Order Refunded": "was refunded",
    "Email Delivered": "was sent an e-mail",
    "Email Opened": "opened an e-mail",
    "Email Link Clicked": "clicked in an e-mail",
    "Email Bounced": "had an e-mail bounce",
    "Email Marked as Spam": "marked an e-mail as spam",
    "Unsubscribed": "unsubscribed",
}
_EPOCH = date(1970, 1, 1)
_SPANS = ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second"))


def deed(event: str) -> str:
    """What a person did, in the past tense: `bought`; `did "Quiz Finished"` for events we have no word for."""
    return DEEDS.get(event) or f'did "{event}"'


def done(event: str, count: int) -> str:
    """What a person did and how often: `never bought`, `bought once`, `bought 3 times`."""
    if not count:
        return f"never {deed(event)}"
    return f"{deed(event)} {({1: 'once', 2: 'twice'}).get(count) or f'{count} times'}"


def span(length: Millis) -> str:
    """`30 days`, `48 hours`, `30 minutes`: a length of time in the largest unit that fits it evenly, three or more."""
    for unit, word in _SPANS:
        count, rest = divmod(length, unit)
        if rest == 0 and count >= 3:
            return f"{count} {word}s"
    return f"{length // SECOND} seconds"


def within(length: Millis | None) -> str:
    """` in the last 30 days`, or nothing."""
    return "" if length is None else f" in the last {span(length)}"


def day(number: int) -> str:
    """The date of a day counted from 1970-01-01."""
    return (_EPOCH + timedelta(days=number)).isoformat()


def shown(value: Json) -> str:
    """A value as a marketer would write it, cut at 60 characters."""
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return shown(", ".join(str(item) for item in value)) if value else "empty"
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"
