"""Handlers, declared without an app."""

from __future__ import annotations

from typing import final

from pilotis.modules.event.declaring import Declarations


@final
class Handlers(Declarations):
    """Event handlers, periodic events and interceptors that are declared apart from an app, as routes are on a router.

    `app.include(handlers)` hands them to the app's event bus, and with them whatever is declared later. The same
    handlers may be included in several apps.

        handlers = Handlers()

        @handlers.on("product.created", id="search-index", attempts=5)
        def index(event: Event[ProductCreated]) -> None: ...
    """
