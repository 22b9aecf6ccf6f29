"""The demo's shop: a product catalogue generated from a seed, and the words it is made of.

A product title reads ``[Men's|Women's] <brand> <series> <attribute> <noun>``. Brands belong to categories and series
belong to brands, so that a small model can learn what the shop sells; one combination in five is left out, so that it
can also be wrong. Every name here is invented.
"""

import random
from dataclasses import dataclass
from functools import cache

GENDERS = ("men", "women")
GENDER_PREFIX = {"men": "Men's", "women": "Women's", None: ""}
BRANDS_PER_CATEGORY = 5
MISSING_SHARE = 0.2


@dataclass(frozen=True)
class Category:
    """One kind of product: how it is named, what may be asked of it, and what goes with it."""

    name: str  # plural, as it stands in a proposal: "Trail Shoes"
    noun: str  # singular, as it ends a product title: "Trail Shoe"
    group: str
    gendered: bool
    attributes: tuple[str, ...]
    goes_with: str  # the name of its companion category
    price: tuple[int, int]  # US$, lowest and highest


@dataclass(frozen=True)
class Product:
    """One article of the shop. ``price_usd`` in US$; ``gender`` is None where the category has none."""

    title: str
    category: str
    brand: str
    attribute: str
    gender: str | None
    price_usd: float


_FABRIC = ("Cotton", "Linen", "Wool", "Striped", "Black")
_SHOE = ("Waterproof", "Leather", "Lightweight", "Cushioned", "Vegan")
_TRAIL = ("Waterproof", "Compact", "Ultralight", "Foldable", "Insulated")
_TECH = ("Wireless", "Compact", "Rechargeable", "Portable", "Silent")
_KITCHEN = ("Steel", "Ceramic", "Nonstick", "Glass", "Bamboo")
_HOME = ("Oak", "Velvet", "Modern", "Rustic", "Adjustable")
_CARE = ("Organic", "Gentle", "Unscented", "Vitamin", "Herbal")
_SPORT = ("Padded", "Ultralight", "Adjustable", "Heavy", "Foldable")

OCCASIONS = {
    "footwear": ("a summer festival", "a city walk", "a long commute", "a mountain weekend"),
    "clothing": ("a garden wedding", "a winter holiday", "the office", "a first date"),
    "outdoor": ("a camping trip", "a hiking trip", "a beach day", "a canoe tour"),
    "tech": ("a long flight", "a home office", "a gaming night", "a road trip"),
    "kitchen": ("a dinner party", "a new apartment", "a baking weekend", "a family brunch"),
    "home": ("a small bedroom", "a reading corner", "a guest room", "a housewarming"),
    "care": ("a morning routine", "a dry winter", "a spa evening", "a weekend trip"),
    "sport": ("a marathon plan", "a yoga class", "a home gym", "a cycling tour"),
}

BENEFITS = {
    "footwear": "keep your feet comfortable",
    "clothing": "keep your look relaxed",
    "outdoor": "make your days outside easy",
    "tech": "make your setup better",
    "kitchen": "make your cooking easy",
    "home": "make your room warm",
    "care": "keep your skin fresh",
    "sport": "keep your training steady",
}


def _category(
    name: str, noun: str, group: str, gendered: bool, words: tuple[str, ...], goes_with: str, low: int, high: int
) -> Category:
    return Category(name, noun, group, gendered, words, goes_with, (low, high))


CATEGORIES: tuple[Category, ...] = (
    _category("Sandals", "Sandal", "footwear", True, _SHOE, "Sun Hats", 25, 110),
    _category("Trail Shoes", "Trail Shoe", "footwear", True, _SHOE, "Hiking Socks", 60, 180),
    _category("Sneakers", "Sneaker", "footwear", True, _SHOE, "Jeans", 45, 160),
    _category("Winter Boots", "Winter Boot", "footwear", True, _SHOE, "Wool Coats", 80, 240),
    _category("Hiking Socks", "Hiking Sock", "clothing", True, _FABRIC, "Trail Shoes", 9, 30),
    _category("Jeans", "Jean", "clothing", True, _FABRIC, "Belts", 35, 140),
    _category("Wool Coats", "Wool Coat", "clothing", True, _FABRIC, "Scarves", 120, 420),
    _category("Shirts", "Shirt", "clothing", True, _FABRIC, "Jeans", 25, 95),
    _category("Rain Jackets", "Rain Jacket", "clothing", True, _SHOE, "Winter Boots", 60, 250),
    _category("Belts", "Belt", "clothing", True, _SHOE, "Shirts", 18, 80),
    _category("Scarves", "Scarf", "clothing", False, _FABRIC, "Sun Hats", 15, 70),
    _category("Sun Hats", "Sun Hat", "clothing", False, _FABRIC, "Beach Towels", 15, 60),
    _category("Backpacks", "Backpack", "outdoor", False, _TRAIL, "Water Bottles", 45, 260),
    _category("Tents", "Tent", "outdoor", False, _TRAIL, "Sleeping Bags", 110, 600),
    _category("Sleeping Bags", "Sleeping Bag", "outdoor", False, _TRAIL, "Camp Stoves", 50, 320),
    _category("Water Bottles", "Water Bottle", "outdoor", False, _TRAIL, "Backpacks", 12, 50),
    _category("Camp Stoves", "Camp Stove", "outdoor", False, _TRAIL, "Tents", 35, 150),
    _category("Beach Towels", "Beach Towel", "outdoor", False, _FABRIC, "Coolers", 15, 60),
    _category("Coolers", "Cooler", "outdoor", False, _TRAIL, "Beach Towels", 40, 300),
    _category("Headphones", "Headphone", "tech", False, _TECH, "Power Banks", 30, 350),
    _category("Power Banks", "Power Bank", "tech", False, _TECH, "Headphones", 20, 90),
    _category("Keyboards", "Keyboard", "tech", False, _TECH, "Desk Lamps", 30, 200),
    _category("Speakers", "Speaker", "tech", False, _TECH, "Power Banks", 30, 400),
    _category("Webcams", "Webcam", "tech", False, _TECH, "Keyboards", 35, 180),
    _category("Frying Pans", "Frying Pan", "kitchen", False, _KITCHEN, "Knife Sets", 20, 140),
    _category("Knife Sets", "Knife Set", "kitchen", False, _KITCHEN, "Cutting Boards", 40, 260),
    _category("Cutting Boards", "Cutting Board", "kitchen", False, _KITCHEN, "Knife Sets", 15, 80),
    _category("Tea Kettles", "Tea Kettle", "kitchen", False, _KITCHEN, "Mugs", 25, 120),
    _category("Mugs", "Mug", "kitchen", False, _KITCHEN, "Tea Kettles", 8, 35),
    _category("Desk Lamps", "Desk Lamp", "home", False, _HOME, "Bookshelves", 25, 160),
    _category("Armchairs", "Armchair", "home", False, _HOME, "Desk Lamps", 140, 900),
    _category("Bookshelves", "Bookshelf", "home", False, _HOME, "Armchairs", 60, 400),
    _category("Face Creams", "Face Cream", "care", True, _CARE, "Shampoos", 10, 70),
    _category("Shampoos", "Shampoo", "care", True, _CARE, "Face Creams", 7, 35),
    _category("Yoga Mats", "Yoga Mat", "sport", False, _SPORT, "Dumbbells", 20, 110),
    _category("Dumbbells", "Dumbbell", "sport", False, _SPORT, "Yoga Mats", 25, 220),
    _category("Running Vests", "Running Vest", "sport", True, _SPORT, "Sneakers", 25, 120),
    _category("Bike Helmets", "Bike Helmet", "sport", False, _SPORT, "Yoga Mats", 35, 180),
)
CATEGORY = {category.name: category for category in CATEGORIES}

BRANDS: dict[str, tuple[str, ...]] = {
    "Altovia": ("Ridge", "Summit", "Drift"),
    "Brenwick": ("Classic", "Harbor", "Mill"),
    "Caldera": ("Ember", "Flow", "Crest"),
    "Dunmore": ("Field", "Moor", "Heath"),
    "Elvane": ("Luna", "Aria", "Vela"),
    "Fjordan": ("Nord", "Polar", "Sund"),
    "Galloway": ("Prime", "Route", "Union"),
    "Havenly": ("Calm", "Nest", "Dawn"),
    "Istra": ("Volt", "Pulse", "Wave"),
    "Jorvik": ("Anvil", "Forge", "Blade"),
    "Kestrel": ("Swift", "Talon", "Glide"),
    "Lumora": ("Glow", "Beam", "Halo"),
    "Merrow": ("Tide", "Coral", "Pearl"),
    "Northal": ("Peak", "Cedar", "Timber"),
    "Orlen": ("Core", "Studio", "Max"),
    "Pavona": ("Bloom", "Petal", "Fern"),
    "Quillon": ("Edge", "Point", "Guard"),
    "Rothby": ("Manor", "Court", "Regent"),
    "Solace": ("Mist", "Silk", "Balm"),
    "Tarn": ("Lake", "Stone", "River"),
    "Umbra": ("Shade", "Dusk", "Night"),
    "Verdano": ("Leaf", "Grove", "Root"),
    "Westmark": ("Trail", "Ranch", "Canyon"),
    "Zephyr": ("Air", "Breeze", "Cloud"),
}

_BRAND_POOLS = {
    "footwear": ("Altovia", "Caldera", "Kestrel", "Tarn", "Westmark", "Zephyr"),
    "clothing": ("Brenwick", "Dunmore", "Elvane", "Galloway", "Rothby", "Fjordan"),
    "outdoor": ("Northal", "Fjordan", "Altovia", "Westmark", "Tarn", "Caldera"),
    "tech": ("Istra", "Orlen", "Lumora", "Umbra", "Galloway", "Zephyr"),
    "kitchen": ("Jorvik", "Quillon", "Havenly", "Verdano", "Merrow", "Brenwick"),
    "home": ("Havenly", "Lumora", "Rothby", "Northal", "Umbra", "Dunmore"),
    "care": ("Solace", "Pavona", "Merrow", "Verdano", "Elvane", "Havenly"),
    "sport": ("Kestrel", "Zephyr", "Orlen", "Istra", "Caldera", "Galloway"),
}


def title_of(gender: str | None, brand: str, series: str, attribute: str, noun: str) -> str:
    """The title of a product: ``Men's Tarn Lake Leather Sandal``."""
    words = [GENDER_PREFIX[gender], brand, series, attribute, noun]
    return " ".join(word for word in words if word)


def label_of(category: Category, gender: str | None) -> str:
    """A category as a proposal names it: ``Men's Sandals``, or ``Tents``."""
    return f"{GENDER_PREFIX[gender]} {category.name}".strip() if category.gendered else category.name


@cache
def catalogue(seed: int = 0) -> tuple[Product, ...]:
    """All products of the shop with this seed; the same seed gives the same shop."""
    rng = random.Random(f"catalogue-{seed}")
    products = []
    for category in CATEGORIES:
        brands = sorted(rng.sample(_BRAND_POOLS[category.group], BRANDS_PER_CATEGORY))
        for gender in GENDERS if category.gendered else (None,):
            for brand in brands:
                for series in BRANDS[brand]:
                    for attribute in category.attributes:
                        price = round(rng.uniform(*category.price)) - 0.01
                        if rng.random() >= MISSING_SHARE:
                            title = title_of(gender, brand, series, attribute, category.noun)
                            products.append(Product(title, category.name, brand, attribute, gender, price))
    return tuple(products)


@cache
def titles(seed: int = 0) -> frozenset[str]:
    """The titles of every product of the shop, for looking one up."""
    return frozenset(product.title for product in catalogue(seed))
