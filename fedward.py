"""The one command; mounted parts live in client/cli.py, server/cli.py and simulations/cli.py."""
