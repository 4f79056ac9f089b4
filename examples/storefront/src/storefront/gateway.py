"""A payment gateway, simulated. What it does to an order depends on the order's number alone."""

from __future__ import annotations

import threading
from decimal import Decimal

from storefront.models import Payment


class Declined(Exception):
    """The bank says no, and will say so again."""


class Gateway:
    """Declines every 23rd order. Times out once for every 17th, after it has taken the money."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self.payments: dict[str, Payment] = {}
        self.refunded: set[str] = set()
        self.timeouts = 0
        self._by_key: dict[str, Payment] = {}

    def charge(self, order: int, amount: Decimal, *, idempotency_key: str) -> Payment:
        """Charge an amount, once for each idempotency key."""
        if order % 23 == 0:
            raise Declined(f"the bank declined the payment of order {order}")
        with self._lock:
            if idempotency_key in self._by_key:
                return self._by_key[idempotency_key]
            payment = Payment(f"payment-{order}-{len(self.payments) + 1}", amount)
            self.payments[payment.id] = self._by_key[idempotency_key] = payment
        if order % 17 == 0:
            self.timeouts += 1
            raise TimeoutError("the gateway took too long to answer")
        return payment

    def refund(self, payment: str) -> None:
        """Give a payment back. Doing so again does nothing."""
        self.refunded.add(payment)


gateway = Gateway()
