"""The web view: ``cascade web`` shows engines, runs, limits, stores and caches in a browser.

``model`` reads connectors and stores and gives data to show; it knows nothing of pages, and is
tested by itself. ``pages`` draw that data with NiceGUI. ``guard`` lets in only browsers with the
token.
"""
