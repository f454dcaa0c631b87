"""Pictures of graphs: their boxes and arrows (``picture``), as Mermaid, DOT and SVG."""
