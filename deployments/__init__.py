"""What is set up on the Prefect server, and a demo that shows all of it at work."""
