"""The data sets of the paper: their archives, cameras, splits and preparation, and a made-up stand-in for them."""
