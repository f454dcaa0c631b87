"""Pictures: graphs laid out, drawn as SVG and shown on one page that needs nothing else."""
