"""Make the shop that the example ships: always the same one, because the seed is fixed.

Run it as `python generate.py`; it writes `src/storefront/data/*.csv`.
"""

from __future__ import annotations

import csv
import random
from decimal import Decimal
from pathlib import Path

FOLDER = Path(__file__).parent / "src/storefront/data"
SEED = 1887
ADJECTIVES = ("Smoked", "Dried", "Fresh", "Old", "Sweet", "Salted", "Roasted", "Wild")
GOODS = ("Almonds", "Olives", "Pears", "Mackerel", "Cheddar")
STREETS = ("Harbour Street", "Mill Lane", "Station Road", "Market Square", "Church Hill")
TOWNS = ("Lisbon", "Bergen", "Graz", "Ghent", "Cork")


def main() -> None:
    """Write the four files."""
    dice = random.Random(SEED)
    products = make_products(dice)
    customers = make_customers(dice)
    orders, lines = make_orders(dice, products, customers)
    for name, rows in (("products", products), ("customers", customers), ("orders", orders), ("order-details", lines)):
        write(FOLDER / f"{name}.csv", rows)


def make_products(dice: random.Random) -> list[dict[str, object]]:
    names = [f"{adjective} {goods}" for goods in GOODS for adjective in ADJECTIVES]
    return [
        {
            "productID": number,
            "productName": name,
            "unitPrice": f"{dice.randint(200, 6000) / 100:.2f}",
            "unitsInStock": dice.randint(30, 150),
            "reorderLevel": dice.choice((10, 15, 20, 30, 40)),
            "discontinued": int(number % 17 == 0),
        }
        for number, name in enumerate(names, 1)
    ]


def make_customers(dice: random.Random) -> list[dict[str, object]]:
    first = ("Ana", "Bram", "Chloe", "Dario", "Edda")
    last = ("Novak", "Olsen", "Petit", "Quinn", "Rossi")
    people = [(one, other) for one in first for other in last]
    return [
        {
            "customerID": f"{one[:2]}{other[:3]}".upper(),
            "companyName": f"{other} & {dice.choice(('Sons', 'Daughters', 'Partners'))}",
            "contactName": f"{one} {other}",
            "address": f"{dice.choice(STREETS)} {dice.randint(1, 90)}",
            "city": dice.choice(TOWNS),
        }
        for one, other in people
    ]


def make_orders(
    dice: random.Random, products: list[dict[str, object]], customers: list[dict[str, object]]
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    prices = {product["productID"]: Decimal(str(product["unitPrice"])) for product in products}
    orders: list[dict[str, object]] = []
    lines: list[dict[str, object]] = []
    for number in range(1001, 1301):
        orders.append({"orderID": number, "customerID": dice.choice(customers)["customerID"]})
        if number % 25 == 0:
            raise_price(dice, prices)
        basket = dice.sample(sorted(prices, key=str), dice.randint(1, 5))
        lines.extend(make_line(dice, number, product, prices[product]) for product in basket)
    return orders, lines


def raise_price(dice: random.Random, prices: dict[object, Decimal]) -> None:
    product = dice.choice(sorted(prices, key=str))
    prices[product] = (prices[product] * Decimal("1.1")).quantize(Decimal("0.01"))


def make_line(dice: random.Random, order: int, product: object, price: Decimal) -> dict[str, object]:
    return {
        "orderID": order,
        "productID": product,
        "unitPrice": price,
        "quantity": dice.choice((1, 2, 3, 5, 8, 12, 20, 30)),
        "discount": dice.choice(("0", "0", "0", "0.05", "0.1")),
    }


def write(file: Path, rows: list[dict[str, object]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as lines:
        table = csv.DictWriter(lines, fieldnames=list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
