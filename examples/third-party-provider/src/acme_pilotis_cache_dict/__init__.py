"""A cache provider for Pilotis that keeps its entries in a dict."""
