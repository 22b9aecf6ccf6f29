"""A shopper's profile: what the products that were bought have in common. Built once, before any request."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from recipes.shopping.catalogue import Product


@dataclass(frozen=True)
class Profile:
    """How much a shopper likes values of fields: each from 0 to 1, the one that was bought most often at 1.

    Attributes:
        likes: By field, then by value.
    """

    likes: Mapping[str, Mapping[str, float]]

    def affinity(self, product: Product) -> float:
        """How much the shopper would like a product, 0 to 1: the mean over the profile's fields."""
        if not self.likes:
            return 0.0
        return sum(values.get(product.fields.get(name, ""), 0.0) for name, values in self.likes.items()) / len(
            self.likes
        )


def profile_of(bought: Iterable[Product], match: Sequence[str]) -> Profile:
    """The profile of a purchase history; one of nothing likes nothing."""
    products = list(bought)
    likes = {}
    for name in match:
        counts = Counter(value for product in products if (value := product.fields.get(name)))
        most = max(counts.values(), default=0)
        if most:
            likes[name] = {value: count / most for value, count in counts.items()}
    return Profile(likes)
