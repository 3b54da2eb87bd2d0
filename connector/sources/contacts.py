"""E-mail addresses and phone numbers as identifiers: one spelling for each, and garbage is none at all."""

import re
from functools import lru_cache

from connector.sources.noticed import notice

# The everyday address: dot-atom, a host name with a dot. What does not fit may still be valid and is looked at closely.
_PLAIN_EMAIL = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}"
)
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_PUNCTUATION = str.maketrans("", "", " \t-–().\u00a0")


def read_email(text: str | None) -> str | None:
    """The address in lower case, or None when it is not one. Never asks the DNS."""
    if not text:
        return None
    address = text.strip().lower()
    if 5 < len(address) <= 254 and 0 < address.find("@") <= 64:
        if _PLAIN_EMAIL.fullmatch(address):
            return address
        if odd := _odd_email(address):
            return odd
    notice("bad_email")
    return None


@lru_cache(maxsize=1024)
def _odd_email(address: str) -> str | None:
    from email_validator import EmailNotValidError, validate_email  # rare, and slow to import

    try:
        return validate_email(address, check_deliverability=False).normalized.lower()
    except EmailNotValidError:
        return None


def read_phone(text: str | None, country: str | None = None) -> str | None:
    """The number in E.164, or None. `country` (ISO 3166 alpha-2) completes a number written as at home."""
    if not text:
        return None
    if len(text) <= 40:
        digits = text.translate(_PUNCTUATION)
        if _E164.fullmatch(digits):
            return digits
        if country and len(country) == 2 and (number := _national_phone(text, country.upper())):
            return number
    notice("bad_phone")
    return None


@lru_cache(maxsize=1024)
def _national_phone(text: str, country: str) -> str | None:
    import phonenumbers  # 20 ms, and tables by country: only for shops that have such numbers

    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):  # 555-555-5555 is everybody's, and would make one person of them
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
