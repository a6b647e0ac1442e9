"""What people press under an answer."""
