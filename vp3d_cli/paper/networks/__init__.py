"""Networks for ablations: dense convolutions, SimpleBaseline3D and recurrent units."""
