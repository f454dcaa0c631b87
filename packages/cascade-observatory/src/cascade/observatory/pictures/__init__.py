"""Pictures: graphs laid out, and curves; drawn as SVG, on one page that needs nothing else."""
