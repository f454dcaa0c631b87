"""Rules of the language that both paths share."""
