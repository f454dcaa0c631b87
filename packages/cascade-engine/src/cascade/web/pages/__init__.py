"""The pages: each draws data of ``cascade.web.model`` with NiceGUI, and calls the site to act."""
