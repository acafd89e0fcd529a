"""The steps that flows are made of: Prefect tasks, grouped by what they touch."""
