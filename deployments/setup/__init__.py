"""Set-up of the Prefect server: work pool, deployments and their schedules, automations."""
