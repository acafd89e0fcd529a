"""One run of a job: its steps in a loop, its report and state at the end, other runs beside it."""
