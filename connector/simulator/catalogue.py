"""What the simulated store sells: outdoor clothing and gear, in euros."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """A product with its variants (id, title). `price` in cents, `grams` per piece."""

    id: int
    title: str
    kind: str
    vendor: str
    price: int
    grams: int
    variants: tuple[tuple[int, str], ...]

    @property
    def handle(self) -> str:
        """The last part of its address in the store."""
        return self.title.lower().replace("'", "").replace(" ", "-")


HERO = 632910392
"""The product that the example segment `viewed-not-bought` asks for."""

_SIZES = ("S", "M", "L", "XL")
_ONE = ("Default Title",)


def _product(
    id_: int, title: str, kind: str, price: int, grams: int, variants: tuple[str, ...], vendor: str = "Aurora"
) -> Product:
    numbered = tuple((id_ * 10 + number, name) for number, name in enumerate(variants, start=1))
    return Product(id_, title, kind, vendor, price, grams, numbered)


CATALOGUE = (
    _product(HERO, "Polaris Down Jacket", "Jackets", 289_00, 620, _SIZES),
    _product(7339056169101, "Fjell Rain Shell", "Jackets", 219_00, 410, _SIZES),
    _product(7339056169102, "Tundra Parka", "Jackets", 449_00, 1350, _SIZES),
    _product(7339056169103, "Solstice Fleece", "Midlayers", 99_00, 340, _SIZES),
    _product(7339056169104, "Merino Base Top 200", "Base layers", 79_00, 210, _SIZES),
    _product(7339056169105, "Merino Base Leggings 200", "Base layers", 75_00, 200, _SIZES),
    _product(7339056169106, "Ridge Trekking Trousers", "Trousers", 129_00, 380, _SIZES),
    _product(7339056169107, "Scree Shorts", "Trousers", 69_00, 220, _SIZES),
    _product(7339056169108, "Cairn Hiking Boots", "Footwear", 239_00, 1180, ("39", "41", "43", "45"), "Steinweg"),
    _product(7339056169109, "Talus Approach Shoes", "Footwear", 149_00, 760, ("39", "41", "43", "45"), "Steinweg"),
    _product(7339056169110, "Wool Socks Two Pack", "Footwear", 24_00, 120, ("S", "M", "L")),
    _product(7339056169111, "Aurora Dome 3 Tent", "Camping", 689_00, 2900, _ONE),
    _product(7339056169112, "Expedition Tunnel 4 Tent", "Camping", 1190_00, 5200, _ONE),
    _product(7339056169113, "Nordlys 700 Sleeping Bag", "Camping", 379_00, 1150, ("Regular", "Long")),
    _product(7339056169114, "Cloud Sleeping Mat", "Camping", 139_00, 480, ("Regular", "Wide")),
    _product(7339056169115, "Ember Stove", "Camping", 89_00, 260, _ONE, "Glut"),
    _product(7339056169116, "Titanium Cook Set", "Camping", 119_00, 310, _ONE, "Glut"),
    _product(7339056169117, "Trail Pack 28", "Packs", 159_00, 980, ("Slate", "Rust")),
    _product(7339056169118, "Haul Pack 65", "Packs", 299_00, 1900, ("Slate", "Rust")),
    _product(7339056169119, "Headlamp 500", "Accessories", 59_00, 95, _ONE, "Glut"),
    _product(7339056169120, "Steel Bottle 750", "Accessories", 34_00, 330, ("Moss", "Sand", "Ink")),
    _product(7339056169121, "Wind Gloves", "Accessories", 45_00, 60, ("S", "M", "L")),
    _product(7339056169122, "Lambswool Beanie", "Accessories", 29_00, 70, ("Moss", "Sand", "Ink")),
    _product(7339056169123, "Carbon Trekking Poles", "Accessories", 169_00, 390, _ONE),
)
