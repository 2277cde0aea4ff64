"""How many channels each group keeps, by other ways than importance over cost."""
