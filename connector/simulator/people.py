"""Invented people for the simulated store. Addresses are at example domains, phone numbers in ranges set aside for
fiction (France: ARCEP 06 39 98; United Kingdom: Ofcom 07700 900; Germany: BNetzA 0171 39200)."""

import random
import unicodedata
from dataclasses import dataclass

FIRST_NAMES = (
    "Amélie Bastien Chloé Damien Élise Fabrice Gaëlle Hugo Inès Jules Katia Léon Manon Noé Océane Pascal Romane "
    "Sofiane Théo Yasmine Aisha Björn Clara Dieter Emma Finn Greta Hannah Ingrid Jonas Lena Moritz Oliver Priya Ruby "
    "Sanjay Tom Una Victor Wanda Zoë"
).split()
LAST_NAMES = (
    "Aubry Besson Carpentier Delacroix Estève Fontaine Gauthier Humbert Imbert Jourdan Keller Lefèvre Marchand Nguyen "
    "Ollivier Perrin Quentin Renard Schmitt Tessier Vasseur Weber Ziegler Ashworth Bright Clarke Doyle Evans Fletcher "
    "Graham Hughes Krüger Lindqvist Müller Novak O'Connor Petersen Rossi Schäfer Thorne"
).split()


@dataclass(frozen=True, slots=True)
class Place:
    """A city with what an address needs; `phone` has two or three places for digits."""

    city: str
    zip: str
    province: str | None
    province_code: str | None
    country: str
    country_code: str
    street: str
    locale: str
    phone: str


PLACES = (
    Place("Lyon", "69002", None, None, "France", "FR", "rue Mercière", "fr", "+3363998{:04d}"),
    Place("Grenoble", "38000", None, None, "France", "FR", "quai Perrière", "fr", "+3363998{:04d}"),
    Place("Annecy", "74000", None, None, "France", "FR", "avenue d'Albigny", "fr", "+3363998{:04d}"),
    Place("Nantes", "44000", None, None, "France", "FR", "rue Crébillon", "fr", "+3363998{:04d}"),
    Place("Chambéry", "73000", None, None, "France", "FR", "rue de Boigne", "fr", "+3363998{:04d}"),
    Place("München", "80331", "Bayern", "BY", "Germany", "DE", "Sendlinger Straße", "de", "+491713920{:03d}"),
    Place("Freiburg", "79098", "Baden-Württemberg", "BW", "Germany", "DE", "Salzstraße", "de", "+491713920{:03d}"),
    Place("Sheffield", "S1 2HE", "England", "ENG", "United Kingdom", "GB", "Surrey Street", "en", "+447700900{:03d}"),
    Place("Bristol", "BS1 4ST", "England", "ENG", "United Kingdom", "GB", "Corn Street", "en", "+447700900{:03d}"),
)


@dataclass(slots=True)
class Person:
    """One shopper. `big_spender` buys seldom and much; `known` since they have a customer record in the shop."""

    id: int
    address_id: int
    client_id: str
    first_name: str
    last_name: str
    email: str
    phone: str | None
    place: Place
    house: int
    big_spender: bool
    loyal: bool
    signs_in: bool
    joined: int = 0
    subscribed: bool = False
    known: bool = False
    orders: int = 0


def invent_people(rng: random.Random, count: int) -> list[Person]:
    """`count` different people; the same generator state gives the same people."""
    return [_invent(rng, number) for number in range(count)]


def _invent(rng: random.Random, number: int) -> Person:
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    place = rng.choice(PLACES)
    digits = number % (10_000 if ":04d" in place.phone else 1_000)
    return Person(
        id=rng.randrange(10**17, 9 * 10**17),
        address_id=rng.randrange(10**17, 9 * 10**17),
        client_id=f"{rng.getrandbits(32):08x}-{rng.getrandbits(16):04x}-4{rng.getrandbits(12):03x}-"
        f"a{rng.getrandbits(12):03x}-{rng.getrandbits(48):012x}",
        first_name=first,
        last_name=last,
        email=f"{_plain(first)}.{_plain(last)}{number}@example.{rng.choice(('com', 'net', 'org'))}",
        phone=place.phone.format(digits) if rng.random() < 0.45 else None,
        place=place,
        house=rng.randrange(1, 140),
        big_spender=rng.random() < 0.08,
        loyal=rng.random() < 0.25,
        signs_in=rng.random() < 0.55,
    )


def _plain(name: str) -> str:
    """Letters a to z only: accents dropped, apostrophes too."""
    folded = unicodedata.normalize("NFKD", name.replace("ø", "o").replace("ß", "ss"))
    return "".join(letter for letter in folded.lower() if letter.isascii() and letter.isalpha())
