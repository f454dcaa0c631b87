"""Parts of the experiments, whose programs are under ``observatory/experiments``."""
