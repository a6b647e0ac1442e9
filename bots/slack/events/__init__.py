"""What happens in Slack: messages, mentions, an opened conversation."""
