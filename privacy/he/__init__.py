"""Exact BFV sums: parameters, packing, integrity words, and the two roles that use them."""
