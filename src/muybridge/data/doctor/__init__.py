"""Checks of a data set by its manifest alone, and the one look at every video that the others share."""
