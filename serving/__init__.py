"""Serve a hospital's finished models over the Open Inference Protocol."""
