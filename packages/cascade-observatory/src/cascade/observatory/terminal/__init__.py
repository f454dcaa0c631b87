"""Views for terminals, drawn with rich."""
