"""The small web app that serves signed links: one handler, behind WSGI and ASGI."""
