"""Pictures of graphs: what they show (``picture``), and as Mermaid, DOT and SVG."""
