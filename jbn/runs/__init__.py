"""Runs: the loop of advancing a population by segments and letting a policy decide, with a record of it."""
