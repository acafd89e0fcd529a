"""What is known of the application: its tables, retention rules, files and settings. No Prefect."""
