"""What pages show, as data: read from connectors, stores and caches. Nothing here knows NiceGUI."""
