"""One run of a job: its steps, its report, its final state, and other runs of the same job."""
