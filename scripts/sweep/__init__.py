"""`./serrano sweep`: what a model costs over a space of chips and workloads."""
