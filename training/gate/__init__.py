"""The gate: a new version serves only if it answers the golden questions at least as well as the one before it."""
