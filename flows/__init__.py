"""The jobs: one file each, which reads like the job's description."""
