"""The purges of submissions and outputs (specification 5), and the queue of purges."""
