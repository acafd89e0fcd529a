"""The schedules of Celery Beat, read from the application's database."""
