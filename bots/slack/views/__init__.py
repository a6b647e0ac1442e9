"""What people send with a form."""
