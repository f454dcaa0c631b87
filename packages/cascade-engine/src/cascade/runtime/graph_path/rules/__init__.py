"""What the rules of the language ask of nodes before and after their calls."""
