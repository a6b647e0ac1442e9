"""Slack: parses its events, renders answers as blocks and messages, and keeps within its limits. Nothing else."""
