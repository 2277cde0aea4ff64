"""Which channels a network of known widths begins with."""
