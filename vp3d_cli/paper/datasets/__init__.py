"""Human3.6M and HumanEva-I: archives, cameras, standard splits, preparation, and a synthetic substitute."""
