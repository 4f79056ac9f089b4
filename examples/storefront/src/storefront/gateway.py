"""A payment gateway, simulated. What it does to an order depends on the order's number alone."""

from __future__ import annotations

import hashlib
from decimal import Decimal

from storefront.database import database
from storefront.models import Payment


class Declined(Exception):
    """The bank says no, and will say so again."""


class Gateway:
    """Declines every 23rd order. Times out once for every 17th, after it has taken the money.

    It keeps its books in the shop's database, because all processes of the shop ask the same one.
    """

    def clear(self) -> None:
        with database.transaction() as rows:
            rows.execute("DELETE FROM payment")

    def charge(self, order: int, amount: Decimal, *, idempotency_key: str) -> Payment:
        """Charge an amount, once for each idempotency key."""
        if order % 23 == 0:
            raise Declined(f"the bank declined the payment of order {order}")
        payment = Payment(f"payment-{order}-{hashlib.sha256(idempotency_key.encode()).hexdigest()[:16]}", amount)
        with database.transaction() as rows:
            query = "INSERT INTO payment (id, number, amount) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            is_new = rows.execute(query, (payment.id, order, str(amount))).rowcount == 1
        if is_new and order % 17 == 0:
            raise TimeoutError("the gateway took too long to answer")
        return payment

    def refund(self, payment: str) -> None:
        """Give a payment back. Doing so again does nothing."""
        with database.transaction() as rows:
            rows.execute("UPDATE payment SET refunded = 1 WHERE id = ?", (payment,))

    @property
    def payments(self) -> dict[str, Payment]:
        """All payments by their id, those that were given back too."""
        with database.looking() as rows:
            found = rows.execute("SELECT id, amount FROM payment").fetchall()
        return {id: Payment(id, Decimal(amount)) for id, amount in found}

    @property
    def refunded(self) -> set[str]:
        with database.looking() as rows:
            return {id for (id,) in rows.execute("SELECT id FROM payment WHERE refunded = 1").fetchall()}

    @property
    def timeouts(self) -> int:
        """How often it took the money and did not answer."""
        with database.looking() as rows:
            return sum(number % 17 == 0 for (number,) in rows.execute("SELECT number FROM payment").fetchall())


gateway = Gateway()
