"""What people talk to: Slack, Teams and the console. No model and no policy text lives here."""
