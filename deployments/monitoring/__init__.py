"""What the server and the database say of the jobs: lateness, zombie runs, backlog, preflight."""
