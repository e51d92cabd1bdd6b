"""Visits every interleaving of a small migration with crashes in it, with the real rules and the real journal."""
