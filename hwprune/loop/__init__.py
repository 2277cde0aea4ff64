"""The steps of one pruning run, each remembered by the run directory as soon as it is done."""
