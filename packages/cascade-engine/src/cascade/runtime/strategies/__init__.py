"""The ways to run a program. What a program means does not depend on which is chosen."""
