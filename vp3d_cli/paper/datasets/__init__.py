"""Human3.6M and HumanEva-I: archives, cameras, preparation, synthetic substitute."""
