"""The schedules of Celery Beat, as they are in the application's database."""
