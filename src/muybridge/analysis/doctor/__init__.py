"""The doctor's checks that weigh evidence, and the checkup that all checks make together."""
