"""Python source trees as input: which modules there are, and what they import."""
